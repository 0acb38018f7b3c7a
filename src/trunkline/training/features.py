"""From the two parts of a dataset to encoded training data."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.errors import DatasetError, TrainingError, did_you_mean
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Signature
from trunkline.training.metrics import metric_named
from trunkline.training.protocol import Matrix, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["prepare"]


def prepare(
    train: pa.Table, validation: pa.Table, signature: Signature, *, metric: str = "roc_auc", min_count: int = 20
) -> TrainingData:
    """Fit the encoder on `train` and encode both parts; inputs without an example get one from the training part.

    Raises DatasetError for a column that is missing or of another kind, a part without rows and a target that is
    null or not 0 and 1; TrainingError for an unknown metric and a part with one class only.
    """
    metric_named(metric)
    parts = {"training": train, "validation": validation}
    targets = {name: _target(table, signature.target, name) for name, table in parts.items()}
    encoder = Encoder.fit(train, signature, min_count=min_count)
    return TrainingData(
        train=Matrix(encoder.encode(train), targets["training"]),
        validation=Matrix(encoder.encode(validation), targets["validation"]),
        encoder=encoder,
        signature=_with_examples(signature, train),
        metric=metric,
    )


def _target(table: pa.Table, name: str, part: str) -> npt.NDArray[np.float32]:
    """The target [n] as 0 and 1."""
    import pyarrow as pa

    if name not in table.column_names:
        raise DatasetError(f"the dataset has no target column {name!r}.{did_you_mean(name, table.column_names)}")
    if not table.num_rows:
        raise DatasetError(f"the {part} part has no rows", hint="look at the dates of the dataset's `split`")
    column = table.column(name)
    if column.null_count:
        raise DatasetError(
            f"the target {name!r} is null in {column.null_count} of {len(column)} rows of the {part} part",
            hint=f"leave them out in the dbt model: `where {name} is not null`",
        )
    kind = column.type
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise DatasetError(f"the target {name!r} has type {kind}", hint="make it a boolean, or 0 and 1")
    y: npt.NDArray[np.float32] = column.cast(pa.float64()).to_numpy().astype(np.float32)
    classes = np.unique(y)
    if not np.isin(classes, (0.0, 1.0)).all():
        raise DatasetError(f"the target {name!r} must be 0 or 1, but has the value {classes[-1]:g}")
    if len(classes) == 1:
        raise TrainingError(
            f"the target {name!r} is {int(classes[0])} in every row of the {part} part: there is nothing to learn"
        )
    return y


def _with_examples(signature: Signature, table: pa.Table) -> Signature:
    """Fill in missing examples from one row: the one with the fewest nulls among the first thousand."""
    rows = table.slice(0, 1_000).select(list(signature.names)).to_pylist()
    row = min(rows, key=lambda values: sum(value is None for value in values.values()))
    return replace(
        signature,
        inputs=tuple(
            field if field.example is not None else replace(field, example=_plain(row[field.name]))
            for field in signature.inputs
        ),
    )


def _plain(value: Any) -> str | float | int | bool | None:
    """A value as JSON knows it."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value if isinstance(value, str | float | int | bool) else str(value)
