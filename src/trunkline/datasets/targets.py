"""The column to learn as numbers: classes by their place, numbers as they are, lists of numbers as rows of a matrix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.errors import DatasetError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Target", "classes_in", "holds_lists", "holds_numbers", "holds_text", "list_lengths"]

_SHOWN = 5


@dataclass(frozen=True)
class Target:
    """The column `name`. With `classes`, a value is the place of its text among them, whatever type it has.

    Without, a boolean is 0 or 1 and a number itself. With `width`, a value is a list of so many numbers.
    """

    name: str
    classes: tuple[str, ...] = ()
    width: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """That of one row: () or (width,)."""
        return () if self.width is None else (self.width,)

    def values(self, column: pa.Array) -> npt.NDArray[np.float32]:
        """float32 [n] or [n, width]. Raises DatasetError for null, for a type or a length that is none of those, and

        for an unknown class.
        """
        if column.null_count:
            raise DatasetError(
                f"the target {self.name!r} is null in {column.null_count} rows",
                hint=f"leave them out in the dbt model: `where {self.name} is not null`",
            )
        if self.width is not None:
            return self._vectors(column, self.width)
        if self.classes:
            column = self._places(column)
        elif not holds_numbers(column.type):
            raise self._type(column, "make it a boolean, a number or text")
        return _float32(column)

    def _places(self, column: pa.Array) -> pa.Array:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            known = pa.array(self.classes, pa.string()).cast(column.type)
        except pa.ArrowException:
            raise self._type(column, f"its classes are {_listed(self.classes)}") from None
        places = pc.index_in(column, known)
        if places.null_count:
            unknown = classes_in(column.filter(places.is_null()))
            raise DatasetError(
                f"the target {self.name!r} has a class that is not in {_listed(self.classes)}: {unknown[0]!r}"
            )
        return places

    def _vectors(self, column: pa.Array, width: int) -> npt.NDArray[np.float32]:
        if not holds_lists(column.type):
            raise self._type(column, f"make it a list of {width} numbers")
        lengths = list_lengths(column)
        if other := int(np.count_nonzero(lengths != width)):
            raise DatasetError(f"the target {self.name!r} has not {width} numbers in {other:,} rows")
        cells = column.flatten()
        if cells.null_count:
            raise DatasetError(f"the target {self.name!r} holds {cells.null_count:,} numbers that are null")
        return _float32(cells).reshape(-1, width)

    def _type(self, column: pa.Array, hint: str) -> DatasetError:
        return DatasetError(f"the target {self.name!r} has type {column.type}", hint=hint)


def classes_in(column: pa.Array | pa.ChunkedArray) -> tuple[str, ...]:
    """The different values as text: numbers by size, text by its letters but for numbers in it, as `v2` before `v10`.

    >>> import pyarrow as pa
    >>> classes_in(pa.array(["v10", "v2", "a"])), classes_in(pa.array([10, -1, 2])), classes_in(pa.array([True, False]))
    (('a', 'v2', 'v10'), ('-1', '2', '10'), ('false', 'true'))
    """
    values = column.unique().to_pylist()
    if all(isinstance(value, str) for value in values):
        return tuple(sorted(values, key=lambda text: (_parts(text), text)))
    return tuple(str(value).lower() if isinstance(value, bool) else str(value) for value in sorted(values))


def holds_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of text."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def holds_numbers(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of numbers, or of booleans."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def holds_lists(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of lists of numbers."""
    import pyarrow as pa

    types = pa.types
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(lists and holds_numbers(kind.value_type))


def list_lengths(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """The length of each list [n]; 0 for null."""
    import pyarrow.compute as pc

    lengths: npt.NDArray[Any] = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return lengths.astype(np.int64)


def _float32(column: pa.Array) -> npt.NDArray[np.float32]:
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    with np.errstate(over="ignore"):  # what is beyond float32 is infinite, and told as such
        values: npt.NDArray[np.float32] = column.cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float32)
    return values


def _parts(text: str) -> list[str | int]:
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", text))]


def _listed(classes: tuple[str, ...]) -> str:
    if len(classes) <= _SHOWN:
        return str(list(classes))
    return f"{', '.join(map(repr, classes[:_SHOWN]))}, … ({len(classes)})"
