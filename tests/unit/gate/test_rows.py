"""What the gate takes out of the sealed table."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from trunkline.errors import DatasetError
from trunkline.gate.rows import json_rows, outcomes, slice_column
from trunkline.models.task import Task


@pytest.mark.parametrize(
    "values", [pa.array([True, False]), pa.array([1, 0]), pa.array([1.0, 0.0]), pa.array([1, 0], pa.int8())]
)
def test_outcomes_are_zero_or_one(values: pa.Array) -> None:
    found = outcomes(pa.table({"late": values}), "late")
    assert (found.dtype, found.tolist()) == (np.bool_, [True, False])


@pytest.mark.parametrize("values", [[1, None], [0, 2], ["1", "0"], [0.0, float("nan")]])
def test_other_outcomes_are_refused(values: list[object]) -> None:
    with pytest.raises(DatasetError, match="it must be 0 or 1"):
        outcomes(pa.table({"late": values}), "late")


def test_a_column_that_is_not_there_has_a_close_match() -> None:
    table = pa.table({"late": [True], "carrier": ["UA"]})
    with pytest.raises(DatasetError, match=r"no column 'carier' \(slice\). Did you mean 'carrier'"):
        slice_column(table, "carier")
    with pytest.raises(DatasetError, match=r"'lat' \(target\)"):
        outcomes(table, "lat")
    with pytest.raises(DatasetError, match=r"'distance' \(input\)"):
        json_rows(table, ["distance"], np.array([0]))


@pytest.mark.parametrize("chunked", [False, True])
def test_slices_code_their_values(chunked: bool) -> None:
    table = pa.table({"carrier": ["UA", None, "AA", "UA"], "month": [1, 2, 1, None]})
    if chunked:
        table = pa.concat_tables([table.slice(0, 2), table.slice(2)])
    carrier = slice_column(table, "carrier")
    assert [carrier.labels[code] for code in carrier.codes] == ["UA", None, "AA", "UA"]
    month = slice_column(table, "month")
    assert [month.labels[code] for code in month.codes] == ["1", "2", "1", None]


def test_a_column_that_is_a_dictionary_already_is_coded() -> None:
    table = pa.table({"carrier": pa.array(["UA", None, "AA"]).dictionary_encode()})
    column = slice_column(table, "carrier")
    assert [column.labels[code] for code in column.codes] == ["UA", None, "AA"]


def test_rows_are_json_values() -> None:
    table = pa.table(
        {
            "distance": [1.5, float("nan"), 3.0],
            "price": [Decimal("1.25"), None, Decimal("2")],
            "departs": [dt.datetime(2013, 11, 1, 8, tzinfo=dt.UTC)] * 3,
            "day": [dt.date(2013, 11, 1)] * 3,
            "holiday": [True, None, False],
            "late": [1, 0, 0],
        }
    )
    rows = json_rows(table, ["holiday", "distance", "price", "departs", "day"], np.array([1, 0]))
    assert [list(row) for row in rows] == [["holiday", "distance", "price", "departs", "day"]] * 2
    assert rows[0] == {
        "holiday": None,
        "distance": None,
        "price": None,
        "departs": "2013-11-01T08:00:00+00:00",
        "day": "2013-11-01",
    }
    assert (rows[1]["distance"], rows[1]["price"]) == (1.5, 1.25)


def test_two_texts_are_booleans_by_the_classes_of_the_task() -> None:
    found = outcomes(pa.table({"sent": ["yes", "no", "yes"]}), "sent", Task(classes=("no", "yes")))
    assert (found.dtype, found.tolist()) == (np.bool_, [True, False, True])
