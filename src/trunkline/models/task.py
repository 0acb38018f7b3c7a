"""What a model answers for a row: a probability, one for each class, a number, one for each quantile, or its own.

Pure standard library, as `signature.py`, which holds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from trunkline.errors import IntegrityError

__all__ = ["BINARY", "DEFAULT_METRICS", "Task", "TaskKind"]

TaskKind = Literal["binary", "multiclass", "regression", "quantile", "custom"]

DEFAULT_METRICS: Mapping[TaskKind, str] = {
    "binary": "roc_auc",
    "multiclass": "log_loss",
    "regression": "rmse",
    "quantile": "pinball_loss",
}
"""What a model is chosen by where it names no metric; a custom one has to."""

_MOST_OUTPUTS = 1 << 20


@dataclass(frozen=True)
class Task:
    """`classes` are those of a multi-class target in the order of their probabilities, or the two of a binary one that
    are not 0 and 1 (or false and true): then the score is the probability of the second. `quantiles` rise within
    (0, 1); `outputs` is how many numbers a custom model answers a row.

    >>> Task("quantile", quantiles=(0.1, 0.9)).width
    2
    >>> Task().width is None
    True
    """

    kind: TaskKind = "binary"
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    outputs: int | None = None

    @property
    def width(self) -> int | None:
        """Numbers a row: scores are [n, width]; None means one, and scores are [n]."""
        return {"multiclass": len(self.classes), "quantile": len(self.quantiles), "custom": self.outputs}.get(self.kind)

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each column of the scores: the class, the quantile, or the place; empty if there is one number."""
        if self.kind == "multiclass":
            return self.classes
        if self.kind == "quantile":
            return tuple(f"q{100 * quantile:g}" for quantile in self.quantiles)
        return tuple(str(place) for place in range(self.outputs or 0)) if self.kind == "custom" else ()

    def to_json(self) -> str | dict[str, Any]:
        """As plain data: the kind alone where that says all."""
        if self == Task(self.kind):
            return self.kind
        return {
            "kind": self.kind,
            "classes": list(self.classes),
            "quantiles": list(self.quantiles),
            "outputs": self.outputs,
        }

    @classmethod
    def from_json(cls, data: object) -> Task:
        """The task of `to_json`'s data. Raises IntegrityError when the data is anything else."""
        given: Mapping[str, Any] = data if isinstance(data, Mapping) else {"kind": data}
        try:
            task = cls(
                given["kind"],
                tuple(map(str, given.get("classes", ()))),
                tuple(map(float, given.get("quantiles", ()))),
                given.get("outputs"),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise IntegrityError(f"signature.json does not hold a task: {exc}") from exc
        several = task.outputs is None or (type(task.outputs) is int and 0 < task.outputs <= _MOST_OUTPUTS)
        if not several or not all(0 < quantile < 1 for quantile in task.quantiles):
            raise IntegrityError("signature.json holds a task with quantiles or outputs that make no sense")
        if not isinstance(task.kind, str) or task.kind not in get_args(TaskKind):
            raise IntegrityError(f"signature.json holds a task that this version does not know: {task.kind!r}")
        return task


BINARY = Task()
"""One probability a row: that of 1, or true."""
