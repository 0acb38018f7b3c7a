"""How sure a metric and a loss are: one interval for all metrics, from what each row has of them.

A metric is its value and a number for each row: the row's own loss where the metric is a mean, Tukey's pseudo-value of
the jackknife (n times the value less n - 1 times that without the row) where it is not, and for an area the components
of DeLong, DeLong & Clarke-Pearson (1988). The limits are those of a mean of such numbers, made to hold where they are
skewed, heavy-tailed or few:

- each side is the wider one of Student's limit and of Hall's, which undoes the skewness (Hall 1992, "On the removal of
  skewness by transformation", Journal of the Royal Statistical Society B 54);
- the degrees of freedom are those that the variance of the variance leaves (Satterthwaite 1946): 2n / (kurtosis - 1),
  less 5, because the kurtosis of few rows is too small. Normal rows leave nearly n, ten rows that carry all of a loss
  nearly none.

Shares of the rows (accuracy, coverage): Wilson (1927) for one model; for two on the same rows the score interval of
Tango (1998), "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
Statistics in Medicine 17. `benchmarks/gate_statistics.py` measures all of them, with bootstraps beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cbrt, inf, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import Estimate, Loss
from trunkline.gate.policy import Goal

__all__ = ["Floats", "Measured", "ONE_SIDED", "Spread", "TWO_SIDED", "apart", "paired_share", "share_loss", "wilson"]

Floats = npt.NDArray[np.float64]

TWO_SIDED = 0.025
"""What is left out at each end of a two-sided interval."""
ONE_SIDED = 0.05
"""What a one-sided limit leaves out."""

_LESS = 5
_AGREE = 1e-12
"""Rows whose numbers differ by less, as a share of their size, are the same but for rounding."""


@dataclass(frozen=True)
class Spread:
    """The standard `error` of a mean, its skewness, and the degrees of freedom of that error."""

    error: float
    skewness: float
    degrees: float

    @classmethod
    def of(cls, each: Floats) -> Spread:
        """That of the mean of `each`, [n]; no error where all are the same."""
        n, size = len(each), float(np.abs(each).max(initial=0.0))
        if n < 2 or float(np.ptp(each)) <= _AGREE * size:
            return cls(0.0, 0.0, 1.0)
        centred = (each - each.mean()) / size
        squares = np.square(centred)
        second = float(squares.mean())
        third = float(np.einsum("i,i->", squares, centred)) / n / second**1.5
        fourth = float(np.einsum("i,i->", squares, squares)) / n / second**2
        degrees = 2 * n / (fourth - 1) - _LESS if fourth > 1 else inf
        return cls(size * sqrt(second / (n - 1)), third / sqrt(n), max(min(degrees, n - 1.0), 1.0))

    def reach(self, tail: float) -> tuple[float, float]:
        """How far below and above the value the limits lie that leave out `tail` at each end."""
        from scipy.special import stdtrit

        t = float(stdtrit(self.degrees, 1 - tail))
        return self.error * max(t, self._unskewed(t)), self.error * max(t, -self._unskewed(-t))

    def chance(self, distance: float) -> float:
        """The chance of a value at least so far above the truth, which the lower limits of `reach` go by.

        There must be an error.
        """
        from scipy.special import stdtr

        t = distance / self.error
        a = self.skewness / 3
        hall = t + a * t * t + a * a * t**3 / 3 + self.skewness / 6
        return float(stdtr(self.degrees, -min(t, hall)))

    def _unskewed(self, t: float) -> float:
        """The inverse of Hall's cubic."""
        a = self.skewness / 3
        if abs(a) < 1e-9:
            return t
        return (cbrt(1 + 3 * a * (t - self.skewness / 6)) - 1) / a


