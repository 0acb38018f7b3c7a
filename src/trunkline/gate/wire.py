"""Records as JSON and back, and the JSON Schema of both: all three follow from the fields of frozen dataclasses.

What is read may be hostile: nothing is made but the records' own classes, every value is checked against its field, and
how deep it goes is bounded by the records. A field that the record does not know is passed over, so that an older
Trunkline can read what a newer one wrote.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from math import nan
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

__all__ = ["LARGEST_INTEGER", "MOST", "WireError", "plain", "record", "schema"]

_T = TypeVar("_T")

LARGEST_INTEGER = 2**53
"""The integers that every JSON reader tells apart."""
MOST = 1e300
"""The size of a number that is read: what is larger may be no float, or its square none."""
_DEEPEST = 4  # of a value that may be anything
_MOST_CHARACTERS = 20_000


class WireError(ValueError):
    """Data that is not the record's; says where, as a path like `$.verdict.rules[3].value`."""


def plain(value: object) -> object:
    """A record as plain data. Numbers that are not finite, or beyond `MOST`, become None, keys become text."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not abs(value) <= MOST:
        return None
    return value


def record(kind: type[_T], data: object) -> _T:
    """The record that `plain` made `data` of; None is read as no number. Raises `WireError`."""
    return cast(_T, _read(kind, data, "$"))


def schema(kind: type[object]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `plain` makes of a record."""
    known: dict[str, Any] = {}
    top = _described(kind, known)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **top, "$defs": dict(sorted(known.items()))}


def _read(kind: Any, data: object, path: str) -> object:
    origin = get_origin(kind)
    if is_dataclass(kind):
        return _read_fields(cast("type[object]", kind), data, path)
    if kind in _SCALARS:
        return _SCALARS[kind](data, path)
    if origin is Literal:
        return _one_of(get_args(kind), data, path)
    if origin in (Union, types.UnionType):
        return _any_of(get_args(kind), data, path)
    if origin is tuple:
        return _read_tuple(get_args(kind), data, path)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _read_mapping(get_args(kind)[1], data, path)
    raise TypeError(f"{path}: no field may be {kind!r}")


def _read_fields(kind: type[object], data: object, path: str) -> object:
    if not isinstance(data, dict):
        raise WireError(f"{path} is no object")
    hints = get_type_hints(kind)
    given: dict[str, object] = {}
    for one in fields(cast(Any, kind)):
        if one.name in data:
            given[one.name] = _read(hints[one.name], data[one.name], f"{path}.{one.name}")
        elif _required(one):
            raise WireError(f"{path}.{one.name} is missing")
    return kind(**given)


def _required(one: Field[Any]) -> bool:
    return one.default is MISSING and one.default_factory is MISSING


def _read_tuple(kinds: tuple[Any, ...], data: object, path: str) -> tuple[object, ...]:
    if not isinstance(data, list):
        raise WireError(f"{path} is no list")
    if kinds[-1] is Ellipsis:
        return tuple(_read(kinds[0], item, f"{path}[{place}]") for place, item in enumerate(data))
    if len(data) != len(kinds):
        raise WireError(f"{path} has not {len(kinds)} items")
    pairs = zip(kinds, data, strict=True)
    return tuple(_read(kind, item, f"{path}[{place}]") for place, (kind, item) in enumerate(pairs))


def _read_mapping(kind: Any, data: object, path: str) -> dict[str, object]:
    if not isinstance(data, dict):
        raise WireError(f"{path} is no object")
    return {_text(key, path): _read(kind, item, f"{path}[{key[:40]!r}]") for key, item in data.items()}


def _any_of(kinds: tuple[Any, ...], data: object, path: str) -> object:
    """By the first kind that fits; None is itself where it may be, before it is no number."""
    if data is None and type(None) in kinds:
        return None
    said = f"{path} is nothing that it may be"
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _read(kind, data, path)
        except WireError as exc:
            said = str(exc)
    raise WireError(said)


def _one_of(values: tuple[Any, ...], data: object, path: str) -> object:
    if not isinstance(data, str) or data not in values:
        raise WireError(f"{path} is none of {', '.join(map(str, values))}")
    return data


def _text(data: object, path: str) -> str:
    if not isinstance(data, str):
        raise WireError(f"{path} is no text")
    if len(data) > _MOST_CHARACTERS:
        raise WireError(f"{path} is longer than {_MOST_CHARACTERS:,} characters")
    return data


def _integer(data: object, path: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int) or abs(data) > LARGEST_INTEGER:
        raise WireError(f"{path} is no integer up to 2^53")
    return data


def _float(data: object, path: str) -> float:
    if data is None:
        return nan
    if isinstance(data, bool) or not isinstance(data, int | float):
        raise WireError(f"{path} is no number")
    if abs(data) > MOST:  # an integer may be too large to be made a float
        raise WireError(f"{path} is no number up to 1e300")
    return float(data)


def _flag(data: object, path: str) -> bool:
    if not isinstance(data, bool):
        raise WireError(f"{path} is neither true nor false")
    return data


def _anything(data: object, path: str, deep: int = 0) -> object:
    if deep > _DEEPEST:
        raise WireError(f"{path} goes deeper than {_DEEPEST}")
    if isinstance(data, dict):
        return {_text(key, path): _anything(item, path, deep + 1) for key, item in data.items()}
    if isinstance(data, list):
        return [_anything(item, path, deep + 1) for item in data]
    if isinstance(data, str):
        return _text(data, path)
    return data if data is None or isinstance(data, bool) else _number(data, path)


def _number(data: object, path: str) -> object:
    return _integer(data, path) if isinstance(data, int) else _float(data, path)


_SCALARS: Mapping[Any, Callable[[object, str], object]] = types.MappingProxyType(
    {str: _text, int: _integer, float: _float, bool: _flag, object: _anything}
)

_NAMES: Mapping[Any, Mapping[str, Any]] = types.MappingProxyType(
    {
        str: {"type": "string", "maxLength": _MOST_CHARACTERS},
        int: {"type": "integer", "minimum": -LARGEST_INTEGER, "maximum": LARGEST_INTEGER},
        float: {"type": ["number", "null"]},
        bool: {"type": "boolean"},
        object: {},
        type(None): {"type": "null"},
    }
)


def _described(kind: Any, known: dict[str, Any]) -> dict[str, Any]:
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return _named(cast("type[object]", kind), known)
    if kind in _NAMES:
        return dict(_NAMES[kind])
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [_described(part, known) for part in parts]}
    if origin is tuple and parts[-1] is Ellipsis:
        return {"type": "array", "items": _described(parts[0], known)}
    if origin is tuple:
        listed = [_described(part, known) for part in parts]
        return {"type": "array", "prefixItems": listed, "minItems": len(parts), "maxItems": len(parts)}
    return {"type": "object", "additionalProperties": _described(parts[1], known)}


def _named(kind: type[object], known: dict[str, Any]) -> dict[str, Any]:
    name = kind.__name__
    if name not in known:
        known[name] = {}  # its place, should a record hold its own kind
        hints, listed = get_type_hints(kind), fields(cast(Any, kind))
        known[name] = {
            "description": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "type": "object",
            "required": [one.name for one in listed if _required(one)],
            "properties": {one.name: _described(hints[one.name], known) for one in listed},
        }
    return {"$ref": f"#/$defs/{name}"}
