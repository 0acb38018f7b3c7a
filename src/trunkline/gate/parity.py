"""Whether the server answers, and the warehouse scores, what the bundle scores offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trunkline.gate.evidence import CounterExample, Parity, Way
from trunkline.gate.wire import LARGEST_INTEGER, MOST

if TYPE_CHECKING:
    from trunkline.gate.metrics import Floats

__all__ = ["SHARE", "TOLERANCE", "compare"]

TOLERANCE = 1e-6
"""Of probabilities: the graph computes in float32, and its sums have another order for one row than for many."""
SHARE = 1e-5
"""Of numbers that have the size of their target: a share of that size, which is the row's own and the median row's."""

_CHARACTERS = 1_000
_ITEMS = (100, 8, 8)  # of a list, of each list in it, and of each in those


def compare(
    rows: Sequence[Mapping[str, object]],
    offline: npt.ArrayLike,
    others: Mapping[Way, npt.ArrayLike],
    *,
    probabilities: bool = True,
    tolerance: float | None = None,
    left_out: str = "",
) -> Parity:
    """Each of `others` against `offline`, [n] or [n, k], number by number. One that is not finite differs from all.

    A row differs if one of them does. Raises ValueError where they are not as many as `rows`.
    """
    scores = np.asarray(offline, np.float64)
    told = {way: np.asarray(found, np.float64) for way, found in others.items()}
    for way, found in told.items():
        if not len(scores) == len(found) == len(rows):
            raise ValueError(f"{len(scores)} scores, {len(found)} of {way} and {len(rows)} rows: one is shorter")
    if scores.ndim == 1:
        scores = scores[:, None]
    told = {way: found.reshape(scores.shape) for way, found in told.items()}
    each = [_distances(scores, found, probabilities=probabilities) for found in told.values()]
    distances = np.max(each, axis=0, initial=0.0) if each else np.zeros(len(rows))
    known = np.isfinite(distances)
    allowed = tolerance if tolerance is not None else TOLERANCE if probabilities else SHARE
    differ = np.flatnonzero(distances > allowed)
    return Parity(
        rows=len(rows),
        differ=len(differ),
        largest=float(distances[known].max(initial=0.0)),
        tolerance=allowed,
        example=_example(rows, scores, told, int(differ[0])) if len(differ) else None,
        relative=not probabilities,
        ways=tuple(told),
        left_out=left_out,
        not_finite=len(rows) - int(known.sum()),
    )


def _distances(scores: Floats, other: Floats, *, probabilities: bool) -> Floats:
    """Of each row the largest, [n]; endless where a score is no number."""
    with np.errstate(invalid="ignore", over="ignore"):
        distances = np.abs(scores - other)
        if not probabilities:
            sizes = np.abs(np.where(np.isfinite(scores), scores, 0))
            distances = distances / np.maximum(sizes + np.median(sizes), np.finfo(np.float64).tiny)
    finite = np.isfinite(scores) & np.isfinite(other)
    return np.asarray(np.where(finite, np.minimum(distances, MOST), np.inf).max(axis=1, initial=0.0))


def _example(
    rows: Sequence[Mapping[str, object]], scores: Floats, told: Mapping[Way, Floats], row: int
) -> CounterExample:
    numbers = {way: _plain(found[row]) for way, found in told.items()}
    values = {_short(name, 2): _short(value) for name, value in rows[row].items()}
    return CounterExample(values, _plain(scores[row]), numbers.get("http"), numbers.get("warehouse"))


def _plain(numbers: Floats) -> float | tuple[float, ...]:
    several = tuple(numbers.tolist())
    return several[0] if len(several) == 1 and abs(several[0]) <= MOST else several


def _short(value: object, deep: int = 0) -> Any:
    """A value as a report can hold it: the beginning of what is long, and as text what JSON has no number for."""
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) <= LARGEST_INTEGER):
        return value
    if isinstance(value, list | tuple) and deep < len(_ITEMS):
        left = len(value) - _ITEMS[deep]
        return [_short(item, deep + 1) for item in value[: _ITEMS[deep]]] + [f"… {left:,} more"] * (left > 0)
    said = str(value)
    return said if len(said) <= _CHARACTERS else f"{said[:_CHARACTERS]}… {len(said) - _CHARACTERS:,} characters more"
