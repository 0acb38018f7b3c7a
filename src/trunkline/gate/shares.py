"""Shares of the rows: how sure one is, and what one model loses in it against another on the same rows. Pure.

Wilson (1927) for one model; for two on the same rows the score interval of Tango (1998), "Equivalence test and
confidence interval for the difference in proportions for the paired-sample design", Statistics in Medicine 17.
"""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING

from trunkline.gate.evidence import ONE_SIDED, TWO_SIDED, Estimate, Loss
from trunkline.gate.policy import Goal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Counts", "paired", "paired_share", "share_limits", "share_loss", "wilson"]

Counts = tuple[float, float, float, float]
"""Rows that count for both models, for the candidate alone, for the champion alone, and for neither."""


def wilson(successes: int, trials: int, tail: float = TWO_SIDED) -> Estimate:
    """A rate with the score interval of Wilson (1927), which stays within 0 and 1."""
    rate, z = successes / trials, _normal(tail)
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return Estimate(rate, low if successes else 0.0, high if successes < trials else 1.0)


def paired_share(only: tuple[float, float], rows: float, tail: float) -> tuple[float, float]:
    """Limits of the share that the first has more than the second of the same rows, `tail` left out at each end.

    `only` are the rows that one alone has. By Tango (1998).
    """
    z, (first, second) = _normal(tail), only
    return -_tango(second, first, rows, z), _tango(first, second, rows, z)


def _tango(first: float, second: float, n: float, z: float) -> float:
    """The upper limit: the largest difference that is within z standard errors, by bisection."""
    low, high = (first - second) / n, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        b = -first - second + (2 * n - first + second) * middle
        c = -second * middle * (1 - middle)
        likely = (sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        error = sqrt(max(n * (2 * likely + middle * (1 - middle)), 0.0))
        if n * middle - (first - second) <= z * error:
            low = middle
        else:
            high = middle
    return high


def paired(candidate: npt.NDArray[np.float64], champion: npt.NDArray[np.float64]) -> tuple[int, int, int, int]:
    """The `Counts` of two models; both hold 0 and 1, [n]."""
    one, other = int((candidate > champion).sum()), int((champion > candidate).sum())
    both = int(candidate.sum()) - one
    return both, one, other, len(candidate) - both - one - other


def share_loss(candidate: npt.NDArray[np.float64], champion: npt.NDArray[np.float64], goal: Goal) -> Loss:
    """What is lost in a share of the rows; both hold 0 and 1, [n]. Of a number that is the goal, the loss is how much

    farther from it the candidate is.
    """
    counts, rows = paired(candidate, champion), len(candidate)
    both, one, other, _ = counts
    if goal == "higher":
        value = (other - one) / rows
    else:
        assert not isinstance(goal, str)
        value = abs((both + one) / rows - goal) - abs((both + other) / rows - goal)
    (low, high), (least, most) = share_limits(counts, goal, TWO_SIDED), share_limits(counts, goal, ONE_SIDED)
    return Loss(value, low, high, least, most, counts=counts)


def share_limits(counts: Counts, goal: Goal, tail: float) -> tuple[float, float]:
    """Limits of the loss, `tail` left out at each end.

    Where a number is the goal they hold whichever side of it either model is on: of the two differences of distances
    that each side of the candidate leaves, at half the chance of error each, the closer one.
    """
    both, one, other, neither = counts
    rows = sum(counts)
    if goal == "higher":
        return paired_share((other, one), rows, tail)
    assert not isinstance(goal, str)
    low, high = paired_share((one, other), rows, tail / 2)
    sum_low, sum_high = (x + 1 - 2 * goal for x in paired_share((both, neither), rows, tail / 2))
    most = max(min(high, sum_high), min(-low, -sum_low))
    return -max(min(-low, sum_high), min(high, -sum_low)), most


def _normal(tail: float) -> float:
    return NormalDist().inv_cdf(1 - tail)
