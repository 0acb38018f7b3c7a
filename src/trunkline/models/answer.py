"""A model's scores as they are told: the JSON of a row's answer, and the columns of a table.

| task | answer | columns |
|---|---|---|
| binary, regression | `{"score": 0.2}` | `score` |
| multiclass | `{"class": "b", "probabilities": {"a": 0.3, …}}` | `score` (of the class), `class`, `probabilities` |
| quantile | `{"q10": 1.5, "q90": 3.1}` | `q10`, `q90` |
| custom | `{"scores": [0.1, 2.5]}` | `scores` |

Pure standard library, as `task.py`. The probabilities of a table are in the order of `Task.classes`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from trunkline.models.task import Task

__all__ = ["LIST", "answer", "columns", "fields", "headline", "is_finite", "numbers"]

LIST = "DOUBLE[]"
"""The canonical type of several numbers. A warehouse without lists keeps them as JSON."""


def answer(task: Task, score: Any) -> dict[str, Any]:
    """What is told of a row: `score` is a number, or `Task.width` of them.

    >>> answer(Task("multiclass", classes=("a", "b")), [0.25, 0.75])
    {'class': 'b', 'probabilities': {'a': 0.25, 'b': 0.75}}
    """
    if task.kind == "multiclass":
        likely = task.classes[score.index(max(score))]
        return {"class": likely, "probabilities": dict(zip(task.classes, score, strict=True))}
    if task.kind == "quantile":
        return dict(zip(task.names, score, strict=True))
    return {"scores": score} if task.kind == "custom" else {"score": score}


def fields(task: Task) -> tuple[str, ...]:
    """The names in an `answer`."""
    if task.kind == "multiclass":
        return "class", "probabilities"
    if task.kind == "quantile":
        return task.names
    return ("scores",) if task.kind == "custom" else ("score",)


def numbers(task: Task, told: Mapping[str, Any]) -> tuple[float, ...]:
    """The scores of an `answer`, which may hold more. Raises KeyError, TypeError or ValueError for what is none.

    >>> numbers(Task("quantile", quantiles=(0.1, 0.9)), {"q10": 1.5, "q90": 3, "prediction_id": "…"})
    (1.5, 3.0)
    """
    if task.kind == "multiclass":
        return tuple(float(told["probabilities"][name]) for name in task.classes)
    if task.kind == "quantile":
        return tuple(float(told[name]) for name in task.names)
    return tuple(map(float, told["scores"])) if task.kind == "custom" else (float(told["score"]),)


def headline(task: Task, score: Any) -> float | None:
    """The one number of a row that stands for all: the probability of its class; None where there is no such number."""
    if task.width is None:
        return float(score)
    return max(score) if task.kind == "multiclass" else None


def is_finite(score: Any) -> bool:
    """Whether a row's score is a number, or are numbers, that a model can stand by."""
    return all(map(isfinite, score)) if isinstance(score, Sequence) else isfinite(score)


def columns(task: Task) -> tuple[tuple[str, str], ...]:
    """(name, canonical type) of the columns that hold the scores in a table."""
    if task.kind == "multiclass":
        return ("score", "DOUBLE"), ("class", "VARCHAR"), ("probabilities", LIST)
    if task.kind == "quantile":
        return tuple((name, "DOUBLE") for name in task.names)
    return (("scores", LIST),) if task.kind == "custom" else (("score", "DOUBLE"),)
