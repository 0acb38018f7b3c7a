"""Whether the server answers what the bundle scores offline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

from trunkline.gate.evidence import CounterExample, Parity

TOLERANCE = 1e-6
"""The graph computes in float32, and its matrix products sum in another order for one row than for many."""


def compare(
    rows: Sequence[Mapping[str, object]],
    offline: Sequence[float],
    http: Sequence[float],
    *,
    tolerance: float = TOLERANCE,
) -> Parity:
    """`http` against `offline`, value by value. A value that is not finite differs from all."""
    distances = [
        abs(a - b) if isfinite(a) and isfinite(b) else float("inf") for a, b in zip(offline, http, strict=True)
    ]
    differ = [i for i, distance in enumerate(distances) if distance > tolerance]
    example = CounterExample(rows[differ[0]], offline[differ[0]], http[differ[0]]) if differ else None
    return Parity(len(distances), len(differ), max(distances, default=0.0), tolerance, example)
