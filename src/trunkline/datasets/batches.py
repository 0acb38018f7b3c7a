"""Shuffled batches of encoded rows: from one matrix where it fits into memory, else from blocks of rows as they come.

In memory, an epoch is one permutation of all rows and a batch is one gather. Streamed, an epoch is a permutation of the
blocks (a file's row groups), read window by window into two buffers that are used in turn: one is filled by a thread
while the batches of the other, its rows permuted, are trained on. Memory is then that of two windows, however long the
data. Rows that lie in one window meet in a batch, others do not: a window should hold several blocks.

Ranks share the epoch's order: each has a stretch of it, none of them more than one row longer than another, and every
rank computes the same order from the seed and the number of the epoch alone, without a word to the others.
"""

from __future__ import annotations

import math
import queue
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from trunkline.datasets.memory import free_memory
from trunkline.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

__all__ = [
    "Batch",
    "Batches",
    "Blocks",
    "InMemory",
    "Last",
    "Order",
    "Span",
    "Streamed",
    "batches_of",
    "encoded_bytes",
    "in_memory",
]

Last = Literal["keep", "even", "drop"]

_WINDOW = 128 << 20  # bytes of encoded rows; a constant, since the order of rows depends on it
_SHARE = 0.5  # of the memory that is free


class Batch(NamedTuple):
    """`x` float32 [b, d] in C order, NaN for missing; `y` float32 [b], or [b, k]. Both belong to the caller."""

    x: Floats
    y: Floats


class Span(NamedTuple):
    """The rows [start, stop) of a block."""

    block: int
    start: int
    stop: int


class Blocks(Protocol):
    """Encoded rows that can be read in blocks, in any order and any number of times, from several threads at once."""

    @property
    def sizes(self) -> Sequence[int]:
        """The rows of each block."""

    @property
    def width(self) -> int:
        """The columns of the matrix."""

    @property
    def outputs(self) -> tuple[int, ...]:
        """The shape of one row's target: (), or (k,) where it is a list."""

    def fill(self, spans: Sequence[Span], x: Floats, y: Floats) -> None:
        """Write the rows of `spans`, one after the other, to `x` [n, width] and `y` [n, *outputs], which they fill."""


