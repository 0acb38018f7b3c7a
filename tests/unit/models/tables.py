"""Tables of every type a dbt model may hold, as hypothesis strategies, and the JSON a client would send for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from trunkline.models.signature import Field, Kind

ROWS = 6


def _same(value: Any) -> Any:
    return value


def _iso(value: datetime | date) -> str:
    return value.isoformat()


_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_TIMES = st.datetimes(min_value=datetime(1800, 1, 1), max_value=datetime(2260, 1, 1))
_TEXT = st.sampled_from(["UA", "AA", "", "é", "New York", "UA "]) | st.text(max_size=3)

# Arrow type → (kind, values as Arrow takes them, value → JSON)
TYPES: dict[pa.DataType, tuple[Kind, st.SearchStrategy[Any], Callable[[Any], Any]]] = {
    pa.float64(): ("number", _FLOATS, _same),
    pa.float32(): ("number", st.floats(width=32, allow_nan=False, allow_infinity=False), _same),
    pa.int8(): ("number", st.integers(-128, 127), _same),
    pa.int64(): ("number", st.integers(-(2**63), 2**63 - 1), _same),
    pa.uint64(): ("number", st.integers(0, 2**64 - 1), _same),
    pa.decimal128(18, 3): ("number", st.decimals(-(10**14), 10**14, places=3), float),
    pa.decimal128(38, 0): ("number", st.decimals(-(10**37), 10**37, places=0), int),
    pa.bool_(): ("boolean", st.booleans(), _same),
    pa.date32(): ("datetime", st.dates(), _iso),
    pa.timestamp("s"): ("datetime", _TIMES.map(lambda value: value.replace(microsecond=0)), _iso),
    pa.timestamp("us"): ("datetime", _TIMES, _iso),
    pa.timestamp("ns"): ("datetime", _TIMES, _iso),
    pa.timestamp("us", "America/New_York"): ("datetime", _TIMES.map(lambda v: v.replace(tzinfo=UTC)), _iso),
    pa.string(): ("category", _TEXT, _same),
    pa.large_string(): ("category", _TEXT, _same),
    pa.string_view(): ("category", _TEXT, _same),
}


@st.composite
def columns(draw: st.DrawFn) -> tuple[Field, pa.Array, list[Any]]:
    """A field, its Arrow column and the same values as JSON; some of them null."""
    arrow = draw(st.sampled_from(list(TYPES)))
    kind, values, to_json = TYPES[arrow]
    drawn = draw(st.lists(st.none() | values, min_size=ROWS, max_size=ROWS))
    json = [None if value is None else to_json(value) for value in drawn]
    return Field("", kind), pa.array(drawn, arrow), json


def same_bits(left: np.ndarray, right: np.ndarray) -> bool:
    """Equal to the last bit; any NaN is as good as any other."""
    missing = np.isnan(left)
    same = np.where(missing, 0, left).tobytes() == np.where(missing, 0, right).tobytes()
    return left.shape == right.shape and left.dtype == right.dtype and bool((missing == np.isnan(right)).all()) and same


def days_since_2000(text: str) -> float:
    """What the encoder makes of a time, written the slow way."""
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return math.fsum([(moment - datetime(2000, 1, 1, tzinfo=UTC)).total_seconds() / 86_400])
