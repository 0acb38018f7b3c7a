"""Databases whose rows come as Arrow, through a driver: what is read of them, and when a load may end."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from trunkline.errors import SourceError, did_you_mean
from trunkline.ingest import streams
from trunkline.ingest.protocol import Batch, Reach, Since
from trunkline.ingest.sql_windows import Position, Value, Window, earlier, last_position


class Database(Protocol):
    """An open connection. Used by one thread."""

    def columns(self) -> list[str]:
        """The names of the source's columns."""
        ...

    def greatest(self, column: str) -> Any:
        """The column's greatest value; None if it has none."""
        ...

    def read(self, column: str | None, window: Window | None) -> Iterator[pa.Table]:
        """The rows of a window in the column's order; those without a value if there is no window; all of them if there
        is no column either."""
        ...

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        """The first two rows of a query."""
        ...


@dataclass(frozen=True)
class Streamed:
    """One source table through `connect`, which opens the database in the thread that reads it."""

    reach: Reach
    connect: Callable[[], AbstractContextManager[Database]]

    def batches(self, since: Since) -> Iterator[Batch]:
        """As the connector promises. With a cursor rows come in its order, so that a load may end at any value."""
        options = self.reach.tables[0].options
        if options["changed"] and self._unchanged(since, options["changed"]):
            return
        yield from streams.batches(self.reach, since, lambda: self._events(since))

    def _unchanged(self, since: Since, sql: str) -> bool:
        state = streams.last_state(since) or {}
        return bool(since.same_contract(self.reach.tables[0]) and state.get("changed") == self._answer(sql))

    def _answer(self, sql: str) -> list[str | None]:
        with self.connect() as database:
            rows = database.answer(sql)
        if len(rows) != 1:
            raise SourceError(
                f"`changed` gave {len(rows) or 'no'} rows, and its answer must be one",
                hint="ask for sums: select count(*), max(updated_at) from …",
            )
        return [None if value is None else str(value) for value in rows[0]]

    def _events(self, since: Since) -> Iterator[streams.Event]:
        table = self.reach.tables[0]
        cursor = table.options["cursor"]
        answer = {"changed": self._answer(table.options["changed"])} if table.options["changed"] else None
        with self.connect() as database:
            if cursor:
                yield from _Beyond(table.source, table.options, database).events(streams.last_state(since))
                return
            for rows in database.read(None, None):
                yield streams.Rows(table.source, rows)
        yield streams.Checkpoint(answer)


class _Beyond:
    def __init__(self, source: str, options: Any, database: Database) -> None:
        self._source = source
        self._options = options
        self._database = database
        names = database.columns()
        wanted = str(options["cursor"])
        found = [name for name in names if name == wanted] or [n for n in names if n.lower() == wanted.lower()]
        if not found:
            raise SourceError(
                f"the cursor {wanted!r} is no column of the source.{did_you_mean(wanted, names)}",
                hint=f"columns: {', '.join(names[:40])}",
            )
        self._column = found[0]

    def events(self, state: Any) -> Iterator[streams.Event]:
        """Rows beyond the last position, a checkpoint after each value that is read to its end."""
        last = last_position(state, self._column)
        until = as_value(self._database.greatest(self._column))
        value = until or (last.value if last else None)
        end = Position(self._column, value)
        lag, start = self._options["lag"], self._options["start"]
        if lag is not None and value is not None:
            end = replace(end, tail=self._tail(Window(value, above=earlier(value, lag))))
        if last is not None and last == end:
            return
        given = as_value(start) if last is None else None
        above = earlier(last.value, lag) if last and last.value and lag is not None else last.value if last else None
        if last is None and given is None:
            for rows in self._database.read(self._column, None):
                yield streams.Rows(self._source, rows)
        if until is not None:
            yield from self._ordered(Window(until, above, given))
        yield streams.Checkpoint(end.to_json())

    def _ordered(self, window: Window) -> Iterator[streams.Event]:
        """Rows, and a checkpoint where a new value begins: what shares a value with rows to come is held back."""
        held: list[pa.Table] = []
        for rows in self._database.read(self._column, window):
            if not rows.num_rows:
                continue
            values = rows.column(self._column)
            same = pc.sum(pc.equal(values, values[-1]).cast(pa.int64())).as_py()
            before, tail = rows.slice(0, rows.num_rows - same), rows.slice(rows.num_rows - same)
            if before.num_rows or (held and held[-1].column(self._column)[-1] != values[-1]):
                done = [*held, before] if before.num_rows else held
                for part in done:
                    yield streams.Rows(self._source, part)
                reached = as_value(done[-1].column(self._column)[-1].as_py())
                yield streams.Checkpoint(Position(self._column, reached).to_json())
                held = []
            held.append(tail)
        for part in held:
            yield streams.Rows(self._source, part)

    def _tail(self, window: Window) -> str:
        """What the rows within the lag are; asked before they are loaded."""
        count = total = 0
        for rows in self._database.read(self._column, window):
            for row in rows.to_pylist():
                count += 1
                total += int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), "big")
        return f"{count}:{total % 2**64:016x}"


def as_value(given: Any) -> Value | None:
    """A cursor's value as exact text."""
    if given is None:
        return None
    number = isinstance(given, int | float) and not isinstance(given, bool)
    text = repr(given) if isinstance(given, float) else str(given)
    return Value.read(f"{'n' if number else 't'}{text}")
