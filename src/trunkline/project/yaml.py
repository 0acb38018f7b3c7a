"""YAML that remembers where everything stands, so that every complaint can name file and line."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from trunkline.errors import ProjectError, did_you_mean

T = TypeVar("T")
Key = str | int
Place = tuple[Key, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DEEPEST = 100
_MOST = 300_000  # keys and items: aliases of aliases would make millions of a short file


@dataclass(frozen=True)
class Document:
    """One parsed YAML file: plain data, and the 1-based line of every key and list item."""

    path: Path
    data: Any
    lines: Mapping[Place, int] = field(repr=False)

    def line(self, place: Place) -> int:
        """The line of `place`, or of the nearest parent that has one."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, what: str, place: Place = (), *, hint: str | None = None) -> ProjectError:
        """A `ProjectError` that points at `place`."""
        return ProjectError(what, file=self.path, line=self.line(place), hint=hint)


def load(path: Path, *, text: str | None = None) -> Document:
    """Parse a file. Raises `ProjectError` with line on broken YAML and on keys given twice."""
    source = _read(path) if text is None else text
    lines: dict[Place, int] = {(): 1}
    try:
        _check_depth(source, path)
        loader = _Loader(source)
        try:
            node = loader.get_single_node()
            data = None if node is None else _build(loader, node, (), lines, path)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = mark.line + 1 if mark else None
        raise ProjectError(f"not valid YAML: {exc.problem or exc.context}", file=path, line=line) from exc
    except yaml.YAMLError as exc:
        raise ProjectError(f"not valid YAML: {exc}", file=path) from exc
    return Document(path, data, lines)


def scalar_span(text: str, key: str) -> tuple[int, int, str | None] | None:
    """Where the value of a key of the file's own mapping stands, from and to, and its style: a quote, `|`, `>` or None.

    None if there is no such key, or if its value is no scalar. Raises `yaml.YAMLError` for what is no YAML.
    """
    node = yaml.compose(text, yaml.SafeLoader)
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    value = next((value for name, value in pairs if name.value == key), None)
    if not isinstance(value, yaml.ScalarNode):
        return None
    return value.start_mark.index, value.end_mark.index, value.style


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as exc:
        raise ProjectError("file not found", file=path) from exc
    except UnicodeDecodeError as exc:
        raise ProjectError("not UTF-8 text", file=path) from exc
    except OSError as exc:
        raise ProjectError(f"cannot read the file: {exc.strerror}", file=path) from exc


def _check_depth(source: str, path: Path) -> None:
    """Raise `ProjectError` for what is nested too deep, before anything follows it down."""
    depth = 0
    for event in yaml.parse(source, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            mark = event.start_mark
            raise _too_deep(path, mark.line + 1 if mark else 1)


def _too_deep(path: Path, line: int) -> ProjectError:
    return ProjectError(f"nested more than {_DEEPEST} deep", file=path, line=line)


def _build(loader: Any, node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> Any:
    line = node.start_mark.line + 1
    if len(place) > _DEEPEST:  # an alias of what it stands in
        raise _too_deep(path, line)
    if len(lines) > _MOST:
        raise ProjectError(f"more than {_MOST:,} keys and items", file=path, line=line)
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        result: dict[Key, Any] = {}
        for key_node, value_node in node.value:
            key = _scalar(loader, key_node, path)
            key = key_node.value if isinstance(key, bool) else key  # YAML 1.1 reads `on`, `off`, `yes`, `no` as those
            line = key_node.start_mark.line + 1
            if not isinstance(key, str | int):
                raise ProjectError(f"a key must be a word, not {key!r}", file=path, line=line)
            if key in result:
                raise ProjectError(f"the key {key!r} is given twice", file=path, line=line)
            lines[(*place, key)] = line
            result[key] = _build(loader, value_node, (*place, key), lines, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            lines[(*place, index)] = item.start_mark.line + 1
            items.append(_build(loader, item, (*place, index), lines, path))
        return items
    return _scalar(loader, node, path)


def _scalar(loader: Any, node: yaml.Node, path: Path) -> Any:
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as exc:  # 2001-99-99, or a number of thousands of digits
        raise ProjectError("not valid YAML: no such date or number", file=path, line=node.start_mark.line + 1) from exc


def convert(document: Document, kind: type[T], *, place: Place = (), data: Any = None) -> T:
    """Validate `data` (default: the whole document) as the msgspec struct `kind`.

    Raises `ProjectError` at the offending line; unknown keys come with the closest known one.
    """
    value = document.data if data is None else data
    for where, key, known in _unknown_keys(value, kind, place):
        hint = f"known keys here: {', '.join(known)}"
        raise document.error(f"unknown key {key!r}.{did_you_mean(key, known)}", (*where, key), hint=hint)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as exc:
        what, where = _split_message(str(exc))
        raise document.error(what, place + where) from exc


def _unknown_keys(value: Any, kind: Any, place: Place) -> Iterator[tuple[Place, str, list[str]]]:
    struct = _struct_in(kind)
    if struct is not None and isinstance(value, dict):
        known = {f.encode_name: f.type for f in msgspec.structs.fields(struct)}
        for key, item in value.items():
            if key not in known:
                yield place, str(key), list(known)
            else:
                yield from _unknown_keys(item, known[str(key)], (*place, key))
        return
    kind = _arm(value, kind)
    inner = [arg for arg in typing.get_args(kind) if arg is not type(None)]
    if isinstance(value, dict) and inner:
        for key, item in value.items():
            yield from _unknown_keys(item, inner[-1], (*place, key))
    elif isinstance(value, list) and inner:
        for index, item in enumerate(value):
            yield from _unknown_keys(item, inner[0], (*place, index))


def _struct_in(kind: Any) -> Any:
    for candidate in (kind, *typing.get_args(kind)):
        if isinstance(candidate, type) and issubclass(candidate, msgspec.Struct):
            return candidate if candidate is kind or _is_union(kind) else None
    return None


def _arm(value: Any, kind: Any) -> Any:
    """Of a union of collections the one that `value` is written as: a mapping or a list."""
    if not _is_union(kind) or not isinstance(value, dict | list):
        return kind
    fitting = dict if isinstance(value, dict) else (list, tuple)
    found = [
        arg
        for arg in typing.get_args(kind)
        if isinstance(arm := typing.get_origin(arg), type) and issubclass(arm, fitting)
    ]
    return found[0] if found else kind


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _split_message(message: str) -> tuple[str, Place]:
    """msgspec's "Expected `int`, got `str` - at `$.serve.port`" as words and a place."""
    match = re.search(r" - at `(?:key in )?\$?([^`]*)`$", message)
    words = (message[: match.start()] if match else message).replace("`", "'")
    place: list[Key] = []
    for name, index in re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", match.group(1) if match else ""):
        key: Key = name or (int(index) if index.isdigit() else "...")
        if key == "...":
            break
        place.append(key)
    if missing := re.match(r"Object missing required field '(.+)'", words):
        words = f"the key {missing.group(1)!r} is missing"
    path = ".".join(str(part) for part in place)
    return (f"{path}: {words}" if path else words), tuple(place)
