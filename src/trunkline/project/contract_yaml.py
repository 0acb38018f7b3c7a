"""Columns written into a YAML file of sources. What the user wrote stays as it is, to the letter.

Text is only ever inserted, at places that the parser names; that nothing else changed is checked by parsing the result.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from trunkline.errors import ProjectError
from trunkline.project import yaml as documents

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_ ]*(\(\d+\))?")
_WORDS = {"y", "n", "yes", "no", "true", "false", "on", "off", "null"}
_META = (("config", "meta", "trunkline"), ("meta", "trunkline"))


@dataclass(frozen=True)
class Addition:
    """What a source table is to be given: columns (name, type), comment lines above them, and options of its
    `meta.trunkline`. `declaration` is what a table that is not there yet says of itself.

    Of the columns `required` are tested for NULL, and `primary` are the table's key.
    """

    source: str
    table: str
    columns: tuple[tuple[str, str], ...]
    comments: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    declaration: Mapping[str, Any] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    primary: frozenset[str] = frozenset()


def added(path: Path, text: str, addition: Addition) -> str:
    """`text` with the addition; the file need not be there yet. Raises `ProjectError` if it cannot be put in."""
    new = _Writer(path, text, addition).write()
    before, after = documents.load(path, text=text).data, documents.load(path, text=new).data
    if not _only_more(before, after):
        raise ProjectError(
            f"cannot write the columns of {addition.source}.{addition.table} into this file without changing more",
            file=path,
            hint="write them by hand: --dry-run --json lists them",
        )
    return new


def _only_more(before: Any, after: Any) -> bool:
    if before is None:
        return True
    if isinstance(before, dict) and isinstance(after, dict):
        return all(key in after and _only_more(value, after[key]) for key, value in before.items())
    if isinstance(before, list) and isinstance(after, list):
        return len(before) <= len(after) and all(map(_only_more, before, after))
    return bool(before == after)


class _Writer:
    def __init__(self, path: Path, text: str, addition: Addition) -> None:
        self._path = path
        self._text = text if not text or text.endswith("\n") else f"{text}\n"
        self._addition = addition
        self._inserts: list[tuple[int, str]] = []

    def write(self) -> str:
        root = yaml.compose(self._text, Loader=yaml.SafeLoader)
        sources = _value(root, "sources")
        if not isinstance(sources, yaml.SequenceNode) or not sources.value:
            start = "" if sources is not None else "sources:\n"
            return f"{self._text}{start}{self._source(2)}"
        source = _named(sources, self._addition.source)
        if source is None:
            self._item(sources, self._source)
        else:
            self._into_source(source)
        text = self._text
        for place, new in sorted(self._inserts, reverse=True):
            text = text[:place] + new + text[place:]
        return text

    def _into_source(self, source: yaml.MappingNode) -> None:
        tables = _value(source, "tables")
        if not isinstance(tables, yaml.SequenceNode) or not tables.value:
            raise ProjectError(
                f"source {self._addition.source!r} has no list of tables", file=self._path, hint="write `tables:` first"
            )
        table = _named(tables, self._addition.table)
        if table is None:
            self._item(tables, self._table)
            return
        self._columns(table)
        if self._addition.options:
            self._options(table, source)

    # -- pieces of text

    def _source(self, indent: int) -> str:
        pad = " " * indent
        head = f"{pad}- name: {_word(self._addition.source)}\n{pad}  schema: raw\n{pad}  tables:\n"
        return head + self._table(indent + 4)

    def _table(self, indent: int) -> str:
        pad = " " * indent
        meta = {**self._addition.declaration, **self._addition.options}
        listed = ", ".join(f"{key}: {_flow(value)}" for key, value in meta.items())
        head = f"{pad}- name: {_word(self._addition.table)}\n"
        config = f"{pad}  config: {{meta: {{trunkline: {{{listed}}}}}}}\n" if listed else ""
        return f"{head}{config}{pad}  columns:\n{self._comments(indent + 4)}{self._listed(indent + 4)}"

    def _comments(self, indent: int) -> str:
        return "".join(f"{' ' * indent}# {line}\n" for line in self._addition.comments)

    def _listed(self, indent: int) -> str:
        return "".join(f"{' ' * indent}- {column}\n" for column in self._each())

    def _each(self) -> list[str]:
        return [
            f"{{name: {_word(name)}, data_type: {_type(type_)}{self._asked(name)}}}"
            for name, type_ in self._addition.columns
        ]

    def _asked(self, name: str) -> str:
        key = ", constraints: [{type: primary_key}]" if name in self._addition.primary else ""
        return key + (", data_tests: [not_null]" if name in self._addition.required else "")

    # -- where they go

    def _item(self, items: yaml.SequenceNode, make: Any) -> None:
        """One more item of a list, after its last."""
        if items.flow_style:
            raise ProjectError("a list in brackets takes no more items", file=self._path, hint="write it line by line")
        self._inserts.append((self._after(items), make(items.start_mark.column)))

    def _columns(self, table: yaml.MappingNode) -> None:
        if not self._addition.columns:
            return
        columns = _value(table, "columns")
        if isinstance(columns, yaml.SequenceNode) and columns.value and not columns.flow_style:
            self._inserts.append((self._after(columns), self._listed(columns.start_mark.column)))
        elif isinstance(columns, yaml.SequenceNode):
            comma = ", " if columns.value else ""
            self._inserts.append((columns.end_mark.index - 1, comma + ", ".join(self._each())))
        elif table.flow_style:
            self._inserts.append((table.end_mark.index - 1, f", columns: [{', '.join(self._each())}]"))
        elif columns is not None:  # `columns:` with nothing after it
            indent = table.start_mark.column + 2
            self._inserts.append((self._after(columns), self._comments(indent) + self._listed(indent)))
        else:
            indent = table.start_mark.column
            text = f"{' ' * indent}columns:\n{self._comments(indent + 2)}{self._listed(indent + 2)}"
            self._inserts.append((self._after(table), text))

    def _options(self, table: yaml.MappingNode, source: yaml.MappingNode) -> None:
        found = [node for owner in (table, source) for path in _META if (node := _at(owner, path)) is not None]
        if not found:
            raise ProjectError("no meta.trunkline to write options into", file=self._path)
        meta = found[0]
        listed = [f"{key}: {_flow(value)}" for key, value in self._addition.options.items()]
        if meta.flow_style:
            comma = ", " if meta.value else ""
            self._inserts.append((meta.end_mark.index - 1, comma + ", ".join(listed)))
        else:
            pad = " " * meta.start_mark.column
            self._inserts.append((self._after(meta), "".join(f"{pad}{line}\n" for line in listed)))

    def _after(self, node: yaml.Node) -> int:
        """The beginning of the line after the node's last."""
        last = _last(node)
        end = len(self._text[: last.end_mark.index].rstrip())
        line = self._text.find("\n", max(end, 0))
        return len(self._text) if line < 0 else line + 1


def _last(node: yaml.Node) -> yaml.Node:
    """The node's last part that stands in the text by itself."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _last(last[1] if isinstance(last, tuple) else last)
    return node


def _value(node: Any, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def _at(node: Any, path: Sequence[str]) -> yaml.MappingNode | None:
    for key in path:
        node = _value(node, key)
    return node if isinstance(node, yaml.MappingNode) else None


def _named(items: yaml.SequenceNode, name: str) -> yaml.MappingNode | None:
    for item in items.value:
        found = _value(item, "name")
        if isinstance(found, yaml.ScalarNode) and found.value == name:
            return item  # type: ignore[no-any-return]  # a node with a key is a mapping
    return None


def _word(name: str) -> str:
    return name if _PLAIN.fullmatch(name) and name.lower() not in _WORDS else json.dumps(name, ensure_ascii=False)


def _type(type_: str) -> str:
    return type_ if _TYPE.fullmatch(type_) else json.dumps(type_)


def _flow(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(json.dumps(item, ensure_ascii=False) for item in value)}]"
    text = str(value)
    return text if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else json.dumps(value, ensure_ascii=False)
