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

Where a metric rests on a class of few rows, so do its degrees of freedom: by Satterthwaite's rule for the variance of
several groups, each class has one less than it has rows. Where nothing varies, what could be among rows not seen is
added (`Unseen`). Shares of the rows are in `shares.py`. `benchmarks/gate_statistics.py` measures all of them, with
bootstraps beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import cbrt, hypot, inf, log, sqrt

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import NOTHING_LOST, ONE_SIDED, TWO_SIDED, Estimate, Loss
from trunkline.gate.policy import Goal

__all__ = ["Floats", "Ints", "Measured", "Spread", "Unseen", "agree"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_LESS = 5
_AGREE = 1e-12
"""Rows whose numbers differ by less, as a share of their size, are the same but for rounding."""


def agree(each: Floats) -> bool:
    """Whether all of `each`, [n], are the same."""
    return float(np.ptp(each)) <= _AGREE * float(np.abs(each).max(initial=0.0))


@dataclass(frozen=True)
class Spread:
    """The standard `error` of a mean, its skewness, and the degrees of freedom of that error."""

    error: float
    skewness: float
    degrees: float

    @classmethod
    def of(cls, each: Floats, place: Ints | None = None) -> Spread:
        """That of the mean of `each`, [n]; no error where all are the same. `place` is the class of each row."""
        n, size = len(each), float(np.abs(each).max(initial=0.0))
        if n < 2 or agree(each):
            return cls(0.0, 0.0, 1.0)
        centred = (each - each.mean()) / size
        squares = np.square(centred)
        second = float(squares.mean())
        third = float(np.einsum("i,i->", squares, centred)) / n / second**1.5
        fourth = float(np.einsum("i,i->", squares, squares)) / n / second**2
        degrees = 2 * n / (fourth - 1) - _LESS if fourth > 1 else inf
        most = n - 1.0 if place is None else _degrees(squares, place)
        return cls(size * sqrt(second / (n - 1)), third / sqrt(n), max(min(degrees, most), 1.0))

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


def _degrees(squares: Floats, place: Ints) -> float:
    """Degrees of freedom of a variance that is the sum of each class's: Satterthwaite (1946)."""
    counts, shares = np.bincount(place), np.bincount(place, weights=squares) / squares.sum()
    return float(1 / (np.square(shares) / np.maximum(counts - 1, 1)).sum())


@dataclass(frozen=True)
class Unseen:
    """What rows that were not seen may change, where all that were agree: of each such class its rows and its span.

    The share of others among them is at most 1 - tail^(1/n) (Clopper & Pearson 1934), and moves the value by the span
    at most if it is all of them.
    """

    classes: tuple[tuple[int, float], ...] = ()

    def reach(self, tail: float) -> float:
        """How far off the value they may be."""
        return hypot(*(span * (1 - tail ** (1 / rows)) for rows, span in self.classes))

    def law(self, tail: float) -> float:
        """The same, nearly, and no less: so much as shrinks by half with twice the rows."""
        return hypot(*(span * -log(tail) / rows for rows, span in self.classes))


@dataclass(frozen=True)
class Measured:
    """A metric of one model: its value and what each row has of it, [n].

    No value is below `least` or above `most`, and `span` is how far a row can be from all the others. Of a metric that
    rests on classes `place` is the class of each row, [n]. Of a mean of what classes have `marks`, [n], tell whether
    the rows of a class agree, and `weights` how far all rows of each class that is there may move it.
    """

    value: float
    each: Floats
    least: float = 0.0
    most: float = 1.0
    span: float = 1.0
    place: Ints | None = None
    marks: Floats | None = None
    weights: Floats | None = None

    @cached_property
    def spread(self) -> Spread:
        """How the rows vary."""
        return Spread.of(self.each, self.place)

    def estimate(self) -> Estimate:
        """The value with its 95% interval."""
        below, above = _reach(self.spread, self._unseen(self.spread, self.marks), TWO_SIDED)
        return Estimate(self.value, max(self.value - below, self.least), min(self.value + above, self.most))

    @cached_property
    def _counts(self) -> Ints:
        """The rows of each class that is there; without classes, all."""
        counts = np.array([len(self.each)]) if self.place is None else np.bincount(self.place)
        return counts[counts > 0]

    def _unseen(self, spread: Spread, marks: Floats | None) -> Unseen:
        if self.place is None or self.weights is None or marks is None:
            return Unseen() if spread.error else Unseen(((int(self._counts.min()), self.span),))
        groups = np.split(marks[np.argsort(self.place, kind="stable")], np.cumsum(self._counts)[:-1])
        weighed = zip(groups, self.weights.tolist(), strict=True)
        return Unseen(tuple((len(group), weight) for group, weight in weighed if agree(group)))

    def loss(self, champion: Measured, goal: Goal, *, same: bool = False) -> Loss:
        """What this model loses against `champion`. `same`: both gave the same scores, so there is nothing to lose."""
        if same:
            return NOTHING_LOST
        value, spread = self.lost(champion, goal)
        marks = None if self.marks is None or champion.marks is None else champion.marks - self.marks
        unseen = self._unseen(spread, marks)
        (low, high), (least, most) = (_reach(spread, unseen, tail) for tail in (TWO_SIDED, ONE_SIDED))
        limits = value - low, value + high, value - least, value + most
        return Loss(value, *limits, unseen=unseen.law(ONE_SIDED))

    def chance(self, champion: Measured, goal: Goal, bound: float) -> float:
        """The chance of such a loss, or of a larger one, where the true loss is `bound`: a one-sided p-value."""
        value, spread = self.lost(champion, goal)
        if spread.error:
            return spread.chance(value - bound)
        beyond = value - bound
        if beyond <= 0 or beyond >= self.span:  # the span is 0 where no row can differ
            return 1.0 if beyond <= 0 else 0.0
        return float((1 - beyond / self.span) ** int(self._counts.min()))

    def lost(self, champion: Measured, goal: Goal) -> tuple[float, Spread]:
        """The loss against `champion`, and how it varies over the rows."""
        sign = 1.0 if goal == "higher" else -1.0
        return sign * (champion.value - self.value), Spread.of(sign * (champion.each - self.each), self.place)


def _reach(spread: Spread, unseen: Unseen, tail: float) -> tuple[float, float]:
    """How far below and above the value the limits lie, for what varies and for what was not seen."""
    (below, above), more = spread.reach(tail), unseen.reach(tail)
    return hypot(below, more), hypot(above, more)
