"""From a dataset's files to Arrow, and by an encoder to the rows that models train on.

The sealed part is reached by `sealed.open_sealed` alone, which records the look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np

from trunkline.datasets.batches import Span
from trunkline.datasets.holding import hold
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.run import folder
from trunkline.datasets.targets import Target
from trunkline.errors import DatasetError, did_you_mean
from trunkline.project.files import check_content

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = [
    "Encoded", "OpenPart", "Part", "RowEncoder", "Stretch", "TablePart", "Target", "open_part", "whole",
]  # fmt: skip

_PIECE = 65_536  # rows of a record batch: a dozen columns of them stay in the processor's cache
_PIECE_BYTES = 32 << 20  # and of rows that are wide, as images are, fewer


class Part(Protocol):
    """Rows of a dataset in blocks. Any number of threads may read at once."""

    @property
    def schema(self) -> pa.Schema:
        """The columns and their types."""

    @property
    def sizes(self) -> Sequence[int]:
        """The rows of each block."""

    def read(self, spans: Sequence[Span], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of `spans`, one after the other, and no other columns."""


class RowEncoder(Protocol):
    """Turns rows into what models take. `trunkline.models.encoder.Encoder` is one."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns it reads."""

    @property
    def width(self) -> int:
        """The columns of the matrix it makes of them."""

    def encode_into(self, rows: pa.RecordBatch, out: npt.NDArray[np.float32], first: int) -> None:
        """Write `rows` to `out`, float32 [n, width], NaN for missing. Errors that name a row count from `first`."""

    @property
    def places(self) -> Mapping[str, slice]:
        """Which columns of the matrix are made of a column."""

    def subset(self, names: Iterable[str]) -> Self:
        """The encoder of only `names`, in that order."""


@dataclass(frozen=True)
class OpenPart:
    """A Parquet file that is what it was when it was made; its blocks are the file's row groups."""

    path: Path

    @cached_property
    def _metadata(self) -> pa.parquet.FileMetaData:
        import pyarrow.parquet as pq

        return pq.read_metadata(self.path)

    @property
    def schema(self) -> pa.Schema:
        """As the file has it."""
        return self._metadata.schema.to_arrow_schema()

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The rows of each row group."""
        return tuple(self._metadata.row_group(group).num_rows for group in range(self._metadata.num_row_groups))

    def read(self, spans: Sequence[Span], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Piece by piece: about `_PIECE` rows are in memory, beside the pages they are decoded from."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, metadata=self._metadata) as file:
            for block, start, stop in spans:
                place = 0
                for piece in file.iter_batches(self._piece(block, columns), row_groups=[block], columns=list(columns)):
                    wanted = piece.slice(max(start - place, 0), max(stop - max(start, place), 0))
                    place += piece.num_rows
                    if wanted.num_rows:
                        yield wanted
                    if place >= stop:
                        break

    def _piece(self, block: int, columns: Sequence[str]) -> int:
        """How many rows to read at once."""
        group = self._metadata.row_group(block)
        size = 0
        for column in map(group.column, range(group.num_columns)):
            path = column.path_in_schema  # of a list "name.list.element"
            if path in columns or path.partition(".")[0] in columns:
                size += int(column.total_uncompressed_size)
        return max(1, min(_PIECE, _PIECE_BYTES * int(group.num_rows) // max(size, 1)))


@dataclass(frozen=True)
class TablePart:
    """A table that is in memory, as a part."""

    table: pa.Table

    @property
    def schema(self) -> pa.Schema:
        """The table's."""
        return self.table.schema

    @property
    def sizes(self) -> tuple[int, ...]:
        """Pieces of equal size, but for the last."""
        rows = self.table.num_rows
        return tuple(min(_PIECE, rows - start) for start in range(0, rows, _PIECE))

    def read(self, spans: Sequence[Span], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Without a copy."""
        picked = self.table.select(list(columns))
        for block, start, stop in spans:
            yield from picked.slice(block * _PIECE + start, stop - start).to_batches()


@dataclass(frozen=True)
class Stretch:
    """The rows [first, end) of several parts, one after the other, as a part: one side of a fold."""

    parts: tuple[Part, ...]
    first: int
    end: int

    @property
    def schema(self) -> pa.Schema:
        """The first part's."""
        return self.parts[0].schema

    @cached_property
    def _spans(self) -> tuple[tuple[Part, Span], ...]:
        found, place = [], 0
        for part in self.parts:
            for block, size in enumerate(part.sizes):
                start, stop = max(self.first - place, 0), min(self.end - place, size)
                if start < stop:
                    found.append((part, Span(block, start, stop)))
                place += size
        return tuple(found)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The rows of each block that lie in the stretch."""
        return tuple(span.stop - span.start for _, span in self._spans)

    def read(self, spans: Sequence[Span], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """As the parts read."""
        for block, start, stop in spans:
            part, whole = self._spans[block]
            yield from part.read([Span(whole.block, whole.start + start, whole.start + stop)], columns)


@dataclass(frozen=True)
class Encoded:
    """A part as the blocks that `trunkline.datasets.batches` makes batches of: encoded as they are read."""

    part: Part
    encoder: RowEncoder
    target: Target

    @property
    def sizes(self) -> Sequence[int]:
        """The part's."""
        return self.part.sizes

    @property
    def width(self) -> int:
        """The columns of the encoder's matrix."""
        return self.encoder.width

    @property
    def outputs(self) -> tuple[int, ...]:
        """The shape of one row's target."""
        return self.target.shape

    def fill(self, spans: Sequence[Span], x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> None:
        """Write the rows of `spans` to `x` and `y`."""
        there = self.part.schema.names
        for name in (*self.encoder.names, self.target.name):
            if name not in there:
                raise DatasetError(f"the dataset has no column {name!r}.{did_you_mean(name, there)}")
        place = 0
        for rows in self.part.read(spans, (*self.encoder.names, self.target.name)):
            end = place + rows.num_rows
            self.encoder.encode_into(rows, x[place:end], place)
            y[place:end] = self.target.values(rows.column(self.target.name))
            place = end


def whole(part: Part) -> tuple[Span, ...]:
    """The spans of all rows."""
    return tuple(Span(block, 0, size) for block, size in enumerate(part.sizes))


def open_part(state: Path, manifest: Manifest, part: str) -> OpenPart:
    """An open part (train or validation), checked once, here. The sealed part is refused.

    Raises `IntegrityError` if the file is not the one the dataset was made with.
    """
    record = manifest.parts[part]
    if record.file is None:
        raise DatasetError(
            f"the {part} part of {manifest.name!r} is sealed: only `trunkline gate` reads it, and each look is counted"
        )
    path = folder(state, manifest.name, manifest.dataset_id) / record.file
    hold(path.parent)
    check_content(path, record.file_digest)
    return OpenPart(path)
