"""The seam between Trunkline and a warehouse. The front validates, adapters only translate.

One `Warehouse` belongs to one command and one thread; cursors for other threads are the adapter's affair. Adapters
raise `EngineError` for what would fail again and `TransientError` for what may pass; nothing of the engine's own
exceptions comes through.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trunkline.warehouse.load import LoadCounts, LoadRequest, Scan
from trunkline.warehouse.relation import Relation

if TYPE_CHECKING:
    import pyarrow as pa

SEALED_KEY_BYTES = 32


@dataclass(frozen=True)
class Written:
    """A file a query's rows were written to. `content` is a hash of the rows that their order does not change."""

    rows: int
    content: str


@dataclass(frozen=True)
class PythonFunction:
    """A SQL function written in Python.

    Types are the portable ones: BIGINT, DOUBLE, BOOLEAN, VARCHAR, DATE, TIMESTAMP, and DOUBLE[], which is JSON where a
    warehouse has no lists. For a warehouse with a Python of its
    own, `source` is a self-contained module and `handler` its vectorised function (pandas DataFrame with columns
    0..n-1 → Series); `packages` must be there and `files` are put beside it.
    """

    relation: Relation
    arguments: tuple[tuple[str, str], ...]
    returns: str
    source: str
    handler: str
    packages: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    deterministic: bool = True


class Tell(Protocol):
    """Where a long operation tells how far it is: `done` is a fraction in [0, 1], or None where the end is unknown."""

    def __call__(self, text: str, done: float | None = None) -> None:
        """Show `text`."""
        ...


class Warehouse(Protocol):
    """What every warehouse can do.

    Names that are plain identifiers mean the same in any case, as unquoted names do in SQL; others are exact. Types
    that come out are canonical, spelt as DuckDB does: BIGINT, DOUBLE, DECIMAL(p,s), VARCHAR, BOOLEAN, DATE, TIME,
    TIMESTAMP, TIMESTAMP WITH TIME ZONE, JSON.
    """

    name: str

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query. `?` in `sql` are `parameters`."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; the number of rows it changed (0 where it changes none)."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing: commits at the end, rolls back on any exception. Writers of one warehouse take turns.

        Inside another one it is part of that one. It holds changes of rows; a table is made or altered before it.
        """
        ...

    def quote(self, name: str) -> str:
        """A column's name as SQL."""
        ...

    def sql(self, relation: Relation) -> str:
        """The relation's quoted, fully qualified name."""
        ...

    def columns(self, relation: Relation) -> list[tuple[str, str]]:
        """Names and canonical types of a relation's columns in order; empty if there is no such relation."""
        ...

    def relations(self) -> set[tuple[str, str]]:
        """(schema, name) of all tables and views of the target's database, in lower case."""
        ...

    def close(self) -> None:
        """Give the connection back. The warehouse is not used afterwards."""
        ...


@runtime_checkable
class Turns(Protocol):
    """Warehouses whose catalog takes one writer at a time."""

    def writing(self) -> AbstractContextManager[None]:
        """Hold the writers' turn without a transaction, for a writer outside this connection (dbt)."""
        ...


