"""The encoder: one meaning for tables and requests."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.models.tables import columns, days_since_2000, same_bits
from trunkline.errors import DatasetError, IntegrityError, RequestError
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.signature import Field, Signature

SIGNATURE = Signature(
    (Field("x", "number"), Field("c", "category"), Field("b", "boolean"), Field("t", "datetime")), target="y"
)
TABLE = pa.table(
    {
        "x": [1, 2, 3, None],
        "c": ["b", "a", "b", None],
        "b": [True, None, False, True],
        "t": ["2000-01-02", "2000-01-01T12:00:00Z", None, "1999-12-31T23:00:00-01:00"],
        "other": [1, 2, 3, 4],
    }
)
ENCODER = Encoder.fit(TABLE, SIGNATURE, min_count=1)


def test_encode_says_what_the_page_says() -> None:
    nan = np.nan
    expected = [[1, 1, 1, 1], [2, 2, nan, 0.5], [3, 1, 0, nan], [nan, 0, 1, 0]]
    matrix = ENCODER.encode(TABLE)
    np.testing.assert_array_equal(matrix, expected)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous


def test_fit_measures_the_training_part() -> None:
    x, c, b, _ = ENCODER.columns
    assert (x.mean, x.std) == (2.0, pytest.approx(np.std([1, 2, 3])))
    assert c == EncodedColumn("c", "category", cardinality=3)
    assert b.mean == pytest.approx(2 / 3)


def test_a_column_without_values_or_spread_scales_to_itself() -> None:
    table = pa.table({"x": [None, None], "z": [5.0, 5.0], "i": [np.inf, np.nan]})
    signature = Signature(tuple(Field(name, "number") for name in "xzi"), target="y")
    assert [(column.mean, column.std) for column in Encoder.fit(table, signature).columns] == [(0, 1), (5, 1), (0, 1)]


def test_categories_go_by_count_then_name_and_rare_ones_share_code_0() -> None:
    values = ["z"] * 3 + ["b"] * 2 + ["a"] * 2 + ["once"] + [None] * 5
    signature = Signature((Field("c", "category"),), target="y")
    encoder = Encoder.fit(pa.table({"c": values}), signature, min_count=2)
    assert encoder.categories == {"c": ("z", "a", "b")}
    rows = [{"c": value} for value in ["z", "a", "b", "once", "never", None, ""]]
    assert encoder.encode_rows(rows)[:, 0].tolist() == [1, 2, 3, 0, 0, 0, 0]


@given(st.lists(columns(), min_size=1, max_size=6))
def test_a_request_is_encoded_as_a_table_is(drawn: list[Any]) -> None:
    names = [f"f{index}" for index in range(len(drawn))]
    signature = Signature(tuple(replace(field, name=n) for n, (field, *_) in zip(names, drawn, strict=True)), "y")
    table = pa.table({name: values for name, (_, values, _) in zip(names, drawn, strict=True)})
    rows = [dict(zip(names, values, strict=True)) for values in zip(*(json for *_, json in drawn), strict=True)]
    encoder = Encoder.fit(table.slice(0, 4), signature, min_count=1)
    signature.check_rows(rows)
    assert same_bits(encoder.encode_rows(rows), encoder.encode(table))
    assert same_bits(encoder.encode_rows(rows[:1]), encoder.encode(table)[:1])


@given(st.datetimes(), st.integers(-14 * 60, 14 * 60))
def test_times_are_days_since_2000(moment: Any, offset: int) -> None:
    text = f"{moment.isoformat()}{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    encoder = ENCODER.subset(["t"])
    assert encoder.encode_rows([{"t": text}])[0, 0] == np.float32(days_since_2000(text))


def test_pieces_encode_as_the_whole() -> None:
    whole = pa.concat_tables([TABLE.slice(0, 1), TABLE.slice(1, 2), TABLE.slice(3)])
    assert whole.column("c").num_chunks == 3
    assert same_bits(ENCODER.encode(whole), ENCODER.encode(TABLE))
    assert ENCODER.encode(TABLE.slice(0, 0)).shape == ENCODER.encode_rows([]).shape == (0, 4)


def test_a_dictionary_is_text() -> None:
    table = TABLE.set_column(1, "c", TABLE.column("c").dictionary_encode())
    assert same_bits(ENCODER.encode(table), ENCODER.encode(TABLE))


def test_a_column_of_nothing_is_missing() -> None:
    table = pa.table({name: pa.nulls(2) for name in SIGNATURE.names})
    np.testing.assert_array_equal(ENCODER.encode(table), [[np.nan, 0, np.nan, np.nan]] * 2)


def test_what_is_beyond_float32_is_infinite_in_both() -> None:
    encoder = ENCODER.subset(["x"])
    assert encoder.encode(pa.table({"x": [1e300]})).item() == np.inf
    assert encoder.encode_rows([{"x": 1e300}]).item() == np.inf


def test_integers_round_once_and_by_way_of_float64() -> None:
    value = 2**62 + 2**38 + 1  # straight to float32 it would round up, by way of float64 it is a tie and rounds down
    encoder = ENCODER.subset(["x"])
    assert encoder.encode(pa.table({"x": [value]})).item() == float(2**62)
    assert encoder.encode_rows([{"x": value}]).item() == float(2**62)


@pytest.mark.parametrize("text", ["2000-01-01T00:00:00.000001", "1999-12-31T23:59:59.999998", "1965-05-01T12:00:00"])
def test_nanoseconds_are_dropped_as_iso_text_drops_them(text: str) -> None:
    ticks = pa.array(
        [int((datetime.fromisoformat(text) - datetime(1970, 1, 1)) / timedelta(microseconds=1)) * 1000 + 999]
    )
    encoder = ENCODER.subset(["t"])
    table = pa.table({"t": ticks.cast(pa.timestamp("ns"))})
    exact = encoder.encode(pa.table({"t": [datetime.fromisoformat(text)]}))
    assert encoder.encode(table) == exact == encoder.encode_rows([{"t": text}])


def test_subset_reorders() -> None:
    subset = ENCODER.subset(["t", "c"])
    np.testing.assert_array_equal(subset.encode(TABLE), ENCODER.encode(TABLE)[:, [3, 1]])
    assert subset.names == ("t", "c")


def test_json_there_and_back() -> None:
    again = Encoder.from_json(json.loads(json.dumps(ENCODER.to_json())))
    assert again.to_json() == ENCODER.to_json()
    assert same_bits(again.encode(TABLE), ENCODER.encode(TABLE))


@pytest.mark.parametrize("change", [{"columns": [{"x": 1}]}, {"categories": {}}, {"categories": {"c": ["a"]}}])
def test_json_of_something_else_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError, match=r"encoder\.json"):
        Encoder.from_json(ENCODER.to_json() | change)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x", ["1"] * 4, "'x' of type string does not hold what the signature calls a number"),
        ("x", [True] * 4, "'x' of type bool"),
        ("c", [1] * 4, "'c' of type int64"),
        ("b", [1] * 4, "'b' of type int64"),
        ("t", [1.5] * 4, "'t' of type double"),
        ("t", ["soon"] * 4, "ISO 8601"),
    ],
)
def test_a_column_of_another_kind_is_refused(name: str, values: list[Any], message: str) -> None:
    table = TABLE.set_column(TABLE.column_names.index(name), name, pa.array(values))
    with pytest.raises(DatasetError, match=message):
        ENCODER.encode(table)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DatasetError, match="no column 'other'"):
        Encoder.fit(TABLE.drop_columns(["other"]), Signature((Field("other", "number"),), "y"))


@pytest.mark.parametrize(
    ("change", "field"), [({"x": "1"}, "x"), ({"x": 10**400}, "x"), ({"c": []}, "c"), ({"t": "soon"}, "t")]
)
def test_a_value_that_cannot_be_encoded_is_named(change: dict[str, Any], field: str) -> None:
    row = {"x": None, "c": "a", "b": True, "t": None}
    with pytest.raises(RequestError) as caught:
        ENCODER.encode_rows([row, row | change])
    assert (caught.value.field, caught.value.row) == (field, 1)
    with pytest.raises(RequestError) as caught:
        ENCODER.encode_rows([{name: value for name, value in row.items() if name != field}])
    assert caught.value.field == field
