"""Metrics of binary probabilities: `y` float [n] of 0 and 1, `score` float [n]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.errors import TrainingError, did_you_mean
from trunkline.models.task import TaskKind

__all__ = [
    "METRICS",
    "Metric",
    "average_precision",
    "brier",
    "interval",
    "log_loss",
    "metric_named",
    "metrics_of",
    "roc_auc",
]

_Array = npt.NDArray[Any]
_Z95 = 1.959963984540054
_DRAWS = 200


class Metric(NamedTuple):
    """A metric `function(y, score)` of outcomes and scores, its direction, and the tasks it is a metric of."""

    name: str
    function: Callable[[_Array, _Array], float]
    higher_is_better: bool
    tasks: tuple[TaskKind, ...] = ("binary",)

    def signed(self, value: float) -> float:
        """`value` so that more is better."""
        return value if self.higher_is_better else -value

    def of(self, y: _Array, score: _Array) -> float:
        """The metric of scores [n] or [n, k] for outcomes [n] (or [n, k] where the target is a vector)."""
        return self.function(y, score)


def roc_auc(y: _Array, score: _Array) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half."""
    positive = y > 0.5
    n = int(positive.sum())
    m = len(y) - n
    _need_both(n, m, "roc_auc")
    return float((_midranks(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def log_loss(y: _Array, score: _Array) -> float:
    """Mean negative log-likelihood, in nats; probabilities are kept 1e-15 off 0 and 1."""
    return float(_log_losses(y, score).mean())


def average_precision(y: _Array, score: _Array) -> float:
    """Area under the precision-recall curve as a step function, equal scores taken together."""
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(y[order] > 0.5)
    _need_both(int(hits[-1]), 1, "average_precision")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    precision = hits[ends] / (ends + 1)
    return float((precision * np.diff(hits[ends], prepend=0)).sum() / hits[-1])


def brier(y: _Array, score: _Array) -> float:
    """Mean squared difference of probability and outcome."""
    return float(_square_errors(y, score).mean())


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("roc_auc", roc_auc, True),
        Metric("average_precision", average_precision, True),
        Metric("log_loss", log_loss, False),
        Metric("brier", brier, False),
    )
}


def metrics_of(task: TaskKind) -> tuple[Metric, ...]:
    """The metrics of a task."""
    return tuple(metric for metric in METRICS.values() if task in metric.tasks)


def metric_named(name: str) -> Metric:
    """The metric of that name. Raises TrainingError with the close match."""
    if name not in METRICS:
        raise TrainingError(
            f"there is no metric {name!r}.{did_you_mean(name, METRICS)}", hint=f"one of: {', '.join(METRICS)}"
        )
    return METRICS[name]


def interval(metric: Metric, y: _Array, score: _Array, *, seed: int = 0) -> tuple[float, float]:
    """A 95% interval: by DeLong for roc_auc, of a mean for log_loss and brier, else by 200 bootstrap draws."""
    if metric.name == "roc_auc":
        return _delong(y, score)
    if metric.name in _MEANS:
        each = _MEANS[metric.name](y, score)
        middle, reach = float(each.mean()), _Z95 * float(each.std(ddof=1)) / len(y) ** 0.5
        return middle - reach, middle + reach
    random = np.random.default_rng(seed)
    draws = [metric.of(y[pick], score[pick]) for pick in random.integers(0, len(y), (_DRAWS, len(y)))]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def _log_losses(y: _Array, score: _Array) -> _Array:
    p = np.clip(score.astype(np.float64), 1e-15, 1 - 1e-15)
    return -np.where(y > 0.5, np.log(p), np.log1p(-p))


def _square_errors(y: _Array, score: _Array) -> _Array:
    return np.square(score.astype(np.float64) - y)


_MEANS = {"log_loss": _log_losses, "brier": _square_errors}  # metrics that are a mean over rows


def _delong(y: _Array, score: _Array) -> tuple[float, float]:
    """DeLong's interval by midranks: Sun & Xu, IEEE Signal Processing Letters 21(11), 2014, algorithm 2."""
    positive = y > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    _need_both(n, m, "roc_auc")
    ranks = _midranks(score)
    above = (ranks[positive] - _midranks(score[positive])) / m  # share of negatives below each positive
    below = 1 - (ranks[~positive] - _midranks(score[~positive])) / n  # share of positives above each negative
    variance = above.var(ddof=1) / n if n > 1 else 0.0
    variance += below.var(ddof=1) / m if m > 1 else 0.0
    area, reach = float(above.mean()), _Z95 * float(variance) ** 0.5
    return max(0.0, area - reach), min(1.0, area + reach)


def _midranks(values: _Array) -> npt.NDArray[np.float64]:
    """Ranks from 1, equal values sharing the mean of theirs."""
    order = np.argsort(values)
    in_order = values[order]
    starts = np.concatenate(([0], np.flatnonzero(in_order[1:] != in_order[:-1]) + 1, [len(values)]))
    middle = (starts[:-1] + starts[1:] + 1) / 2
    ranks = np.empty(len(values), dtype=np.float64)
    ranks[order] = np.repeat(middle, np.diff(starts))
    return ranks


def _need_both(n: int, m: int, name: str) -> None:
    if not n or not m:
        raise TrainingError(f"{name} needs rows of both classes")
