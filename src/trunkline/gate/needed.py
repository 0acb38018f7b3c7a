"""How many rows would decide a rule, if the loss stays what it is: by the law that its limit closes in with. Pure."""

from __future__ import annotations

from math import sqrt

from trunkline.gate.evidence import ONE_SIDED, Loss
from trunkline.gate.policy import Goal
from trunkline.gate.shares import share_limits

__all__ = ["rows_needed"]

_DOUBLINGS, _HALVINGS = 50, 40


def rows_needed(loss: Loss, bound: float, rows: int, goal: Goal = "higher") -> float | None:
    """The rows with which the limit of `loss`, now of `rows`, is at the bound; None: no number of rows decides it."""
    if loss.value == bound:
        return None
    if loss.counts is not None:
        return _of_shares(loss, bound, rows, goal)
    half = loss.at_most - loss.value if loss.value < bound else loss.value - loss.at_least
    # With x times the rows the limit is as far off as the root of varied / x + (unseen / x)^2.
    distance, varied = abs(bound - loss.value), max(half**2 - loss.unseen**2, 0.0)
    return rows * (varied + sqrt(varied**2 + (2 * loss.unseen * distance) ** 2)) / (2 * distance**2)


def _of_shares(loss: Loss, bound: float, rows: int, goal: Goal) -> float | None:
    """By the interval itself, of so many times each count."""
    counts = loss.counts
    assert counts is not None

    def decides(times: float) -> bool:
        both, one, other, neither = (count * times for count in counts)
        least, most = share_limits((both, one, other, neither), goal, ONE_SIDED)
        return most <= bound if loss.value < bound else least > bound

    high = next((2.0**power for power in range(_DOUBLINGS) if decides(2.0**power)), None)
    if high is None:
        return None
    low = high / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return rows * high
