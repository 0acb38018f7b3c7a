"""The drawing of the servers' latency, as HdrHistogram draws it: the rare slow requests get as much room as the others.

Tene (2013), "How NOT to measure latency". The first axis is the share of requests, each of its steps ten times rarer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from trunkline.gate.evidence import Latency
from trunkline.gate.frame import Frame, Scale
from trunkline.gate.verdict import Verdict

__all__ = ["latency_svg"]

_SHARES = ((0.0, "0%"), (0.5, "50%"), (0.9, "90%"), (0.95, ""), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%"))


def latency_svg(own: Latency, rival: Latency | None, verdict: Verdict) -> str:
    """Both servers' quantiles; the bounds of rules as marks. Empty where no quantiles were kept."""
    servers = [(found, who, kind) for found, who, kind in _listed(own, rival) if len(found.quantiles_ms) > 1]
    if not servers:
        return ""
    curves = [(_curve(found), who, kind) for found, who, kind in servers]
    bounds = list(_bounds(verdict))
    farthest = max(x for points, _, _ in curves for x, _ in points)
    times = [y for points, _, _ in curves for _, y in points] + [y for _, y, _ in bounds]
    frame = Frame.of("Latency of requests of one row", [0.0, farthest], times, size=(960, 330), log=True)
    marks = [(_place(share), name) for share, name in _SHARES if _place(share) <= farthest]
    across = Scale(0.0, farthest, frame.across.start, frame.across.end, marks=tuple(mark for mark, _ in marks))
    frame = Frame(frame.label, across, frame.up, frame.width, frame.height)
    frame.axes("share of requests answered in that time", "ms", names=[name for _, name in marks])
    for points, who, kind in curves:
        frame.line(points, f"{kind}-line", who)
    for (found, who, _), kind in zip(servers, ("candidate", "champion"), strict=False):
        for share, value in ((0.5, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
            frame.dot(_place(share), value, kind, f"{who}: {share:.0%} within {value:.2f} ms")
    for x, y, title in bounds:
        frame.line([(max(x - 0.15, 0.0), y), (min(x + 0.15, farthest), y)], "b", title)
    return frame.drawn()


def _listed(own: Latency, rival: Latency | None) -> list[tuple[Latency, str, str]]:
    return [(own, "candidate", "own"), *([(rival, "champion", "rival")] if rival is not None else [])]


def _place(share: float) -> float:
    """0 for none, 1 for nine of ten, 2 for all but one of a hundred."""
    return -math.log10(1 - share)


def _curve(found: Latency) -> Sequence[tuple[float, float]]:
    """The quantiles 0.01, 0.02, …, and the slowest request as one of so many."""
    *quantiles, slowest = found.quantiles_ms
    count = len(quantiles) + 1
    points = [(_place(place / count), value) for place, value in enumerate(quantiles, 1)]
    return [*points, (max(_place(1 - 1 / max(found.requests, 2)), points[-1][0]), slowest)]


def _bounds(verdict: Verdict) -> list[tuple[float, float, str]]:
    asked = {rule.name: rule.bound for rule in verdict.rules}
    shares = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return [
        (_place(share), bound, f"{name} at most {bound:g}")
        for name, share in shares.items()
        if (bound := asked.get(f"latency.{name}")) is not None
    ]
