"""The formulas behind the metrics: of all rows, of each row, and how much each row moves the metric.

What chooses a model (`training/metrics.py`) and what judges it (`gate/measures.py`) are made of them.

`y` float [n] holds 0 and 1, places of classes, or numbers; `score` is [n], or [n, k] with a column for each class or
quantile. An *influence* [n] says by how much a row moves a metric: over rows drawn anew the metric's variance is about
the sum of its squares over n², and that of a difference of two metrics on the same rows the same of the difference of
their influences (the infinitesimal jackknife: Jaeckel, Bell Laboratories MM 72-1215-11, 1972). For a mean and for ROC
AUC that is the textbook's and DeLong's variance exactly, as the factors of n/(n-1) are in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.errors import TrainingError

__all__ = [
    "LEAST_PROBABILITY", "absolute_errors", "average_precision", "brier_scores", "covered", "f1", "f1_influence",
    "hits", "log_losses", "macro_f1", "macro_f1_influence", "median_ae", "midranks", "pinball_losses", "r2",
    "r2_influence", "relative_errors", "roc_auc", "roc_auc_influence", "roc_auc_ovr", "roc_auc_ovr_influence",
    "square_errors",
]  # fmt: skip

_Array = npt.NDArray[Any]
LEAST_PROBABILITY = 1e-15
"""What probabilities are kept off 0 and 1, so that a log loss is finite."""


# -- of each row


def log_losses(y: _Array, score: _Array) -> _Array:
    """Negative log-likelihood of each row, in nats; probabilities are kept 1e-15 off 0 and 1."""
    if score.ndim == 2:
        of_class = np.take_along_axis(score, _places(y)[:, None], axis=1)[:, 0].astype(np.float64)
        return np.asarray(-np.log(np.clip(of_class, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)))
    p = np.clip(score.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return -np.where(y > 0.5, np.log(p), np.log1p(-p))


def brier_scores(y: _Array, score: _Array) -> _Array:
    """Squared difference of probability and outcome; of several classes their sum (Brier, 1950)."""
    if score.ndim == 1:
        return np.square(score.astype(np.float64) - y)
    apart = score.astype(np.float64)
    apart[np.arange(len(y)), _places(y)] -= 1
    return np.asarray(np.square(apart).sum(axis=1))


def hits(y: _Array, score: _Array) -> _Array:
    """1 where the likeliest class is the right one; of two, 1 is chosen above a probability of one half."""
    return np.equal(_chosen(score), _places(y)).astype(np.float64)


def square_errors(y: _Array, score: _Array) -> _Array:
    """Squared error; of several outputs their mean."""
    return _mean_of_outputs(np.square(_errors(y, score)))


def absolute_errors(y: _Array, score: _Array) -> _Array:
    """Absolute error; of several outputs their mean."""
    return _mean_of_outputs(np.asarray(np.abs(_errors(y, score))))


def relative_errors(y: _Array, score: _Array) -> _Array:
    """Absolute error as a share of the outcome; an outcome of 0 counts as 2.2e-16."""
    return np.abs(_errors(y, score)) / np.maximum(np.abs(y.astype(np.float64)), np.finfo(np.float64).eps)


def pinball_losses(y: _Array, score: _Array, quantiles: Sequence[float]) -> _Array:
    """Koenker and Bassett's loss (Econometrica 46, 1978), mean over the quantiles."""
    above = y.astype(np.float64)[:, None] - score
    share = np.asarray(quantiles)
    return np.asarray(np.maximum(share * above, (share - 1) * above).mean(axis=1))


def covered(y: _Array, score: _Array) -> _Array:
    """1 where the outcome lies between the lowest and the highest quantile."""
    return ((score[:, 0] <= y) & (y <= score[:, -1])).astype(np.float64)


def _errors(y: _Array, score: _Array) -> _Array:
    if y.shape != score.shape:
        raise TrainingError(
            f"a target of shape {list(y.shape)} cannot be compared with scores of shape {list(score.shape)}",
            hint="a model with outputs of its own needs a metric of its own: metric=tl.Metric(...)",
        )
    return score.astype(np.float64) - y


def _mean_of_outputs(errors: _Array) -> _Array:
    return errors.mean(axis=1) if errors.ndim == 2 else errors


# -- rankings


