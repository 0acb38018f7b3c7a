"""The drawing of a comparison: dots with whiskers, panel below panel, as one SVG that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trunkline.datasets.drawing import text, ticks
from trunkline.training.experiments.comparison import Comparison, Contrast, Family, Importance, signed

__all__ = ["chance", "leaderboard_svg"]

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP, _FOOT = 900, 250, 170, 24, 46, 34
_COLOURS, _MOST_COLUMNS, _LEVEL = 6, 30, 0.05
_TITLES: dict[Family, str] = {
    "rung": "What each group adds to those above it",
    "variation": "Variations against the best, on all groups",
    "left out": "What all groups lose without one",
}
_STYLE = (
    "svg{--ink:#1a2130;--soft:#5d6778;--line:#dfe3ea;--s0:#2f6fcf;--s1:#d9601a;--s2:#0c8a6b;--s3:#a56cc1;--s4:#c94f6d;"
    "--s5:#8a8f3c;--good:#0c8a6b;--bad:#c52f2f;font-family:system-ui,'Liberation Sans',sans-serif}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e6eaf2;--soft:#9aa5b8;--line:#303847;--s0:#6aa2f5;--s1:#ff9a55;"
    "--s2:#4fd3ae;--s3:#b98ad3;--s4:#e0708d;--s5:#aab055;--good:#4fd3ae;--bad:#ff7b72}}"
    "svg text{font-size:12px;fill:var(--ink)}svg .t{font-size:14px;font-weight:600}"
    "svg .s{fill:var(--soft);font-size:11px}"
    "svg .g{stroke:var(--line)}svg .z{stroke:var(--soft);stroke-dasharray:3 3}"
    + "".join(f"svg .c{n}{{color:var(--s{n})}}" for n in range(_COLOURS))
    + "svg .good{color:var(--good)}svg .bad{color:var(--bad)}svg .none{color:var(--soft)}"
    "svg .w{stroke:currentColor;stroke-width:2;fill:none}svg .d{fill:currentColor}"
    "svg .o{fill:none;stroke:currentColor;opacity:.7}"
)


@dataclass(frozen=True)
class _Mark:
    """One line of a panel: what it is, its value with whiskers, the seeds' values, its colour and a note."""

    label: str
    value: float
    low: float
    high: float
    colour: str
    note: str
    seeds: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Panel:
    """Marks on one axis; `zero` draws the line of no difference."""

    title: str
    caption: str
    marks: tuple[_Mark, ...]
    zero: bool = False

    @property
    def height(self) -> int:
        """In the drawing's units."""
        return _TOP + _ROW * len(self.marks) + _FOOT


def leaderboard_svg(comparison: Comparison) -> str:
    """The ladder in its order, the tests, and the importances, where there are such."""
    panels = [_ladder(comparison), *_tests(comparison), *_importances(comparison)]
    height, parts = 6, []
    for panel in panels:
        parts += [f'<g transform="translate(0 {height})">', *_drawn(panel), "</g>"]
        height += panel.height + 12
    label = f"Comparison by {comparison.metric}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        f'aria-label="{text(label)}"><style>{_STYLE}</style>{"".join(parts)}</svg>\n'
    )


