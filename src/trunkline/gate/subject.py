"""What candidate and champion are judged by together: one task for both, and their scores in its shape. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trunkline.errors import DatasetError
from trunkline.gate.metrics import Floats
from trunkline.models.task import Task

__all__ = ["aligned", "common"]


def common(candidate: Task, champion: Task | None, found: Sequence[str] = ()) -> Task:
    """The candidate's task, and of several classes those that the champion or the rows (`found`) know besides.

    Raises `DatasetError` where the champion answers something that cannot be compared.
    """
    if champion is not None and _incomparable(candidate, champion):
        raise DatasetError(
            f"the champion answers {_told(champion)} and the candidate {_told(candidate)}: they cannot be compared",
            hint="give the candidate a deployment of its own (deploy/*.yml), or take the alias `champion` off",
        )
    if candidate.kind != "multiclass":
        return candidate
    classes = dict.fromkeys([*candidate.classes, *(champion.classes if champion else ()), *found])
    return Task("multiclass", classes=tuple(classes))


def aligned(score: Floats, own: Task, task: Task) -> Floats:
    """The scores of a model of the task `own` in the columns of `task`: what it does not know has probability 0."""
    if own.names == task.names or score.ndim == 1:
        return score
    place = {name: column for column, name in enumerate(own.names)}
    columns = [score[:, place[name]] if name in place else np.zeros(len(score)) for name in task.names]
    return np.stack(columns, axis=1)


def _incomparable(candidate: Task, champion: Task) -> bool:
    if candidate.kind == champion.kind == "quantile":
        return not set(candidate.quantiles) <= set(champion.quantiles)
    if candidate.kind == champion.kind == "binary":
        return candidate.classes != champion.classes  # a score would be the probability of something else
    return candidate.kind != champion.kind or candidate.outputs != champion.outputs


def _told(task: Task) -> str:
    many = task.names if task.kind == "quantile" else task.classes[-1:] if task.kind == "binary" else ()
    several = f" of {task.outputs} numbers" if task.kind == "custom" else ""
    return f"{task.kind}{several}{' ' if many else ''}{', '.join(many)}"
