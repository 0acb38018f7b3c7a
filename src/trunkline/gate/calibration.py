"""Whether scores mean what they say: probabilities, the confidence in a class, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Calibration, CalibrationBin, Estimate
from trunkline.gate.intervals import Floats, Ints
from trunkline.gate.shares import wilson

__all__ = ["BINS", "calibrate", "confidence", "coverage"]

BINS = 10
_TWO_SIDED, _ONE_SIDED = 1.959963984540054, 1.6448536269514722
"""Standard normal quantiles of 0.975 and 0.95."""


def calibrate(outcome: npt.NDArray[np.bool_], score: Floats) -> Calibration:
    """Observed rate against mean score in ten bins of equal width, and the expected calibration error.

    Naeini, Cooper & Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning".
    """
    index = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(index, minlength=BINS)
    hits = np.bincount(index, weights=outcome, minlength=BINS)
    sums = np.bincount(index, weights=score, minlength=BINS)
    bins = tuple(
        CalibrationBin(
            b / BINS, (b + 1) / BINS, int(rows[b]), float(sums[b] / rows[b]), wilson(int(hits[b]), int(rows[b]))
        )
        for b in range(BINS)
        if rows[b]
    )
    ece = float(np.abs(hits - sums).sum() / len(score))
    return Calibration(bins, ece, "probability", *_limits(index, outcome - score, ece))


def _limits(index: Ints, off: Floats, ece: float) -> tuple[Estimate, float, float, float]:
    """What of the error is beyond chance, with an interval of the error, its one-sided limits, and what of the upper

    one is for rows like none that were seen.

    `off` is outcome less score.

    Each row counts with the sign that its bin has in the other half of the rows (every second one): whatever the signs,
    such a sum is no larger on average than the error, and 0 if there is none. So lower limits are taken from it, its
    variance grown by 2/pi, the most that the halves have in common. Upper limits are taken from `ece`, which is no
    smaller than the error on average. Both hold, and are farther apart than they must be where the error is small.
    """
    n = len(off)
    half = np.arange(n) % 2
    sums = np.zeros((2, BINS))
    np.add.at(sums, (half, index), off)
    signed = np.sign(sums)[1 - half, index] * off
    found, error = max(float(signed.mean()), 0.0), float(off.std()) / sqrt(n)
    low_error, unseen = error * sqrt(1 + 2 / pi), 3 / n  # the rule of three: shares that n rows cannot show

    def limits(z: float) -> tuple[float, float]:
        return max(float(signed.mean()) - z * low_error, 0.0), min(max(ece, found) + max(z * error, unseen), 1.0)

    return Estimate(found, *limits(_TWO_SIDED)), *limits(_ONE_SIDED), unseen if unseen > _ONE_SIDED * error else 0.0


def confidence(place: Ints, score: Floats) -> Calibration:
    """The share of rows whose most probable class is the right one against its mean probability, in the same bins.

    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks".
    """
    found = calibrate(score.argmax(axis=1) == place, score.max(axis=1))
    return replace(found, kind="confidence")


def coverage(y: Floats, score: Floats, quantiles: Sequence[float]) -> Calibration:
    """The share of outcomes at or below each quantile against what was asked for; `ece` is their mean distance."""
    rows = len(y)
    below = [int((y <= score[:, place]).sum()) for place in range(len(quantiles))]
    bins = [CalibrationBin(q, q, rows, q, wilson(hits, rows)) for q, hits in zip(quantiles, below, strict=True)]
    return Calibration(tuple(bins), float(np.mean([abs(b.rate.value - b.mean_score) for b in bins])), "coverage")