def chance(p: float) -> str:
    """A p-value as it is written."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _ladder(found: Comparison) -> _Panel:
    variations = list(dict.fromkeys(row.variation for row in found.rows))
    marks = []
    for row in found.ladder:
        added = row.groups[0] if len(row.groups) == 1 else f"+ {row.groups[-1]}"
        label = f"{added} · {row.variation}" if len(variations) > 1 else added
        note = f"{row.value:.5g}" + (f" ± {row.spread:.2g}" if row.spread is not None else "")
        colour = f"c{variations.index(row.variation) % _COLOURS}"
        seeds = row.values if len(row.values) > 1 else ()
        marks.append(_Mark(label, row.value, row.low, row.high, colour, note, seeds))
    better = "higher" if found.higher_is_better else "lower"
    caption = f"{found.metric} on validation ({better} is better); whiskers: 95% interval of other rows"
    if len(found.seeds) > 1:
        caption += f"; rings and ±: {len(found.seeds)} seeds"
    return _Panel(f"The ladder of feature groups, by {found.metric}", caption, tuple(marks))


def _tests(found: Comparison) -> Iterator[_Panel]:
    several = len({row.variation for row in found.rows}) > 1
    for family, title in _TITLES.items():
        listed = [contrast for contrast in found.contrasts if contrast.family == family]
        if not listed:
            continue
        marks = []
        for one in listed:
            row = found.rows[one.row]
            what = {"rung": f"+ {row.groups[-1]}", "variation": row.variation, "left out": f"without {row.left_out}"}
            label = f"{what[family]} · {row.variation}" if several and family == "rung" else what[family]
            marks.append(_Mark(label, one.value, one.low, one.high, _verdict(found, one), _told(one)))
        best = f" ({found.rows[listed[0].against].variation})" if family == "variation" else ""
        of_seeds = " and seeds" if len(found.seeds) > 1 else ""
        tests = "over all pairs" if family == "variation" else f"of {len(listed)}"
        caption = f"difference of {found.metric}; 95% interval of other rows{of_seeds}; p after Holm {tests}"
        yield _Panel(title + best, caption, tuple(marks), zero=True)


def _importances(found: Comparison) -> Iterator[_Panel]:
    for by in ("group", "column"):
        listed = [one for one in found.importances if one.by == by]
        if listed:
            shown = listed[:_MOST_COLUMNS]
            more = f"; the first {len(shown)} of {len(listed)}" if len(shown) < len(listed) else ""
            caption = f"how much worse {found.metric} gets when shuffled among {found.shuffled:,} rows{more}"
            marks = tuple(
                _Mark(one.name, one.value, one.low, one.high, "c0" if one.adjusted < _LEVEL else "none", _told(one))
                for one in shown
            )
            yield _Panel(f"Importance by {by} for the best model", caption, marks, zero=True)


def _told(one: Contrast | Importance) -> str:
    return f"{signed(one.value)}  {chance(one.adjusted)}"


def _verdict(found: Comparison, one: Contrast) -> str:
    if one.adjusted >= _LEVEL:
        return "none"
    return "good" if (one.value > 0) == found.higher_is_better else "bad"


def _drawn(panel: _Panel) -> Iterator[str]:
    marks = panel.marks
    ends = [end for mark in marks for end in (mark.low, mark.high, *mark.seeds) if math.isfinite(end)]
    ends += [0.0] if panel.zero or not ends else []
    places = ticks(min(ends), max(ends))
    low, high = min(places[0], *ends), max(places[-1], *ends)
    span, width = (high - low) or 1.0, _WIDTH - _LEFT - _RIGHT

    def at(value: float) -> float:
        return _LEFT + (value - low) / span * width

    yield f'<text class="t" x="0" y="14">{text(panel.title)}</text>'
    yield f'<text class="s" x="0" y="31">{text(panel.caption)}</text>'
    bottom = _TOP + _ROW * len(marks)
    for tick in places:
        yield f'<path class="g" d="M{at(tick):.1f} {_TOP} V{bottom}"/>'
        yield f'<text class="s" x="{at(tick):.1f}" y="{bottom + 15}" text-anchor="middle">{tick:.6g}</text>'
    if panel.zero:
        yield f'<path class="z" d="M{at(0.0):.1f} {_TOP} V{bottom}"/>'
    for place, mark in enumerate(marks):
        yield from _line(mark, _TOP + _ROW * place + _ROW / 2, at)


def _line(mark: _Mark, y: float, at: Callable[[float], float]) -> Iterator[str]:
    yield f'<g class="{mark.colour}"><title>{text(_title(mark))}</title>'
    yield f'<text x="{_LEFT - 12}" y="{y + 4:g}" text-anchor="end">{text(mark.label, 44)}</text>'
    if math.isfinite(mark.low) and math.isfinite(mark.high):
        ends = f"M{at(mark.low):.1f} {y - 4:g} v8 M{at(mark.low):.1f} {y:g} H{at(mark.high):.1f} m0 -4 v8"
        yield f'<path class="w" d="{ends}"/>'
    yield from (f'<circle class="o" cx="{at(seed):.1f}" cy="{y:g}" r="3"/>' for seed in mark.seeds)
    if math.isfinite(mark.value):
        yield f'<circle class="d" cx="{at(mark.value):.1f}" cy="{y:g}" r="4"/>'
    yield f'<text class="s" x="{_WIDTH - _RIGHT + 14}" y="{y + 4:g}">{text(mark.note)}</text></g>'


def _title(mark: _Mark) -> str:
    return f"{mark.label}: {mark.value:.6g} ({mark.low:.6g} to {mark.high:.6g})"
