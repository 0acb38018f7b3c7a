"""How much a class counts: from a setting to one weight a class, and from there to one a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from trunkline.errors import TrainingError, did_you_mean
from trunkline.models.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["ClassWeights", "class_counts", "class_weights", "row_weights"]

ClassWeights = Literal["balanced"] | Mapping[str, float] | None
"""The setting of an estimator. A mapping names some of the classes (`0` and `1` of a binary target); others weigh 1."""


def class_counts(y: npt.NDArray[np.float32], task: Task) -> npt.NDArray[np.int64]:
    """Rows of each class [k]; k is 2 for a binary task. `y` [n] holds places of classes."""
    return np.bincount(y.astype(np.int64), minlength=len(_names(task)))


def class_weights(
    y: npt.NDArray[np.float32], task: Task, setting: ClassWeights, *, counts: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float32]:
    """The weight of each class, float32 [k]: ones for None, n / (k * rows of the class) for `balanced`.

    Balanced weights let every class that has rows weigh the same in sum, and all rows together n (King & Zeng, 2001).
    `counts` are those of all rows, where `y` [n] holds only the rows of one of several peers. Raises TrainingError for
    a task without classes, a class that is not there, and a weight that is no number above 0.
    """
    names = _names(task)
    if setting is None:
        return np.ones(max(len(names), 1), np.float32)
    if not names:
        raise TrainingError(
            f"class_weights={setting!r}: a {task.kind} task has no classes", hint="leave class_weights out"
        )
    if isinstance(setting, Mapping):
        return _given(setting, names)
    if setting != "balanced":
        raise TrainingError(f"class_weights={setting!r}: must be 'balanced', or a mapping from a class to its weight")
    rows = class_counts(y, task) if counts is None else counts
    there = rows > 0
    weights = np.ones(len(names))
    weights[there] = rows.sum() / (there.sum() * rows[there])
    return weights.astype(np.float32)


def row_weights(y: npt.NDArray[np.float32], weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The weight of each row, float32 [n]: that of its class. `y` [n] holds places of classes."""
    return weights[y.astype(np.int64)]


def _given(setting: Mapping[str, float], names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    weights = np.ones(len(names), np.float32)
    for key, value in setting.items():
        name = str(int(key)) if isinstance(key, bool) else str(key)
        if name not in names:
            close = did_you_mean(name, names)
            raise TrainingError(f"class_weights: {key!r} is no class of the target.{close}", hint=_shown(names))
        weights[names.index(name)] = _weight(key, value)
    return weights


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise TrainingError(f"class_weights: the weight of {name!r} must be a number above 0, not {value!r}")
    return float(value)


def _shown(names: tuple[str, ...]) -> str:
    return "one of: " + ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _names(task: Task) -> tuple[str, ...]:
    return {"binary": ("0", "1"), "multiclass": task.classes}.get(task.kind, ())
