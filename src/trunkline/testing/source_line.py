"""One table, the source that fills it and a DuckLake, for tests: loads by the real driver, which can be disturbed."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytest

from trunkline.context import Job, StepContext
from trunkline.errors import EngineError, TrunklineError
from trunkline.ingest import protocol
from trunkline.ingest import run as driver
from trunkline.ingest.protocol import Batch, Reach, Since, Source
from trunkline.ingest.steps import ingest_step
from trunkline.ledger.ledger import Ledger
from trunkline.project.connectors import TableOptions
from trunkline.project.contracts import Column
from trunkline.project.files import FileState
from trunkline.project.secrets import Secrets
from trunkline.project.sources import SourceTable, SourceUnit
from trunkline.registry.protocol import Registry
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.retry import again

Row = tuple[int, int, str, float]
COLUMNS = (("id", "BIGINT"), ("version", "BIGINT"), ("name", "VARCHAR"), ("amount", "DOUBLE"))
KEY = ("id",)
_LAKE = {
    "path": ":memory:",
    "database": "lake",
    "config_options": {"allow_unsigned_extensions": True},  # else each line hashes the extensions' files anew
    "extensions": ["ducklake", "sqlite_scanner"],
    "settings": {"TimeZone": "UTC"},
    "attach": [{"path": "ducklake:sqlite:catalog.sqlite", "alias": "lake", "options": {"data_path": "data"}}],
}


def rows(first: int, last: int, version: int | None = None, name: str = "row") -> list[Row]:
    """Rows with these ids; a row's version is its id unless given."""
    return [(n, version or n, f"{name} {n}, “quoted”", n / 4) for n in range(first, last + 1)]


class Origin(Protocol):
    """What a source reads from, in the hands of a test: made anew for each, and empty.

    A row is (id, version, name, amount). Ids and versions grow, so either can be a cursor. The table is `suite.t` with
    the columns `COLUMNS`. `batches` is the least number of batches that 40 rows must come in: 1 for a source that has
    no cursor within a load.
    """

    connector: str
    batches: int

    def options(self, load: str, key: tuple[str, ...]) -> TableOptions:
        """What sources.yml would say: options of the connector, whose `connector` is its name.

        Secrets are references, `env:NAME`, to be found in `environ`.
        """
        ...

    def environ(self) -> Mapping[str, str]:
        """Environment variables that the options refer to."""
        ...

    def add(self, more: Sequence[Row]) -> None:
        """The source has these rows as well from now on."""
        ...

    def files(self) -> Sequence[FileState]:
        """The local files of the source, for connectors that are told of them; else nothing."""
        ...


@runtime_checkable
class Replaceable(Protocol):
    """Origins whose rows can be others the next time."""

    def put(self, all_: Sequence[Row]) -> None:
        """The source has exactly these rows from now on."""
        ...


@runtime_checkable
class Changing(Protocol):
    """Origins whose source tells of rows that have changed."""

    def change(self, changed: Sequence[Row]) -> None:
        """The rows with these ids are these from now on; each version is greater than all before."""
        ...


@runtime_checkable
class Breakable(Protocol):
    """Origins that can fail while they are read."""

    def break_after(self, count: int | None) -> None:
        """Fail once so many rows have been read; None: not any more."""
        ...


@runtime_checkable
class Guarded(Protocol):
    """Origins that ask for credentials."""

    def refuse(self) -> str:
        """From now on the options' credentials are wrong; the secret that nobody may see."""
        ...


@runtime_checkable
class Connected(Protocol):
    """Origins that can tell how many connections to them are open."""

    def connections(self) -> int:
        """How many there are now."""
        ...


class Cut(Exception):
    """The process ended here, as far as the source can tell."""


@dataclass
class Cutting:
    """A source, watched, and closed early after so many committed batches. `meanwhile` is done after the first."""

    source: Source
    after: int | None
    seen: list[Batch]
    meanwhile: Callable[[], None]

    @property
    def exclusive(self) -> bool:
        """As the source says."""
        return self.source.exclusive

    def batches(self, since: Since) -> Iterator[Batch]:
        """The source's."""
        with contextlib.closing(self.source.batches(since)) as batches:  # type: ignore[type-var]  # generators
            for batch in batches:
                self.seen.append(batch)
                yield batch
                if len(self.seen) == 1:
                    self.meanwhile()
                if len(self.seen) == self.after:
                    raise Cut


