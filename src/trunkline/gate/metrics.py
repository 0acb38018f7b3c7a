"""Areas under the ROC curve with their covariance, and the bootstrap for metrics of which only the value is known.

DeLong, DeLong & Clarke-Pearson (1988), "Comparing the areas under two or more correlated receiver operating
characteristic curves", by the O(n log n) algorithm of Sun & Xu (2014), "Fast implementation of DeLong's algorithm for
comparing the areas under correlated ROC curves", IEEE Signal Processing Letters 21(11). The other metrics are in
`measures.py`, intervals in `intervals.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import NOTHING_LOST, ONE_SIDED, TWO_SIDED, Estimate, Loss
from trunkline.gate.intervals import Floats, Ints, Measured, agree
from trunkline.gate.policy import Goal, goodness
from trunkline.models.measures import midranks

__all__ = ["Bootstrap", "DeLong", "Floats", "Ints", "areas_against_rest", "delong", "resampled"]

# Sums of products without BLAS: `@` wakes its threads, and waiting for them on a busy machine took ten times as long.
_products = np.einsum


@dataclass(frozen=True)
class DeLong:
    """Areas of k models on the same rows, [k], their covariance, [k, k], and what each row has of them, [k, n]."""

    auc: Floats
    covariance: Floats
    each: Floats
    place: Ints
    """The class of each row, [n]."""
    marks: Floats | None = None
    """Of a mean of several areas, the share of the rest that each row is above in that of its class, [k, n]."""

    def measured(self, model: int) -> Measured:
        """The area of one model."""
        value, each = float(self.auc[model]), self.each[model]
        if self.marks is None:
            return Measured(value, each, place=self.place)
        counts = np.unique(self.place, return_counts=True)[1]
        # A class moves its own area, and those of the others by its share of their rest.
        shares = counts[:, None] / (counts.sum() - counts)[None, :]
        np.fill_diagonal(shares, 1.0)
        return Measured(value, each, place=self.place, marks=self.marks[model], weights=shares.mean(axis=1))


def delong(positive: npt.NDArray[np.bool_], scores: Floats) -> DeLong:
    """Areas under the ROC curve and their covariance. `scores` is [k, n]; both classes need a row."""
    return _delong([_area(positive, score) for score in scores], positive.astype(np.int64))


def areas_against_rest(place: Ints, scores: list[Floats]) -> DeLong:
    """Mean area under the ROC curve of each class that is there against the rest, and its covariance, of k models.

    What a row adds to the mean of the areas is the mean of what it adds to each.
    """
    classes = np.unique(place).tolist()
    found, marks = [], np.empty((len(scores), len(place)))
    for model, score in enumerate(scores):
        of_class = [_area(place == one, score[:, one]) for one in classes]
        area, moved = zip(*of_class, strict=True)
        found.append((float(np.mean(area)), np.mean(moved, axis=0)))
        for one, own in zip(classes, moved, strict=True):
            rows = place == one
            marks[model, rows] = own[rows] * np.count_nonzero(rows)
    return replace(_delong(found, place), marks=marks + 1)


def _delong(found: list[tuple[float, Floats]], place: Ints) -> DeLong:
    """From areas and what each row adds to them beyond the mean; the rows of a class are drawn together."""
    auc = np.array([area for area, _ in found])
    moved = np.array([part for _, part in found])
    for one in np.unique(place):
        rows = place == one
        if (count := int(rows.sum())) > 1:
            moved[:, rows] -= moved[:, rows].mean(axis=1, keepdims=True)
            moved[:, rows] *= sqrt(count / (count - 1))
    covariance: Floats = _products("ki,li->kl", moved, moved)
    n = moved.shape[1]
    return DeLong(auc, covariance, auc[:, None] + moved * sqrt(n * (n - 1)), place)


def _area(positive: npt.NDArray[np.bool_], score: Floats) -> tuple[float, Floats]:
    """The area of one class, and what each row adds to it beyond the mean, [n]: DeLong's structural components."""
    above, below = score[positive], score[~positive]
    ranks = midranks(score)
    over = (ranks[positive] - midranks(above)) / len(below)
    under = 1 - (ranks[~positive] - midranks(below)) / len(above)
    area = float(over.mean())
    moved = np.empty(len(score))
    for rows, of_rows in ((positive, over), (~positive, under)):
        # One row tells nothing of how such rows vary: half of what an area can be is the most.
        moved[rows] = (of_rows - (area if len(of_rows) > 1 else 0.5)) / len(of_rows)
    return area, moved


@dataclass(frozen=True)
class Bootstrap:
    """One metric of k models: on the rows as they are, [k], and on each of b resamples, [b, k].

    Each limit is the farther one of the percentile (Efron & Tibshirani 1993, ch. 13) and of the normal limit by the
    resamples' standard deviation: with few rows either alone is too close. Where all resamples agree they tell nothing
    of rows that were not seen: then a loss has no limits.
    """

    value: Floats
    resampled: Floats

    def estimate(self, model: int) -> Estimate:
        """The metric of one model."""
        value = float(self.value[model])
        return Estimate(value, *_limits(value, self.resampled[:, model], TWO_SIDED))

    def loss(self, goal: Goal, *, same: bool = False) -> Loss:
        """What model 0 loses against model 1. `same`: both gave the same scores, so there is nothing to lose."""
        if same:
            return NOTHING_LOST
        value, resampled = goodness(goal, self.value), goodness(goal, self.resampled)
        lost, drawn = float(value[1] - value[0]), resampled[:, 1] - resampled[:, 0]
        if agree(drawn):
            return Loss(lost, -inf, inf, -inf, inf)
        (low, high), (least, most) = _limits(lost, drawn, TWO_SIDED), _limits(lost, drawn, ONE_SIDED)
        return Loss(lost, low, high, least, most)


def _limits(value: float, drawn: Floats, tail: float) -> tuple[float, float]:
    from scipy.special import stdtrit

    low, high = np.quantile(drawn, [tail, 1 - tail])
    half = float(stdtrit(max(len(drawn) - 1, 1), 1 - tail)) * float(drawn.std(ddof=min(len(drawn) - 1, 1)))
    return min(float(low), value - half), max(float(high), value + half)


def resampled(strata: npt.NDArray[Any], resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is in each resample of as many rows, drawn with replacement.

    Of each stratum at least one row is there, so that a metric of classes can be had of any resample.
    """
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    for _ in range(resamples):
        weights = np.bincount(draw.integers(0, len(strata), len(strata)), minlength=len(strata)).astype(np.float64)
        for rows in groups:
            if not weights[rows].any():
                weights[draw.choice(rows)] = 1.0
        yield weights
