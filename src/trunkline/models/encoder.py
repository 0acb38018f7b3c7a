"""From typed columns to the one float32 matrix that models are trained on and served with.

number -> its value; boolean -> 0 or 1; datetime -> days since 2000-01-01 UTC; all three NaN where missing.
category -> a code: 1, 2, … by descending count in the training part, then by name; 0 where missing, unseen or rare.
vector -> its numbers, NaN from its end to the length of the longest in the training part, and where one is missing.
image -> its pixels in [0, 1], row by row, the channels of each together; NaN where missing.

The encoder is data only and travels in the bundle, so that training and serving cannot disagree: `encode` (Arrow
tables) and `encode_rows` (requests) give the same bits for the same values.
"""

from __future__ import annotations

import math
import operator
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from trunkline.errors import IntegrityError, RequestError
from trunkline.models.columns import as_text, cells, days, fill_images, fill_vectors, floats, lacks
from trunkline.models.signature import WIDE, Kind, Signature, fits

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.compute as pc

__all__ = ["EncodedColumn", "Encoder"]

_NAN = float("nan")


@dataclass(frozen=True)
class EncodedColumn:
    """What one input is in the matrix: a column, or `width` of them one after the other.

    `cardinality` is the number of codes, 0 included, of a category and 0 for any other kind. `mean` and `std` are
    those of the training part's finite values (0 and 1 for a category, or where there is nothing to measure). `shape`
    is () for what is one number a row, (n,) for a vector of up to n, and (height, width, channels) for an image.
    """

    name: str
    kind: Kind
    cardinality: int = 0
    mean: float = 0.0
    std: float = 1.0
    shape: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """How many columns of the matrix it takes."""
        return math.prod(self.shape)

    def to_json(self) -> dict[str, Any]:
        """As plain data; a shape that says nothing is left out."""
        told = asdict(self) | {"shape": list(self.shape)}
        return {name: value for name, value in told.items() if name != "shape" or self.shape}


