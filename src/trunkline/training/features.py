"""From the two parts of a dataset to encoded training data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.datasets.batches import Order, encoded_bytes, in_memory
from trunkline.datasets.feed import Encoded, Part, Stretch, TablePart, whole
from trunkline.datasets.memory import free_memory
from trunkline.errors import DatasetError, did_you_mean
from trunkline.models.encoder import Encoder
from trunkline.models.fitting import Fitting
from trunkline.models.signature import Signature
from trunkline.project.declare import Metric
from trunkline.training.examples import with_examples
from trunkline.training.goals import check_unseen, goal, target_of
from trunkline.training.metrics import metric_named
from trunkline.training.protocol import Matrix, Streamed, TrainingData

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Learned", "learn", "prepare", "rows_of"]


@dataclass(frozen=True)
class Learned:
    """What one pass over the training part taught: the encoder, the signature with its task (the classes) and examples,

    and whether each column of the matrix has a missing number. With it, many processes load their own rows alike.
    """

    encoder: Encoder
    signature: Signature
    missing: tuple[bool, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "encoder": self.encoder.to_json(),
            "signature": self.signature.to_json(),
            "missing": list(self.missing),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Learned:
        """Of `to_json`'s data."""
        encoder, signature = Encoder.from_json(data["encoder"]), Signature.from_json(data["signature"])
        return cls(encoder, signature, tuple(data["missing"]))


def learn(train: pa.Table | Part, validation: pa.Table | Part, signature: Signature, *, min_count: int = 20) -> Learned:
    """One pass over the training part and a look at the validation part's target. Errors are those of `prepare`."""
    learned, held_out = _part(train), _part(validation)
    for name, part in {"training": learned, "validation": held_out}.items():
        _check(part, signature.target, name)
    fitting = Fitting(signature, min_count=min_count)
    task = goal(_heard(learned, signature, fitting), signature, "training")
    check_unseen(
        (rows.column(0) for rows in held_out.read(whole(held_out), [signature.target])), signature.target, task
    )
    encoder, missing = fitting.encoder(), fitting.missing()
    told = with_examples(replace(signature, task=task), encoder, missing, learned)
    return Learned(encoder, told, missing)


def prepare(
    train: pa.Table | Part,
    validation: pa.Table | Part,
    signature: Signature,
    *,
    metric: str | Metric | None = None,
    min_count: int = 20,
    memory: int | None = None,
    learned: Learned | None = None,
) -> TrainingData:
    """Fit the encoder on `train`, unless it was `learned` already, and encode both parts.

    `signature.task` says what is to be learned; classes and the number of outputs come from the training part, as do
    examples of inputs. The training part is streamed if it takes more than `memory` bytes encoded (half of what is
    free, if not given). Raises DatasetError for a column that is missing or of another kind, a part without rows, a
    target that is null, not finite, no class, or of another type than the task; TrainingError for an unknown metric
    and a part whose target has one value only.
    """
    if learned is None:
        metric_named(metric, signature.task)  # a misspelt one is told before anything is read
        learned = learn(train, validation, signature, min_count=min_count)
    target = target_of(learned.signature)
    allowed = free_memory() // 2 if memory is None else memory
    first = Encoded(_part(train), learned.encoder, target)
    return TrainingData(
        train=_matrix(first, learned.missing)
        if encoded_bytes(first) <= allowed
        else Streamed(first, _labels(first), learned.missing, allowed),
        validation=_matrix(Encoded(_part(validation), learned.encoder, target), None),
        encoder=learned.encoder,
        signature=learned.signature,
        metric=metric_named(metric, learned.signature.task),
    )


def rows_of(part: Part, rank: int, world: int) -> Part:
    """The rows of one rank: a stretch, no longer than another's by more than one row."""
    first, end = Order(rank=rank, world=world).stretch(sum(part.sizes))
    return Stretch((part,), first, end)


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


def _matrix(rows: Encoded, missing: tuple[bool, ...] | None) -> Matrix:
    held = in_memory(rows, Order())
    return Matrix(held.x, held.y, missing)


def _labels(rows: Encoded) -> Any:
    """The target [n] of rows that are not held, which is."""
    target = rows.target
    pieces = rows.part.read(whole(rows.part), [target.name])
    return np.concatenate([target.values(piece.column(0)) for piece in pieces])
