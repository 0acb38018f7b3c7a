"""What is to be learned, from the target's values: classes, numbers, lists of numbers; and what cannot be learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trunkline.datasets.targets import Target, classes_in, holds_lists, holds_numbers, holds_text, list_lengths
from trunkline.errors import DatasetError, TrainingError
from trunkline.models.signature import Signature
from trunkline.models.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["check_unseen", "goal", "target_of"]

_SHOWN = 3


def target_of(signature: Signature) -> Target:
    """The column to learn of a signature whose task is known."""
    task = signature.task
    return Target(signature.target, task.classes, task.outputs if task.kind == "custom" else None)


def goal(pieces: Iterable[pa.Array], signature: Signature, part: str) -> Task:
    """The task with what the training part's target says of it: the classes, or the number of outputs.

    Raises DatasetError for a target that is null, not finite, or does not fit the task; TrainingError where there is
    one value only.
    """
    column = _filled(pieces, signature.target, part)
    return _GOALS[signature.task.kind](column, signature.target, signature.task, part)


def check_unseen(pieces: Iterable[pa.Array], name: str, task: Task) -> None:
    """Raise what `goal` does for the validation part, and DatasetError for a class that training has not seen."""
    column = _filled(pieces, name, "validation")
    if task.classes:
        seen = set(task.classes)
        unseen = [label for label in classes_in(column) if label not in seen]
        if unseen:
            raise DatasetError(
                f"the target {name!r} has classes in the validation part that the training part has not:"
                f" {_listed(unseen)}",
                hint="tl.split.stratified has each class in all parts; or put rare classes together in the dbt model",
            )
    found = _GOALS[task.kind](column, name, task, "validation")
    if found.classes and not task.classes:
        raise DatasetError(f"the target {name!r} is 0 or 1 in training, but has {_listed(found.classes)} in validation")
    if found.outputs != task.outputs:
        raise DatasetError(
            f"the target {name!r} is a list of {task.outputs} numbers in the training part, and of {found.outputs} in"
            " the validation part"
        )


def _filled(pieces: Iterable[pa.Array], name: str, part: str) -> pa.ChunkedArray:
    import pyarrow as pa

    column = pa.chunked_array(pieces)
    if column.null_count:
        raise DatasetError(
            f"the target {name!r} is null in {column.null_count:,} of {len(column):,} rows of the {part} part",
            hint=f"leave them out in the dbt model: `where {name} is not null`",
        )
    return column


def _binary(column: pa.ChunkedArray, name: str, task: Task, part: str) -> Task:
    import pyarrow as pa

    kind = column.type
    named = holds_text(kind) or pa.types.is_integer(kind)
    if not (named or holds_numbers(kind)):
        raise DatasetError(f"the target {name!r} has type {kind}", hint="make it a boolean, or 0 and 1")
    there = classes_in(column) if named else tuple(f"{y:g}" for y in np.unique(_values(column, Target(name), part)))
    if len(there) > 2 or not (named or {"0", "1"}.issuperset(there)):
        raise DatasetError(
            f"the target {name!r} must be 0 or 1, or have two values; in the {part} part it has {_listed(there)}",
            hint='for more classes, task="multiclass" in the tl.Dataset; else make it a boolean in the dbt model',
        )
    _need_two(there, name, part)
    return task if task.classes or there == ("0", "1") else replace(task, classes=there)


def _multiclass(column: pa.ChunkedArray, name: str, task: Task, part: str) -> Task:
    import pyarrow as pa

    kind = column.type
    if not (holds_text(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise DatasetError(
            f"the target {name!r} has type {kind}, which has no classes",
            hint="cast it to text or to an integer in the dbt model; or its task is regression",
        )
    there = classes_in(column)
    _need_two(there, name, part)
    return replace(task, classes=task.classes or there)


def _number(column: pa.ChunkedArray, name: str, task: Task, part: str) -> Task:
    import pyarrow as pa

    kind = column.type
    if not holds_numbers(kind) or pa.types.is_boolean(kind):
        raise DatasetError(
            f"the target {name!r} has type {kind}, which is no number to be regressed on",
            hint="cast it in the dbt model; or leave `task` and `quantiles` out: text and booleans are classes",
        )
    y = _values(column, Target(name), part)
    _need_two([f"{end:g}" for end in {y.min(), y.max()}], name, part)
    return task


def _lists(column: pa.ChunkedArray, name: str, task: Task, part: str) -> Task:
    if not holds_lists(column.type):
        raise DatasetError(f"the target {name!r} has type {column.type}, which is no list of numbers")
    lengths = list_lengths(column)
    shortest, longest = int(lengths.min()), int(lengths.max())
    if shortest < longest or not longest:
        counts = f"between {shortest} and {longest}" if longest else "no"
        raise DatasetError(
            f"the target {name!r} has {counts} numbers in a row of the {part} part: all rows must have as many",
            hint="cut or fill the lists in the dbt model",
        )
    y = _values(column, Target(name, width=longest), part)
    _need_two([str(end.tolist()) for end in np.unique(y, axis=0)[:2]], name, part)
    return replace(task, outputs=longest)


def _values(column: pa.ChunkedArray, target: Target, part: str) -> npt.NDArray[np.float32]:
    """The target as numbers, all of them finite."""
    y = np.concatenate([target.values(chunk) for chunk in column.chunks])
    finite = np.isfinite(y).reshape(len(y), -1).all(axis=1)
    if broken := len(y) - int(finite.sum()):
        raise DatasetError(
            f"the target {target.name!r} is NaN, infinite or beyond 3.4e38 in {broken:,} of {len(y):,} rows of the"
            f" {part} part",
            hint=f"leave them out in the dbt model: `where isfinite({target.name})`",
        )
    return y


def _need_two(there: Sequence[str], name: str, part: str) -> None:
    if len(there) == 1:
        raise TrainingError(
            f"the target {name!r} is {there[0]} in every row of the {part} part: there is nothing to learn"
        )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(map(repr, values[:_SHOWN])) + (", …" if len(values) > _SHOWN else "")


_GOALS: dict[str, Callable[[pa.ChunkedArray, str, Task, str], Task]] = {
    "binary": _binary,
    "multiclass": _multiclass,
    "regression": _number,
    "quantile": _number,
    "custom": _lists,
}
