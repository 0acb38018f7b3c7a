"""From a Parquet file to batches: the right rows, encoded as the whole table would be, and nothing that was changed."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.datasets.batches import Order, Span, Streamed, in_memory
from trunkline.datasets.feed import Encoded, OpenPart, Stretch, TablePart, Target, whole
from trunkline.datasets.torch import tensors
from trunkline.errors import DatasetError
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Field, Signature

ROWS = 1_000
GROUP = 130
SIGNATURE = Signature((Field("c", "category"), Field("x", "number"), Field("t", "datetime")), "late")


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Every kind of column, some values missing, in an order of its own."""
    random = np.random.default_rng(2)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "t": pa.array(random.integers(0, 10**15, ROWS)).cast(pa.timestamp("us", "UTC")),
            "x": pa.array(np.arange(ROWS) * 0.25, mask=np.arange(ROWS) % 13 == 0),
            "late": random.random(ROWS) < 0.3,
            "c": pa.array(np.array(["a", "b", "c"])[random.integers(0, 3, ROWS)], mask=random.random(ROWS) < 0.1),
        }
    )


@pytest.fixture(scope="module")
def part(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> OpenPart:
    """The table as a file of eight row groups."""
    path = tmp_path_factory.mktemp("part") / "train.parquet"
    pq.write_table(table, path, row_group_size=GROUP)
    return OpenPart(path)


def test_a_part_reads_the_spans_it_is_asked_for(part: OpenPart, table: pa.Table) -> None:
    assert part.sizes == (GROUP,) * 7 + (ROWS - 7 * GROUP,)
    assert part.schema.names == table.column_names
    ids = [
        i
        for rows in part.read([Span(3, 0, GROUP), Span(0, 5, 9), Span(7, 89, 90)], ["id"])
        for i in rows.column(0).to_pylist()
    ]
    assert ids == [*range(3 * GROUP, 4 * GROUP), 5, 6, 7, 8, 999]
    assert pa.Table.from_batches(part.read(whole(part), table.column_names)) == table


@settings(max_examples=40, deadline=None)
@given(st.integers(0, ROWS), st.integers(0, ROWS), st.integers(0, 400))
def test_a_stretch_of_two_parts_is_those_rows(part: OpenPart, table: pa.Table, one: int, other: int, cut: int) -> None:
    first, end = sorted((one, other))
    stretch = Stretch((part, TablePart(table.slice(0, cut))), first, end + cut)
    ids = [i for rows in stretch.read(whole(stretch), ["id"]) for i in rows.column(0).to_pylist()]
    assert ids == [*range(ROWS), *range(cut)][first : end + cut]
    assert sum(stretch.sizes) == len(ids)


@pytest.mark.parametrize("window", [None, 300])
def test_batches_are_the_tables_rows_encoded(part: OpenPart, table: pa.Table, window: int | None) -> None:
    encoder = Encoder.fit(part.read(whole(part), SIGNATURE.names), SIGNATURE, min_count=1)
    assert encoder.to_json() == Encoder.fit(table, SIGNATURE, min_count=1).to_json()
    encoded = Encoded(part, encoder, Target("late"))
    order = Order(64, seed=1)
    batches = in_memory(encoded, order) if window is None else Streamed(encoded, order, window=window)
    x, y = (np.concatenate(side) for side in zip(*batches, strict=True))
    expected = np.column_stack([encoder.encode(table), table.column("late").to_numpy()])
    found = np.column_stack([x, y])
    np.testing.assert_array_equal(found[np.argsort(found[:, 2])], expected[np.argsort(expected[:, 2])])
    assert not np.array_equal(found, expected)


def test_tensors_share_the_memory_of_the_batch(part: OpenPart) -> None:
    encoder = Encoder.fit(part.read(whole(part), SIGNATURE.names), SIGNATURE)
    batches = in_memory(Encoded(part, encoder, Target("late")), Order(300))
    made = tensors(batches)
    assert (len(made), made.pinned) == (4, torch.cuda.is_available())
    x, y = next(made.epoch(0))
    assert (x.shape, x.dtype, y.dtype) == ((300, 3), torch.float32, torch.float32)
    array = next(batches.epoch(0))
    assert torch.equal(y, torch.from_numpy(array.y))
    assert torch.from_numpy(array.x).data_ptr() == array.x.ctypes.data
    assert [len(batch.y) for batch in made] == [300, 300, 300, 100]
    first, second = (torch.cat([batch.y for batch in made]) for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        (pa.array([True, False]), (), [1, 0]),
        (pa.array([2.5, -1.0]), (), [2.5, -1]),
        (pa.array(["no", "yes"]), ("no", "yes"), [0, 1]),
        (pa.array([7, 8], pa.decimal128(9, 2)), (), [7, 8]),
    ],
)
def test_a_target_is_a_number(values: pa.Array, classes: tuple[str, ...], expected: list[float]) -> None:
    assert Target("y", classes).values(values).tolist() == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pa.array([1, None]), "'y' is null in 1 rows"),
        (pa.array(["maybe"]), r"a class that is not in \['no', 'yes'\]"),
        (pa.array([[1]]), "'y' has type list"),
    ],
)
def test_a_target_that_is_none_is_refused(values: pa.Array, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        Target("y", ("no", "yes")).values(values)


def test_a_column_that_the_part_lacks_is_named(part: OpenPart) -> None:
    encoder = Encoder.fit(part.read(whole(part), SIGNATURE.names), SIGNATURE)
    with pytest.raises(DatasetError, match="no column 'latte'. Did you mean 'late'"):
        in_memory(Encoded(part, encoder, Target("latte")), Order())
