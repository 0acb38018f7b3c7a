"""Whether two models differ by more than chance: paired differences over several seeds, and many tests at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from trunkline.models.holm import holm
from trunkline.training.metrics import Difference

__all__ = ["holm", "pooled"]

_Z95 = 1.959963984540054
_LEAST, _HALVINGS = 1e-15, 50


def pooled(first: Difference, values: Sequence[float]) -> Difference:
    """The mean of `values`, one difference a seed (or a shuffle) on the same rows; `first` is the first one's test.

    Two errors that are independent of each other: that of the rows, which is that of `first`, and that of the seeds,
    of which there are few. The half-widths of their intervals, a normal one and Student's, add up as squares (Howe,
    JASA 69, 1974; Zou & Donner, Statistics in Medicine 27, 2008). p is the level at which the interval reaches zero.
    With one value it is `first`.
    """
    if len(values) < 2:
        return first
    mean = float(np.mean(values))
    of_rows, of_seeds = (first.high - first.low) / (2 * _Z95), float(np.std(values, ddof=1)) / len(values) ** 0.5

    def reach(level: float) -> float:
        from scipy.special import ndtri, stdtrit

        share = 1 - level / 2
        return math.hypot(float(ndtri(share)) * of_rows, float(stdtrit(len(values) - 1, share)) * of_seeds)

    half = reach(0.05)
    if half == 0.0:
        return Difference(mean, mean, mean, float(mean == 0.0))
    return Difference(mean, mean - half, mean + half, _level(reach, abs(mean)))


def _level(reach: Callable[[float], float], value: float) -> float:
    """Where `reach`, which falls as the level rises, is `value`."""
    low, high = _LEAST, 1.0
    if reach(low) < value:
        return low
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reach(middle) > value else (low, middle)
    return high