class Encoder:
    """Turns rows into the matrix a model takes: float32 [n, width]. Immutable, so thread-safe."""

    def __init__(self, columns: Iterable[EncodedColumn], categories: Mapping[str, Sequence[str]]) -> None:
        self.columns = tuple(columns)
        self.categories = {name: tuple(values) for name, values in categories.items()}

    @classmethod
    def fit(cls, rows: pa.Table | Iterable[pa.RecordBatch], signature: Signature, *, min_count: int = 20) -> Encoder:
        """Learn categories and scales from the training part, in one pass; values seen fewer than `min_count` times

        are rare. Raises DatasetError for a column that is missing or of another kind, and for a category longer than
        a request may send (`LONGEST_TEXT`): cutting it would make one of what the data tell apart.
        """
        from trunkline.models.fitting import fitted  # not needed where a model only scores

        return fitted(rows, signature, min_count)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def places(self) -> dict[str, slice]:
        """Which columns of the matrix are an input's."""
        ends = list(accumulate(column.width for column in self.columns))
        return {c.name: slice(end - c.width, end) for c, end in zip(self.columns, ends, strict=True)}

    @cached_property
    def _starts(self) -> tuple[tuple[int, EncodedColumn], ...]:
        """The columns, each with where it begins."""
        return tuple((self.places[column.name].start, column) for column in self.columns)

    @cached_property
    def width(self) -> int:
        """The columns of the matrix."""
        return sum(column.width for column in self.columns)

    def subset(self, names: Iterable[str]) -> Encoder:
        """The encoder of only `names`, in that order."""
        known = {column.name: column for column in self.columns}
        picked = [known[name] for name in names]
        return Encoder(picked, {c.name: self.categories[c.name] for c in picked if c.kind == "category"})

    def encode(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """The matrix of a table that has (at least) this encoder's columns. Raises DatasetError for one that lacks."""
        return self.encode_columns(self._picked(table))

    def encode_into(self, rows: pa.RecordBatch, out: npt.NDArray[np.float32], first: int = 0) -> None:
        """Write the matrix of `rows` to `out`, float32 [n, width], without a copy between. Raises as `encode` does;

        an error that names a row counts from `first`.
        """
        import pyarrow as pa

        self._fill(self._picked(pa.Table.from_batches([rows])), out, first)

    def _picked(self, table: pa.Table) -> list[pa.ChunkedArray]:
        there = dict(zip(reversed(table.column_names), reversed(table.columns), strict=True))
        for name in self.names:
            if name not in there:
                raise lacks(name, table.column_names)
        return [there[name] for name in self.names]

    def encode_columns(self, columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.float32]:
        """The matrix of columns in this encoder's order and of one length."""
        matrix = np.empty((len(columns[0]), self.width), dtype=np.float32)
        self._fill(columns, matrix)
        return matrix

    def _fill(self, columns: Sequence[pa.ChunkedArray], matrix: npt.NDArray[np.float32], first: int = 0) -> None:
        with np.errstate(over="ignore"):  # beyond float32's range is infinite, here as in encode_rows
            for (index, column), values in zip(self._starts, columns, strict=True):
                if column.kind == "category":
                    matrix[:, index] = self._codes(as_text(values, column.name), column.name)
                elif column.shape:
                    place = matrix[:, index : index + column.width]
                    if column.kind == "vector":
                        fill_vectors(values, place, column.name, first)
                    else:
                        fill_images(values, column.shape, place, column.name, first)
                else:
                    matrix[:, index] = floats(values, column.kind, column.name)

    def _codes(self, column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int32]:
        import pyarrow.compute as pc

        known = pc.index_in(column, options=self._lookups[name, column.type])
        return known.fill_null(-1).to_numpy() + np.int32(1)  # type: ignore[no-any-return]

    @cached_property
    def _lookups(self) -> dict[tuple[str, pa.DataType], pc.SetLookupOptions]:
        """The categories as Arrow looks them up, made once: batches may be small."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return {
            (name, text): pc.SetLookupOptions(pa.array(values, text))
            for name, values in self.categories.items()
            for text in (pa.string(), pa.large_string())
        }

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> npt.NDArray[np.float32]:
        """The matrix of rows that passed `Signature.check_rows`. Raises RequestError for a value it cannot encode."""
        if self._wide:
            return self._encode_wide_rows(rows)
        pick, converters = self._row_plan
        width = len(self.columns)
        cells = array("f")
        for index, row in enumerate(rows):
            try:
                values = list(pick(row))
                for position, convert in converters:
                    values[position] = convert(values[position])
                try:
                    cells.extend(values)
                except TypeError:  # a missing number, or a value that is none
                    del cells[index * width :]
                    cells.extend([_NAN if value is None else value for value in values])
            except (KeyError, OverflowError, TypeError, ValueError):
                raise self._refuse_row(row, index) from None
        if not rows:
            return np.empty((0, width), dtype=np.float32)
        return np.frombuffer(cells, dtype=np.float32).reshape(len(rows), width)

    @cached_property
    def _wide(self) -> tuple[EncodedColumn, ...]:
        return tuple(column for column in self.columns if column.shape)

    @cached_property
    def _narrow(self) -> tuple[Encoder, list[int]]:
        """The encoder of all other columns, and their places."""
        names = [column.name for column in self.columns if not column.shape]
        return self.subset(names), [self.places[name].start for name in names]

    def _encode_wide_rows(self, rows: Sequence[Mapping[str, Any]]) -> npt.NDArray[np.float32]:
        matrix = np.full((len(rows), self.width), _NAN, np.float32)
        narrow, at = self._narrow
        if at:
            matrix[:, at] = narrow.encode_rows(rows)
        with np.errstate(over="ignore"):
            for column in self._wide:
                part = matrix[:, self.places[column.name]]
                for index, row in enumerate(rows):
                    try:
                        values = cells(row[column.name], column.kind, column.shape)
                        part[index, : len(values)] = values
                    except (KeyError, OverflowError, TypeError, ValueError) as exc:
                        what = f"field {column.name!r} of row {index} {exc}"
                        raise RequestError(what, field=column.name, row=index) from None
        return matrix

    @cached_property
    def _row_plan(self) -> tuple[Callable[..., Iterable[Any]], list[tuple[int, Callable[[Any], float]]]]:
        """How to pick a row's values in one call, and what to do with those that are not plain numbers."""
        names = self.names
        pick: Callable[[Mapping[str, Any]], Iterable[Any]]
        # itemgetter of several keys gives a tuple, in one call; of one key it gives the bare value.
        pick = operator.itemgetter(*names) if len(names) > 1 else lambda row: [row[name] for name in names]
        converters = [
            (index, self._converter(column))
            for index, column in enumerate(self.columns)
            if column.kind in ("category", "datetime")
        ]
        return pick, converters

    def _converter(self, column: EncodedColumn) -> Callable[[Any], float]:
        if column.kind == "datetime":
            return days
        codes = {value: float(code) for code, value in enumerate(self.categories[column.name], start=1)}
        return lambda value: codes.get(value, 0.0)

    def _refuse_row(self, row: Mapping[str, Any], index: int) -> RequestError:
        """Which field of a row it was that could not be encoded."""
        converters = dict(self._row_plan[1])
        for position, column in enumerate(self.columns):
            try:
                value = row[column.name]
                if value is not None:
                    array("f", [converters[position](value) if position in converters else value])
            except (KeyError, OverflowError, TypeError, ValueError):
                what = f"field {column.name!r} of row {index} cannot be encoded as a {column.kind}"
                return RequestError(what, field=column.name, row=index)
        return RequestError(f"row {index} cannot be encoded", row=index)

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain data."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encoder:
        """The encoder of `to_json`'s data. Raises IntegrityError when the data is anything else."""
        try:
            columns = [EncodedColumn(**{**item, "shape": tuple(item.get("shape", ()))}) for item in data["columns"]]
            encoder = cls(columns, data["categories"])
            sizes = [len(encoder.categories[c.name]) + 1 for c in encoder.columns if c.kind == "category"]
            wrong = any((column.kind in WIDE) != bool(column.shape) for column in columns)
        except (AttributeError, KeyError, TypeError) as exc:
            raise IntegrityError(f"encoder.json does not hold an encoder: {exc}") from exc
        if wrong or not all(fits(column.kind, column.shape) for column in columns):
            raise IntegrityError("encoder.json's kinds and shapes disagree")
        if not all(_is_plain(column) for column in columns) or any(
            not isinstance(text, str) for texts in encoder.categories.values() for text in texts
        ):
            raise IntegrityError("encoder.json holds a name or a number that is none")
        if sizes != [column.cardinality for column in encoder.columns if column.kind == "category"]:
            raise IntegrityError("encoder.json's categories and cardinalities disagree")
        return encoder


def _is_plain(column: EncodedColumn) -> bool:
    numbers = (column.mean, column.std)
    return (
        isinstance(column.name, str)
        and column.kind in get_args(Kind)
        and type(column.cardinality) is int
        and all(isinstance(number, int | float) and abs(number) <= sys.float_info.max for number in numbers)
    )
