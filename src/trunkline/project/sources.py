"""Sources: dbt's `sources:` whose `config.meta.trunkline` says where the rows come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from trunkline.project import yaml


class FilesOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`connector: files`. `path` is a glob relative to the project; formats are told by the suffix unless given."""

    connector: Literal["files"]
    path: str
    load: Literal["append", "replace"] = "append"
    format: Literal["csv", "ndjson", "parquet"] | None = None
    null_values: tuple[str, ...] = ()
    delimiter: str | None = None


@dataclass(frozen=True)
class Column:
    """One column of a contract: its name and its type in the warehouse's SQL."""

    name: str
    type: str
    line: int


@dataclass(frozen=True)
class SourceTable:
    """One raw table: its contract (columns), and how it is filled."""

    source: str
    name: str
    database: str | None
    schema: str
    columns: tuple[Column, ...]
    options: FilesOptions
    file: Path
    line: int
    path_line: int

    @property
    def key(self) -> str:
        """`source.table`, the name dbt and the ledger know it by."""
        return f"{self.source}.{self.name}"


CONNECTORS: dict[str, type[FilesOptions]] = {"files": FilesOptions}


def read_sources(document: yaml.Document) -> Iterator[SourceTable]:
    """The tables of one YAML file that Trunkline fills. Others (dbt's alone) are passed over."""
    data = document.data if isinstance(document.data, dict) else {}
    for i, source in enumerate(data.get("sources") or []):
        for j, table in enumerate(_mapping(source).get("tables") or []):
            place: yaml.Place = ("sources", i, "tables", j)
            options, where = _options(table, place)
            if options is not None:
                yield _table(document, source, table, place, (options, where))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _options(table: Any, place: yaml.Place) -> tuple[Any, yaml.Place]:
    table = _mapping(table)
    for path in (("config", "meta", "trunkline"), ("meta", "trunkline")):
        value: Any = table
        for key in path:
            value = _mapping(value).get(key)
        if value is not None:
            return value, (*place, *path)
    return None, place


def _table(
    document: yaml.Document, source: Any, table: Any, place: yaml.Place, found: tuple[Any, yaml.Place]
) -> SourceTable:
    options, where = found
    kind = _mapping(options).get("connector")
    if kind not in CONNECTORS:
        raise document.error(
            f"connector {kind!r} is not known", (*where, "connector"), hint=f"connectors: {', '.join(CONNECTORS)}"
        )
    name = str(table.get("name"))
    columns = tuple(_columns(document, table, place))
    if not columns:
        raise document.error(
            f"source table {name!r} declares no columns: they are the contract its rows are held to", place
        )
    return SourceTable(
        source=str(source.get("name")),
        name=str(table.get("identifier") or name),
        database=source.get("database"),
        schema=str(source.get("schema") or source.get("name")),
        columns=columns,
        options=yaml.convert(document, CONNECTORS[kind], place=where, data=options),
        file=document.path,
        line=document.line(place),
        path_line=document.line((*where, "path")),
    )


def _columns(document: yaml.Document, table: Any, place: yaml.Place) -> Iterator[Column]:
    seen: set[str] = set()
    for k, column in enumerate(table.get("columns") or []):
        where = (*place, "columns", k)
        column = _mapping(column)
        if not column.get("name"):
            raise document.error("a column without a name", where)
        name = str(column["name"])
        if not column.get("data_type"):
            raise document.error(f"column {name!r} has no data_type", where, hint="the contract needs a type for each")
        if name.lower() in seen:
            raise document.error(f"column {name!r} is declared twice", where)
        if name.lower() in ("_load_id", "_loaded_at", "_extra"):
            raise document.error(f"column {name!r} is one of Trunkline's own audit columns", where)
        seen.add(name.lower())
        yield Column(name, str(column["data_type"]), document.line(where))
