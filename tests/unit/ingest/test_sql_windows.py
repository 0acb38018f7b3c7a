"""Cursors as values, windows and positions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import SourceError
from trunkline.ingest.sql_windows import Position, Value, Window, earlier, last_position, windows


@pytest.mark.parametrize(
    ("value", "lag", "expected"),
    [
        ("2026-01-10 00:05:00.25+00", "15 minutes", "2026-01-09 23:50:00.250000+00:00"),
        ("2026-01-10 00:05:00", "1 day", "2026-01-09 00:05:00"),
        ("2026-01-10T00:05:00", "90s", "2026-01-10T00:03:30"),
        ("2026-01-10", "1 day", "2026-01-09"),
        ("2026-01-10", "1 hour", "2026-01-09"),  # a day is the least that a date can lie back
        ("100", 30, "70"),
        ("9223372036854775807", "1", "9223372036854775806"),
        ("1.5", "0.25", "1.25"),
    ],
)
def test_a_lag_goes_back(value: str, lag: str | int, expected: str) -> None:
    assert earlier(Value(value), lag).text == expected


@pytest.mark.parametrize(
    ("value", "lag"), [("100", "15 minutes"), ("20260110", "1 day"), ("abc", 5), ("2026-01-10 00:00:00", 5)]
)
def test_a_lag_of_another_kind_is_refused(value: str, lag: str | int) -> None:
    with pytest.raises(SourceError, match="does not go with a cursor whose value is"):
        earlier(Value(value), lag)


@pytest.mark.parametrize("marked", ["tinfinity", "tNaN", "ninf", "t-infinity"])
def test_a_cursor_that_nothing_exceeds_is_refused(marked: str) -> None:
    with pytest.raises(SourceError, match="no row could ever be found beyond it"):
        Value.read(marked)


@given(st.text(), st.booleans(), st.none() | st.text(), st.booleans())
def test_a_position_survives_json(text: str, number: bool, tail: str | None, none: bool) -> None:
    position = Position("c", None if none else Value(text, number), tail)
    assert Position.from_json(json.loads(json.dumps(position.to_json()))) == position


@given(st.integers(0, 50), st.lists(st.integers(0, 50)), st.none() | st.integers(0, 50))
def test_windows_cover_each_value_once(until: int, bounds: list[int], above: int | None) -> None:
    """Whatever the bounds are, if only in order: as those that a query gives."""
    given_ = [Value(str(bound)) for bound in sorted(bounds) if bound <= until and (above is None or bound > above)]
    first = Window(Value(str(until)), above=Value(str(above)) if above is not None else None, nulls=above is None)
    found = list(windows(first, given_))
    for value in range(51):
        inside = [w for w in found if (w.above is None or value > int(w.above.text)) and value <= int(w.until.text)]  # type: ignore[union-attr]
        assert len(inside) == int(value <= until and (above is None or value > above))
    assert [w.nulls for w in found] == [above is None] + [False] * (len(found) - 1)


def test_another_cursor_is_no_cursor() -> None:
    assert last_position(None, "id") is None
    assert last_position({"changed": ["1"]}, "id") is None
    with pytest.raises(SourceError, match="went by the cursor 'id', and the project names 'updated_at' now"):
        last_position({"column": "id", "value": "5"}, "updated_at")
