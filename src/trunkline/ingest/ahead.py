"""Reading a source ahead in a thread: its events as blocks of Arrow, in a queue that holds so many bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from trunkline.errors import SourceError
from trunkline.ingest import encode
from trunkline.ingest.apart import Layout
from trunkline.ingest.blocks import Block, Filling
from trunkline.ingest.protocol import Reach
from trunkline.project.declare import Checkpoint

_MIB = 2**20
_TELL_SECONDS = 0.2


@dataclass(frozen=True)
class Rows:
    """Rows of one table (its `Table.source`).

    `data` is a dict or a list of dicts, JSON lines as bytes (one or more, or a list of them), an Arrow table, record
    batch or reader, a pandas or polars DataFrame, or anything else with an Arrow stream.
    """

    table: str
    data: Any


@dataclass(frozen=True)
class Truncate:
    """All rows that a table has had until now are gone at the source."""

    table: str


Event = Rows | Checkpoint | Truncate


@dataclass(frozen=True)
class Limits:
    """When a batch is large or old enough, in bytes of rows and seconds; how far a source is read ahead, in bytes."""

    batch_bytes: int = 64 * _MIB
    batch_seconds: float = 30.0
    ahead_bytes: int = 64 * _MIB
    block_bytes: int = 4 * _MIB


@dataclass(frozen=True)
class End:
    """The source has no more, or has failed."""

    error: BaseException | None = None


Item = Block | Checkpoint | End


class Stopped(Exception):
    """Nobody reads on. Raised in the source's thread, which ends."""


class Ahead:
    """A queue from the source's thread to the load's, bounded by bytes. One item is always let in."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._stopped = False
        self._changed = threading.Condition()

    def put(self, item: Item) -> None:
        """Add an item once there is room. Raises `Stopped` when nobody reads on."""
        size = item.rows.nbytes if isinstance(item, Block) else 0
        with self._changed:
            while not self._stopped and self._bytes and self._bytes + size > self._most:
                self._changed.wait()
            if self._stopped:
                raise Stopped
            self._items.append((item, size))
            self._bytes += size
            self._changed.notify_all()

    def get(self, seconds: float) -> Item | None:
        """The next item; None if none has come for so long."""
        with self._changed:
            if not self._items:
                self._changed.wait(seconds)
            if not self._items:
                return None
            item, size = self._items.popleft()
            self._bytes -= size
            self._changed.notify_all()
            return item

    def stop(self) -> None:
        """Nobody reads on."""
        with self._changed:
            self._stopped = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether nobody reads on."""
        return self._stopped


class Reading(threading.Thread):
    """Reads a source's events into an `Ahead`."""

    def __init__(self, reach: Reach, events: Callable[[], Iterable[Event]], ahead: Ahead, block_bytes: int) -> None:
        super().__init__(name=f"reading {reach.name}", daemon=True)
        self._reach = reach
        self._events = events
        self._ahead = ahead
        self._most = block_bytes
        self._contracts = {} if reach.sample else {table.source: table.contract for table in reach.tables}
        self._filling: dict[str, Filling] = {}
        self._rows = 0
        self._told = 0.0

    def run(self) -> None:
        """Read to the end, or until nobody reads on."""
        end = End()
        try:
            self._read()
        except Stopped:
            return
        except BaseException as exc:  # noqa: BLE001  # raised by the thread that loads
            end = End(exc)
        try:
            self._ahead.put(end)
        except Stopped:
            return

    def _read(self) -> None:
        events = iter(self._events())
        try:
            for event in events:
                if isinstance(event, Rows):
                    self._take(event.table, event.data)
                    self._tell()
                else:
                    self._flush_all()
                    self._ahead.put(self._mark(event))
                if self._ahead.stopped:
                    raise Stopped
            self._flush_all()
        finally:
            if hasattr(events, "close"):
                events.close()

    @staticmethod
    def _mark(event: Checkpoint | Truncate) -> Item:
        if isinstance(event, Truncate):
            return Block(event.table, encode.lines([]), "json", truncate=True)
        try:
            return Checkpoint(orjson.loads(orjson.dumps(event.state)))
        except (TypeError, ValueError) as exc:
            raise SourceError(
                f"the state of a checkpoint is no JSON: {exc}", hint="keep to texts, numbers, lists and dicts"
            ) from exc

    def _take(self, table: str, data: Any) -> None:
        if isinstance(data, Mapping):
            self._filled(table).row(data)
        elif isinstance(data, bytes):
            for text in data.splitlines():
                if text.strip():
                    self._filled(table).line(text)
        elif isinstance(data, list | tuple):
            if not self._filled(table).rows(data):
                for row in data:
                    self._take(table, row)
        else:
            self._typed(table, data)

    def _typed(self, table: str, data: Any) -> None:
        found = encode.tables(data)
        if found is not None:
            self._filled(table).flush()
            for typed in found:
                for part in encode.slices(typed, self._most):
                    self._put(Block(table, part, "columns"))
        elif hasattr(data, "to_dict"):  # a DataFrame with values of several types in one column
            self._take(table, data.to_dict("records"))
        else:
            raise SourceError(
                f"{table}: {type(data).__module__}.{type(data).__qualname__} is no row",
                hint="yield dicts, lists of dicts, Arrow tables or record batches, or DataFrames",
            )

    def _filled(self, table: str) -> Filling:
        if table not in self._filling:
            contract = self._contracts.get(table)
            layout = Layout(contract) if contract is not None else None
            self._filling[table] = Filling(table, layout, self._most, self._put)
        return self._filling[table]

    def _flush_all(self) -> None:
        for filling in self._filling.values():
            filling.flush()

    def _put(self, block: Block) -> None:
        if block.rows.num_rows:
            self._rows += block.rows.num_rows
            self._ahead.put(block)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told > _TELL_SECONDS:
            self._told = now
            waiting = sum(filling.waiting for filling in self._filling.values())
            self._reach.progress(f"reading {self._reach.name}: {self._rows + waiting:,} rows")
