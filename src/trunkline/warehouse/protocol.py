"""The seam between Trunkline and a warehouse. The front validates, adapters only translate.

One `Warehouse` belongs to one command and one thread; cursors for other threads are the adapter's affair. Adapters
raise `EngineError` for what would fail again and `TransientError` for what may pass; nothing of the engine's own
exceptions comes through.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pyarrow as pa

SEALED_KEY_BYTES = 32


@dataclass(frozen=True)
class Relation:
    """A table or view. `database` None is the target's own database."""

    schema: str
    name: str
    database: str | None = None

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True)
class FileScan:
    """Files that a warehouse reads by itself. `files` are local paths; `null_values` are texts that mean NULL."""

    files: tuple[str, ...]
    format: Literal["csv", "ndjson", "parquet"]
    null_values: tuple[str, ...] = ()
    delimiter: str | None = None


@dataclass(frozen=True)
class LoadRequest:
    """Rows of `scan` into `target`, cast to `columns` (name, SQL type); rows that do not fit into `quarantine`.

    `name` is what the source table is called in messages. `replace` makes the target anew, with the types of `columns`.
    """

    name: str
    target: Relation
    columns: tuple[tuple[str, str], ...]
    scan: FileScan
    quarantine: Relation
    load_id: str
    loaded_at: dt.datetime
    replace: bool = False


@dataclass(frozen=True)
class LoadCounts:
    """What one load did, in rows. `read == loaded + quarantined`, always."""

    read: int
    loaded: int
    quarantined: int

    def __add__(self, other: LoadCounts) -> LoadCounts:
        return LoadCounts(self.read + other.read, self.loaded + other.loaded, self.quarantined + other.quarantined)


class Warehouse(Protocol):
    """What every warehouse can do."""

    name: str

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. `?` in `sql` are `parameters`."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; the number of rows it changed (0 where it changes none)."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: commits at the end, rolls back on any exception. Writers of one warehouse take turns.

        Inside another one it is part of that one.
        """
        ...

    def writing(self) -> AbstractContextManager[None]:
        """Hold the writers' turn without a transaction, for a writer outside this connection (dbt)."""
        ...

    def sql(self, relation: Relation) -> str:
        """The relation's quoted, fully qualified name."""
        ...

    def columns(self, relation: Relation) -> list[tuple[str, str]]:
        """Names and SQL types of a relation's columns in order; empty if there is no such relation."""
        ...

    def relations(self) -> set[tuple[str, str]]:
        """(schema, name) of all tables and views of the target's database, in lower case."""
        ...

    def close(self) -> None:
        """Give the connection back. The warehouse is not used afterwards."""
        ...


@runtime_checkable
class FileLoader(Protocol):
    """Warehouses that scan files by themselves: the rows never pass through Python."""

    def load_files(self, request: LoadRequest) -> LoadCounts:
        """Create or extend the target, cast, quarantine. Runs inside the caller's transaction.

        Raises `SourceError` when a file lacks a column of the contract or cannot be read as its format.
        """
        ...


@runtime_checkable
class Appender(Protocol):
    """Warehouses that append a file's rows to a table, each at most once."""

    def append_new(self, target: Relation, columns: Sequence[tuple[str, str]], file: Path, *, key: str) -> int:
        """Append the rows of an NDJSON file whose `key` the target does not hold yet; rows appended."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Warehouses that can read a relation as it was."""

    def snapshot(self) -> str:
        """The identity of the current state of the database."""
        ...

    def at(self, relation: Relation, snapshot: str) -> str:
        """SQL for `relation` as of `snapshot`."""
        ...


@runtime_checkable
class ParquetWriter(Protocol):
    """Warehouses that write a query's rows as Parquet by themselves."""

    def write_parquet(self, sql: str, path: Path, *, key: bytes | None = None) -> int:
        """Write the rows, in the query's order, to one file (encrypted with a 32-byte `key`); rows written."""
        ...

    def read_sealed(self, path: Path, key: bytes) -> pa.Table:
        """Read an encrypted file back."""
        ...


@runtime_checkable
class Observable(Protocol):
    """Warehouses that can say how far a running statement is."""

    def progress(self) -> float | None:
        """Fraction in [0, 1] of the statement running now, None if not known. Safe from any thread."""
        ...


def open_warehouse(kind: str, settings: Mapping[str, Any], root: Path) -> Warehouse:
    """Open the warehouse of a dbt target: `kind` is dbt's adapter type, `settings` its profile."""
    from importlib import import_module

    from trunkline.errors import ProjectError

    if kind not in ADAPTERS:
        raise ProjectError(
            f"no warehouse adapter for dbt type {kind!r}", hint=f"types: {', '.join(ADAPTERS)}; see profiles.yml"
        )
    module, _, attribute = ADAPTERS[kind].partition(":")
    warehouse: Warehouse = getattr(import_module(module), attribute)(settings, root)
    return warehouse


def commit_stamp(kind: str, settings: Mapping[str, Any], root: Path) -> list[int] | None:
    """Something that changes with every commit to the target, read without opening it; None if there is none."""
    from trunkline.warehouse import catalog

    return catalog.stamp(settings, root) if kind == "duckdb" else None


ADAPTERS = {"duckdb": "trunkline.warehouse.duckdb:open_duckdb"}
