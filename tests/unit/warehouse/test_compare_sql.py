"""Hashes of tables: blind to order, to nothing else."""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import duckdb
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trunkline.warehouse.compare_sql import TOLERANCE, Form, Hashed, form_of, kind_of
from trunkline.warehouse.load_sql import inline

COLUMNS = {
    "whole": ("bigint", st.integers(-(2**63), 2**63 - 1)),
    "price": ("decimal(12, 2)", st.decimals(-(10**9), 10**9, places=2)),
    "text": ("varchar", st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)),
    "flag": ("boolean", st.booleans()),
    "day": ("date", st.dates(dt.date(1600, 1, 1))),
    "at": ("timestamp", st.datetimes(dt.datetime(1600, 1, 1))),
    "clock": ("time", st.times()),
}
FORMS = [form_of(type_.upper().replace(" ", ""), type_.upper().replace(" ", "")) for type_, _ in COLUMNS.values()]
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in COLUMNS.values())), min_size=1, max_size=6)
DOUBLES = st.floats(-1.7e308, 1.7e308) | st.sampled_from([math.nan, math.inf, -math.inf])

_connection = duckdb.connect()


def _values(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> str:
    place = "(" + ", ".join(f"cast(? as {type_})" for type_ in types) + ")"
    values = [value if isinstance(value, int | float | None) else str(value) for row in rows for value in row]
    names = ", ".join(f"x{i}" for i in range(len(types)))
    return f"(select * from (values {inline(', '.join([place] * len(rows)), values)}) v({names}))"


def _summary(rows: Sequence[Sequence[Any]], types: Sequence[str], forms: Sequence[Form]) -> list[Any]:
    side = Hashed("duckdb", _values(rows, types), [(f"x{i}", form) for i, form in enumerate(forms)])
    return list(_connection.execute(side.summary()).fetchall()[0])


def _of(rows: Sequence[Sequence[Any]]) -> list[Any]:
    return _summary(rows, [type_ for type_, _ in COLUMNS.values()], FORMS)


def _digits(*values: float | None) -> list[str | None]:
    side = Hashed("duckdb", _values([[value] for value in values], ["double"]), [("x0", Form("double"))])
    texts = _connection.execute(f"select c0, t0 from ({side._rows()})").fetchall()
    assert len(texts) == len(values)
    return [text for _, text in texts]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, data=st.data())
def test_order_does_not_matter(rows: list[Any], data: st.DataObject) -> None:
    assert _of(data.draw(st.permutations(rows))) == _of(rows)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, data=st.data())
def test_any_changed_value_shows_in_its_column_alone(rows: list[Any], data: st.DataObject) -> None:
    row = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.integers(0, len(COLUMNS) - 1))
    value = data.draw(st.none() | list(COLUMNS.values())[column][1])
    assume(value != rows[row][column])
    changed = [list(r) for r in rows]
    changed[row][column] = value
    before, after = _of(rows), _of(changed)
    assert [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b] == [1, 2 + column]


@given(rows=ROWS)
@settings(max_examples=20, deadline=None)
def test_a_row_twice_is_not_a_row_once(rows: list[Any]) -> None:
    before, after = _of(rows), _of([*rows, rows[0]])
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_values_that_change_places_show_in_the_rows_alone() -> None:
    types, forms = ["bigint", "varchar"], [Form("integer"), Form("text")]
    before = _summary([[1, "a"], [2, "b"]], types, forms)
    after = _summary([[1, "b"], [2, "a"]], types, forms)
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False, True, True]


def test_null_empty_and_the_word_are_three_things() -> None:
    sums = {_summary([[value]], ["varchar"], [Form("text")])[2] for value in (None, "", "n", "v", "null", "None")}
    assert len(sums) == 6


def test_the_number_is_the_end_of_the_md5() -> None:
    """Every warehouse must come to this number, so that they can be compared."""
    expected = int(hashlib.md5(b"vSnowflake").hexdigest()[17:], 16)
    assert _summary([["Snowflake"]], ["varchar"], [Form("text")])[2] == str(expected)
    assert int(hashlib.md5(b"Snowflake").hexdigest()[16:], 16) == 9203306159527282910  # Snowflake's manual


