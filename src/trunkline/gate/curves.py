"""Curves to draw, at most 200 points a model, and nothing of a single row: each point stands for 20 rows or more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Curve
from trunkline.gate.intervals import Floats
from trunkline.models.task import Task

__all__ = ["MOST_POINTS", "ROWS_A_POINT", "curves"]

MOST_POINTS = 200
"""Of all curves of one model."""
ROWS_A_POINT = 20
_MOST_CLASSES = 8
_WHO: tuple[Literal["candidate", "champion"], ...] = ("candidate", "champion")


def curves(task: Task, outcome: npt.NDArray[Any], scores: Sequence[Floats]) -> tuple[Curve, ...]:
    """Of the candidate, and of the champion if there are scores of two.

    ROC and precision-recall (binary), ROC of the most frequent classes against the rest (multiclass), quantiles of the
    residuals and mean outcome by decile of the score (numbers; of quantiles by the middle one).
    """
    found = [curve for who, score in zip(_WHO, scores, strict=False) for curve in _of_model(task, outcome, score, who)]
    return tuple(curve for curve in found if len(curve.x) > 1)


def _of_model(
    task: Task, outcome: npt.NDArray[Any], score: Floats, who: Literal["candidate", "champion"]
) -> Iterator[Curve]:
    if task.kind == "binary":
        yield _roc(outcome, score, who, MOST_POINTS // 2)
        yield _precision_recall(outcome, score, who, MOST_POINTS // 2)
    elif task.kind == "multiclass":
        counts = np.bincount(outcome, minlength=len(task.classes))
        places = [int(one) for one in np.argsort(-counts, kind="stable")[:_MOST_CLASSES] if counts[one] >= ROWS_A_POINT]
        for one in places:
            yield _roc(outcome == one, score[:, one], who, MOST_POINTS // len(places), task.classes[one])
    elif task.kind == "quantile":
        yield from _numbers(outcome, score[:, len(task.quantiles) // 2], who)
    elif outcome.shape == score.shape and score.ndim == 1:
        yield from _numbers(outcome, score, who)
    elif outcome.shape == score.shape:
        width = min(score.shape[1], _MOST_CLASSES)
        for output in range(width):
            of_output = _numbers(outcome[:, output], score[:, output], who, str(output), MOST_POINTS // width)
            yield next(of_output)  # its deciles would not fit among so many


def _cuts(positive: npt.NDArray[np.bool_], score: Floats, most: int) -> tuple[Floats, Floats]:
    """Positives, and rows, at or above each threshold, the highest first. Equal scores stay together."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    step = max(len(score) / max(most - 2, 1), ROWS_A_POINT)
    kept: list[int] = []
    for end in ends.tolist():
        if end - (kept[-1] if kept else 0) >= step and len(score) - end >= ROWS_A_POINT:
            kept.append(end)
    kept.append(len(score))
    return np.cumsum(positive[order])[np.array(kept) - 1].astype(np.float64), np.array(kept, np.float64)


def _roc(
    positive: npt.NDArray[np.bool_], score: Floats, who: Literal["candidate", "champion"], most: int, label: str = ""
) -> Curve:
    found, rows = _cuts(positive, score, most)
    wrong = rows - found
    return Curve("roc", who, _told([0.0, *(wrong / wrong[-1])]), _told([0.0, *(found / found[-1])]), label)


def _precision_recall(
    positive: npt.NDArray[np.bool_], score: Floats, who: Literal["candidate", "champion"], most: int
) -> Curve:
    found, rows = _cuts(positive, score, most)
    return Curve("precision_recall", who, _told(found / found[-1]), _told(found / rows))


def _numbers(
    y: Floats, score: Floats, who: Literal["candidate", "champion"], label: str = "", most: int = MOST_POINTS
) -> Iterator[Curve]:
    points = min(most // 2, len(y) // ROWS_A_POINT)
    parts = np.array_split(np.sort(y - score), points) if points else []
    levels = (np.arange(points) + 0.5) / max(points, 1)
    # The mean of a part's residuals, not the residual at a level: that would be one row's.
    yield Curve("residuals", who, _told(levels), _told([part.mean() for part in parts]), label)
    tenths = np.array_split(np.argsort(score, kind="stable"), min(10, len(y) // ROWS_A_POINT) or 1)
    by_score = [(float(score[part].mean()), float(y[part].mean())) for part in tenths]
    yield Curve("deciles", who, _told([x for x, _ in by_score]), _told([each for _, each in by_score]), label)


def _told(values: Sequence[Any] | Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
