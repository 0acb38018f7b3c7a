"""Sources: dbt's `sources:` whose `config.meta.trunkline` says where the rows come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from trunkline.errors import ProjectError
from trunkline.project import references, yaml
from trunkline.project.connectors import CONNECTORS, JOINT, Options
from trunkline.project.contracts import Column, columns

_META = (("config", "meta", "trunkline"), ("meta", "trunkline"))


@dataclass(frozen=True)
class SourceTable:
    """One raw table: its contract (columns), and how it is filled. `label` is what dbt calls it in `source()`."""

    source: str
    name: str
    database: str | None
    schema: str
    columns: tuple[Column, ...]
    options: Options
    file: Path
    line: int
    options_line: int
    label: str = ""

    @property
    def key(self) -> str:
        """`source.table`, the name dbt and the ledger know it by."""
        return f"{self.source}.{self.label or self.name}"


@dataclass(frozen=True)
class SourceUnit:
    """Source tables that are read in one go and share one state: mostly one table, all of a source for some."""

    name: str
    tables: tuple[SourceTable, ...]

    @property
    def connector(self) -> str:
        """The connector of all of them."""
        return self.tables[0].options.connector

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self.tables[0].file}:{self.tables[0].options_line}"


def units(tables: Sequence[SourceTable]) -> tuple[SourceUnit, ...]:
    """The tables by what is read together, in order."""
    found: dict[str, list[SourceTable]] = {}
    for table in tables:
        found.setdefault(table.source if table.options.connector in JOINT else table.key, []).append(table)
    return tuple(SourceUnit(name, tuple(members)) for name, members in found.items())


def own_code(root: Path, unit: SourceUnit) -> Path | None:
    """The project's Python file that a unit runs, if it runs one. Raises `ProjectError` if it is not there."""
    options = unit.tables[0].options
    named = getattr(options, "function", None) or getattr(options, "source", "") or ""
    if getattr(options, "sdk", None):
        named = f"{options.sdk}/connector.py:connector"  # type: ignore[union-attr]  # only one of them has it
    name, _, attribute = str(named).partition(":")
    if not name.endswith(".py"):
        return None
    file = root / name
    if not file.is_file() or not attribute:
        raise ProjectError(
            f"source {unit.name}: {named!r} names no function of a file of the project",
            file=unit.tables[0].file,
            line=unit.tables[0].options_line,
            hint="write it as sources/orders.py:orders",
        )
    return file


def read_sources(document: yaml.Document, *, complete: bool = True) -> Iterator[SourceTable]:
    """The tables of one YAML file that Trunkline fills. Others (dbt's alone) are passed over.

    A table without columns is an error, unless `complete` is off: then its columns are about to be inferred.
    """
    data = document.data if isinstance(document.data, dict) else {}
    for i, source in enumerate(data.get("sources") or []):
        shared, shared_place = _options(source, ("sources", i))
        for j, table in enumerate(_mapping(source).get("tables") or []):
            place: yaml.Place = ("sources", i, "tables", j)
            own, where = _options(table, place)
            bare = not _mapping(table).get("columns")
            if own is None and (shared is None or (bare and complete)):
                continue
            if bare and complete:
                raise _without_columns(document, f"{_mapping(source).get('name')}.{_mapping(table).get('name')}", place)
            data = {**_mapping(shared), **_mapping(own)}
            references.check(document, data, (where, shared_place))
            yield _table(document, source, table, place, (data, where))


def _without_columns(document: yaml.Document, table: str, place: yaml.Place) -> ProjectError:
    return document.error(
        f"source table {table} declares no columns: they are the contract its rows are held to",
        place,
        hint=f"write them from a sample: trunkline ingest --infer {table}",
    )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _options(node: Any, place: yaml.Place) -> tuple[Any, yaml.Place]:
    """What a source or a table says of itself to Trunkline, and where; None if nothing."""
    for path in _META:
        value: Any = _mapping(node)
        for key in path:
            value = _mapping(value).get(key)
        if value is not None:
            return value, (*place, *path)
    return None, place


def _table(
    document: yaml.Document, source: Any, table: Any, place: yaml.Place, found: tuple[dict[str, Any], yaml.Place]
) -> SourceTable:
    data, where = found
    kind = data.get("connector")
    if kind not in CONNECTORS:
        raise document.error(
            f"connector {kind!r} is not known", (*where, "connector"), hint=f"connectors: {', '.join(CONNECTORS)}"
        )
    name = str(table.get("name"))
    contract = tuple(columns(document, table, place))
    options: Options = yaml.convert(document, CONNECTORS[kind], place=where, data=data)
    options = _with_key(document, options, contract, where)
    line = document.line((*where, "path")) if (*where, "path") in document.lines else document.line(where)
    return SourceTable(
        source=str(source.get("name")),
        name=str(table.get("identifier") or name),
        database=source.get("database"),
        schema=str(source.get("schema") or source.get("name")),
        columns=contract,
        options=options,
        file=document.path,
        line=document.line(place),
        options_line=line,
        label=name,
    )


def _with_key(document: yaml.Document, options: Options, contract: Sequence[Column], where: yaml.Place) -> Options:
    """The options with their key: as given, else the columns that a `primary_key` constraint names."""
    if not contract:
        return options
    key = options.key or tuple(column.name for column in contract if column.primary)
    known = {column.name.lower() for column in contract}
    for name in key:
        if name.lower() not in known:
            raise document.error(f"the key {name!r} is no column of the contract", (*where, "key"))
    if options.load == "merge" and not key:
        raise document.error("`load: merge` needs a key", (*where, "load"), hint="say `key: [id]`")
    if options.key and options.load == "append":
        raise document.error(
            "rows that are appended have no key", (*where, "key"), hint="say `load: merge`, or leave the key out"
        )
    if options.deleted and options.load != "merge":
        raise document.error("only `load: merge` can delete rows", (*where, "deleted"))
    return msgspec.structs.replace(options, key=key if options.load == "merge" else options.key)
