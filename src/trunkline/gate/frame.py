"""A frame for drawing in: two axes, marks on them, as one SVG. Colours are classes of the page's style. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from trunkline.datasets.drawing import Axis, number, text, ticks

__all__ = ["Frame", "Scale", "svg"]

_LEAST, _NARROW = 1e-290, 1e-12
"""A number, and what of its size a span may be, below which there are no digits left to draw by."""


@dataclass(frozen=True)
class Scale(Axis):
    """An axis whose `marks` are the values that get a line and a number."""

    marks: tuple[float, ...] = ()

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> Scale:
        """A scale with round ends around `values`."""
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        low, high = min(finite), max(finite)
        if high - low <= _NARROW * max(abs(low), abs(high)) or high - low < _LEAST:
            reach = abs(low) * 0.05 if abs(low) > _LEAST else 0.5
            low, high = low - reach, high + reach
        marks = ticks(low, high)
        return cls(min(marks[0], low), max(marks[-1], high), start, end, marks=tuple(marks))

    @classmethod
    def logarithmic(cls, values: Iterable[float], start: float, end: float) -> Scale:
        """A scale by the powers of ten around `values` that are above 0; 1, 2 and 5 of each are marked."""
        finite = [value for value in values if math.isfinite(value) and value > _LEAST] or [1.0, 10.0]
        powers = range(math.floor(math.log10(min(finite))) - 1, math.ceil(math.log10(max(finite))) + 2)
        steps = [10.0**power * times for power in powers for times in (1, 2, 5)]
        low = max(step for step in steps if step <= min(finite))
        high = min(step for step in steps if step >= max(finite) and step > low)
        shown = [step for step in steps if low <= step <= high]
        if len(shown) > 8:
            shown = [step for step in shown if f"{step:e}"[0] == "1"]
            shown = shown[:: -(-len(shown) // 8)]
        return cls(low, high, start, end, True, tuple(shown))


@dataclass(frozen=True)
class Frame:
    """Two scales, what the axes are called, and the parts drawn so far."""

    label: str
    across: Scale
    up: Scale
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        label: str,
        xs: Iterable[float],
        ys: Iterable[float],
        *,
        size: tuple[int, int] = (440, 330),
        log: bool = False,
    ) -> Frame:
        """A frame around values; `log`: the second axis by powers of ten."""
        width, height = size
        upward = Scale.logarithmic if log else Scale.over
        return cls(label, Scale.over(xs, 56, width - 14), upward(ys, height - 42, 22), width, height)

    def axes(self, below: str, beside: str, told: Callable[[float], str] = number, names: Sequence[str] = ()) -> None:
        """Lines and numbers at the marks; `names` stand below the marks of the first axis in place of numbers."""
        left, right, floor = self.across.start, self.across.end, self.up.start
        for mark in self.up.marks:
            y = self.up.at(mark)
            self.parts.append(f'<path class="g" d="M{left:g} {y:.1f} H{right:g}"/>')
            self.parts.append(f'<text x="{left - 6:g}" y="{y + 4:.1f}" text-anchor="end">{text(told(mark))}</text>')
        for place, mark in enumerate(self.across.marks):
            x = self.across.at(mark)
            name = names[place] if names else number(mark)
            self.parts.append(f'<path class="g" d="M{x:.1f} {floor:g} v4"/>')
            self.parts.append(f'<text x="{x:.1f}" y="{floor + 17:g}" text-anchor="middle">{text(name)}</text>')
        self.parts.append(f'<text x="{right:g}" y="{self.height - 5}" text-anchor="end" class="n">{text(below)}</text>')
        self.parts.append(f'<text x="{left - 50:g}" y="11" class="n">{text(beside)}</text>')

    def line(self, points: Sequence[tuple[float, float]], kind: str, title: str = "", *, stairs: bool = False) -> None:
        """A line through `points`; in `stairs`, across before up."""
        if not points:
            return
        places = [(self.across.at(x), self.up.at(y)) for x, y in points]
        path = f"M{places[0][0]:.1f} {places[0][1]:.1f}"
        for _, (x, y) in pairwise(places):
            path += f" H{x:.1f} V{y:.1f}" if stairs else f" L{x:.1f} {y:.1f}"
        self.parts.append(f'<path class="{kind}" d="{path}"><title>{text(title)}</title></path>')

    def dot(self, x: float, y: float, kind: str, title: str, *, ends: tuple[float, float] | None = None) -> None:
        """A dot, with a whisker from end to end of the second axis."""
        across, up = self.across.at(x), self.up.at(y)
        whisker = ""
        if ends is not None and all(map(math.isfinite, ends)):
            whisker = f'<path class="w" d="M{across:.1f} {self.up.at(ends[0]):.1f} V{self.up.at(ends[1]):.1f}"/>'
        self.parts.append(
            f'<g class="{kind}"><title>{text(title)}</title>{whisker}'
            f'<circle class="d" cx="{across:.1f}" cy="{up:.1f}" r="4"/></g>'
        )

    def drawn(self) -> str:
        """The SVG."""
        return svg(self.label, self.width, self.height, self.parts)


def svg(label: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A drawing that says to a screen reader what it is."""
    least = min(width * 0.7, 640.0)  # on a narrow screen it is moved sideways rather than too small to read
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{text(label)}" '
        f'style="max-width:{width:g}px;min-width:{least:g}px">{"".join(parts)}</svg>'
    )
