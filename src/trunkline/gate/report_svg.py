"""The drawings of the report: metrics, slices, calibration, earlier verdicts. Pure.

The candidate is a filled dot, the champion a hollow one, so that they can be told apart without colours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trunkline.datasets.drawing import text
from trunkline.gate.evidence import Calibration, Estimate, MetricEvidence, Quality, SliceEvidence
from trunkline.gate.frame import Frame, Scale, svg
from trunkline.gate.numbers import estimated, lost, shown
from trunkline.gate.report import Report
from trunkline.gate.report_slices import slice_value

__all__ = ["MOST_SLICES", "earlier_svg", "metrics_svg", "reliability_svg", "slices_svg"]

_WIDTH, _NAME, _VALUES, _LOSSES, _ROW = 960, 150, (170, 520), (600, 940), 62
MOST_SLICES = 40


@dataclass(frozen=True)
class _Bounds:
    """What the rules ask of one metric."""

    at_least: float | None = None
    at_most: float | None = None
    may_lose: float | None = None

    @classmethod
    def of(cls, report: Report, name: str) -> _Bounds:
        found = {rule.name: rule.bound for rule in report.verdict.rules}
        return cls(*(found.get(f"metrics.{name}.{kind}") for kind in ("at_least", "at_most", "may_lose")))


def metrics_svg(report: Report) -> str:
    """Each metric on an axis of its own: both models with their intervals, then the loss; bounds as dashed lines."""
    metrics = report.evidence.quality.metrics
    if not metrics:
        return ""
    losses = any(found.loss is not None for found in metrics)
    parts = [f'<text class="n" x="{_VALUES[0]}" y="14">value, 95% interval</text>']
    if losses:
        parts.append(f'<text class="n" x="{_LOSSES[0]}" y="14">loss against the champion (right is worse)</text>')
    for place, found in enumerate(metrics):
        bounds = _Bounds.of(report, found.name)
        middle = 24 + place * _ROW + 24
        parts.append(f'<text class="n" x="{_NAME}" y="{middle + 4}" text-anchor="end">{text(found.name, 22)}</text>')
        parts += _values(found, bounds, middle)
        if found.loss is not None:
            parts += _loss(found, bounds, middle)
    return svg(
        "Metrics of candidate and champion", _WIDTH if losses else _VALUES[1] + 60, 30 + _ROW * len(metrics), parts
    )


def _values(found: MetricEvidence, bounds: _Bounds, y: float) -> Iterator[str]:
    estimates = [estimate for estimate in (found.candidate, found.champion) if estimate is not None]
    limits = [bound for bound in (bounds.at_least, bounds.at_most) if bound is not None]
    scale = Scale.over([end for e in estimates for end in (e.value, e.low, e.high)] + limits, *_VALUES)
    yield from _ground(scale, y)
    for bound, words in ((bounds.at_least, "at least"), (bounds.at_most, "at most")):
        if bound is not None:
            yield _bound(scale, bound, y, f"{words} {shown(bound)}")
    yield _whisker(scale, found.candidate, y - 7 if found.champion else y, "candidate", "candidate")
    if found.champion is not None:
        yield _whisker(scale, found.champion, y + 7, "champion", "champion")


def _loss(found: MetricEvidence, bounds: _Bounds, y: float) -> Iterator[str]:
    loss = found.loss
    assert loss is not None
    limits = [0.0] + ([bounds.may_lose] if bounds.may_lose is not None else [])
    scale = Scale.over([loss.value, loss.low, loss.high, *limits], *_LOSSES)
    yield from _ground(scale, y)
    yield f'<path class="z" d="M{scale.at(0.0):.1f} {y - 18:g} v36"/>'
    if bounds.may_lose is not None:
        yield _bound(scale, bounds.may_lose, y, f"may lose {shown(bounds.may_lose)}")
    kind = _colour(loss.low, loss.high)
    title = f"{found.name}: loses {lost(loss, found.candidate.value)}"
    yield _mark(scale, (loss.value, loss.low, loss.high), y, kind, title)


def _colour(low: float, high: float) -> str:
    return "worse" if low > 0 else "better" if high < 0 else "even"


def _ground(scale: Scale, y: float) -> Iterator[str]:
    yield f'<path class="g" d="M{scale.start:g} {y + 18:g} H{scale.end:g}"/>'
    step = scale.marks[1] - scale.marks[0] if len(scale.marks) > 1 else abs(scale.high) or 1.0
    for mark in scale.marks[:: 2 if len(scale.marks) > 5 else 1]:
        yield f'<path class="g" d="M{scale.at(mark):.1f} {y - 18:g} v36"/>'
        yield f'<text x="{scale.at(mark):.1f}" y="{y + 32:g}" text-anchor="middle">{_tick(mark, step)}</text>'


def _tick(value: float, step: float) -> str:
    """A number with the digits that tell marks `step` apart."""
    digits = min(max(-math.floor(math.log10(step) + 1e-9), 0), 8) if step > 0 else 4
    if digits and round(step * 10**digits, 6) != round(step * 10**digits):
        digits += 1  # steps of 2.5
    return f"{value + 0.0:,.{min(digits, 8)}f}"


def _bound(scale: Scale, value: float, y: float, title: str) -> str:
    return f'<path class="b" d="M{scale.at(value):.1f} {y - 20:g} v40"><title>{text(title)}</title></path>'


def _whisker(scale: Scale, found: Estimate, y: float, kind: str, who: str) -> str:
    return _mark(scale, (found.value, found.low, found.high), y, kind, f"{who}: {estimated(found)}")


def _mark(scale: Scale, values: tuple[float, float, float], y: float, kind: str, title: str) -> str:
    value, low, high = values
    drawn = ""
    if math.isfinite(low) and math.isfinite(high):
        drawn += f'<path class="w" d="M{scale.at(low):.1f} {y:g} H{scale.at(high):.1f}"/>'
    if math.isfinite(value):
        drawn += f'<circle class="d" cx="{scale.at(value):.1f}" cy="{y:g}" r="4.5"/>'
    return f'<g class="{kind}"><title>{text(title)}</title>{drawn}</g>'


# -- slices


def slices_svg(quality: Quality) -> str:
    """A forest: the loss in each slice with its interval, the whole on top; without a champion, the metric itself.

    Of many slices, those that lose most (or are worst) by the candidate's side of the interval.
    """
    whole = quality.metric(quality.sliced_by)
    against = any(found.loss is not None for found in quality.slices)
    drawn = [found for found in quality.slices if found.loss or not against]
    lines = [_line(found, found.candidate, against) for found in drawn if found.candidate]
    if not lines:
        return ""
    if against:
        lines.sort(key=lambda line: -line.values[1])
    lines = lines[:MOST_SLICES]
    top = _whole(whole, against)
    ends = [end for line in [*lines, *top] for end in line.values if math.isfinite(end)] + ([0.0] if against else [])
    scale = Scale.over(_near(ends), 260, 700)
    height = 30 + 24 * (len(lines) + len(top)) + 26
    parts = list(_forest_ground(scale, height, against))
    for place, line in enumerate([*top, *lines]):
        y = 30 + 24 * place + 12
        parts.append(f'<text class="n" x="246" y="{y + 4}" text-anchor="end">{text(line.name, 36)}</text>')
        parts.append(_mark(scale, line.values, y, line.kind, f"{line.name}: {line.note}"))
        parts.append(f'<text x="716" y="{y + 4}">{text(line.note)}</text>')
    return svg(f"{quality.sliced_by} by slice", _WIDTH, height, parts)


@dataclass(frozen=True)
class _Line:
    name: str
    values: tuple[float, float, float]
    kind: str
    note: str


def _line(found: SliceEvidence, own: Estimate, against: bool) -> _Line:
    name = f"{found.column}: {slice_value(found)}"
    if not against or found.loss is None:
        return _Line(name, (own.value, own.low, own.high), "candidate", f"{estimated(own)}, n = {found.rows:,}")
    loss = found.loss
    note = f"{lost(loss, own.value)}, n = {found.rows:,}"
    return _Line(name, (loss.value, loss.low, loss.high), _colour(loss.low, loss.high), note)


def _whole(whole: MetricEvidence | None, against: bool) -> list[_Line]:
    if whole is None:
        return []
    if not against:
        own = whole.candidate
        return [_Line("all rows", (own.value, own.low, own.high), "whole", estimated(own))]
    if whole.loss is None:
        return []
    loss = whole.loss
    return [_Line("all rows", (loss.value, loss.low, loss.high), "whole", lost(loss, whole.candidate.value))]


def _near(ends: Sequence[float]) -> list[float]:
    """Without the ends that lie so far out that all else would be one line: they are cut at the edge."""
    ordered = sorted(ends)
    low, high = ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10]
    reach = 2 * (high - low)
    return [end for end in ends if low - reach <= end <= high + reach] or list(ends)


def _forest_ground(scale: Scale, height: float, against: bool) -> Iterator[str]:
    words = "loss against the champion (right is worse), 95% interval" if against else "value, 95% interval"
    yield f'<text class="n" x="{scale.start:g}" y="16">{words}</text>'
    step = scale.marks[1] - scale.marks[0] if len(scale.marks) > 1 else 1.0
    for mark in scale.marks:
        yield f'<path class="g" d="M{scale.at(mark):.1f} 26 V{height - 24:g}"/>'
        yield f'<text x="{scale.at(mark):.1f}" y="{height - 8:g}" text-anchor="middle">{_tick(mark, step)}</text>'
    if against:
        yield f'<path class="z" d="M{scale.at(0.0):.1f} 24 V{height - 22:g}"/>'


# -- calibration and the past


def reliability_svg(calibration: Calibration) -> str:
    """Observed rate against mean score, with intervals and the diagonal; below it where the rows are."""
    bins = [found for found in calibration.bins if math.isfinite(found.rate.value)]
    if not bins:
        return ""
    frame = Frame.of("Calibration", [0.0, 1.0], [0.0, 1.0], size=(440, 360))
    named = {"probability": ("mean score", "observed rate"), "confidence": ("mean probability", "share that is right")}
    frame.axes(*named.get(calibration.kind, ("quantile", "share of outcomes at or below")))
    most = max(found.rows for found in bins) or 1
    for found in bins if calibration.kind != "coverage" else ():
        left, right = frame.across.at(found.low), frame.across.at(found.high)
        tall = 60 * found.rows / most
        frame.parts.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{frame.up.start - tall:.1f}" width="{right - left - 2:.1f}" '
            f'height="{tall:.1f}"><title>{found.rows:,} rows</title></rect>'
        )
    frame.line([(0.0, 0.0), (1.0, 1.0)], "z", "scores that mean what they say")
    frame.line([(found.mean_score, found.rate.value) for found in bins], "thin")
    for found in bins:
        title = f"{found.rows:,} rows: mean score {found.mean_score:.3f}, observed {estimated(found.rate)}"
        frame.dot(found.mean_score, found.rate.value, "candidate", title, ends=(found.rate.low, found.rate.high))
    return frame.drawn()


def earlier_svg(report: Report) -> str:
    """The first metric of each verdict on this deployment so far, this one last: filled if it passed."""
    metric = next(iter(report.evidence.quality.metrics), None)
    if metric is None:
        return ""
    points = [
        (past.reference, past.passed, past.metrics[metric.name])
        for past in report.earlier
        if metric.name in past.metrics
    ]
    withheld = report.looks is not None and metric.name in report.looks.withheld
    if not withheld:
        own = metric.candidate
        points.append((report.candidate.reference, report.verdict.passed, (own.value, own.low, own.high)))
    points = points[-40:]
    if len(points) < 2:
        return ""
    ends = [end for _, _, values in points for end in values]
    frame = Frame.of(f"{metric.name} of the verdicts so far", [-0.5, len(points) - 0.5], ends, size=(960, 260))
    frame = Frame(frame.label, _places(frame.across, len(points)), frame.up, frame.width, frame.height)
    frame.axes("version", metric.name, names=[_version(reference) for reference, _, _ in points])
    frame.line([(float(place), values[0]) for place, (_, _, values) in enumerate(points)], "thin")
    for place, (reference, passed, values) in enumerate(points):
        word = "passed" if passed else "refused"
        title = f"{reference}: {estimated(Estimate(*values))}, {word}"
        frame.dot(float(place), values[0], "better" if passed else "refused", title, ends=(values[1], values[2]))
    return frame.drawn()


def _places(across: Scale, count: int) -> Scale:
    return Scale(-0.5, count - 0.5, across.start, across.end, marks=tuple(map(float, range(count))))


def _version(reference: str) -> str:
    return "v" + reference.rsplit("/", 1)[-1] if "/" in reference else reference
