"""What the gate takes out of the sealed table: outcomes, slice codes, rows as JSON values."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trunkline.datasets.targets import Target, classes_in, holds_lists, list_lengths
from trunkline.errors import DatasetError, did_you_mean
from trunkline.gate.intervals import Floats, Ints
from trunkline.gate.slices import SliceColumn
from trunkline.models.task import BINARY, Task

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["classes", "json_rows", "outcomes", "slice_column"]

_LABEL = 500  # characters of a value by which a slice is called


def outcomes(table: pa.Table, target: str, task: Task = BINARY) -> npt.NDArray[Any]:
    """The target as `task` has it: booleans [n], places of classes [n], numbers [n], or lists of numbers [n, j].

    Raises `DatasetError` for other values: of a binary target what is not 0 or 1, of numbers what is not finite.
    """
    column = _column(table, target, "target")
    if task.kind == "binary":
        if task.classes:  # two texts, say: the second is what the score is the probability of
            return _read(Target(target, task.classes), column).astype(np.bool_)
        return _booleans(column, target)
    if task.kind == "multiclass":
        return _read(Target(target, task.classes), column).astype(np.int64)
    numbers = _lists(column, target) if holds_lists(column.type) else _numbers(column, target)
    bad = int(len(numbers) - np.isfinite(numbers).reshape(len(numbers), -1).all(axis=1).sum())
    if bad:
        raise DatasetError(
            f"the target {target!r} of the test part is not finite in {bad:,} of {len(numbers):,} rows",
            hint=f"leave them out in the dbt model: `where isfinite({target})`",
        )
    return numbers


def classes(table: pa.Table, target: str) -> tuple[str, ...]:
    """The classes in the rows, as text."""
    return classes_in(_column(table, target, "target"))


def _booleans(column: pa.ChunkedArray, target: str) -> npt.NDArray[np.bool_]:
    values = column.to_pylist()
    bad = [value for value in values if value not in (0, 1)]
    if bad:
        raise DatasetError(
            f"the target {target!r} of the test part has the value {bad[0]!r}; it must be 0 or 1, or a boolean"
        )
    return np.array(values, dtype=np.bool_)


def _numbers(column: pa.ChunkedArray, target: str) -> Floats:
    import pyarrow as pa

    try:
        return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowException as exc:
        raise DatasetError(f"the target {target!r} of the test part has type {column.type}, not numbers") from exc


def _lists(column: pa.ChunkedArray, target: str) -> Floats:
    lengths = list_lengths(column)
    width = int(lengths[0]) if len(lengths) else 0
    return _read(Target(target, width=width), column).astype(np.float64)


def _read(target: Target, column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    return target.values(column.combine_chunks())


def slice_column(table: pa.Table, name: str) -> SliceColumn:
    """The values of column `name` by code, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(table, name, "slice").combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # its missing values have no code of their own yet
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    labels = tuple(None if value is None else str(value)[:_LABEL] for value in encoded.dictionary.to_pylist())
    return SliceColumn(np.asarray(encoded.indices, dtype=np.int64), labels)


def json_rows(table: pa.Table, inputs: Sequence[str], rows: Ints) -> list[dict[str, object]]:
    """The rows with these numbers as objects of JSON values: times as ISO 8601, numbers that are not finite as null,

    bytes as base64.
    """
    for name in inputs:
        _column(table, name, "input")
    taken = table.select(list(inputs)).take(rows).to_pylist()
    return [{name: _json_value(value) for name, value in row.items()} for row in taken]


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    return value


def _column(table: pa.Table, name: str, role: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DatasetError(
            f"the test part has no column {name!r} ({role}).{did_you_mean(name, table.column_names)}",
            hint=f"its columns are: {', '.join(table.column_names[:40])}",
        )
    return table.column(name)
