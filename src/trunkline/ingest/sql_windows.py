"""Where a cursor is and what lies beyond it. Pure.

A cursor is a column that grows: a row that is new or has changed has a greater value in it than all rows before. What a
load has read is told by that value alone, so it is kept exactly as the database writes it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from trunkline.errors import SourceError
from trunkline.project.durations import seconds

_ENDLESS = ("infinity", "-infinity", "nan", "inf")


@dataclass(frozen=True)
class Value:
    """A cursor's value as text; `number` where it must be compared as one, whatever its column's type."""

    text: str
    number: bool = False

    @classmethod
    def read(cls, marked: str) -> Value:
        """What `Dialect.marked` gave. Raises `SourceError` for one that nothing can be greater than."""
        if marked[1:].strip().lower() in _ENDLESS:
            raise SourceError(
                f"the cursor's greatest value is {marked[1:]}: no row could ever be found beyond it",
                hint="leave such rows out with `query:`, or name another column as `cursor`",
            )
        return cls(marked[1:], marked[0] == "n")


@dataclass(frozen=True)
class Position:
    """How far a table has been read: up to `value`, None where no row has one.

    `tail` is what the rows within the lag before it were, so that a change among them is noticed.
    """

    column: str
    value: Value | None
    tail: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As the ledger keeps it."""
        kept: dict[str, Any] = {"column": self.column, "value": self.value.text if self.value else None}
        if self.value and self.value.number:
            kept["number"] = True
        return kept | ({"tail": self.tail} if self.tail is not None else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Position:
        """What `to_json` gave."""
        value = Value(data["value"], bool(data.get("number"))) if data["value"] is not None else None
        return cls(data["column"], value, data.get("tail"))


@dataclass(frozen=True)
class Window:
    """Rows beyond `above` (or from `start` on) up to `until`; with `nulls` also those without a value."""

    until: Value | None
    above: Value | None = None
    start: Value | None = None
    nulls: bool = False


def last_position(cursor: Mapping[str, Any] | None, column: str) -> Position | None:
    """Where the last load ended. Raises `SourceError` if it went by another column."""
    if not cursor or "column" not in cursor:
        return None
    position = Position.from_json(cursor)
    if position.column != column:
        raise SourceError(
            f"what is loaded went by the cursor {position.column!r}, and the project names {column!r} now",
            hint="load it all again with --full-refresh, or change `cursor` back",
        )
    return position


def windows(first: Window, bounds: Iterable[Value]) -> Iterator[Window]:
    """`first` cut at `bounds`, which come in order and may repeat."""
    window = first
    for bound in bounds:
        if bound != window.above and bound != first.until:
            yield Window(bound, window.above, window.start, window.nulls)
            window = Window(first.until, above=bound)
    yield window


def earlier(value: Value, lag: str | int) -> Value:
    """The value that lies `lag` before: a span of time for a time, else a number. Raises `SourceError`."""
    text = value.text
    try:
        if isinstance(lag, int) or lag.replace(".", "", 1).isdigit():
            return Value(str(Decimal(text) - Decimal(str(lag))), value.number)
        if value.number or text[4:5] != "-":
            raise ValueError("no time")
        span = dt.timedelta(seconds=seconds(lag))
        if len(text) == len("2026-01-01"):
            return Value(str(dt.date.fromisoformat(text) - dt.timedelta(days=-(-span // dt.timedelta(days=1)))))
        return Value((dt.datetime.fromisoformat(text) - span).isoformat(text[10]))  # with its own T or space
    except (ValueError, InvalidOperation, OverflowError) as exc:
        raise SourceError(
            f"a lag of {lag!r} does not go with a cursor whose value is {text!r}",
            hint="a time takes a span such as 15 minutes, a number a number; a text can have no lag",
        ) from exc
