"""Fitting the encoder in one pass: what a block of rows says about each column is merged into what is known so far.

The rows are cut into blocks of a fixed size, wherever the batches they come in end, so that equal rows in equal order
give an equal encoder to the last bit, whatever wrote the file. Means and squares are merged as Chan, Golub and LeVeque
do ("Updating formulae and a pairwise algorithm for computing sample variances", 1979): no cancellation, however long
the data. Memory: one block of float32, and each category's distinct values with their counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from trunkline.errors import DatasetError
from trunkline.models.columns import as_text, floats, image_bytes, lacks, list_cells
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.signature import LONGEST_TEXT, LONGEST_VECTOR, WIDE, Signature

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Fitting", "fitted"]

_BLOCK = 65_536  # rows
_PENDING = 1 << 16  # counts that wait to be merged
_MEASURED = 64  # images


class Fitting:
    """An encoder in the making: `add` each batch once, then ask for the `encoder`. Not for two threads at once."""

    def __init__(self, signature: Signature, *, min_count: int = 20) -> None:
        self._fields = signature.inputs
        self._min_count = min_count
        self._scales = {f.name: _Scale() for f in self._fields if f.kind not in ("category", *WIDE)}
        self._vectors = {f.name: _Vectors(f.name) for f in self._fields if f.kind == "vector"}
        self._images = {f.name: _Images(f.name) for f in self._fields if f.kind == "image"}
        self._counts = {field.name: _Counts(field.name) for field in self._fields if field.kind == "category"}
        self._block = np.empty((len(self._scales), _BLOCK), np.float32)
        self._room = np.empty(_BLOCK)
        self._filled = 0

    def add(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take rows into account. Raises DatasetError for a column that is missing, of another kind, or too long."""
        for name in (field.name for field in self._fields if field.name not in rows.schema.names):
            raise lacks(name, rows.schema.names)
        for start in range(0, rows.num_rows, _BLOCK):
            self._add(rows.slice(start, _BLOCK))

    def _add(self, rows: pa.RecordBatch | pa.Table) -> None:
        import pyarrow as pa

        numbers = []
        for field in self._fields:
            column = rows.column(field.name)
            column = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
            if field.kind == "category":
                self._counts[field.name].add(as_text(column, field.name))
            elif field.kind in WIDE:
                wide = self._vectors if field.kind == "vector" else self._images
                wide[field.name].add(column)
            else:
                numbers.append(floats(column, field.kind, field.name))
        done = 0
        while done < rows.num_rows:
            taken = min(rows.num_rows - done, _BLOCK - self._filled)
            with np.errstate(over="ignore"):  # beyond float32's range is infinite, as for the encoder
                for line, values in zip(self._block, numbers, strict=True):
                    line[self._filled : self._filled + taken] = values[done : done + taken]
            done, self._filled = done + taken, self._filled + taken
            if self._filled == _BLOCK:
                self._merge()

    def _merge(self) -> None:
        for scale, line in zip(self._scales.values(), self._block, strict=True):
            scale.add(line[: self._filled], self._room[: self._filled])
        self._filled = 0

    def encoder(self) -> Encoder:
        """What was learned from the rows so far."""
        self._merge()
        columns, categories = [], {}
        for field in self._fields:
            if field.kind == "category":
                categories[field.name] = self._counts[field.name].frequent(self._min_count)
                columns.append(EncodedColumn(field.name, field.kind, len(categories[field.name]) + 1))
            elif field.kind in WIDE:
                wide = self._vectors if field.kind == "vector" else self._images
                columns.append(wide[field.name].column())
            else:
                mean, std = self._scales[field.name].result()
                columns.append(EncodedColumn(field.name, field.kind, mean=mean, std=std))
        return Encoder(columns, categories)

    def missing(self) -> tuple[bool, ...]:
        """Whether each column of the matrix had a missing number (a category's code 0 is none)."""
        self._merge()
        flags: list[bool] = []
        for field in self._fields:
            if field.kind in WIDE:
                flags += (self._vectors if field.kind == "vector" else self._images)[field.name].missing()
            else:
                flags.append(field.name in self._scales and self._scales[field.name].missing)
        return tuple(flags)


def fitted(rows: pa.Table | Iterable[pa.RecordBatch], signature: Signature, min_count: int) -> Encoder:
    """The encoder of a table, or of batches that are looked at once, one by one."""
    import pyarrow as pa

    fitting = Fitting(signature, min_count=min_count)
    for batch in [rows] if isinstance(rows, pa.Table) else rows:
        fitting.add(batch)
    return fitting.encoder()