@runtime_checkable
class Records(Protocol):
    """Warehouses that keep Trunkline's own tables. Types are the canonical ones."""

    def several(self) -> str:
        """The type of a column of several numbers: `DOUBLE[]`, or JSON where there are no lists."""
        ...

    def create(self, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
        """Make the table and its schema unless they are there; add columns that it lacks."""
        ...

    def insert(self, relation: Relation, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
        """Append rows of plain values; JSON values come as text."""
        ...

    def appending(
        self, relation: Relation, columns: Sequence[tuple[str, str]], file: Path, *, key: str | None = None
    ) -> AbstractContextManager[Callable[[], int]]:
        """Bring the rows of an NDJSON or Parquet file within reach, outside any transaction.

        What is given appends them inside the caller's transaction, with `key` only those whose key is not there; rows
        appended.
        """
        ...


@runtime_checkable
class Loader(Protocol):
    """Warehouses that take rows from files and queries: the rows never pass through Python."""

    def reader(self) -> SourceReader:
        """The engine that reads sources: this warehouse itself, or one in this process. Closed with the warehouse."""
        ...

    def staged(self, request: LoadRequest, tell: Tell) -> AbstractContextManager[Callable[[], LoadCounts]]:
        """Make the target ready and bring the rows within reach, outside any transaction.

        What is given moves them: cast into the target, else to the quarantine, inside the caller's transaction. What
        was brought along is gone at the end. Raises `SourceError` when the source cannot be read or has none of the
        contract's columns, `ContractError` when the target holds another type than the contract, or when the policy
        is to fail and a row does not fit.
        """
        ...


class SourceReader(Protocol):
    """A DuckDB that reads sources."""

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        ...

    def attached(self, kind: str, dsn: str) -> AbstractContextManager[str]:
        """Attach a database read-only: `kind` is postgres, mysql or sqlite. Gives its quoted name.

        No error shows a password of `dsn`. `TransientError` where the server cannot be reached.
        """
        ...

    def handed(self, rows: pa.Table) -> AbstractContextManager[str]:
        """Make an Arrow table readable. Gives its quoted name."""
        ...

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """Names and canonical types of a query's columns."""
        ...

    def reaching(self, source: Scan) -> AbstractContextManager[None]:
        """What a scan needs to be read: for files behind URLs the extension, and their secret."""
        ...

    def extension(self, name: str) -> None:
        """Load an extension of DuckDB. `EngineError` with the command that installs it."""
        ...


@runtime_checkable
class Snapshots(Protocol):
    """Warehouses that can read a relation as it was."""

    def snapshot(self, relation: Relation) -> str:
        """The identity of the relation's current state, to be recorded. It says how it is kept, e.g. `version:12`."""
        ...

    def at(self, relation: Relation, snapshot: str) -> str:
        """SQL for `relation` as of `snapshot`."""
        ...

    def kept(self) -> Mapping[str, dt.datetime]:
        """The snapshots that take space of their own, until they are released, and when they were taken."""
        ...

    def release(self, snapshot: str) -> None:
        """Give up what a snapshot keeps, where it keeps something; it cannot be read any more then."""
        ...


@runtime_checkable
class ArrowReader(Protocol):
    """Warehouses that hand a query's rows over as Arrow."""

    def read_arrow(self, sql: str) -> pa.RecordBatchReader:
        """The rows in canonical types, batch by batch. Read to the end, or closed, before the next statement."""
        ...


class Batch(Protocol):
    """A part of a result that any process can read. It can be pickled, and holds no connection."""

    @property
    def rows(self) -> int:
        """How many there are."""
        ...

    def read(self) -> pa.Table:
        """The rows."""
        ...


@runtime_checkable
class BatchReader(Protocol):
    """Warehouses whose results can be read in parallel, in other processes too."""

    def batches(self, sql: str) -> Sequence[Batch]:
        """The result in parts, in order. They can be read for some hours, also after `close`."""
        ...


@runtime_checkable
class Unloader(Protocol):
    """Warehouses that write large results as Parquet in parallel."""

    def unload(self, sql: str, folder: Path | str, tell: Tell) -> int:
        """Write the rows, in no order, as Parquet files into a local folder or an object store's URL; rows written."""
        ...


@runtime_checkable
class ParquetWriter(Protocol):
    """Warehouses that write a query's rows as one local Parquet file."""

    def write_parquet(self, sql: str, path: Path, *, key: bytes | None = None) -> Written:
        """Write the rows, in the query's order, in canonical types (encrypted with a 32-byte `key`).

        Equal rows in equal order give equal files on every warehouse, encryption apart.
        """
        ...

    def content(self, path: Path) -> str:
        """The `content` of a file's rows, as `write_parquet` told it."""
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


@runtime_checkable
class Tagged(Protocol):
    """Warehouses that note a tag with each statement, so that cost can be read per step."""

    def tag(self, text: str) -> None:
        """The tag of all statements from now on."""
        ...


@runtime_checkable
class FunctionHost(Protocol):
    """Warehouses that run Python functions where the data is."""

    def create_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """Make `function` callable from SQL, in place of one of the same name.

        `call` takes one Arrow array an argument, NULLs included, and returns one of the same length. It is for engines
        in this process, where a function lives as long as the connection; others take the function's source.
        """
        ...

    def try_function(self, function: PythonFunction, call: Callable[..., pa.Array], rows: Path) -> list[Any]:
        """What `function` would give for the rows of a Parquet file, in their order, if it were made.

        The file has a column for each argument, by name. Runs what `create_function` would make, for this session only:
        neither the function nor the rows are there afterwards, and what is called so now stays as it is. Several
        numbers of a row are a list, or JSON text where there are no lists.
        """
        ...

    def number(self, several: str, place: int) -> str:
        """SQL of the number at `place`, from 0, of what the SQL `several` is: the value of a function that returns

        DOUBLE[].
        """
        ...


@runtime_checkable
class FunctionRecall(Protocol):
    """Warehouses whose Python functions run in this process, so that each connection must be given them anew."""

    def recall_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """Give this connection the code of what `create_function` made on another. Nothing is written."""
        ...


CAPABILITIES: tuple[type, ...] = (
    Turns,
    Records,
    Loader,
    Snapshots,
    ArrowReader,
    BatchReader,
    Unloader,
    ParquetWriter,
    Observable,
    Tagged,
    FunctionHost,
    FunctionRecall,
)


def turn(warehouse: Warehouse) -> AbstractContextManager[None]:
    """The writers' turn, where writers take turns; nothing elsewhere."""
    return warehouse.writing() if isinstance(warehouse, Turns) else nullcontext()


def open_warehouse(kind: str, settings: Mapping[str, Any], root: Path) -> Warehouse:
    """Open the warehouse of a dbt target: `kind` is dbt's adapter type, `settings` its profile."""
    from importlib import import_module

    from trunkline.errors import ProjectError

    if kind not in ADAPTERS:
        raise ProjectError(
            f"no warehouse adapter for dbt type {kind!r}", hint=f"types: {', '.join(ADAPTERS)}; see profiles.yml"
        )
    module, _, attribute = ADAPTERS[kind].partition(":")
    try:
        adapter = import_module(module)
    except ModuleNotFoundError as exc:
        raise ProjectError(f"{exc.name} is not installed", hint=f"pip install 'trunkline[{kind}]'") from exc
    warehouse: Warehouse = getattr(adapter, attribute)(settings, root)
    return warehouse


def commit_stamp(kind: str, settings: Mapping[str, Any], root: Path) -> list[int] | None:
    """Something that changes with every commit to the target, read without opening it; None if there is none."""
    from trunkline.warehouse import catalog

    return catalog.stamp(settings, root) if kind == "duckdb" else None


ADAPTERS = {
    "duckdb": "trunkline.warehouse.duckdb:open_duckdb",
    "snowflake": "trunkline.warehouse.snowflake:open_snowflake",
}