@dataclass(frozen=True)
class Measured:
    """A metric of one model: its value and what each row has of it, [n].

    No value is below `least` or above `most`. `span` is how far a row can be from all the others, and `fewest` the rows
    of the rarest part: where all rows agree, that says how far rows may be that were not seen.
    """

    value: float
    each: Floats
    least: float = 0.0
    most: float = 1.0
    span: float = 1.0
    fewest: int = 0

    @cached_property
    def spread(self) -> Spread:
        """How the rows vary."""
        return Spread.of(self.each)

    def estimate(self) -> Estimate:
        """The value with its 95% interval."""
        below, above = self.spread.reach(TWO_SIDED)
        if not self.spread.error:
            below = above = self.unseen(TWO_SIDED)
        return Estimate(self.value, max(self.value - below, self.least), min(self.value + above, self.most))

    def unseen(self, tail: float) -> float:
        """How far off rows may be that were not seen, where all that were agree: their share is at most

        1 - tail^(1/n) (Clopper & Pearson 1934), and each is `span` away at most.
        """
        return (1.0 - float(tail ** (1 / (self.fewest or len(self.each))))) * self.span

    def loss(self, champion: Measured, goal: Goal, *, same: bool = False) -> Loss:
        """What this model loses against `champion`. `same`: both gave the same scores, so there is nothing to lose."""
        if same:
            return Loss(0.0, 0.0, 0.0, 0.0, 0.0)
        value, spread = self.lost(champion, goal)
        if not spread.error:
            two, one = self.unseen(TWO_SIDED), self.unseen(ONE_SIDED)
            return Loss(value, value - two, value + two, value - one, value + one)
        (low, high), (least, most) = spread.reach(TWO_SIDED), spread.reach(ONE_SIDED)
        return Loss(value, value - low, value + high, value - least, value + most)

    def chance(self, champion: Measured, goal: Goal, bound: float) -> float:
        """The chance of such a loss, or of a larger one, where the true loss is `bound`: a one-sided p-value."""
        value, spread = self.lost(champion, goal)
        if spread.error:
            return spread.chance(value - bound)
        beyond = min((value - bound) / self.span, 1.0)
        return float((1 - beyond) ** (self.fewest or len(self.each))) if beyond > 0 else 1.0

    def lost(self, champion: Measured, goal: Goal) -> tuple[float, Spread]:
        """The loss against `champion`, and how it varies over the rows."""
        sign = 1.0 if goal == "higher" else -1.0
        return sign * (champion.value - self.value), Spread.of(sign * (champion.each - self.each))


def wilson(successes: int, trials: int, tail: float = TWO_SIDED) -> Estimate:
    """A rate with the score interval of Wilson (1927), which stays within 0 and 1."""
    rate, z = successes / trials, _normal(tail)
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return Estimate(rate, low if successes else 0.0, high if successes < trials else 1.0)


def apart(first: Floats, second: Floats) -> tuple[int, int]:
    """Rows that only `first` and that only `second` has; both hold 0 and 1, [n]."""
    return int((first > second).sum()), int((second > first).sum())


def paired_share(only: tuple[int, int], rows: int, tail: float) -> tuple[float, float]:
    """Limits of the share that the first has more than the second of the same rows, `tail` left out at each end.

    `only` are the rows that one alone has. By Tango (1998).
    """
    z, (first, second) = _normal(tail), only
    return -_tango(second, first, rows, z), _tango(first, second, rows, z)


def _tango(first: int, second: int, n: int, z: float) -> float:
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


def share_loss(candidate: Floats, champion: Floats, goal: Goal) -> Loss:
    """What is lost in a share of the rows; both hold 0 and 1, [n]. Of a number that is the goal, the loss is how much

    farther from it the candidate is. There the limits hold whichever side of it either is on: of the two differences of
    distances that each side of the candidate leaves, at half the chance of error each, the closer one.
    """
    only, rows = apart(champion, candidate), len(candidate)
    if goal == "higher":
        low, high = paired_share(only, rows, TWO_SIDED)
        least, most = paired_share(only, rows, ONE_SIDED)
        return Loss((only[0] - only[1]) / rows, low, high, least, most)
    assert not isinstance(goal, str)
    value = abs(float(candidate.mean()) - goal) - abs(float(champion.mean()) - goal)
    low, high = _distance(candidate, champion, goal, TWO_SIDED)
    least, most = _distance(candidate, champion, goal, ONE_SIDED)
    return Loss(value, low, high, least, most)


def _distance(candidate: Floats, champion: Floats, goal: float, tail: float) -> tuple[float, float]:
    rows = len(candidate)
    low, high = paired_share(apart(candidate, champion), rows, tail / 2)
    sum_low, sum_high = (x + 1 - 2 * goal for x in paired_share(apart(candidate, 1 - champion), rows, tail / 2))
    most = max(min(high, sum_high), min(-low, -sum_low))
    return -max(min(-low, sum_high), min(high, -sum_low)), most


def _normal(tail: float) -> float:
    return NormalDist().inv_cdf(1 - tail)
