"""The drawings of a study: its history, learning curves, fronts and importances, as SVG that needs nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from trunkline.datasets.drawing import Axis, number, text
from trunkline.training.records import StudyRecord, TrialRecord

__all__ = ["STYLE", "curves_svg", "front_svg", "history_svg", "importance_svg"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _FOOT = 760, 310, 64, 16, 24, 40
_MOST_CURVES, _MOST_PARAMETERS = 200, 20
_MARKS = {"complete": 4.0, "pruned": 2.6}

STYLE = (
    "svg{--ink:#1a2130;--soft:#5d6778;--line:#dfe3ea;--best:#d9601a;--dot:#2f6fcf;--bad:#c52f2f;"
    "font-family:system-ui,'Liberation Sans',sans-serif}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e6eaf2;--soft:#9aa5b8;--line:#303847;--best:#ff9a55;--dot:#6aa2f5;"
    "--bad:#ff7b72}}"
    "text{font-size:12px;fill:var(--soft)}.g{stroke:var(--line)}.complete{fill:var(--dot)}"
    ".pruned{fill:none;stroke:var(--dot);opacity:.65}.failed{stroke:var(--bad);stroke-width:1.6;fill:none}"
    ".best{fill:var(--best)}.line{fill:none;stroke:var(--best);stroke-width:2}.curve{fill:none;stroke:var(--dot);opacity:.3}"
    ".bar{fill:var(--dot)}.name{fill:var(--ink)}"
)


@dataclass(frozen=True)
class _Scale(Axis):
    """An axis with five marks."""

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float, *, log: bool = False) -> _Scale:
        low, high = min(values), max(values)
        if low == high:
            reach = abs(low) * 0.05 or 1.0
            low, high = (low / 1.05, high * 1.05) if log else (low - reach, high + reach)
        return cls(low, high, start, end, log)

    def ticks(self) -> Iterator[float]:
        for step in range(5):
            share = step / 4
            yield self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)


def history_svg(study: StudyRecord) -> str:
    """Each trial's value by its number, and the best so far as a line. Far worse trials are drawn at the edge."""
    shown = [trial for trial in study.trials if trial.value is not None]
    if not shown:
        return ""
    up = study.higher_is_better[0]
    across = _across([float(trial.number) for trial in study.trials])
    ends = [trial.value for trial in shown if trial.value is not None and trial.state == "complete"]
    down = _down(_near(ends if len(ends) > 2 else [trial.value or 0.0 for trial in shown], up))
    dots = [_dot(trial, across.at(trial.number), down.at(trial.value or 0.0), study) for trial in shown]
    failed = [_cross(trial, across.at(trial.number)) for trial in study.trials if trial.value is None]
    complete = [trial for trial in shown if trial.state == "complete"]
    best = accumulate((trial.value or 0.0 for trial in complete), max if up else min)
    points = [(across.at(trial.number), down.at(value)) for trial, value in zip(complete, best, strict=True)]
    line = f'<path d="{_stairs(points, across.end)}" class="line"/>' if points else ""
    axes = _axes(across, down, "trial", study.objectives[0], whole=True)
    return _svg(f"{study.objectives[0]} by trial", _HEIGHT, [*axes, line, *failed, *dots])


def curves_svg(study: StudyRecord) -> str:
    """Every trial's metric step by step, the best trial's drawn strong; empty where no trial has two steps."""
    trials = [trial for trial in study.trials if len(trial.history) > 1][-_MOST_CURVES:]
    if not trials:
        return ""
    across = _across([float(step) for trial in trials for step, _ in trial.history])
    lasts = [trial.history[-1][1] for trial in trials]
    firsts = [trial.history[0][1] for trial in trials]
    down = _down([*_near(lasts, study.higher_is_better[0]), *_near(firsts, study.higher_is_better[0])])
    best = study.best.number if study.best else -1
    lines = []
    for trial in sorted(trials, key=lambda trial: trial.number == best):
        path = " ".join(
            f"{'L' if place else 'M'}{across.at(step):.1f} {down.at(value):.1f}"
            for place, (step, value) in enumerate(trial.history)
        )
        kind = "line" if trial.number == best else "curve"
        lines.append(f'<path d="{path}" class="{kind}"><title>{_told(trial, study)}</title></path>')
    axes = _axes(across, down, "step", study.objectives[0], whole=True)
    return _svg(f"{study.objectives[0]} by step", _HEIGHT, [*axes, *lines])


def front_svg(study: StudyRecord, objective: int) -> str:
    """The metric against another objective; the trials of the front are filled and numbered."""
    complete = [trial for trial in study.trials if trial.state == "complete"]
    if not complete:
        return ""
    others = [trial.values[objective] for trial in complete]
    log = min(others) > 0 and max(others) / min(others) > 30
    across = _Scale.of(others, _LEFT + 12, _WIDTH - _RIGHT - 12, log=log)
    down = _down(_near([trial.values[0] for trial in complete], study.higher_is_better[0]))

    def place(trial: TrialRecord) -> tuple[float, float]:
        return across.at(trial.values[objective]), down.at(trial.values[0])

    by_number = {trial.number: trial for trial in complete}
    front = sorted((by_number[number] for number in study.front), key=lambda trial: trial.values[objective])
    marks = []
    for trial in complete:
        x, y = place(trial)
        kind = "best" if trial in front else "pruned"
        marks.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" class="{kind}"><title>{_told(trial, study)}</title></circle>'
        )
    labels = [
        f'<text x="{x + 7:.1f}" y="{y - 6:.1f}">{trial.number}</text>' for trial in front for x, y in [place(trial)]
    ]
    line = f'<path d="{_stairs([place(trial) for trial in front], None)}" class="line" opacity=".5"/>'
    if len(study.objectives) > 2:
        line = ""  # of several objectives it would join what does not lie side by side
    axes = _axes(across, down, study.objectives[objective], study.objectives[0])
    return _svg(f"{study.objectives[0]} against {study.objectives[objective]}", _HEIGHT, [*axes, line, *marks, *labels])


