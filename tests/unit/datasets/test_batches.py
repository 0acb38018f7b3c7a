"""Batches: every row once an epoch over all ranks, the same order for the same seed, and bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trunkline.datasets.batches import Batches, InMemory, Order, Span, Streamed, batches_of, in_memory
from trunkline.datasets.memory import free_memory
from trunkline.errors import DatasetError

WIDTH = 2


@dataclass
class Numbered:
    """Rows that say which they are: [number, -number], target number."""

    sizes: tuple[int, ...]
    width: int = WIDTH
    outputs: tuple[int, ...] = ()
    read: list[int] = field(default_factory=list)

    def fill(self, spans: Sequence[Span], x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
        """As the protocol has it."""
        starts = np.cumsum([0, *self.sizes])
        rows = [np.arange(starts[block] + start, starts[block] + stop) for block, start, stop in spans]
        y[:] = np.concatenate(rows)
        x[:, 0], x[:, 1] = y, -y
        self.read.append(len(y))


def made(blocks: Numbered, order: Order, window: int | None) -> Batches:
    """In memory, or streamed with windows of that many rows."""
    return in_memory(blocks, order) if window is None else Streamed(blocks, order, window=window)


def rows_of(batches: Batches, epoch: int) -> list[list[int]]:
    """The numbers of the rows in each batch; the columns must belong to them."""
    found = []
    for x, y in batches.epoch(epoch):
        np.testing.assert_array_equal(x, np.stack([y, -y], 1))
        assert x.dtype == y.dtype == np.float32
        assert x.flags.c_contiguous
        found.append(y.astype(int).tolist())
    assert len(found) == len(batches)
    return found


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=7).map(tuple)
WINDOWS = st.none() | st.integers(1, 25)
ORDERS = st.builds(
    Order, batch_size=st.integers(1, 12), seed=st.integers(0, 3), shuffle=st.booleans(), world=st.integers(1, 4)
)


@settings(max_examples=150, deadline=None)
@given(SIZES, ORDERS, WINDOWS, st.integers(0, 5))
def test_every_row_comes_once_an_epoch_over_all_ranks(
    sizes: tuple[int, ...], order: Order, window: int | None, epoch: int
) -> None:
    ranks = [rows_of(made(Numbered(sizes), replace(order, rank=r), window), epoch) for r in range(order.world)]
    assert sorted(row for batches in ranks for batch in batches for row in batch) == list(range(sum(sizes)))
    for batches in ranks:
        assert all(len(batch) == order.batch_size for batch in batches[:-1])
        assert all(1 <= len(batch) <= order.batch_size for batch in batches[-1:])
    shares = [sum(map(len, batches)) for batches in ranks]
    assert max(shares) - min(shares) <= 1


@settings(max_examples=100, deadline=None)
@given(SIZES, ORDERS, WINDOWS)
def test_even_batches_are_as_many_on_every_rank_and_lose_nothing(
    sizes: tuple[int, ...], order: Order, window: int | None
) -> None:
    assume(sum(sizes) >= order.world)
    ranks = [
        rows_of(made(Numbered(sizes), replace(order, rank=rank, last="even"), window), 0) for rank in range(order.world)
    ]
    assert sorted(row for batches in ranks for batch in batches for row in batch) == list(range(sum(sizes)))
    assert len({len(batches) for batches in ranks}) == 1
    for batches in ranks:
        assert max(map(len, batches)) - min(map(len, batches)) <= 1
        assert max(map(len, batches)) <= max(order.batch_size, 2)


@settings(max_examples=50, deadline=None)
@given(SIZES, ORDERS, WINDOWS)
def test_dropping_gives_full_batches_only(sizes: tuple[int, ...], order: Order, window: int | None) -> None:
    ranks = [
        rows_of(made(Numbered(sizes), replace(order, rank=rank, last="drop"), window), 0) for rank in range(order.world)
    ]
    rows = [row for batches in ranks for batch in batches for row in batch]
    assert len(set(rows)) == len(rows)
    assert {len(batch) for batches in ranks for batch in batches} <= {order.batch_size}
    assert {len(batches) for batches in ranks} == {sum(sizes) // order.world // order.batch_size}


@pytest.mark.parametrize("window", [None, 40])
def test_equal_seeds_give_equal_orders_and_epochs_differ(window: int | None) -> None:
    def rows(seed: int, epoch: int) -> list[list[int]]:
        return rows_of(made(Numbered((16,) * 10), Order(16, seed), window), epoch)

    assert rows(1, 0) == rows(1, 0)
    assert rows(1, 3) == rows(1, 3)
    assert len({str(rows(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("window", [None, 40])
def test_each_iteration_is_the_next_epoch(window: int | None) -> None:
    batches = made(Numbered((16,) * 10), Order(16, 1), window)
    iterated = [[y.astype(int).tolist() for _, y in batches] for _ in range(2)]
    assert iterated == [rows_of(batches, 0), rows_of(batches, 1)]


def test_without_shuffling_rows_come_as_they_lie() -> None:
    for window in (None, 5):
        batches = rows_of(made(Numbered((4, 7, 2)), Order(3, shuffle=False), window), 1)
        assert [row for batch in batches for row in batch] == list(range(13))


def test_a_window_mixes_the_blocks_it_holds_and_no_others() -> None:
    blocks = Numbered((100,) * 20)
    batches = rows_of(Streamed(blocks, Order(50), window=500), 0)
    rows = np.array([row for batch in batches for row in batch]) // 100
    windows = rows.reshape(4, 500)
    assert [len(set(window)) for window in windows] == [5] * 4
    assert all(len(set(part)) == 5 for window in windows for part in window.reshape(10, 50))
    assert blocks.read == [500] * 4


def test_streaming_holds_two_windows_however_long_the_data() -> None:
    kept: list[int] = []

    class Watched(Numbered):
        def fill(self, spans: Sequence[Span], x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
            kept.append((x if x.base is None else x.base).__array_interface__["data"][0])
            super().fill(spans, x, y)

    rows_of(Streamed(Watched((10,) * 50), Order(8), window=30), 0)
    assert len(kept) == 17
    assert len(set(kept)) == 2


def test_memory_decides_the_mode() -> None:
    blocks = Numbered((1_000,) * 10)
    needed = 10_000 * 4 * (WIDTH + 2)
    assert isinstance(batches_of(blocks, Order(), memory=needed), InMemory)
    streamed = batches_of(blocks, Order(), memory=needed - 1)
    assert isinstance(streamed, Streamed)
    assert 2 * streamed.window * 4 * (WIDTH + 1) <= needed
    assert batches_of(blocks, Order()).mode == "memory"
    assert repr(streamed) == "<3 batches of 4,096 rows x 2 columns, streamed>"
    assert 2**26 < free_memory() < 2**45


def test_what_reading_fails_with_is_raised_where_batches_are_asked_for() -> None:
    class Broken(Numbered):
        def fill(self, spans: Sequence[Span], x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
            if len(self.read) == 2:
                raise DatasetError("the disk is gone")
            super().fill(spans, x, y)

    batches = iter(Streamed(Broken((10,) * 9), Order(10), window=10))
    assert len(next(batches).y) == len(next(batches).y) == 10
    with pytest.raises(DatasetError, match="the disk is gone"):
        next(batches)


def test_an_epoch_that_is_left_early_leaves_no_thread() -> None:
    batches = iter(Streamed(Numbered((10,) * 9), Order(4), window=10))
    next(batches)
    assert any(thread.name == "trunkline-feed" for thread in threading.enumerate())
    del batches
    assert not any(thread.name == "trunkline-feed" for thread in threading.enumerate())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world": 2}, "rank 2 of a world of 2"),
        ({"last": "pad"}, "last='pad'"),
        ({"world": 9, "last": "even"}, "8 rows cannot be shared evenly by 9 ranks"),
    ],
)
def test_an_order_that_cannot_be_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        in_memory(Numbered((8,)), Order(**wrong))  # type: ignore[arg-type]
