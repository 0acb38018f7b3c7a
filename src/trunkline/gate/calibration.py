"""Whether scores mean what they say: probabilities, the confidence in a class, and quantiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Calibration, CalibrationBin
from trunkline.gate.metrics import Floats, Ints, wilson

__all__ = ["BINS", "calibrate", "confidence", "coverage"]

BINS = 10


def calibrate(outcome: npt.NDArray[np.bool_], score: Floats) -> Calibration:
    """Observed rate against mean score in ten bins of equal width, and the expected calibration error.

    Naeini, Cooper & Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning". The error of
    a perfectly calibrated model is above 0, the more the fewer rows there are, so it comes without an interval.
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
    return Calibration(bins, float(np.abs(hits - sums).sum() / len(score)))


def confidence(place: Ints, score: Floats) -> Calibration:
    """The share of rows whose most probable class is the right one against its mean probability, in the same bins.

    Guo, Pleiss, Sun & Weinberger (2017), "On calibration of modern neural networks".
    """
    found = calibrate(score.argmax(axis=1) == place, score.max(axis=1))
    return Calibration(found.bins, found.ece, "confidence")


def coverage(y: Floats, score: Floats, quantiles: Sequence[float]) -> Calibration:
    """The share of outcomes at or below each quantile against what was asked for; `ece` is their mean distance."""
    rows = len(y)
    below = [int((y <= score[:, place]).sum()) for place in range(len(quantiles))]
    bins = [CalibrationBin(q, q, rows, q, wilson(hits, rows)) for q, hits in zip(quantiles, below, strict=True)]
    return Calibration(tuple(bins), float(np.mean([abs(b.rate.value - b.mean_score) for b in bins])), "coverage")