class _Scale:
    """Mean and standard deviation of the finite values so far, measured as the float32 that models see."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares, self.missing = 0, 0.0, 0.0, False

    def add(self, values: npt.NDArray[np.float32], room: npt.NDArray[np.float64]) -> None:
        """Merge a block; `room` is as long and may be written to."""
        np.copyto(room, values)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            total = float(room.sum())
        if not math.isfinite(total):  # sums of float32 do not overflow: some value is infinite or missing
            self.missing = self.missing or bool(np.isnan(values).any())
            values = values[np.isfinite(values)]
            room = values.astype(np.float64)
            total = float(room.sum())
        count = room.size
        if not count:
            return
        mean = total / count
        room -= mean
        squares = float(np.square(room, out=room).sum())
        together, apart = self.count + count, mean - self.mean
        self.squares += squares + apart * apart * self.count * count / together
        self.mean += apart * count / together
        self.count = together

    def result(self) -> tuple[float, float]:
        """(mean, std); std is 1 where there is no spread."""
        std = math.sqrt(self.squares / self.count) if self.count else 0.0
        return self.mean, std if std > 0 else 1.0


class _Vectors:
    """The longest list so far, which places had no number, and the scale of all numbers together."""

    def __init__(self, name: str) -> None:
        self._name, self._rows, self._longest = name, 0, 0
        self._there = np.zeros(0, np.int64)  # by place: rows with a number there
        self._scale, self._filled = _Scale(), 0
        self._block, self._room = np.empty(_BLOCK, np.float32), np.empty(_BLOCK)

    def add(self, column: pa.ChunkedArray) -> None:
        """Take lists into account."""
        lengths, numbers = list_cells(column, self._name)
        self._rows += len(lengths)
        longest = int(lengths.max(initial=0))
        if longest > LONGEST_VECTOR:
            raise DatasetError(
                f"column {self._name!r} has a list of {longest:,} numbers: {LONGEST_VECTOR:,} are the most",
                hint=f"cut it in the dbt model: `list_slice({self._name}, 1, {LONGEST_VECTOR})`, or leave it out",
            )
        with np.errstate(over="ignore"):
            cells = numbers.astype(np.float32)
        places = np.arange(len(cells)) - np.repeat(lengths.cumsum() - lengths, lengths)
        there = np.bincount(places[~np.isnan(cells)], minlength=max(longest, len(self._there)))
        there[: len(self._there)] += self._there
        self._there = there
        for start in range(0, len(cells), _BLOCK):
            self._measure(cells[start : start + _BLOCK])

    def _measure(self, cells: npt.NDArray[np.float32]) -> None:
        """In blocks of a fixed size, wherever the batches end."""
        taken = min(len(cells), _BLOCK - self._filled)
        self._block[self._filled : self._filled + taken] = cells[:taken]
        self._filled += taken
        if self._filled == _BLOCK:
            self._merge()
            self._block[: len(cells) - taken], self._filled = cells[taken:], len(cells) - taken

    def _merge(self) -> None:
        self._scale.add(self._block[: self._filled], self._room[: self._filled])
        self._filled = 0

    def column(self) -> EncodedColumn:
        """What was learned so far. A column without a single number is one that is always missing."""
        self._merge()
        mean, std = self._scale.result()
        return EncodedColumn(self._name, "vector", mean=mean, std=std, shape=(max(len(self._there), 1),))

    def missing(self) -> list[bool]:
        """Of each place, whether a row had no number there."""
        return (self._there < self._rows).tolist() or [True]


class _Images:
    """The shape of the first image, which all have; and the scale of the first ones' pixels."""

    def __init__(self, name: str) -> None:
        self._name, self._rows, self._null = name, 0, False
        self._shape: tuple[int, int, int] | None = None
        self._first: list[npt.NDArray[np.float32]] = []

    def add(self, column: pa.ChunkedArray) -> None:
        """Take images into account: their headers, and the pixels of the first."""
        for content in image_bytes(column, self._name):
            self._rows += 1
            if content is None:
                self._null = True
                continue
            try:
                self._look(content)
            except ValueError as exc:
                hint = "all images must be PNG or JPEG, of the size of the first, in one mode: grey or colour"
                raise DatasetError(f"column {self._name!r} in row {self._rows - 1:,} {exc}", hint=hint) from exc

    def _look(self, content: bytes) -> None:
        from trunkline.models.images import check_shape, decode, shape_of

        found = shape_of(content)
        self._shape = self._shape or found
        check_shape(found, self._shape)
        if len(self._first) < _MEASURED:
            self._first.append(decode(content, self._shape))

    def column(self) -> EncodedColumn:
        """What was learned so far."""
        if self._shape is None:
            raise DatasetError(
                f"column {self._name!r} has no image in the training part", hint="leave it out of `groups`"
            )
        pixels = np.concatenate(self._first)
        scale = _Scale()
        scale.add(pixels, np.empty(len(pixels)))
        mean, std = scale.result()
        return EncodedColumn(self._name, "image", mean=mean, std=std, shape=self._shape)

    def missing(self) -> list[bool]:
        """Of each pixel, whether a row had none."""
        return [self._null] * math.prod(self._shape or (1,))


class _Counts:
    """How often each text was seen."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[pa.Table] = []
        self._pending = 0

    def add(self, column: pa.ChunkedArray) -> None:
        """Count a piece of the column."""
        import pyarrow as pa
        import pyarrow.compute as pc

        counts = pc.value_counts(column.drop_null())
        texts = counts.field("values").cast(pa.large_string())
        longest = pc.max(pc.utf8_length(texts)).as_py() or 0
        if longest > LONGEST_TEXT:
            raise DatasetError(
                f"column {self._name!r} has a text of {longest:,} characters: a category may have {LONGEST_TEXT:,}, in"
                " training as in a request",
                hint=f"shorten it in the dbt model, as with left({self._name}, 100), or leave it out of `groups`",
            )
        self._parts.append(pa.table({"text": texts, "rows": counts.field("counts")}))
        self._pending += len(texts)
        if self._pending > max(_PENDING, self._parts[0].num_rows):  # so each text is merged a few times, not every time
            self._parts, self._pending = [self._merged()], 0

    def _merged(self) -> pa.Table:
        import pyarrow as pa

        whole = pa.concat_tables(self._parts).group_by("text").aggregate([("rows", "sum")])
        return whole.rename_columns(["text", "rows"])

    def frequent(self, min_count: int) -> tuple[str, ...]:
        """The texts seen at least `min_count` times, most frequent first, equals by name."""
        import pyarrow.compute as pc

        if not self._parts:
            return ()
        merged = self._merged()
        kept = merged.filter(pc.greater_equal(merged.column("rows"), min_count))
        pairs = zip(kept.column("text").to_pylist(), kept.column("rows").to_pylist(), strict=True)
        return tuple(text for text, _ in sorted(pairs, key=lambda pair: (-pair[1], pair[0])))
