"""How the gate writes numbers: four decimals, and fewer or more where a metric has the size of its target."""

from __future__ import annotations

from math import floor, isfinite, log10

from trunkline.gate.evidence import Estimate, Loss

__all__ = ["estimated", "lost", "of_rule", "shown", "signed"]


def shown(value: float, scale: float | None = None) -> str:
    """`value` with the decimals that a number of the size of `scale` (default: its own) needs; – if not finite.

    >>> shown(0.77), shown(12345.678), shown(3.0, 12345.678), shown(0.00012)
    ('0.7700', '12346', '3', '0.000120')
    """
    if not isfinite(value):
        return "–"
    return f"{value:.{_decimals(value if scale is None else scale)}f}"


def signed(value: float, scale: float = 1.0) -> str:
    """`value` with its sign, as `shown`; what rounds to nothing has no minus."""
    if not isfinite(value):
        return "–"
    decimals = _decimals(scale)
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def estimated(found: Estimate | None) -> str:
    """A number and its interval."""
    if found is None:
        return "–"
    return f"{shown(found.value)} ({shown(found.low, found.value)} to {shown(found.high, found.value)})"


def lost(found: Loss | None, size: float) -> str:
    """A loss and its interval, of a metric of that size."""
    if found is None:
        return "–"
    return f"{signed(found.value, size)} ({signed(found.low, size)} to {signed(found.high, size)})"


def of_rule(rule: str, value: float | None, bound: float | None) -> str:
    """The value or bound of the rule of that name, by what it is about."""
    if value is None or not isfinite(value):
        return "–"
    if rule.startswith("metrics."):
        return shown(value, max(abs(value), abs(bound or 0.0)))
    if rule.startswith("latency."):
        return f"{value:.2f}"
    return f"{value:,.0f}" if value == int(value) else shown(value)


def _decimals(scale: float) -> int:
    size = abs(scale)
    if not isfinite(size) or not size or 0.001 <= size < 100:
        return 4
    power = floor(log10(size))
    return min(2 - power, 15) if power < 0 else max(0, 4 - power)
