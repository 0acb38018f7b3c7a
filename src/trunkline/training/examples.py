"""An example for each input of a model: a real value of the training part, for documentation and warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from trunkline.datasets.batches import Span
from trunkline.models.signature import Example, Signature

if TYPE_CHECKING:
    from trunkline.datasets.feed import Part
    from trunkline.models.encoder import Encoder

__all__ = ["with_examples"]

_ROWS = 1_000


def with_examples(signature: Signature, encoder: Encoder, missing: Sequence[bool], part: Part) -> Signature:
    """Fill in what inputs lack: their shape, and examples from one row, that with the fewest nulls of the first ones.

    Of an image it is a grey one of the right size: a real one would make the signature long, and may be nobody's
    business. Lists and images that were complete in all of training (`missing`, by column of the matrix) have to be so
    in requests: a network of the user's may know nothing of missing numbers.
    """
    from trunkline.models.images import grey

    shapes = {column.name: column.shape for column in encoder.columns}
    plain = [field.name for field in signature.inputs if field.kind != "image"]
    batches = part.read([Span(0, 0, min(_ROWS, part.sizes[0]))], plain)
    rows = [row for batch in batches for row in batch.to_pylist()] or [{}]
    row = min(rows, key=lambda values: sum(value is None for value in values.values()))
    inputs = []
    for field in signature.inputs:
        example = field.example
        if example is None:
            example = grey(shapes[field.name]) if field.kind == "image" else _plain(row[field.name])
        complete = bool(shapes[field.name]) and not any(missing[encoder.places[field.name]])
        nullable = field.nullable and not complete
        inputs.append(replace(field, example=example, shape=shapes[field.name], nullable=nullable))
    return replace(signature, inputs=tuple(inputs))


def _plain(value: Any) -> Example:
    """A value as JSON knows it."""
    if isinstance(value, list):
        return tuple(None if number is None else _number(float(number)) for number in value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    if value is None or isinstance(value, float):
        return None if value is None else _number(value)
    return value if isinstance(value, str | int | bool) else str(value)


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
