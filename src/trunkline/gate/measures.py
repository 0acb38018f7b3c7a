"""Metrics of classes, numbers and quantiles, each as a function of how often each row counts (`metrics.Weighted`).

The area under the ROC curve of several classes is the mean of each class against the rest. Its covariance comes from
DeLong's components (`metrics.py`): what a row adds to the mean of the areas is the mean of what it adds to each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trunkline.gate.metrics import DeLong, Floats, Ints, Weighted, mean_of
from trunkline.models.measures import absolute_errors, covered, midranks, pinball_losses, square_errors

__all__ = [
    "absolute_error",
    "areas_against_rest",
    "class_log_loss",
    "macro_f1",
    "pinball",
    "r2",
    "root_mean_square",
    "within",
]

_EPSILON = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)


def class_log_loss(place: Ints, score: Floats) -> Weighted:
    """Mean negative log-likelihood of the right class, clipped as `metrics.log_loss`."""
    of_right: Floats = score[np.arange(len(place)), place]
    return mean_of(-np.log(np.clip(of_right, _EPSILON, 1 - _EPSILON)))


def macro_f1(place: Ints, score: Floats) -> Weighted:
    """Mean of the F1 of every class that is there or chosen (scikit-learn's definition)."""
    chosen, width = score.argmax(axis=1), score.shape[1]
    right = place[chosen == place]

    def value(weights: Floats) -> float:
        both = np.bincount(right, weights[chosen == place], width)
        either = np.bincount(place, weights, width) + np.bincount(chosen, weights, width)
        there = either > 0
        return float((2 * both[there] / either[there]).mean())

    return value


def areas_against_rest(place: Ints, scores: Sequence[Floats]) -> DeLong:
    """Mean area under the ROC curve of each class that is there against the rest, and its covariance, of k models."""
    counts = np.bincount(place, minlength=scores[0].shape[1])
    classes = [int(one) for one in np.flatnonzero(counts)]
    found = [[_area(place == one, score[:, one]) for one in classes] for score in scores]
    auc = np.array([np.mean([area for area, _ in of_model]) for of_model in found])
    moved = np.array([np.mean([part for _, part in of_model], axis=0) for of_model in found])
    covariance = np.zeros((len(scores), len(scores)))
    for one in classes:
        rows = place == one
        centred = moved[:, rows] - moved[:, rows].mean(axis=1, keepdims=True)
        covariance += np.einsum("ki,li->kl", centred, centred) * (counts[one] / max(counts[one] - 1, 1))
    return DeLong(auc, covariance, int(counts[classes].min()))


def _area(positive: npt.NDArray[np.bool_], score: Floats) -> tuple[float, Floats]:
    """The area of one class, and what each row adds to it beyond the mean, [n]."""
    above, below = score[positive], score[~positive]
    ranks = midranks(score)
    over = (ranks[positive] - midranks(above)) / len(below)
    under = 1 - (ranks[~positive] - midranks(below)) / len(above)
    area = float(over.mean())
    moved = np.empty(len(score))
    moved[positive] = (over - area) / len(above)
    moved[~positive] = (under - area) / len(below)
    return area, moved


def root_mean_square(y: Floats, score: Floats) -> Weighted:
    """Root of the mean squared error; of several outputs, over all of them."""
    squares = mean_of(square_errors(y, score))
    return lambda weights: float(squares(weights) ** 0.5)


def absolute_error(y: Floats, score: Floats) -> Weighted:
    """Mean absolute error; of several outputs, over all of them."""
    return mean_of(absolute_errors(y, score))


def r2(y: Floats, score: Floats) -> Weighted:
    """Share of the variance that is explained. The rows need two different outcomes."""
    missed, squares, plain = mean_of(np.square(score - y)), mean_of(np.square(y - y.mean())), mean_of(y - y.mean())
    return lambda weights: float(1 - missed(weights) / max(squares(weights) - plain(weights) ** 2, _TINY))


def pinball(y: Floats, score: Floats, quantiles: Sequence[float]) -> Weighted:
    """Mean pinball loss of rows and quantiles."""
    return mean_of(pinball_losses(y, score, quantiles))


def within(y: Floats, score: Floats, name: str, names: Sequence[str]) -> Floats:
    """1 where the outcome is at or below the quantile of `coverage_…`, or within all of them for `coverage`, [n]."""
    if name == "coverage":
        return covered(y, score)
    found: Floats = (y <= score[:, names.index(name.removeprefix("coverage_"))]).astype(np.float64)
    return found
