"""The drawings of a profile, as SVG inside the page. Colours are the page's: classes, never values."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence

from trunkline.datasets.drawing import number, percent, text
from trunkline.datasets.findings import Bars
from trunkline.datasets.profile import Bar, Column, Plot

_WIDTH, _HEIGHT, _STRIP = 320, 104, 44
_MOST_BARS, _LABEL = 24, 34


def outcome_text(value: float, outcome: str) -> str:
    """A mean outcome, by what its words say it is."""
    return percent(value) if outcome.startswith("share") else number(value)


def formatter(column: Column, bars: Sequence[Bar]) -> Callable[[float], str]:
    """How the places on a column's axis are written: numbers, or times as fine as the axis is long."""
    if column.kind != "time":
        return number
    ends = [bar.low for bar in bars if bar.low is not None]
    days = (max(ends) - min(ends)) / 86_400 if ends else 0.0
    form = "%Y-%m-%d" if days > 3 else "%Y-%m-%d %H:%M"

    def written(seconds: float) -> str:
        try:
            return (dt.datetime(1970, 1, 1) + dt.timedelta(seconds=seconds)).strftime(form)
        except OverflowError:
            return number(seconds)

    return written


def histogram(column: Column, plot: Plot, outcome: str) -> str:
    """Train as bars, validation as a line over them, both as shares of their part; the outcome in a strip below."""
    totals = [sum(bar.rows[part] for bar in plot.bars) or 1 for part in (0, 1)]
    if column.role == "time":  # the parts follow each other: as shares of both they are one curve
        totals = [sum(totals)] * 2
    shares = [[bar.rows[part] / totals[part] for bar in plot.bars] for part in (0, 1)]
    top, broken = _ceiling([*shares[0], *shares[1]])
    told, step, floor = formatter(column, plot.bars), _WIDTH / len(plot.bars), _HEIGHT - 16
    parts = []
    for place, bar in enumerate(plot.bars):
        height = min(shares[0][place] / top, 1) * (floor - 4)
        title = f"{_span(bar, told)}: train {percent(shares[0][place])}, validation {percent(shares[1][place])}"
        title += f"; {outcome} {outcome_text(bar.outcome, outcome)}" if bar.outcome is not None else ""
        x, y, width = place * step, floor - height, max(step - 1, 0.5)
        parts.append(
            f'<g><title>{text(title)}</title><rect x="{x:.1f}" y="0" width="{step:.1f}" height="{floor}" class="hit"/>'
            f'<rect x="{x + 0.5:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" class="train"/>'
            f"{_break(x, step) if broken and shares[0][place] > top else ''}</g>"
        )
    if any(shares[1]):
        parts.append(f'<path d="{_steps(shares[1], step, floor, top)}" class="validation-line"/>')
    parts += _axis(plot, told, floor)
    strip = _outcome_strip(plot, step, outcome)
    note = "A bar is cut: it is " + percent(max(shares[0] + shares[1])) + "." if broken else ""
    label = f"Distribution of {column.name}"
    return _svg(label, _HEIGHT, parts) + strip + (f'<p class="small">{note}</p>' if note else "")


def _ceiling(shares: Sequence[float]) -> tuple[float, bool]:
    """The share at the top of the drawing. One bar far above all others is cut, or nothing else could be seen."""
    highest = max(shares) or 1.0
    far, near = [s for s in shares if s >= highest / 5], [s for s in shares if 0 < s < highest / 5]
    if len(far) <= 2 and len(near) > 3:  # it, in train and in validation
        return max(near) * 1.7, True
    return highest, False


def _break(x: float, width: float) -> str:
    return f'<path d="M{x:.1f} 13 l{width:.1f} -6" class="break"/>'


def _steps(shares: Sequence[float], step: float, floor: float, top: float) -> str:
    points = [f"M0 {floor}"]
    for place, share in enumerate(shares):
        y = floor - min(share / top, 1) * (floor - 4)
        points.append(f"V{y:.1f} H{(place + 1) * step:.1f}")
    return " ".join([*points, f"V{floor}"])