def roc_auc(y: _Array, score: _Array) -> float:
    """Area under the ROC curve: the share of (positive, negative) pairs in the right order, ties counting half."""
    positive = y > 0.5
    n = int(positive.sum())
    m = len(y) - n
    _need_both(n, m, "roc_auc")
    return float((midranks(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def roc_auc_influence(y: _Array, score: _Array) -> _Array:
    """DeLong's, by midranks: Sun & Xu, IEEE Signal Processing Letters 21(11), 2014, algorithm 2."""
    positive = y > 0.5
    n, m = int(positive.sum()), int((~positive).sum())
    _need_both(n, m, "roc_auc")
    ranks = midranks(score)
    above = (ranks[positive] - midranks(score[positive])) / m  # share of negatives below each positive
    below = 1 - (ranks[~positive] - midranks(score[~positive])) / n  # share of positives above each negative
    moved = np.empty(len(y))
    moved[positive] = (above - above.mean()) * (len(y) / n * _unbiased(n))
    moved[~positive] = (below - below.mean()) * (len(y) / m * _unbiased(m))
    return moved


def roc_auc_ovr(y: _Array, score: _Array) -> float:
    """Mean over the classes that are there of the ROC AUC of each against the rest."""
    return float(np.mean([roc_auc(each, column) for each, column in _against_the_rest(y, score)]))


def roc_auc_ovr_influence(y: _Array, score: _Array) -> _Array:
    """The mean of the classes' influences."""
    moved = [roc_auc_influence(each, column) for each, column in _against_the_rest(y, score)]
    return np.asarray(np.mean(moved, axis=0))


def _against_the_rest(y: _Array, score: _Array) -> list[tuple[_Array, _Array]]:
    places = _places(y)
    there = [place for place in range(score.shape[1]) if 0 < np.count_nonzero(places == place) < len(places)]
    if not there:
        raise TrainingError("roc_auc_ovr needs rows of two classes")
    return [((places == place).astype(np.float64), score[:, place]) for place in there]


def average_precision(y: _Array, score: _Array) -> float:
    """Area under the precision-recall curve as a step function, equal scores taken together."""
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(y[order] > 0.5)
    _need_both(int(found[-1]), 1, "average_precision")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(y) - 1)
    precision = found[ends] / (ends + 1)
    return float((precision * np.diff(found[ends], prepend=0)).sum() / found[-1])


def midranks(values: _Array) -> npt.NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs.

    >>> midranks(np.array([3.0, 1.0, 3.0])).tolist()
    [2.5, 1.0, 2.5]
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[starts, len(values)])
    ranks = np.empty(len(values))
    ranks[order] = np.repeat(starts + (counts + 1) / 2, counts)
    return ranks


def _need_both(n: int, m: int, name: str) -> None:
    """Raise TrainingError unless there are rows of both classes."""
    if not n or not m:
        raise TrainingError(f"{name} needs rows of both classes")


# -- of classes that are chosen


def f1(y: _Array, score: _Array) -> float:
    """Harmonic mean of precision and recall of class 1; 0 where it is neither there nor chosen."""
    return _f1_of(1, _places(y), _chosen(score))


def f1_influence(y: _Array, score: _Array) -> _Array:
    """Of a ratio of two means."""
    return _f1_influence_of(1, _places(y), _chosen(score))


def macro_f1(y: _Array, score: _Array) -> float:
    """Mean of the F1 of every class that is there or chosen."""
    right, chosen = _places(y), _chosen(score)
    return float(np.mean([_f1_of(place, right, chosen) for place in np.union1d(right, chosen)]))


def macro_f1_influence(y: _Array, score: _Array) -> _Array:
    """The mean of the classes' influences."""
    right, chosen = _places(y), _chosen(score)
    moved = [_f1_influence_of(place, right, chosen) for place in np.union1d(right, chosen)]
    return np.asarray(np.mean(moved, axis=0))


def _f1_of(place: int, right: _Array, chosen: _Array) -> float:
    both = int(np.count_nonzero((right == place) & (chosen == place)))
    either = int(np.count_nonzero(right == place)) + int(np.count_nonzero(chosen == place))
    return 2 * both / either if either else 0.0


def _f1_influence_of(place: int, right: _Array, chosen: _Array) -> _Array:
    both = 2.0 * ((right == place) & (chosen == place))
    either = (right == place).astype(np.float64) + (chosen == place)
    mean = either.mean()
    return (both - both.mean() / mean * either) / mean * _unbiased(len(right)) if mean else np.zeros(len(right))


def _places(y: _Array) -> npt.NDArray[np.intp]:
    return y.astype(np.intp)


def _chosen(score: _Array) -> _Array:
    chosen: _Array = score.argmax(axis=1) if score.ndim == 2 else (score > 0.5).astype(np.intp)
    return chosen


# -- of numbers


def r2(y: _Array, score: _Array) -> float:
    """Share of the outcome's variance that is explained: 1 for exact scores, 0 for those of the mean, or below."""
    missed, spread = square_errors(y, score).sum(), np.square(y.astype(np.float64) - y.mean(dtype=np.float64)).sum()
    return float(1 - missed / spread) if spread else float(missed == 0)


def r2_influence(y: _Array, score: _Array) -> _Array:
    """Of a ratio of two means."""
    missed, spread = square_errors(y, score), np.square(y.astype(np.float64) - y.mean(dtype=np.float64))
    mean = spread.mean()
    if not mean:
        return np.zeros(len(y))
    return np.asarray((missed.mean() / mean * spread - missed) / mean * _unbiased(len(y)))


def median_ae(y: _Array, score: _Array) -> float:
    """Median of the absolute errors."""
    return float(np.median(absolute_errors(y, score)))


def _unbiased(n: int) -> float:
    """What makes a sum of squares over n² the unbiased variance of a mean; one row alone tells of none."""
    return float((n / (n - 1)) ** 0.5) if n > 1 else 1.0
