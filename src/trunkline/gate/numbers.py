"""How the gate writes numbers: four decimals, and fewer or more where a metric has the size of its target."""

from __future__ import annotations

from math import floor, isfinite, log10

__all__ = ["shown", "signed"]


def shown(value: float, scale: float | None = None) -> str:
    """`value` with the decimals that a number of the size of `scale` (default: its own) needs.

    >>> shown(0.77), shown(12345.678), shown(3.0, 12345.678), shown(0.00012)
    ('0.7700', '12346', '3', '0.000120')
    """
    return f"{value:.{_decimals(value if scale is None else scale)}f}"


def signed(value: float, scale: float = 1.0) -> str:
    """`value` with its sign, as `shown`; what rounds to nothing has no minus."""
    decimals = _decimals(scale)
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"


def _decimals(scale: float) -> int:
    size = abs(scale)
    if not isfinite(size) or not size or 0.001 <= size < 100:
        return 4
    power = floor(log10(size))
    return min(2 - power, 15) if power < 0 else max(0, 4 - power)
