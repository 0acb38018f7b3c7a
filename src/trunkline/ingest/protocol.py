"""The seam between a source and a load.

A connector is a file with a class that is made with a `Reach` and yields `Batch`es. What a batch holds is committed in
one transaction: rows, quarantine, files, cursor and the ledger's row; then the next one is asked for. So a connector
decides how much may be lost by a kill, and the driver (`run.py`) that nothing is lost or doubled: a batch says from
where the source goes on after it, and a source that cannot say that yields one batch.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from trunkline.context import Progress
from trunkline.errors import TrunklineError
from trunkline.ledger.ledger import LoadedFile
from trunkline.warehouse.load import Contract, Scan
from trunkline.warehouse.protocol import SourceReader, Warehouse
from trunkline.warehouse.relation import Relation


@dataclass(frozen=True)
class Table:
    """One table that a source fills. `options` are the connector's, as the project has them (secrets by reference)."""

    source: str
    relation: Relation
    contract: Contract
    load: str
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The table's name in the source's own words: the part after the source's name."""
        return self.source.partition(".")[2]


@dataclass(frozen=True)
class Since:
    """What earlier loads left: the cursor after the last batch, the files read into each table, by path, and the
    contract (`Column.to_json`) that each was last held to.

    `refresh`: the tables are to be made anew, so neither counts. `tables` are those there now (by `Table.source`).
    """

    cursor: Mapping[str, Any] | None = None
    files: Mapping[str, Mapping[str, LoadedFile]] = field(default_factory=dict)
    contracts: Mapping[str, list[Any]] = field(default_factory=dict)
    refresh: bool = False
    tables: frozenset[str] = frozenset()

    def same_contract(self, table: Table) -> bool:
        """Whether the table's last load was held to the contract that it has now."""
        return self.contracts.get(table.source) == table.contract.to_json()


@dataclass(frozen=True)
class ReadFile:
    """A file whose rows a piece holds, for the ledger."""

    path: str
    digest: str
    size: int


@dataclass(frozen=True)
class Piece:
    """Rows of one table (`table` is its `Table.source`). `replace` makes the table anew with them; `truncate` removes
    all its rows first. `order` is the contract's, where only the source knows it."""

    table: str
    scan: Scan
    files: tuple[ReadFile, ...] = ()
    replace: bool = False
    truncate: bool = False
    order: str | None = None


@dataclass(frozen=True)
class Registered:
    """A table that somebody else has filled, in the warehouse already, with the rows it got."""

    table: str
    rows: int


@dataclass(frozen=True)
class Batch:
    """What is committed together. `cursor` is where the source goes on after it; None leaves the cursor as it is.

    `check` is called when all rows are read, before the commit: it raises if they are not what the batch says.
    `instead` is told the error of a batch that could not be loaded: it gives another in its place, or None.
    """

    pieces: tuple[Piece, ...] = ()
    cursor: Mapping[str, Any] | None = None
    registered: tuple[Registered, ...] = ()
    check: Callable[[], None] | None = None
    instead: Instead | None = None


Instead = Callable[[TrunklineError], Batch | None]


@dataclass(frozen=True)
class Reach:
    """What a source may use. `scratch` is an empty folder, gone when the source is done.

    `secret` resolves references in plain data. `reader` gives the DuckDB that reads sources; it is the thread's that
    asks for batches, as the warehouse is. `sample`: rows are looked at, not loaded; none need hold to a contract.
    """

    name: str
    tables: tuple[Table, ...]
    config: Mapping[str, Any]
    root: Path
    scratch: Path
    warehouse: Warehouse
    reader: Callable[[], SourceReader]
    secret: Callable[[Any], Any]
    progress: Progress
    now: Callable[[], dt.datetime]
    sample: bool = False


@dataclass(frozen=True)
class Known:
    """What a source says itself of a column. `type` is a contract's, "" where the rows must tell; where it is `loose`
    they may say otherwise. `key` is the column's place in the primary key, from 1; 0 outside it."""

    name: str
    type: str
    required: bool = False
    key: int = 0
    loose: bool = False


@runtime_checkable
class Knowing(Protocol):
    """Sources that can tell of their one table's columns without reading it."""

    def known(self) -> Sequence[Known]:
        """The columns in order; none where nothing is known."""
        ...


class Source(Protocol):
    """A connector at work. Made anew for each try; used by one thread.

    One with `notes`, a list of texts, has something to say of the load beside its counts: they are shown with the step.
    """

    exclusive: bool
    """Whether other loads into this warehouse wait until this one is done: for sources that are read at the speed of
    the disk. Others find out at the commit that somebody else came first, and the load is tried again."""

    def batches(self, since: Since) -> Iterator[Batch]:
        """The rows that are new since then. The iterator is closed early when a commit fails; the scan of a batch must
        be readable until the next one is asked for.

        Raises `SourceError` for a source that is not as declared, `TransientError` for one that may be there later.
        What was yielded before stays committed.
        """
        ...


CONNECTORS: dict[str, str] = {
    "files": "trunkline.ingest.files:Files",
    "sql": "trunkline.ingest.sql:Sql",
    "rest": "trunkline.ingest.rest:Rest",
    "dlt": "trunkline.ingest.dlt:Dlt",
    "fivetran": "trunkline.ingest.fivetran:open_fivetran",
    "python": "trunkline.ingest.python:Python",
}


def open_source(reach: Reach) -> Source:
    """The source of the unit's connector."""
    module, _, attribute = CONNECTORS[reach.config["connector"]].partition(":")
    source: Source = getattr(import_module(module), attribute)(reach)
    return source
