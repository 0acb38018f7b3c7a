"""Metrics of each task as `intervals.Measured`: the value, and what each row has of it.

Of a mean that is the row's own number. Of anything else it is the jackknife's pseudo-value, n times the metric less
n - 1 times the metric without the row: exact, in closed form, so it costs a sort at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.gate.intervals import Floats, Ints, Measured
from trunkline.models.measures import (
    LEAST_PROBABILITY,
    absolute_errors,
    brier_scores,
    covered,
    log_losses,
    pinball_losses,
    square_errors,
)

__all__ = [
    "absolute_error", "average_precision", "brier", "log_loss", "macro_f1", "pinball", "r2", "root_mean_square",
    "within",
]  # fmt: skip

_EPSILON = float(np.finfo(np.float64).eps)
_WORST = -log(LEAST_PROBABILITY)
"""The log loss of a row that is surely wrong, in nats."""


def log_loss(outcome: npt.NDArray[np.bool_] | Ints, score: Floats) -> Measured:
    """Mean negative log-likelihood of a binary outcome, score [n], or of the right class, [n, k]."""
    each = log_losses(outcome, score)
    return Measured(float(each.mean()), each, most=_WORST, span=_WORST)


def brier(positive: npt.NDArray[np.bool_], score: Floats) -> Measured:
    """Mean squared distance of score and outcome."""
    each = brier_scores(positive, score)
    return Measured(float(each.mean()), each)


def average_precision(positive: npt.NDArray[np.bool_], score: Floats) -> Measured:
    """Sum of precision times the step in recall, over the distinct scores (scikit-learn's definition)."""
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], positive.astype(np.float64)
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    group = np.empty(len(score), np.int64)
    group[order] = np.repeat(np.arange(len(ends)), np.diff(ends, prepend=-1))
    found, seen = np.cumsum(hits[order])[ends], ends + 1.0
    gained, rest = np.diff(found, prepend=0.0), np.maximum(seen - 1, 1.0)
    steps = gained * found / seen
    value = float(steps.sum() / found[-1])
    # Without a row the groups above it stay; its own loses it, and each below has one less of those above it.
    before = np.cumsum(steps) - steps
    after, after_hit = _below(gained * found / rest), _below(gained / rest)
    own = (gained[group] - hits) * (found[group] - hits) / rest[group]
    without = before[group] + own + after[group] - hits * after_hit[group]
    return _jackknifed(value, without / np.maximum(found[-1] - hits, 1.0), place=positive.astype(np.int64))


def _below(steps: Floats) -> Floats:
    """The sum of the steps after each."""
    found: Floats = steps[::-1].cumsum()[::-1] - steps
    return found


def macro_f1(place: Ints, score: Floats) -> Measured:
    """Mean of the F1 of every class that is there or chosen (scikit-learn's definition)."""
    chosen, width = score.argmax(axis=1), score.shape[1]
    both = np.bincount(place[chosen == place], minlength=width).astype(np.float64)
    either = (np.bincount(place, minlength=width) + np.bincount(chosen, minlength=width)).astype(np.float64)
    each = _f1(both, either)
    right = chosen == place
    total, classes = each.sum(), np.count_nonzero(either)
    # Without a row that is right its class has one less of both; else its class and the chosen one have one less each.
    own = _f1(both[place] - right, either[place] - 1 - right)
    other = np.where(right, 0.0, _f1(both[chosen], either[chosen] - 1))
    gone = (either[place] == 1 + right) + (~right & (either[chosen] == 1))
    moved = total - each[place] + own - np.where(right, 0.0, each[chosen]) + other
    without, marks = moved / np.maximum(classes - gone, 1), right.astype(np.float64)
    weights = np.full(len(np.unique(place)), 1 / classes)
    return _jackknifed(float(total / classes), without, place=place, marks=marks, weights=weights)


def _f1(both: Floats, either: Floats) -> Floats:
    found: Floats = 2 * both / np.maximum(either, 1.0)
    return found


def root_mean_square(y: Floats, score: Floats) -> Measured:
    """Root of the mean squared error; of several outputs, over all of them."""
    squares = square_errors(y, score)
    without = np.sqrt(np.maximum(squares.sum() - squares, 0.0) / (len(squares) - 1))
    return _jackknifed(float(squares.mean() ** 0.5), without, most=np.inf, span=float(np.ptp(y)))


def absolute_error(y: Floats, score: Floats) -> Measured:
    """Mean absolute error; of several outputs, over all of them."""
    each = absolute_errors(y, score)
    return Measured(float(each.mean()), each, most=np.inf, span=float(np.ptp(y)))


def r2(y: Floats, score: Floats) -> Measured:
    """Share of the variance that is explained. The rows need two different outcomes."""
    missed, centred = np.square(score - y), np.square(y - y.mean())
    n, total = len(y), centred.sum()
    rest = total - centred * (n / (n - 1))
    without = 1 - np.maximum(missed.sum() - missed, 0.0) / np.where(rest > _EPSILON * total, rest, total)
    return _jackknifed(float(1 - missed.sum() / total), without, least=-np.inf)


def pinball(y: Floats, score: Floats, quantiles: Sequence[float]) -> Measured:
    """Mean pinball loss of rows and quantiles."""
    each = pinball_losses(y, score, quantiles)
    return Measured(float(each.mean()), each, most=np.inf, span=float(np.ptp(y)))


def within(y: Floats, score: Floats, name: str, names: Sequence[str]) -> Floats:
    """1 where the outcome is at or below the quantile of `coverage_…`, or within all of them for `coverage`, [n]."""
    if name == "coverage":
        return covered(y, score)
    found: Floats = (y <= score[:, names.index(name.removeprefix("coverage_"))]).astype(np.float64)
    return found


def _jackknifed(value: float, without: Floats, **known: Any) -> Measured:
    """From the metric without each row, [n]; `known` is what else `Measured` has."""
    n = len(without)
    return Measured(value, n * value - (n - 1) * without, **known)