class RefusingLedger(Ledger):
    """A ledger that fails once, when the batch of that number is about to be committed."""

    def __init__(self, warehouse: Any, batch: int, error: type[EngineError]) -> None:
        super().__init__(warehouse)
        self._left = batch
        self._error = error

    def add(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """As any ledger, but for the one time."""
        super().add(table, rows)
        self._left -= table == "loads"
        if table == "loads" and self._left == 0:
            raise self._error("the disk is full")


@dataclass(frozen=True)
class Held:
    """What a load must give back: threads, children, sockets, databases and connections that are there now."""

    threads: frozenset[str]
    children: frozenset[str]
    sockets: int
    databases: frozenset[str]
    connections: int


@dataclass
class Line:
    """The table `suite.t` in a DuckLake below `root`, filled from `origin`.

    What may pass is tried again for `patience` seconds: for a minute by a user's command, and not at all by most tests.
    """

    root: Path
    origin: Origin
    patch: pytest.MonkeyPatch
    told: list[str] = field(default_factory=list)
    patience: float = 0.0

    def __post_init__(self) -> None:
        self.patch.chdir(self.root)
        self.warehouse = open_duckdb(_LAKE, self.root)
        self._ledger = Ledger(self.warehouse)
        self._ledger.prepare()

    def load(
        self,
        load: str = "append",
        *,
        cut_after: int | None = None,
        meanwhile: Callable[[], None] = lambda: None,
        ledger: Ledger | None = None,
        refresh: bool = False,
    ) -> list[Batch]:
        """Load what is new; the batches the source gave. Raises `Cut` after `cut_after` of them are committed.

        `meanwhile` is done when the first one is.
        """
        seen: list[Batch] = []
        name = self.origin.connector
        module, _, attribute = protocol.CONNECTORS.get(name, name).partition(":")
        made: Callable[[Reach], Source] = getattr(__import__(module, fromlist=[attribute]), attribute)
        stand_in = types.SimpleNamespace(made=lambda reach: Cutting(made(reach), cut_after, seen, meanwhile))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driver, "again", partial(again, patience=self.patience))
            patch.setitem(sys.modules, "source_under_test", stand_in)
            patch.setitem(protocol.CONNECTORS, name, "source_under_test:made")
            driver.run(self._job(load, refresh), self._context(ledger or self._ledger))
        return seen

    def _job(self, load: str, refresh: bool) -> Job:
        key = KEY if load == "merge" else ()
        columns = tuple(Column(name, type_, 1) for name, type_ in COLUMNS)
        place = self.root / "sources.yml"
        options: Any = self.origin.options(load, key)
        table = SourceTable("suite", "t", None, "raw", columns, options, place, 1, 2, "t")
        joint = self.origin.connector in ("dlt", "rest", "fivetran")
        unit = SourceUnit("suite" if joint else table.key, (table,))
        return Job(ingest_step(unit, self.origin.files()), "", {}, refresh=refresh)

    def _context(self, ledger: Ledger) -> StepContext:
        return StepContext(
            root=self.root,
            run_id="run_suite",
            target="dev",
            warehouse=self.warehouse,
            ledger=ledger,
            registry=_no_registry,
            progress=lambda text, done=None: self.told.append(text),
            vault_key=bytes,
            secrets=Secrets(self.root, {**os.environ, **self.origin.environ()}),
            who="suite",
            git_commit=lambda: None,
        )

    def rows(self) -> list[Row]:
        """What the table holds, in order. Fails if that is not what the ledger says."""
        if not self.warehouse.columns(Relation("raw", "t")):
            return []
        self._balance()
        listed = ", ".join(name for name, _ in COLUMNS)
        found = self.warehouse.query(f"select {listed} from raw.t order by 1, 2")
        return [(int(id_), int(version), str(name), float(amount)) for id_, version, name, amount in found]

    def ledger(self, table: str) -> list[dict[str, Any]]:
        """The rows of a ledger table."""
        return self._ledger.read(table, f"order by {'load_id' if table != 'runs' else 'run_id'}")

    def _balance(self) -> None:
        """Every row read is in the table or in the quarantine, and each batch has its cursor."""
        loads = self.ledger("loads")
        assert all(load["rows_read"] == load["rows_loaded"] + load["rows_quarantined"] for load in loads), loads
        assert {load["load_id"] for load in loads} <= {cursor["load_id"] for cursor in self.ledger("cursors")}
        if not any(load["mode"] == "merge" for load in loads):
            last = max((load["load_id"] for load in loads if load["mode"] == "replace"), default="")
            counts = self.warehouse.query("select _load_id, count(*) from raw.t group by 1 order by 1")
            told = [(one["load_id"], one["rows_loaded"]) for one in loads if one["rows_loaded"]]
            assert counts == [one for one in told if one[0] >= last]

    def held(self) -> Held:
        """What the process holds now."""
        databases = self.warehouse.query("select database_name from duckdb_databases() where not internal")
        return Held(
            frozenset(thread.name for thread in threading.enumerate()),
            frozenset(_children()),
            _sockets(),
            frozenset(str(name) for (name,) in databases),
            self.origin.connections() if isinstance(self.origin, Connected) else 0,
        )

    def gives_back(self, before: Held, seconds: float = 10.0) -> Held:
        """What the process holds once that is no more than `before`, or after so many seconds."""
        end = time.monotonic() + seconds
        while (now := self.held()) != before and time.monotonic() < end:
            time.sleep(0.05)
        return now


def _no_registry() -> Registry:
    raise TrunklineError("a load asks for no registry")


def _children() -> Iterator[str]:
    """The ids of this process's children, where the system tells."""
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            yield from task.read_text().split()


def _sockets() -> int:
    """How many sockets this process has open, where the system tells."""
    count = 0
    for handle in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(OSError):
            count += os.readlink(handle).startswith("socket:")
    return count
