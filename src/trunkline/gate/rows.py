"""What the gate takes out of the sealed table: outcomes, slice codes, rows as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trunkline.errors import DatasetError, did_you_mean
from trunkline.gate.metrics import Ints
from trunkline.gate.quality import SliceColumn

if TYPE_CHECKING:
    import pyarrow as pa


def outcomes(table: pa.Table, target: str) -> npt.NDArray[np.bool_]:
    """The target as booleans, [n]. Raises `DatasetError` unless it is boolean, or a number that is 0 or 1."""
    values = _column(table, target, "target").to_pylist()
    bad = [value for value in values if value not in (0, 1)]
    if bad:
        raise DatasetError(
            f"the target {target!r} of the test part has the value {bad[0]!r}; it must be 0 or 1, or a boolean"
        )
    return np.array(values, dtype=np.bool_)


def slice_column(table: pa.Table, name: str) -> SliceColumn:
    """The values of column `name` by code, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = _column(table, name, "slice").combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)  # its missing values have no code of their own yet
    encoded = pc.dictionary_encode(column, null_encoding="encode")
    labels = tuple(None if value is None else str(value) for value in encoded.dictionary.to_pylist())
    return SliceColumn(np.asarray(encoded.indices, dtype=np.int64), labels)


def json_rows(table: pa.Table, inputs: Sequence[str], rows: Ints) -> list[dict[str, object]]:
    """The rows with these numbers as objects of JSON values: times as ISO 8601, numbers that are not finite as null."""
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
    return value


def _column(table: pa.Table, name: str, role: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DatasetError(
            f"the test part has no column {name!r} ({role}).{did_you_mean(name, table.column_names)}",
            hint=f"its columns are: {', '.join(table.column_names[:40])}",
        )
    return table.column(name)
