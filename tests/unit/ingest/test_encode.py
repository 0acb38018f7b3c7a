"""Rows as JSON lines: every kind of value arrives as SQL casts it, or not at all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ingest.streaming import World, table
from trunkline.errors import SourceError
from trunkline.ingest.encode import line, lines, slices, tables
from trunkline.ingest.streams import Event, Rows, batches

Point = namedtuple("Point", ["x", "y"])  # a user's own


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Size:
    width: int
    height: float


def _cast(value: Any, type_: str) -> Any:
    """A value through a JSON line into a column of a type, as a load takes it."""
    with duckdb.connect() as connection:
        text = line({"v": value}).decode()
        connection.execute("load icu; load json; set timezone = 'UTC'")
        sql = f"select try_cast(json_extract_string(?, '$.v') as {type_})"
        ((found,),) = connection.execute(sql, [text]).fetchall()
        return found


@pytest.mark.parametrize(
    ("value", "type_"),
    [
        (Decimal("12345678901234567890.123456789"), "DECIMAL(38,9)"),
        (Decimal("1E+3"), "DECIMAL(10,2)"),
        (2**63 - 1, "BIGINT"),
        (2**100, "HUGEINT"),
        (-(2**100), "HUGEINT"),
        (0.1 + 0.2, "DOUBLE"),
        (5e-324, "DOUBLE"),
        (math.inf, "DOUBLE"),
        (-math.inf, "DOUBLE"),
        (True, "BOOLEAN"),
        ('a "quoted"\n\ttext \\ with € and \U0001f600', "VARCHAR"),
        (dt.date(2024, 2, 29), "DATE"),
        (dt.datetime(2024, 2, 29, 23, 59, 59, 999_999), "TIMESTAMP"),
        (dt.datetime(2024, 2, 29, 23, 59, tzinfo=dt.UTC), "TIMESTAMPTZ"),
        (dt.datetime(2024, 2, 29, 23, 59, tzinfo=dt.timezone(dt.timedelta(hours=-5.5))), "TIMESTAMPTZ"),
        (dt.time(23, 59, 59, 1), "TIME"),
        (dt.timedelta(days=1, hours=2, minutes=3, seconds=4, microseconds=500_000), "INTERVAL"),
        (-dt.timedelta(hours=2, microseconds=1), "INTERVAL"),
        (uuid.UUID("12345678-1234-5678-1234-567812345678"), "UUID"),
        (bytes(range(256)), "BLOB"),
        (b"", "BLOB"),
    ],
    ids=str,
)
def test_values_survive_exactly(value: Any, type_: str) -> None:
    assert _cast(value, type_) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (Decimal("NaN"), None),
        (pd.NaT, None),
        (pd.NA, None),
        (np.float64("nan"), None),
        (np.int64(5), 5),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1, 2], dtype=">i4"), [1, 2]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.datetime64("2024-02-29T01:02:03"), "2024-02-29T01:02:03"),
        (pd.Timestamp("2024-02-29T01:02:03.000001"), "2024-02-29T01:02:03.000001"),
        ({3, 1, 2}, [1, 2, 3]),
        pytest.param(frozenset(["b", 1]), ["b", 1], id="a set of text and number"),  # its repr has no order
        ((1, "a"), [1, "a"]),
        (Point(1, 2), {"x": 1, "y": 2}),
        (Size(1, math.inf), {"width": 1, "height": "Infinity"}),
        (Colour.RED, "red"),
        ({1: "one", None: 2}, {"1": "one", "None": 2}),
        (OrderedDict(a=1), {"a": 1}),
        (MappingProxyType({"a": Decimal("1.10")}), {"a": "1.10"}),
        ({"deep": [{"er": Decimal("0.1")}, {"inf": -math.inf}]}, {"deep": [{"er": "0.1"}, {"inf": "-Infinity"}]}),
        ({"big": [2**70, 1]}, {"big": [str(2**70), 1]}),
    ],
    ids=repr,
)
def test_values_as_json(value: Any, expected: Any) -> None:
    assert json.loads(line({"v": value})) == {"v": expected}


def test_a_value_that_is_none_of_these_is_refused_with_its_column(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"a value of type builtins\.object has no place in a row"):
        line({"v": object()})
    world = World(tmp_path, (table(),))
    events: list[Event] = [Rows("s.t", [{"a": 1, "b": object()}])]
    with pytest.raises(SourceError, match=r"s\.t: column 'b': .*builtins\.object"):
        world.load(batches(world.reach(), world.since(), lambda: events))


def test_half_a_surrogate_is_json_that_is_refused_with_its_row() -> None:
    with duckdb.connect() as connection:
        text = line({"v": "\ud800"}).decode()
        assert connection.execute("select json_valid(?)", [text]).fetchall() == [(False,)]


def test_lines_that_are_no_utf8_are_no_objects() -> None:
    column = lines([b'{"a": 1}', b'{"a": "\xff"}']).column("line").to_pylist()
    assert json.loads(column[0]) == {"a": 1}
    assert json.loads(column[1]) == 'not UTF-8: {"a": "\\xff"}'


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=6))
def test_json_data_is_itself(row: dict[str, Any]) -> None:
    def told(value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
            return str(value)
        if isinstance(value, dict):
            return {key: told(item) for key, item in value.items()}
        return [told(item) for item in value] if isinstance(value, list) else value

    found = json.loads(line(row))
    assert found == told(row) or found == json.loads(json.dumps(told(row)), parse_int=_beyond)


def _beyond(text: str) -> Any:
    return int(text) if -(2**63) <= int(text) < 2**63 else text


def test_typed_data_of_every_kind_is_arrow() -> None:
    typed = pa.table({"a": [1, 2]})
    frame = pd.DataFrame({"a": [1, 2]}, index=[5, 6])
    with duckdb.connect() as connection:
        for data in (
            typed,
            typed.to_batches()[0],
            typed.to_reader(),
            frame,
            connection.sql("select unnest([1, 2]) as a"),
        ):
            found = tables(data)
            assert found is not None
            assert pa.concat_tables(found).to_pylist() == [{"a": 1}, {"a": 2}]
    assert tables({"a": 1}) is None
    assert tables("a") is None


def test_a_frame_of_mixed_values_is_dicts(tmp_path: Path) -> None:
    world = World(tmp_path, (table(),))
    frame = pd.DataFrame({"a": [1, "two", None], "b": [1.5, math.nan, 2.5]})
    world.load(batches(world.reach(), world.since(), lambda: [Rows("s.t", frame)]))
    assert world.held["s.t"] == [{"a": "1", "b": "1.5"}, {"a": "two"}, {"b": "2.5"}]


def test_a_frame_with_a_column_twice_is_refused() -> None:
    with pytest.raises(SourceError, match="the column 'a' twice"):
        tables(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_slices_are_small_and_whole() -> None:
    typed = pa.table({"a": range(10_000)})
    parts = list(slices(typed, 8_000))
    assert len(parts) == 10
    assert pa.concat_tables(parts).equals(typed)
    assert list(slices(typed.slice(0, 0), 1)) == [typed.slice(0, 0)]
