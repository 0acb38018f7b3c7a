"""What our pages and drawings have in common: hostile text made harmless, numbers, and round places for an axis."""

from __future__ import annotations

import html
import math
import unicodedata
from dataclasses import dataclass

__all__ = ["Axis", "html_page", "number", "percent", "text", "ticks"]

# The browser itself is told to run nothing and to ask nobody, should a value ever escape its quotes.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def text(value: object, longest: int = 200) -> str:
    """A value for the page: escaped; what cannot be seen, or turns the direction of writing, is spelt out."""
    whole = str(value)
    shown = "".join(_character(each) for each in whole[:longest])
    return html.escape(shown + ("…" if len(whole) > longest else ""))


def _character(character: str) -> str:
    unseen = unicodedata.category(character)[0] in "CZ" and character != " "
    return f"\\u{ord(character):04x}" if unseen else character


@dataclass(frozen=True)
class Axis:
    """From values to places of the drawing; what lies beyond the ends is drawn at the end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Its place."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def html_page(title: str, style: str, body: str) -> str:
    """One HTML file that runs no script and loads nothing. `style` and `body` are CSS and HTML already."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{style}</style></head><body><main>{body}</main></body></html>\n"
    )


def number(value: float) -> str:
    """As short as it can be told apart: 1,234 · 0.0312 · 1.2e+09."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    if size >= 1e7 or size < 1e-3:
        return f"{value:.3g}"
    if size >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def percent(share: float) -> str:
    """A share of 1, with as many digits as it takes to tell it from none and from all."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    return f"{share:.1%}" if share < 0.1 or share > 0.9 else f"{share:.0%}"


def ticks(low: float, high: float) -> list[float]:
    """Four to seven round places from at most `low` to at least `high`."""
    span = high - low or abs(high) or 1.0
    raw = span / 4
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 2.5, 5, 10) if size * times >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.15g}") for place in range(first, last + 1)]
