"""Whether the server answers what the bundle scores offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import CounterExample, Parity

TOLERANCE = 1e-6
"""Of probabilities: the graph computes in float32, and its sums have another order for one row than for many."""
SHARE = 1e-5
"""Of numbers that have the size of their target: a share of that size, which is the row's own and the median row's."""


def compare(
    rows: Sequence[Mapping[str, object]],
    offline: npt.ArrayLike,
    http: npt.ArrayLike,
    *,
    probabilities: bool = True,
    tolerance: float | None = None,
) -> Parity:
    """`http` against `offline`, [n] or [n, k], number by number. One that is not finite differs from all.

    Raises ValueError where they are not as many as `rows`.
    """
    scores, answers = np.asarray(offline, np.float64), np.asarray(http, np.float64)
    if not len(scores) == len(answers) == len(rows):
        raise ValueError(f"{len(scores)} scores, {len(answers)} answers and {len(rows)} rows: one is shorter")
    if scores.ndim == 1:
        scores = scores[:, None]
    answers = answers.reshape(scores.shape)
    with np.errstate(invalid="ignore"):
        distances = np.abs(scores - answers)
    if not probabilities:
        sizes = np.abs(np.where(np.isfinite(scores), scores, 0))
        distances = distances / np.maximum(sizes + np.median(sizes), np.finfo(np.float64).tiny)
    distances = np.where(np.isfinite(scores) & np.isfinite(answers), distances, np.inf).max(axis=1, initial=0.0)
    allowed = tolerance if tolerance is not None else TOLERANCE if probabilities else SHARE
    differ = np.flatnonzero(distances > allowed)
    example = None
    if len(differ):
        first = int(differ[0])
        example = CounterExample(rows[first], _plain(scores[first]), _plain(answers[first]))
    largest = float(distances.max(initial=0.0))
    return Parity(len(rows), len(differ), largest, allowed, example, relative=not probabilities)


def _plain(numbers: npt.NDArray[np.float64]) -> float | tuple[float, ...]:
    several = tuple(numbers.tolist())
    return several if len(several) > 1 else several[0]
