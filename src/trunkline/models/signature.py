"""What a model takes and answers: its input columns, in order, and the check of a request against them.

Pure standard library, so that serving can start without any numeric package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property, partial
from typing import Any, Literal, get_args

from trunkline.errors import DatasetError, IntegrityError, RequestError, did_you_mean
from trunkline.models.task import BINARY, Task

__all__ = [
    "Example", "Field", "Kind", "LARGEST_IMAGE", "LONGEST_IMAGE", "LONGEST_TEXT", "LONGEST_VECTOR", "MOST_PIXELS",
    "Signature", "WIDE", "fits",
]  # fmt: skip

Kind = Literal["number", "category", "boolean", "datetime", "vector", "image"]
Example = str | float | int | bool | tuple[float | None, ...] | None

WIDE: frozenset[Kind] = frozenset({"vector", "image"})
"""The kinds that are several columns of the matrix."""

LONGEST_TEXT = 10_000
"""Longest text value of a request, in characters."""

LONGEST_VECTOR = 16_384
"""Most numbers of a vector."""

LARGEST_IMAGE = 8 << 20
"""Largest image, in bytes as it comes."""

MOST_PIXELS = 1 << 20
"""Height times width of an image, at most."""

_CHANNELS = 4

LONGEST_IMAGE = LARGEST_IMAGE * 4 // 3 + 4
"""Longest image of a request, in characters of base64."""

# Keyed by the first word of the type's name, as DuckDB's `describe` prints it, in lower case.
_KIND_OF_TYPE: dict[str, Kind] = {
    **dict.fromkeys(("tinyint", "smallint", "integer", "bigint", "hugeint"), "number"),
    **dict.fromkeys(("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"), "number"),
    **dict.fromkeys(("int", "float", "real", "double", "decimal", "numeric", "number"), "number"),
    **dict.fromkeys(("varchar", "text", "string", "char", "enum", "uuid"), "category"),
    **dict.fromkeys(("boolean", "bool"), "boolean"),
    **dict.fromkeys(("date", "datetime", "timestamptz", "timestamp"), "datetime"),
    **dict.fromkeys(("timestamp_s", "timestamp_ms", "timestamp_ns"), "datetime"),
    **dict.fromkeys(("blob", "bytea", "binary", "varbinary"), "image"),
}


@dataclass(frozen=True)
class Field:
    """One input column. `example` is a real value of the training part, for documentation and warm-up.

    `shape` is () for one value a row, (n,) for a vector of up to n numbers, (height, width, channels) for an image.
    A vector that is not nullable has all n of them.
    """

    name: str
    kind: Kind
    nullable: bool = True
    example: Example = None
    shape: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As plain data; a shape that says nothing is left out."""
        told = {"name": self.name, "kind": self.kind, "nullable": self.nullable, "example": self.example}
        if isinstance(self.example, tuple):
            told["example"] = list(self.example)
        return told | ({"shape": list(self.shape)} if self.shape else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Field:
        """Of `to_json`'s data. Raises TypeError for anything else."""
        field = cls(**data)
        example = tuple(field.example) if isinstance(field.example, list) else field.example
        return replace(field, example=example, shape=tuple(field.shape))


@dataclass(frozen=True)
class Signature:
    """The columns a model takes, in order, its target, and what it answers a row."""

    inputs: tuple[Field, ...]
    target: str
    task: Task = BINARY

    @classmethod
    def from_schema(
        cls,
        columns: Sequence[tuple[str, str]],
        *,
        target: str,
        required: Collection[str] = (),
        examples: Mapping[str, Example] | None = None,
        task: Task = BINARY,
    ) -> Signature:
        """Signature of `columns`, (name, DuckDB type name) pairs; the target's own column is left out.

        `required` columns may not be null. Raises DatasetError for a type that no model can take.
        """
        examples = examples or {}
        fields = tuple(
            Field(name, _kind(name, type_name), name not in required, examples.get(name))
            for name, type_name in columns
            if name != target
        )
        if not fields:
            raise DatasetError("the dataset has no input columns", hint="name at least one feature in `groups`")
        return cls(fields, target, task)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(field.name for field in self.inputs)

    def subset(self, names: Iterable[str]) -> Signature:
        """The signature of only `names`, in that order. Raises DatasetError for a name that is no input."""
        fields = {field.name: field for field in self.inputs}
        picked = []
        for name in names:
            if name not in fields:
                raise DatasetError(f"{name!r} is no input of the model.{did_you_mean(name, fields)}")
            picked.append(fields[name])
        return replace(self, inputs=tuple(picked))

    def to_json(self) -> dict[str, Any]:
        """The signature as plain data."""
        return {
            "inputs": [field.to_json() for field in self.inputs],
            "target": self.target,
            "task": self.task.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Signature:
        """The signature of `to_json`'s data. Raises IntegrityError when the data is anything else."""
        try:
            fields = tuple(Field.from_json(item) for item in data["inputs"])
            target, task = data["target"], Task.from_json(data["task"])
        except (KeyError, TypeError) as exc:
            raise IntegrityError(f"signature.json does not hold a signature: {exc}") from exc
        if any(not isinstance(field.kind, str) or field.kind not in get_args(Kind) for field in fields):
            raise IntegrityError("signature.json holds a kind of column that this version does not know")
        names = [field.name for field in fields]
        texts = all(isinstance(text, str) for text in (target, *names))
        if not texts or len(set(names)) < len(names) or not all(fits(field.kind, field.shape) for field in fields):
            raise IntegrityError("signature.json holds names or shapes that make no sense")
        return cls(fields, target, task)

    def check_rows(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Refuse rows that do not fit: RequestError names the field and the row (0-based).

        Every input must be there; null is allowed where the field is nullable; a bool or a numeric string is no
        number; a datetime is ISO 8601 text (UTC where it has no offset); a vector is a list of numbers or null, no
        longer than any in training; an image is base64 text.
        """
        checks, width = self._checks, len(self.inputs)
        for index, row in enumerate(rows):
            if type(row) is not dict and not isinstance(row, Mapping):
                raise RequestError(f"row {index} must be an object of fields, not {_shown(row)}", row=index)
            try:
                for name, plain, check in checks:
                    value = row[name]
                    if type(value) not in plain:
                        check(value)
            except KeyError:
                raise self._missing(row, index) from None
            except (TypeError, ValueError) as exc:
                raise _refusal(row, name, str(exc), index) from None
            if len(row) != width:
                raise self._unknown(row, index)

    @cached_property
    def _checks(self) -> tuple[tuple[str, frozenset[type], Callable[[object], None]], ...]:
        """Per input: its name, the types that need no look, and the look all others get."""
        none = frozenset({type(None)})
        checks = []
        for field in self.inputs:
            plain = _PLAIN[field.kind] | (none if field.nullable else frozenset())
            most = field.shape[0] if field.shape else LONGEST_VECTOR
            check = partial(_check_vector, least=0 if field.nullable or not field.shape else most, most=most)
            checks.append((field.name, plain, check if field.kind == "vector" else _CHECKS[field.kind]))
        return tuple(checks)

    def _missing(self, row: Mapping[str, object], index: int) -> RequestError:
        name = next(name for name in self.names if name not in row)
        spare = [key for key in row if key not in self.names]
        close = did_you_mean(name, spare).replace("Did you mean", "Is it")
        return RequestError(f"field {name!r} is missing in row {index}.{close}", field=name, row=index)

    def _unknown(self, row: Mapping[str, object], index: int) -> RequestError:
        name = next(key for key in row if key not in self.names)
        close = did_you_mean(str(name), self.names)
        return RequestError(f"field {name!r} of row {index} is no input of the model.{close}", field=name, row=index)


def fits(kind: Kind, shape: Sequence[object]) -> bool:
    """Whether an input of that kind may have that shape: no larger than what a request may bring."""
    sizes = [size for size in shape if type(size) is int and size > 0]
    if len(sizes) < len(shape):
        return False
    if kind == "image":
        return not sizes or (len(sizes) == 3 and sizes[0] * sizes[1] <= MOST_PIXELS and sizes[2] <= _CHANNELS)
    return not sizes or (kind == "vector" and len(sizes) == 1 and sizes[0] <= LONGEST_VECTOR)


def _kind(name: str, type_name: str) -> Kind:
    element, *lists = re.split(r"(?=\[\d*\]$)", type_name.strip().lower())  # a list or an array ends in brackets
    kind = _KIND_OF_TYPE.get(re.split(r"[^a-z_]", element, maxsplit=1)[0])
    if element.endswith("]") or kind is None or (lists and kind != "number"):
        raise DatasetError(
            f"column {name!r} has type {type_name}, which no model can take",
            hint="cast it in the dbt model to a number, text, boolean, date, timestamp, or a list of numbers",
        )
    return "vector" if lists else kind


def _refusal(row: Mapping[str, object], name: str, reason: str, index: int) -> RequestError:
    if row[name] is None:
        reason = "must not be null"
    return RequestError(f"field {name!r} of row {index} {reason}", field=name, row=index)


def _check_number(value: object) -> None:
    # Subclasses of float and int (numpy's among them) come here; bool is a subclass of int and is refused.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"must be a number, not {_shown(value)}")


def _check_text(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"must be text, not {_shown(value)}")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"is {len(value)} characters long; at most {LONGEST_TEXT} are taken")


def _check_vector(value: object, *, least: int, most: int) -> None:
    """`least` is 0, or as much as `most` where no number may be missing."""
    if not isinstance(value, list | tuple):
        raise TypeError(f"must be a list of numbers, not {_shown(value)}")
    if not least <= len(value) <= most:
        wanted = f"exactly {most:,}" if least else f"{most:,} at most"
        raise ValueError(f"has {len(value):,} numbers; the model takes {wanted}")
    if not _CELLS.issuperset(map(type, value)):
        for number in value:
            if number is not None:
                _check_number(number)
    if least and None in value:
        raise ValueError("has a number that is null: in training there was none")


def _check_image(value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(f"must be a PNG or JPEG image as base64 text, not {_shown(value)}")
    if len(value) > LONGEST_IMAGE:
        raise ValueError(f"is {len(value):,} characters long; at most {LONGEST_IMAGE:,} are taken")


def _check_boolean(value: object) -> None:
    raise TypeError(f"must be true or false, not {_shown(value)}")


def _check_datetime(value: object) -> None:
    if isinstance(value, date):  # a datetime too
        return
    if not isinstance(value, str):
        raise TypeError(f"must be a date or time in ISO 8601, not {_shown(value)}")
    try:
        datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"must be a date or time in ISO 8601, not {_shown(value)}") from None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_PLAIN: dict[Kind, frozenset[type]] = {
    "number": frozenset({float, int}),
    "category": frozenset(),
    "boolean": frozenset({bool}),
    "datetime": frozenset(),
    "vector": frozenset(),
    "image": frozenset(),
}
_CELLS = frozenset({float, int, type(None)})
_CHECKS: dict[Kind, Callable[[object], None]] = {
    "number": _check_number,
    "category": _check_text,
    "boolean": _check_boolean,
    "datetime": _check_datetime,
    "image": _check_image,
}