@dataclass(frozen=True)
class Order:
    """Which rows come when. Equal records give equal batches, epoch by epoch; so does each rank of equal `world`s.

    `last` says what becomes of the rows that fill no batch: `keep` gives a smaller batch, so that a rank may have one
    batch more than another; `even` makes the batches of all ranks equal in number, as DDP needs, and in size but for
    one row, without leaving out or repeating any; `drop` leaves out a rank's last rows, others in every epoch.
    """

    batch_size: int = 4096
    seed: int = 0
    shuffle: bool = True
    rank: int = 0
    world: int = 1
    last: Last = "keep"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise DatasetError(f"batch_size is {self.batch_size}; it must be at least 1")
        if not 0 <= self.rank < self.world:
            raise DatasetError(
                f"rank {self.rank} of a world of {self.world}", hint="rank counts from 0 and is below world"
            )
        if self.last not in get_args(Last):
            raise DatasetError(f"last={self.last!r}", hint=f"one of {', '.join(map(repr, get_args(Last)))}")

    def stretch(self, rows: int) -> tuple[int, int]:
        """This rank's places [first, end) in the epoch's order of `rows`."""
        return rows * self.rank // self.world, rows * (self.rank + 1) // self.world

    def count(self, rows: int) -> int:
        """How many batches this rank has."""
        first, end = self.stretch(rows)
        fewest, most = rows // self.world, -(-rows // self.world)
        if self.last == "keep":
            return -(-(end - first) // self.batch_size)
        if self.last == "drop":
            return fewest // self.batch_size
        if not fewest:
            raise DatasetError(f"{rows} rows cannot be shared evenly by {self.world} ranks: some would have none")
        # Single rows cannot be spread: where batch_size is 1, a rank with a row more has one batch of two.
        return min(fewest, -(-most // self.batch_size))

    def sizes(self, rows: int) -> Iterator[int]:
        """The rows of each of this rank's batches."""
        first, end = self.stretch(rows)
        count = self.count(rows)
        if self.last == "even":
            size, longer = divmod(end - first, count)
            yield from (size + (index < longer) for index in range(count))
        else:
            yield from (min(self.batch_size, end - first - index * self.batch_size) for index in range(count))

    def chance(self, *stream: int) -> np.random.Generator:
        """Random numbers for the seed and `stream`, such as the number of an epoch."""
        return np.random.default_rng([self.seed % 2**64, *stream])  # any whole number is a seed


class Batches:
    """One rank's batches. Each iteration is the next epoch; `epoch(n)` is the one of that number, from 0.

    Several epochs may be under way at once, in several threads.
    """

    mode: Literal["memory", "streamed"]
    _next = 0

    def __init__(self, rows: int, width: int, order: Order, outputs: tuple[int, ...] = ()) -> None:
        self.rows, self.width, self.order, self.outputs = rows, width, order, outputs
        order.count(rows)  # what cannot be shared is told now

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.order.count(self.rows)

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self.turn())

    def turn(self) -> int:
        """The number of the epoch that is next; the one after it is next then."""
        number, self._next = self._next, self._next + 1
        return number

    def __repr__(self) -> str:
        return f"<{len(self):,} batches of {self.order.batch_size:,} rows x {self.width} columns, {self.mode}>"

    def epoch(self, number: int, allocate: Callable[[tuple[int, ...]], Floats] | None = None) -> Iterator[Batch]:
        """The batches of an epoch. `allocate` gives the float32 array of a shape that a batch is written to."""
        make = allocate or _empty
        pieces = self._pieces(number)
        try:
            x, y = np.empty(0, np.float32), np.empty(0, np.float32)
            index: npt.NDArray[np.integer[Any]] = np.empty(0, np.intp)
            at = 0
            for size in self.order.sizes(self.rows):
                batch = Batch(make((size, self.width)), make((size, *self.outputs)))
                done = 0
                while done < size:
                    if at == len(index):
                        (x, y, index), at = next(pieces), 0
                    rows = index[at : at + size - done]
                    # "clip" is no change for places that are there; with "raise" NumPy would copy once more.
                    np.take(x, rows, axis=0, out=batch.x[done : done + len(rows)], mode="clip")
                    np.take(y, rows, axis=0, out=batch.y[done : done + len(rows)], mode="clip")
                    done, at = done + len(rows), at + len(rows)
                yield batch
        finally:
            pieces.close()

    @abstractmethod
    def _pieces(self, number: int) -> _Pieces:
        """Rows and the order to take them in; a piece may be overwritten once the next one was asked for."""


class InMemory(Batches):
    """Batches of a matrix in memory: `x` float32 [n, d] in C order, `y` float32 [n] or [n, k], which stay as they are.

    They are prepared as they are asked for: a gather of 4,096 rows takes a tenth of a millisecond, about what handing a
    batch from thread to thread costs (benchmarks/feeding.py, `--scenes prefetch`).
    """

    mode = "memory"

    def __init__(self, x: Floats, y: Floats, order: Order) -> None:
        super().__init__(len(x), x.shape[1], order, y.shape[1:])
        self.x, self.y = x, y

    def _pieces(self, number: int) -> _Pieces:
        first, end = self.order.stretch(self.rows)
        index: npt.NDArray[np.integer[Any]] = np.arange(self.rows, dtype=np.uint32 if self.rows < 2**32 else np.int64)
        if self.order.shuffle:
            self.order.chance(number).shuffle(index)
        yield self.x, self.y, index[first:end]


class Streamed(Batches):
    """Batches of rows that do not fit into memory. `window` is in rows; the order of rows depends on it."""

    mode = "streamed"

    def __init__(self, blocks: Blocks, order: Order, *, window: int) -> None:
        super().__init__(sum(blocks.sizes), blocks.width, order, blocks.outputs)
        self.blocks, self.window = blocks, max(window, *blocks.sizes, 1)

    def _pieces(self, number: int) -> _Pieces:
        windows = self._windows(number)
        room = max((sum(stop - start for _, start, stop in spans) for spans in windows), default=0)
        buffers = [(_empty((room, self.width)), _empty((room, *self.outputs))) for _ in windows[:2]]
        ahead = _Ahead(self.blocks, windows, buffers)
        try:
            for turn, (x, y) in enumerate(ahead):
                index = np.arange(len(y), dtype=np.uint32)
                if self.order.shuffle:
                    self.order.chance(number, self.order.rank, turn).shuffle(index)
                yield x, y, index
        finally:
            ahead.close()

    def _windows(self, number: int) -> list[list[Span]]:
        """This rank's spans of the epoch's order of blocks, as many to a window as it has room for."""
        first, end = self.order.stretch(self.rows)
        blocks = np.arange(len(self.blocks.sizes))
        if self.order.shuffle:
            self.order.chance(number).shuffle(blocks)
        windows: list[list[Span]] = []
        place, left = 0, 0
        for block in blocks.tolist():
            size = self.blocks.sizes[block]
            span = Span(block, max(first - place, 0), min(end - place, size))
            place += size
            rows = span.stop - span.start
            if rows <= 0:
                continue
            if rows > left:
                windows.append([])
                left = self.window
            windows[-1].append(span)
            left -= rows
        return windows


class _Ahead:
    """Fills windows in a thread, each while the one before is used. What the thread fails with is raised here."""

    def __init__(
        self, blocks: Blocks, windows: Sequence[Sequence[Span]], buffers: Sequence[tuple[Floats, Floats]]
    ) -> None:
        self._blocks, self._windows, self._buffers = blocks, windows, buffers
        self._free: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._filled: queue.SimpleQueue[tuple[Floats, Floats] | BaseException] = queue.SimpleQueue()
        for turn in range(len(buffers)):
            self._free.put(turn)
        self._thread = threading.Thread(target=self._fill, name="trunkline-feed", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Floats, Floats]]:
        for turn in range(len(self._windows)):
            filled = self._filled.get()
            if isinstance(filled, BaseException):
                raise filled
            yield filled
            self._free.put(turn % 2)

    def close(self) -> None:
        """End the thread, after the window it is at."""
        self._free.put(None)
        self._thread.join()

    def _fill(self) -> None:
        try:
            for spans in self._windows:
                turn = self._free.get()
                if turn is None:
                    return
                rows = sum(span.stop - span.start for span in spans)
                x, y = (whole[:rows] for whole in self._buffers[turn])
                self._blocks.fill(spans, x, y)
                self._filled.put((x, y))
        except BaseException as exc:  # noqa: BLE001  raised again where the batches are asked for
            self._filled.put(exc)


def batches_of(blocks: Blocks, order: Order, *, memory: int | None = None) -> Batches:
    """Batches from memory if the encoded rows fit into `memory` bytes, else streamed within them.

    Without `memory`, half of what is free now counts; then a window has a fixed size, so that the order depends on the
    machine only by which of the two it is (`Batches.mode`). The matrix is read and encoded here, at once.
    """
    allowed = int(free_memory() * _SHARE) if memory is None else memory
    if encoded_bytes(blocks) <= allowed:
        return in_memory(blocks, order)
    window = _WINDOW if memory is None else min(_WINDOW, memory // 2)
    return Streamed(blocks, order, window=window // (4 * (blocks.width + math.prod(blocks.outputs))))


def in_memory(blocks: Blocks, order: Order) -> InMemory:
    """Batches from memory, which all rows are read into here."""
    rows = sum(blocks.sizes)
    x, y = _empty((rows, blocks.width)), _empty((rows, *blocks.outputs))
    blocks.fill([Span(block, 0, size) for block, size in enumerate(blocks.sizes)], x, y)
    return InMemory(x, y, order)


def encoded_bytes(blocks: Blocks) -> int:
    """What the encoded rows, their target and an epoch's permutation take in memory."""
    return sum(blocks.sizes) * 4 * (blocks.width + math.prod(blocks.outputs) + 1)


def _empty(shape: tuple[int, ...]) -> Floats:
    return np.empty(shape, np.float32)


if TYPE_CHECKING:
    from collections.abc import Generator

    _Pieces = Generator[tuple[Floats, Floats, npt.NDArray[np.integer[Any]]]]
