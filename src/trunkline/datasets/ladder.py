"""The Ladder: how scores on a test part are shown so that adaptive looking cannot overfit to it. Pure.

Blum & Hardt (2015), "The Ladder: A Reliable Leaderboard for Machine Learning Competitions", ICML 32, algorithm 1: a
score is shown only where it beats the best one shown so far by more than a step; otherwise that best is shown again.
Steps that chance makes are not seen, so there is nothing to climb by.

The step is the standard error of the score itself. The paper's variant without a parameter (algorithm 2) takes the
paired standard error of the difference, and that does not hold against whoever changes the best model a little each
time: one in six such changes is better by its own standard error by chance (`benchmarks/ladder.py` shows both).
"""

from __future__ import annotations

from dataclasses import dataclass

_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Rung:
    """What is shown: `value`, which is the new score if it has `risen`, else the best so far."""

    value: float
    risen: bool


def climb(score: float, best: float | None, step: float, *, higher_is_better: bool) -> Rung:
    """Show `score` if it is better than `best` by more than `step`, or the first.

    >>> climb(0.72, None, 0.01, higher_is_better=True)
    Rung(value=0.72, risen=True)
    >>> climb(0.725, 0.72, 0.01, higher_is_better=True)
    Rung(value=0.72, risen=False)
    >>> climb(0.20, 0.25, 0.01, higher_is_better=False)
    Rung(value=0.2, risen=True)
    """
    if best is None:
        return Rung(score, True)
    gain = score - best if higher_is_better else best - score
    return Rung(score, True) if gain > step else Rung(best, False)


def standard_error(low: float, high: float) -> float:
    """That of a score with this 95% interval.

    >>> round(standard_error(0.70, 0.74), 4)
    0.0102
    """
    return (high - low) / (2 * _Z95)


def is_low(look: int, budget: int) -> bool:
    """Whether look number `look` (from 1) of `budget` is in the last quarter: from there on the Ladder shows scores.

    >>> [is_low(look, 100) for look in (1, 75, 76, 100)]
    [False, False, True, True]
    """
    return look > budget - budget // 4
