"""Metrics of binary scores, and the uncertainty of all metrics, vectorised. Those of other tasks are in `measures.py`.

ROC AUC and its covariance: DeLong, DeLong & Clarke-Pearson (1988), "Comparing the areas under two or more correlated
receiver operating characteristic curves", by the O(n log n) algorithm of Sun & Xu (2014), "Fast implementation of
DeLong's algorithm for comparing the areas under correlated ROC curves", IEEE Signal Processing Letters 21(11).
Everything else: percentile bootstrap (Efron & Tibshirani 1993, ch. 13), stratified by class, paired between models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Estimate, Loss
from trunkline.gate.policy import Goal, goodness
from trunkline.models.measures import brier_scores, midranks

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TWO_SIDED = 1.959963984540054
"""Standard normal quantile of 0.975."""
ONE_SIDED = 1.6448536269514722
"""Standard normal quantile of 0.95."""

# Sums of products without BLAS: `@` wakes its threads, and waiting for them on a busy machine took ten times as long.
_products = np.einsum

_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class DeLong:
    """Areas of k models on the same rows, [k], and their covariance, [k, k]."""

    auc: Floats
    covariance: Floats
    fewest: int
    """Rows of the rarer class."""

    def estimate(self, model: int) -> Estimate:
        """The area of one model, its interval taken on the logit scale so that it stays within 0 and 1."""
        auc, variance = float(self.auc[model]), max(float(self.covariance[model, model]), 0.0)
        if 0.0 < auc < 1.0:
            half = TWO_SIDED * sqrt(variance) / (auc * (1 - auc))
            return Estimate(auc, _expit(_logit(auc) - half), _expit(_logit(auc) + half))
        # Perfect order shows no variance at all: the exact binomial limit for `fewest` successes of as many trials.
        reach = 1 - 0.025 ** (1 / self.fewest)
        return Estimate(auc, auc - reach, 1.0) if auc == 1.0 else Estimate(auc, 0.0, auc + reach)

    def loss(self) -> Loss:
        """What model 0 loses against model 1."""
        value = float(self.auc[1] - self.auc[0])
        c = self.covariance
        error = sqrt(max(float(c[0, 0] + c[1, 1] - 2 * c[0, 1]), 0.0))
        two, one = TWO_SIDED * error, ONE_SIDED * error
        return Loss(value, value - two, value + two, value - one, value + one)


def delong(positive: npt.NDArray[np.bool_], scores: Floats) -> DeLong:
    """Areas under the ROC curve and their covariance. `scores` is [k, n]; both classes need two rows at least."""
    above, below = scores[:, positive], scores[:, ~positive]
    m, n = above.shape[1], below.shape[1]
    ranks = np.array([midranks(row) for row in scores])
    ranks_above, ranks_below = ranks[:, positive], ranks[:, ~positive]
    auc = (ranks_above.mean(axis=1) - (m + 1) / 2) / n
    # Structural components: for a positive the share of negatives below it, for a negative that of positives above it.
    v10 = (ranks_above - np.array([midranks(row) for row in above])) / n
    v01 = 1 - (ranks_below - np.array([midranks(row) for row in below])) / m
    return DeLong(auc, _covariance(v10) / m + _covariance(v01) / n, min(m, n))


def _covariance(rows: Floats) -> Floats:
    centred = rows - rows.mean(axis=1, keepdims=True)
    found: Floats = _products("ki,li->kl", centred, centred) / (rows.shape[1] - 1)
    return found


Weighted = Callable[[Floats], float]
"""A metric of one model as a function of how often each row counts (whole numbers)."""


def average_precision(positive: npt.NDArray[np.bool_], score: Floats) -> Weighted:
    """Sum of precision times the step in recall, over the distinct scores (scikit-learn's definition)."""
    order = np.argsort(-score, kind="stable")
    ordered, hits = score[order], positive[order].astype(np.float64)
    ends = np.r_[np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1]

    def value(weights: Floats) -> float:
        counted = weights[order]
        seen = np.cumsum(counted)[ends]
        found = np.cumsum(counted * hits)[ends]
        gained = np.diff(found, prepend=0.0)
        return float((gained * found / np.maximum(seen, 1.0)).sum() / found[-1])

    return value


def log_loss(positive: npt.NDArray[np.bool_], score: Floats) -> Weighted:
    """Mean negative log-likelihood, scores clipped to within machine precision of 0 and 1."""
    clipped = np.clip(score, _EPSILON, 1 - _EPSILON)
    return mean_of(-np.log(np.where(positive, clipped, 1 - clipped)))


def brier(positive: npt.NDArray[np.bool_], score: Floats) -> Weighted:
    """Mean squared distance of score and outcome."""
    return mean_of(brier_scores(positive, score))


def mean_of(each: Floats) -> Weighted:
    """The mean of what each row has, [n]."""
    return partial(_mean, each)


def _mean(losses: Floats, weights: Floats) -> float:
    return float(_products("i,i->", losses, weights) / weights.sum())


@dataclass(frozen=True)
class Bootstrap:
    """One metric of k models: on the rows as they are, [k], and on each of b resamples, [b, k]."""

    value: Floats
    resampled: Floats

    def estimate(self, model: int) -> Estimate:
        """The metric of one model."""
        low, high = np.quantile(self.resampled[:, model], [0.025, 0.975])
        return Estimate(float(self.value[model]), float(low), float(high))

    def loss(self, goal: Goal) -> Loss:
        """What model 0 loses against model 1."""
        value, resampled = goodness(goal, self.value), goodness(goal, self.resampled)
        low, at_least, at_most, high = np.quantile(resampled[:, 1] - resampled[:, 0], [0.025, 0.05, 0.95, 0.975])
        return Loss(float(value[1] - value[0]), float(low), float(high), float(at_least), float(at_most))


def bootstrap(
    strata: npt.NDArray[Any], metrics: Sequence[Sequence[Weighted]], *, resamples: int, seed: int
) -> list[Bootstrap]:
    """Values of `metrics` (for each metric one function a model) on the rows and on the same `resamples` of them.

    Rows are drawn with replacement within each stratum: every resample has as many of each class as the original.
    """
    plain = np.ones(len(strata))
    found = np.empty((resamples, len(metrics), max(map(len, metrics))))
    for b, weights in enumerate(resampled(strata, resamples, seed)):
        for i, models in enumerate(metrics):
            found[b, i] = [model(weights) for model in models]
    return [Bootstrap(np.array([model(plain) for model in models]), found[:, i]) for i, models in enumerate(metrics)]


def resampled(strata: npt.NDArray[Any], resamples: int, seed: int) -> Iterator[Floats]:
    """How often each row is in each resample."""
    draw = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)[::-1]]
    for _ in range(resamples):
        weights = np.zeros(len(strata))
        for rows in groups:
            weights[rows] = np.bincount(draw.integers(0, len(rows), len(rows)), minlength=len(rows))
        yield weights


def wilson(successes: int, trials: int) -> Estimate:
    """A rate with the score interval of Wilson (1927), which stays within 0 and 1."""
    rate, z = successes / trials, TWO_SIDED
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Estimate(rate, max(centre - half, 0.0), min(centre + half, 1.0))


def _logit(p: float) -> float:
    return log(p / (1 - p))


def _expit(x: float) -> float:
    return 1 / (1 + exp(-x)) if x > -700 else 0.0