@settings(max_examples=300, deadline=None)
@given(DOUBLES)
def test_ten_digits_are_right(value: float) -> None:
    (text,) = _digits(value)
    if math.isnan(value) or math.isinf(value) or value == 0:
        assert text == {"nan": "nan", "inf": "inf", "-inf": "-inf"}.get(str(value), "0")
    elif value.is_integer() and 1e10 <= abs(value) <= 2**53:
        assert text == str(int(value))
    else:
        mantissa, _, exponent = str(text).partition("e")
        assert 10**9 <= abs(int(mantissa)) < 10**10
        assert math.isclose(float(f"{mantissa}e{int(exponent) - 9}"), value, rel_tol=5.001e-10, abs_tol=1e-323)


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-3, 1e15), st.floats(TOLERANCE * 1.1, 1))
def test_what_differs_by_more_than_the_tolerance_differs(value: float, by: float) -> None:
    one, other = _digits(value, value * (1 + by))
    assert one != other


def test_powers_of_ten_have_one_form() -> None:
    values = [float(f"1e{exponent}") for exponent in range(-307, 308) if not 10 <= exponent <= 15]
    assert _digits(*values) == [f"1000000000e{e}" for e in range(-307, 308) if not 10 <= e <= 15]
    below = [math.nextafter(value, 0) for value in values]
    assert _digits(*below) == _digits(*values)
    assert _digits(0.1 + 0.2, 0.3, 123.45, -123.45, 5e-324) == [
        "3000000000e-1",
        "3000000000e-1",
        "1234500000e2",
        "-1234500000e2",
        "4940656458e-324",
    ]


@pytest.mark.parametrize(
    ("left", "right", "form"),
    [
        ("INTEGER", "BIGINT", Form("integer")),
        ("BIGINT", "DECIMAL(38,0)", Form("integer")),
        ("DECIMAL(12,2)", "DECIMAL(12,2)", Form("decimal", 2)),
        ("DECIMAL(12,2)", "DECIMAL(38,4)", Form("decimal", 4)),
        ("DECIMAL(38,2)", "DECIMAL(38,10)", Form("double")),
        ("BIGINT", "DECIMAL(10,3)", Form("decimal", 3)),
        ("DOUBLE", "DECIMAL(10,3)", Form("double")),
        ("FLOAT", "BIGINT", Form("double")),
        ("VARCHAR", "UUID", Form("text")),
        ("DATE", "TIMESTAMP", Form("moment")),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", Form("moment")),
        ("JSON", "JSON", Form("null")),
        ("VARCHAR", "BIGINT", Form("null")),
        ("BLOB", "BLOB", Form("null")),
        ("INTEGER[]", "INTEGER[]", Form("null")),
    ],
)
def test_what_is_compared_how(left: str, right: str, form: Form) -> None:
    assert form_of(left, right) == form_of(right, left) == form


def test_families() -> None:
    assert kind_of("INTEGER") == kind_of("DECIMAL(38,0)") == kind_of("HUGEINT") == "integer"
    assert len({kind_of(t) for t in ("BIGINT", "DOUBLE", "DECIMAL(5,2)", "VARCHAR", "DATE", "TIMESTAMP", "JSON")}) == 7
    assert kind_of("TIMESTAMP") != kind_of("TIMESTAMP WITH TIME ZONE")


def test_different_types_of_equal_values_have_equal_hashes() -> None:
    form = form_of("BIGINT", "DECIMAL(38,0)")
    assert _summary([[7]], ["integer"], [form]) == _summary([["7"]], ["decimal(38, 0)"], [form])
    form = form_of("DECIMAL(12,2)", "DECIMAL(12,4)")
    assert _summary([["7.5"]], ["decimal(12, 2)"], [form]) == _summary([["7.5"]], ["decimal(12, 4)"], [form])
    form = form_of("DATE", "TIMESTAMP")
    assert _summary([["2013-01-01"]], ["date"], [form]) == _summary([["2013-01-01"]], ["timestamp"], [form])


def test_values_are_shown_as_people_write_them() -> None:
    assert Form("moment").shown("1357034400123456") == "2013-01-01 10:00:00.123456"
    assert Form("moment").shown("1356998400000000") == "2013-01-01"
    assert Form("time").shown("36000000000") == "10:00:00"
    assert Form("moment").shown("infinity") == "infinity"
    assert Form("text").shown("5") == "5"
    assert Form("integer").shown(None) is None


def test_infinite_dates_are_not_null() -> None:
    form = Form("moment")
    assert len({_summary([[v]], ["timestamp"], [form])[2] for v in (None, "infinity", "2013-01-01")}) == 3