def _axis(plot: Plot, told: Callable[[float], str], floor: float) -> list[str]:
    first, last = plot.bars[0].low, plot.bars[-1].high
    if first is None or last is None:
        return []
    before, after = ("≤ ", "≥ ") if plot.clipped else ("", "")
    return [
        f'<path d="M0 {floor} H{_WIDTH}" class="axis"/>',
        f'<text x="0" y="{_HEIGHT - 3}">{before}{text(told(first))}</text>',
        f'<text x="{_WIDTH}" y="{_HEIGHT - 3}" text-anchor="end">{after}{text(told(last))}</text>',
    ]


def _outcome_strip(plot: Plot, step: float, outcome: str) -> str:
    """Dots: the mean outcome of each bar of train that has enough rows to tell one."""
    told = [
        (place, bar.outcome, bar.rows[0])
        for place, bar in enumerate(plot.bars)
        if bar.outcome is not None and bar.rows[0] >= 30 and math.isfinite(bar.outcome)
    ]
    if not outcome or len(told) < 2:
        return ""
    values = [value for _, value, _ in told]
    low, high = min(0.0, *values), max(*values) or 1.0
    span, height = (high - low) or 1.0, _STRIP - 14

    def at(value: float) -> float:
        return height - (value - low) / span * (height - 6) + 1

    points = [(place * step + step / 2, at(value)) for place, value, _ in told]
    line = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.2" class="outcome"/>' for x, y in points)
    caption = f"{outcome}: {' to '.join(outcome_text(end, outcome) for end in (min(values), max(values)))}"
    base = f'<path d="M0 {at(low):.1f} H{_WIDTH}" class="axis"/>'
    words = f'<text x="0" y="{_STRIP - 2}" class="outcome-text">{text(caption, 60)}</text>'
    return _svg(caption, _STRIP, [base, f'<path d="{line}" class="outcome-line"/>', dots, words])


def _span(bar: Bar, told: Callable[[float], str]) -> str:
    if bar.low is None or bar.high is None:
        return bar.text or ""
    return told(bar.low) if bar.low == bar.high else f"{told(bar.low)} to {told(bar.high)}"


def findings_bars(bars: Bars) -> str:
    """The drawing of a finding: one horizontal bar a label, the bound as a line."""
    pairs = [(label, value) for label, value in zip(bars.labels, bars.values, strict=False) if math.isfinite(value)]
    shown = pairs[:_MOST_BARS]
    if not shown:
        return ""
    top = max([abs(value) for _, value in shown] + [abs(bars.bound or 0.0)]) or 1.0
    row, left, right = 18, 150, 46
    width, height = _WIDTH - left - right, row * len(shown)
    parts = []
    for place, (label, value) in enumerate(shown):
        y, over = place * row, bars.bound is not None and value > bars.bound
        parts.append(
            f"<g><title>{text(label)}: {number(value)}</title>"
            f'<text x="{left - 6}" y="{y + 12}" text-anchor="end">{text(label, 26)}</text>'
            f'<rect x="{left}" y="{y + 3}" width="{abs(value) / top * width:.1f}" height="{row - 6}" '
            f'class="{"over" if over else "train"}"/>'
            f'<text x="{left + abs(value) / top * width + 4:.1f}" y="{y + 12}">{number(value)}</text></g>'
        )
    if bars.bound is not None:
        x = left + abs(bars.bound) / top * width
        parts.append(f'<path d="M{x:.1f} 0 V{height}" class="bound"><title>bound {number(bars.bound)}</title></path>')
    more = f'<p class="small">and {len(pairs) - len(shown)} more</p>' if len(pairs) > len(shown) else ""
    return f'<p class="small">{text(bars.title)}</p>{_svg(bars.title, height, parts)}{more}'


def _svg(label: str, height: float, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{text(label)}" '
        f'preserveAspectRatio="xMidYMid meet">{"".join(parts)}</svg>'
    )