def importance_svg(study: StudyRecord) -> str:
    """Each parameter's importance as a bar, largest first."""
    shown = list(study.importance.items())[:_MOST_PARAMETERS]
    if not shown:
        return ""
    row, left = 24, 190
    top = max(value for _, value in shown) or 1.0
    bars = []
    for place, (name, value) in enumerate(shown):
        y, width = place * row, value / top * (_WIDTH - left - 70)
        bars.append(
            f'<text x="{left - 8}" y="{y + 16}" text-anchor="end" class="name">{text(name, 28)}</text>'
            f'<rect x="{left}" y="{y + 5}" width="{width:.1f}" height="14" rx="2" class="bar"/>'
            f'<text x="{left + width + 6:.1f}" y="{y + 16}">{value:.0%}</text>'
        )
    return _svg("Importance of parameters", row * len(shown), bars)


def _across(values: Sequence[float]) -> _Scale:
    return _Scale.of(values, _LEFT + 8, _WIDTH - _RIGHT - 8)


def _down(values: Sequence[float]) -> _Scale:
    return _Scale.of(values, _HEIGHT - _FOOT - 8, _TOP + 4)


def _near(values: Sequence[float], up: bool) -> list[float]:
    """The values without those far worse than the middle one: they would press all others into one line."""
    ordered = sorted(values, reverse=up)
    best, middle = ordered[0], ordered[len(ordered) // 2]
    reach = 3 * abs(best - middle) or math.inf
    return [value for value in values if abs(value - best) <= reach]


def _stairs(points: Iterable[tuple[float, float]], end: float | None) -> str:
    path = ""
    for x, y in points:
        path += f"H{x:.1f} V{y:.1f} " if path else f"M{x:.1f} {y:.1f} "
    return path + (f"H{end:.1f}" if end is not None else "")


def _dot(trial: TrialRecord, x: float, y: float, study: StudyRecord) -> str:
    best = study.best is not None and trial.number == study.best.number
    size = 5.5 if best else _MARKS.get(trial.state, 2.6)
    kind = "best" if best else trial.state
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}" class="{kind}"><title>{_told(trial, study)}</title></circle>'


def _cross(trial: TrialRecord, x: float) -> str:
    y = _HEIGHT - _FOOT - 8
    said = text((trial.error or trial.state).splitlines()[0], 120)
    path = f"M{x - 3:.1f} {y - 3} l6 6 m0 -6 l-6 6"
    return f'<path d="{path}" class="failed"><title>trial {trial.number}: {said}</title></path>'


def _told(trial: TrialRecord, study: StudyRecord) -> str:
    values = trial.values or ((trial.value,) if trial.value is not None else ())
    measured = ", ".join(f"{name} {number(value)}" for name, value in zip(study.objectives, values, strict=False))
    params = ", ".join(f"{name} {_short(value)}" for name, value in trial.params.items())
    return html.escape(f"trial {trial.number} ({trial.state}): {measured}; ") + text(params, 300)


def _short(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


def _axes(across: _Scale, down: _Scale, below: str, beside: str, *, whole: bool = False) -> list[str]:
    floor = _HEIGHT - _FOOT
    parts = []
    for tick in down.ticks():
        y = down.at(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f} H{_WIDTH - _RIGHT}" class="g"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_between(tick, down)}</text>')
    places: Callable[[float], str] = (lambda tick: f"{tick:.0f}") if whole else (lambda tick: _between(tick, across))
    ticks = sorted({float(round(tick)) for tick in across.ticks()}) if whole else list(across.ticks())
    parts += [f'<text x="{across.at(t):.1f}" y="{floor + 16}" text-anchor="middle">{places(t)}</text>' for t in ticks]
    parts.append(f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end" class="name">{text(below)}</text>')
    parts.append(f'<text x="{_LEFT}" y="{_TOP - 16}" text-anchor="start" class="name">{text(beside)}</text>')
    return parts


def _between(value: float, scale: _Scale) -> str:
    """A number with as many digits as tell the ticks of its scale apart."""
    step = (scale.high - scale.low) / 4
    if scale.log or not step or not math.isfinite(step):
        return f"{value:.3g}"
    return f"{value:.{min(max(1 - math.floor(math.log10(step)), 0), 6)}f}"


def _svg(label: str, height: float, parts: Iterable[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 -6 {_WIDTH} {height + 6:g}" role="img" '
        f'aria-label="{text(label)}">{"".join(parts)}</svg>'
    )
