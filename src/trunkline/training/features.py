"""From the two parts of a dataset to encoded training data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.datasets.batches import Order, Span, encoded_bytes, in_memory
from trunkline.datasets.feed import Encoded, Part, TablePart, Target, whole
from trunkline.datasets.memory import free_memory
from trunkline.errors import DatasetError, TrainingError, did_you_mean
from trunkline.models.fitting import Fitting
from trunkline.models.signature import Signature
from trunkline.training.metrics import metric_named
from trunkline.training.protocol import Matrix, Streamed, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["prepare"]


def prepare(
    train: pa.Table | Part,
    validation: pa.Table | Part,
    signature: Signature,
    *,
    metric: str = "roc_auc",
    min_count: int = 20,
    memory: int | None = None,
) -> TrainingData:
    """Fit the encoder on `train` and encode both parts; inputs without an example get one from the training part.

    The training part is streamed if it takes more than `memory` bytes encoded (half of what is free, if not given).
    Raises DatasetError for a column that is missing or of another kind, a part without rows and a target that is null
    or not 0 and 1; TrainingError for an unknown metric and a part with one class only.
    """
    measured = metric_named(metric)
    learned, held_out = _part(train), _part(validation)
    for name, part in {"training": learned, "validation": held_out}.items():
        _check(part, signature.target, name)
    fitting = Fitting(signature, min_count=min_count)
    y = _labels(_heard(learned, signature, fitting), signature.target, "training")
    _labels(
        (rows.column(0) for rows in held_out.read(whole(held_out), [signature.target])), signature.target, "validation"
    )
    encoder, target = fitting.encoder(), Target(signature.target)
    allowed = free_memory() // 2 if memory is None else memory
    first = Encoded(learned, encoder, target)
    fits = encoded_bytes(first) <= allowed
    return TrainingData(
        train=_matrix(first) if fits else Streamed(first, y, fitting.missing(), allowed),
        validation=_matrix(Encoded(held_out, encoder, target)),
        encoder=encoder,
        signature=_with_examples(signature, learned),
        metric=measured,
    )


def _part(rows: pa.Table | Part) -> Part:
    import pyarrow as pa

    return TablePart(rows) if isinstance(rows, pa.Table) else rows


def _check(part: Part, target: str, name: str) -> None:
    there = part.schema.names
    if target not in there:
        raise DatasetError(f"the dataset has no target column {target!r}.{did_you_mean(target, there)}")
    if not sum(part.sizes):
        raise DatasetError(f"the {name} part has no rows", hint="look at the dates of the dataset's `split`")


def _heard(part: Part, signature: Signature, fitting: Fitting) -> Iterator[pa.Array]:
    """The target, piece by piece, of rows that the encoder is fitted on in the same pass."""
    names = [name for name in signature.names if name in part.schema.names]  # fitting names the one that is not there
    for rows in part.read(whole(part), [*names, signature.target]):
        fitting.add(rows)
        yield rows.column(signature.target)


def _matrix(rows: Encoded) -> Matrix:
    held = in_memory(rows, Order())
    return Matrix(held.x, held.y)


def _labels(pieces: Iterable[pa.Array], name: str, part: str) -> npt.NDArray[np.float32]:
    """The target [n] as 0 and 1."""
    import pyarrow as pa

    column = pa.chunked_array(pieces)
    if column.null_count:
        raise DatasetError(
            f"the target {name!r} is null in {column.null_count} of {len(column)} rows of the {part} part",
            hint=f"leave them out in the dbt model: `where {name} is not null`",
        )
    kind = column.type
    if not (
        pa.types.is_boolean(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
    ):
        raise DatasetError(f"the target {name!r} has type {kind}", hint="make it a boolean, or 0 and 1")
    target = Target(name)
    y = np.concatenate([target.values(chunk) for chunk in column.chunks])
    classes = np.unique(y)
    if not np.isin(classes, (0.0, 1.0)).all():
        raise DatasetError(f"the target {name!r} must be 0 or 1, but has the value {classes[-1]:g}")
    if len(classes) == 1:
        raise TrainingError(
            f"the target {name!r} is {int(classes[0])} in every row of the {part} part: there is nothing to learn"
        )
    return y


def _with_examples(signature: Signature, part: Part) -> Signature:
    """Fill in missing examples from one row: the one with the fewest nulls among the first thousand."""
    batches = part.read([Span(0, 0, min(1_000, part.sizes[0]))], signature.names)
    rows = [row for batch in batches for row in batch.to_pylist()]
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
