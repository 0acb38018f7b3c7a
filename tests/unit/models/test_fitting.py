"""Fitting in one pass over batches: the same encoder as of the whole, and clear words for texts that are too long."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.models.tables import columns
from trunkline.errors import DatasetError
from trunkline.models.encoder import Encoder
from trunkline.models.fitting import _BLOCK, Fitting
from trunkline.models.signature import LONGEST_TEXT, Field, Signature

ROWS = 2 * _BLOCK + 1_000


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """More rows than two blocks hold, some missing, and a column that plain sums of squares get wrong."""
    random = np.random.default_rng(5)
    return pa.table(
        {
            "x": pa.array(random.normal(1e6, 1e-1, ROWS).astype(np.float32), mask=random.random(ROWS) < 0.1),
            "big": pa.array(random.integers(0, 2**40, ROWS)),
            "odd": np.where(random.random(ROWS) < 0.01, np.inf, random.random(ROWS)),
            "c": pa.array(np.array(["a", "b", "c", "rare"])[np.minimum(random.geometric(0.5, ROWS), 4) - 1]),
            "key": pa.array([f"k{number // 2}" for number in range(ROWS)]),
        }
    )


SIGNATURE = Signature(
    (*(Field(name, "number") for name in ("x", "big", "odd")), Field("c", "category"), Field("key", "category")), "y"
)


def test_scales_are_those_of_numpy_over_everything(table: pa.Table) -> None:
    encoder = Encoder.fit(table, SIGNATURE)
    for column, name in zip(encoder.columns, ("x", "big", "odd"), strict=False):
        values = table.column(name).to_numpy().astype(np.float32)
        values = values[np.isfinite(values)].astype(np.float64)
        assert column.mean == pytest.approx(values.mean(), rel=1e-14)
        assert column.std == pytest.approx(values.std(), rel=1e-12)


def test_how_the_rows_are_cut_changes_no_bit(table: pa.Table) -> None:
    whole = Encoder.fit(table, SIGNATURE).to_json()
    assert Encoder.fit(iter(table.to_batches(max_chunksize=7_777)), SIGNATURE).to_json() == whole
    assert Encoder.fit(pa.concat_tables([table.slice(0, 100_000), table.slice(100_000)]), SIGNATURE).to_json() == whole


def test_counts_are_merged(table: pa.Table) -> None:
    encoder = Encoder.fit(table.to_batches(max_chunksize=10_000), SIGNATURE, min_count=2)
    assert encoder.categories["c"] == ("a", "b", "c", "rare")
    assert len(encoder.categories["key"]) == ROWS // 2
    assert Encoder.fit(table, SIGNATURE, min_count=3).categories["key"] == ()


def test_the_distinct_texts_are_kept_once(table: pa.Table) -> None:
    fitting = Fitting(SIGNATURE)
    before = pa.total_allocated_bytes()
    for _ in range(8):
        for batch in table.slice(0, 20_000).to_batches(max_chunksize=5_000):
            fitting.add(batch)
    assert pa.total_allocated_bytes() - before < 3_000_000  # 20,000 texts of 6 bytes, not 160,000


@given(st.lists(columns(), min_size=1, max_size=4))
def test_one_block_is_fitted_as_numpy_does_it(drawn: list[Any]) -> None:
    names = [f"f{index}" for index in range(len(drawn))]
    fields = tuple(Field(name, field.kind) for name, (field, *_) in zip(names, drawn, strict=True))
    table = pa.table({name: values for name, (_, values, _) in zip(names, drawn, strict=True)})
    encoder = Encoder.fit(table, Signature(fields, "y"), min_count=1)
    matrix = encoder.encode(table)
    for index, column in enumerate(encoder.columns):
        seen = matrix[np.isfinite(matrix[:, index]), index].astype(np.float64)
        if column.kind != "category" and seen.size:
            assert (column.mean, column.std) == (seen.mean(), seen.std() or 1.0)


def test_missing_is_told_by_column(table: pa.Table) -> None:
    fitting = Fitting(SIGNATURE)
    fitting.add(table)
    assert fitting.missing() == (True, False, False, False, False)


def test_a_text_that_no_request_may_send_is_refused() -> None:
    signature = Signature((Field("c", "category"),), "y")
    Encoder.fit(pa.table({"c": ["x" * LONGEST_TEXT]}), signature)
    with pytest.raises(DatasetError, match=r"'c' has a text of 10,001 characters: .* 10,000") as caught:
        Encoder.fit(pa.table({"c": ["é" * (LONGEST_TEXT + 1), None]}), signature)
    assert "left(c, 100)" in str(caught.value.hint)


@given(st.lists(st.none() | st.decimals(-(10**15), 10**15, places=3), min_size=1, max_size=8), st.integers(0, 3))
def test_short_decimals_round_as_text_does(values: list[Decimal | None], skipped: int) -> None:
    column = pa.array(values, pa.decimal128(18, 3)).slice(min(skipped, len(values) - 1))
    encoder = Encoder.fit(pa.table({"x": column}), Signature((Field("x", "number"),), "y"))
    exact = [np.nan if value is None else float(value) for value in column.to_pylist()]
    np.testing.assert_array_equal(encoder.encode(pa.table({"x": column}))[:, 0], np.array(exact, np.float32))
