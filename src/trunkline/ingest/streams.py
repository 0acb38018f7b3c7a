"""Sources that hand rows over one after the other, as batches: read ahead in a thread while the batch before is loaded.

A source gives events. `Rows` belong to a table, a `Checkpoint` says from where the source can go on once all rows
before it are kept, `Truncate` takes away what a table held until then. A batch ends at a checkpoint, once enough rows
or seconds have gone by; rows that no checkpoint follows wait in Parquet files for the end of the source. When the
source fails, what came before its last checkpoint is kept, and the rest is dropped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from trunkline.errors import SourceError, did_you_mean
from trunkline.ingest.ahead import Ahead, End, Event, Limits, Reading, Rows, Truncate
from trunkline.ingest.blocks import Block
from trunkline.ingest.gather import Gathered, digest
from trunkline.ingest.protocol import Batch, Piece, Reach, Since
from trunkline.project.declare import Checkpoint
from trunkline.warehouse.load import QueryScan

__all__ = ["Checkpoint", "Event", "Limits", "Rows", "Truncate", "batches", "last_state"]

_LOOK_SECONDS = 0.1  # how often a batch's age, and Ctrl-C, are looked at while nothing comes
_NOTHING = QueryScan("select null::varchar as line where false", shape="json")


def last_state(since: Since) -> Any:
    """The state of the last checkpoint that was committed; None if there is none, or the tables are made anew."""
    return None if since.refresh or since.cursor is None else since.cursor.get("state")


def batches(
    reach: Reach,
    since: Since,
    events: Callable[[], Iterable[Event]],
    *,
    limits: Limits | None = None,
    interrupt: Callable[[], None] | None = None,
) -> Iterator[Batch]:
    """The events of a source, as batches.

    `events` is called, and what it gives is read and closed, in a thread of its own: it must not touch the warehouse
    or `reach.reader`. `interrupt` is called when reading stops before the end, for a source that waits for something.
    What the source raises is raised here, after all that came before its last checkpoint has been committed.

    The cursor is `{"state": …, "content": …}`: the last checkpoint's state, and the hashes of tables that are replaced
    when they changed. If one of the tables is replaced, all are committed together at the end.
    """
    limits = limits or Limits()
    ahead = Ahead(limits.ahead_bytes)
    reading = Reading(reach, events, ahead, limits.block_bytes)
    reading.start()
    try:
        yield from _Batching(reach, since, limits).of(ahead)
    finally:
        ahead.stop()
        if interrupt is not None and reading.is_alive():
            interrupt()
        reading.join(5.0)  # it may be waiting for a server; the thread ends with the process then


class _Batching:
    """What has been read and is not committed: `ready` up to the last checkpoint, `pending` what came after it."""

    def __init__(self, reach: Reach, since: Since, limits: Limits) -> None:
        self._reach = reach
        self._since = since
        self._limits = limits
        self._tables = {table.source: table for table in reach.tables}
        self._once = any(table.load.startswith("replace") for table in reach.tables)
        self._anew = set(self._tables) if since.refresh else set()
        self._state = self._committed = last_state(since)
        self._content: dict[str, str] = dict((since.cursor or {}).get("content") or {})
        self._ready = Gathered(reach.scratch)
        self._pending = Gathered(reach.scratch)
        self._began = time.monotonic()

    def of(self, ahead: Ahead) -> Iterator[Batch]:
        """Batches until the source ends or fails."""
        while True:
            item = ahead.get(_LOOK_SECONDS)
            if isinstance(item, End):
                if item.error is None:
                    self._ready.extend(self._pending)
                    yield from self._commit(last=True)
                    return
                if not self._once:
                    yield from self._commit()
                raise item.error
            if isinstance(item, Block):
                self._add(item)
            elif isinstance(item, Checkpoint):
                self._state = item.state
                self._ready.extend(self._pending)
            if self._due():
                yield from self._commit()

    def _add(self, block: Block) -> None:
        table = self._tables.get(block.table)
        if table is None:
            raise SourceError(
                f"{self._reach.name} has no table {block.table!r}.{did_you_mean(block.table, self._tables)}",
                hint=f"tables: {', '.join(self._tables)}",
            )
        self._pending.add(block, ordered=bool(table.contract.key))
        most = self._limits.batch_bytes
        if self._once and self._ready.bytes + self._pending.bytes > most:
            self._ready.spill()
            self._pending.spill()
        elif self._pending.bytes > most:
            self._pending.spill()

    def _due(self) -> bool:
        """Whether what is ready should be committed now."""
        if self._once or not self._ready:
            return False
        large = self._ready.size + self._pending.bytes > self._limits.batch_bytes
        return large or time.monotonic() - self._began > self._limits.batch_seconds

    def _commit(self, last: bool = False) -> Iterator[Batch]:
        with ExitStack() as stack:
            pieces = list(self._pieces(stack, last))
            if pieces or self._state != self._committed:
                yield Batch(tuple(pieces), cursor={"state": self._state, "content": self._content})
                self._committed = self._state
        self._ready.clear()
        self._began = time.monotonic()

    def _pieces(self, stack: ExitStack, last: bool) -> Iterator[Piece]:
        """The first piece of a table that is made anew replaces it, if only with nothing."""
        if not (self._ready or last):
            return
        reader = self._reach.reader()
        found = self._ready.scans(reader, stack)
        for name, table in self._tables.items():
            mine = found.get(name, [])
            replace = name in self._anew or table.load.startswith("replace")
            if replace and table.load == "replace-when-changed" and not self._changed(name, mine):
                continue
            if replace and (not mine or mine[0][1]):  # a table that is truncated first is just as empty
                mine = [(_NOTHING, False), *mine]
            for index, (scan, truncate) in enumerate(mine):
                yield Piece(name, scan, replace=replace and index == 0, truncate=truncate)
            self._anew.discard(name)

    def _changed(self, name: str, scans: list[tuple[QueryScan, bool]]) -> bool:
        """Whether a table that is replaced when it changed has other rows, or another contract, than the last time."""
        was, self._content[name] = self._content.get(name), digest(self._reach.reader(), [scan for scan, _ in scans])
        same = was == self._content[name] and self._since.same_contract(self._tables[name])
        return not same or name in self._anew
