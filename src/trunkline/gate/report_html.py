"""The report as one HTML file: no script, nothing from elsewhere; light and dark, wide and narrow, for ears too. Pure.

Each drawing stands with a table that says the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trunkline.datasets.drawing import html_page, text
from trunkline.gate.curves_svg import curve_svgs
from trunkline.gate.evidence import Curve, Quality, SliceEvidence
from trunkline.gate.numbers import estimated, lost, of_rule, shown
from trunkline.gate.page import card, coded, fold, html_table, key
from trunkline.gate.report import Report
from trunkline.gate.report_html_proof import leakage, parity, provenance, server
from trunkline.gate.report_slices import (
    LADDER,
    calibration_said,
    corrected,
    rules_counted,
    slice_value,
    slices_said,
    tests_listing,
)
from trunkline.gate.report_svg import MOST_SLICES, earlier_svg, metrics_svg, reliability_svg, slices_svg

__all__ = ["to_html"]

_WORDS = {"pass": "✓ pass", "fail": "✗ fail", "undecided": "? undecided"}
_MOST_ROWS = 400


def to_html(report: Report) -> str:
    """The page: the verdict first."""
    sections = [(name, title, body) for name, title, draw in _SECTIONS if (body := "".join(draw(report)))]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in sections)
    listed = "".join(f'<section id="{name}"><h2>{title}</h2>{body}</section>' for name, title, body in sections)
    word = "passed" if report.verdict.passed else "refused"
    return html_page(f"{report.deployment}: {word}", _style(), f"{''.join(_head(report))}<nav>{links}</nav>{listed}")


def _style() -> str:
    return Path(__file__).with_name("report.css").read_text("utf-8")


def _head(report: Report) -> Iterator[str]:
    verdict = report.verdict
    yield f"<h1>Gate of {text(report.deployment)}</h1>"
    word = "The gate passes." if verdict.passed else "The gate does not pass."
    kind = "pass" if verdict.passed else "fail"
    yield f'<div class="card verdict {kind}"><p><b>{word}</b> {rules_counted(verdict)}</p>'
    against = [rule for rule in verdict.rules if rule.status != "pass"]
    if against:
        items = (f"<li><code>{text(rule.name)}</code>: {text(rule.why, 600)}</li>" for rule in against[:20])
        yield f"<ul>{''.join(items)}</ul>"
    yield "</div>"
    facts = [("candidate", report.candidate.reference), ("its sha256", report.candidate.sha256[:16])]
    if report.champion is not None:
        facts += [("champion", report.champion.reference), ("its sha256", report.champion.sha256[:16])]
    else:
        facts.append(("champion", "none yet"))
    if report.looks is not None:
        facts.append(("at the sealed test part", str(report.looks)))
    facts += sorted(report.provenance.items())
    listed = "".join(f"<div><dt>{text(name)}</dt><dd><code>{text(value)}</code></dd></div>" for name, value in facts)
    yield f'<dl class="card facts">{listed}</dl>'
    if report.looks is not None and report.looks.ladder:
        withheld = ", ".join(f"<code>{text(name)}</code>" for name in report.looks.withheld) or "none"
        yield f"<p>Few looks are left: {text(LADDER, len(LADDER))} Withheld scores: {withheld}.</p>"


def _rules(report: Report) -> Iterator[str]:
    rows = [
        [
            coded(rule.name),
            f'<span class="tag {rule.status}">{_WORDS[rule.status]}</span>',
            of_rule(rule.name, rule.value, rule.bound),
            of_rule(rule.name, rule.bound, rule.bound),
            text(rule.why, 600),
        ]
        for rule in report.verdict.rules
    ]
    if rows:
        yield card(html_table(["rule", "verdict", "value", "bound", "why"], rows, "llrrl"))


def _quality(report: Report) -> Iterator[str]:
    quality = report.evidence.quality
    rows = [
        [
            coded(found.name),
            estimated(found.candidate),
            estimated(found.champion),
            lost(found.loss, found.candidate.value),
            text(found.method),
        ]
        for found in quality.metrics
    ]
    say = f'<p class="small">{_rows(quality)}. Intervals are at 95%; a loss is on the same rows.</p>'
    table = html_table(["metric", "candidate", "champion", "loss", "interval by"], rows, "lrrrl")
    yield card(key("candidate", "champion", "bound", alone=report.champion is None) + metrics_svg(report) + say) + card(
        table
    )


def _rows(quality: Quality) -> str:
    if quality.positives is not None:
        share = quality.positives / (quality.rows or 1)
        return f"{quality.rows:,} rows of the sealed test part, {quality.positives:,} positive ({share:.1%})"
    of = f" of {len(quality.classes):,} classes" if quality.classes else ""
    return f"{quality.rows:,} rows of the sealed test part{of}"


def _curves(report: Report) -> Iterator[str]:
    cards = []
    for title, curves, drawn in curve_svgs(report.evidence.quality):
        rows = [[curve.model, f"{x:.4g}", f"{y:.4g}"] for curve in curves for x, y in _some(curve)]
        listed = fold("some of its points", html_table(["model", "across", "up"], rows, "lrr"))
        cards.append(card(f"<h3>{text(title)}</h3>{drawn}{listed}"))
    if cards:
        legend = key("candidate", "champion line", "diagonal", alone=report.champion is None)
        yield f'{legend}<div class="two">{"".join(cards)}</div>'


def _some(curve: Curve) -> list[tuple[float, float]]:
    points = list(zip(curve.x, curve.y, strict=False))
    return points[:: max(len(points) // 10, 1)]


def _slices(report: Report) -> Iterator[str]:
    quality = report.evidence.quality
    if not quality.slices:
        return
    say = slices_said(quality)
    if len(quality.slices) > MOST_SLICES:
        say += f" Drawn are the {MOST_SLICES} that lose most."
    tested = any(found.p is not None for found in quality.slices)
    table = html_table(
        ["column", "value", "rows", "candidate", "champion", "loss", *(["p"] if tested else [])],
        [_slice(found, tested) for found in quality.slices[:_MOST_ROWS]],
        "llrrrr" + "r" * tested,
    )
    listed = _tests(quality) + fold(f"{len(quality.slices):,} slices as a table", table)
    yield card(
        f'<p class="small"><code>{text(quality.sliced_by)}</code> by slice. {say}</p>{slices_svg(quality)}{listed}'
    )


def _tests(quality: Quality) -> str:
    """What the rules on slices found."""
    found = tests_listing(quality)
    rows = [[coded(first), *others] for first, *others in found.rows]
    return html_table(found.head, rows, found.align) if found.rows else ""


def _slice(found: SliceEvidence, tested: bool) -> list[str]:
    loss = lost(found.loss, found.candidate.value) if found.candidate else text(found.note)
    values = [estimated(found.candidate), estimated(found.champion), loss]
    row = [coded(found.column), slice_value(found, coded), f"{found.rows:,}", *values]
    return [*row, corrected(found.p)] if tested else row


def _calibration(report: Report) -> Iterator[str]:
    calibration = report.evidence.quality.calibration
    if calibration is None or not calibration.bins:
        return
    head = ["from", "to", "rows", "mean score", "observed, 95% interval"]
    rows = [
        [f"{found.low:.2g}", f"{found.high:.2g}", f"{found.rows:,}", f"{found.mean_score:.3f}", estimated(found.rate)]
        for found in calibration.bins
    ]
    says = {
        "probability": "How often it came true, by the score.",
        "confidence": "How often the chosen class is the right one, by its probability.",
        "coverage": "The share of outcomes at or below each quantile.",
    }
    say = f'<p class="small">{says[calibration.kind]} {calibration_said(calibration)}</p>'
    drawn = key("candidate", "diagonal") + reliability_svg(calibration)
    yield f'<div class="two">{card(drawn + say)}{card(html_table(head, rows, "rrrrr"))}</div>'


def _earlier(report: Report) -> Iterator[str]:
    drawn = earlier_svg(report)
    if not drawn:
        return
    names = [found.name for found in report.evidence.quality.metrics]
    rows = [
        [coded(past.reference), "passed" if past.passed else "refused", text(past.decided_at[:16].replace("T", " "))]
        + [shown(past.metrics[name][0]) if name in past.metrics else "–" for name in names]
        for past in reversed(report.earlier[-100:])
    ]
    table = html_table(["version", "verdict", "decided (UTC)", *map(coded, names)], rows, "lll" + "r" * len(names))
    say = '<p class="small">Filled: passed. Hollow: refused. Bars: 95% intervals.</p>'
    yield card(drawn + say + fold("the earlier ones as a table", table))


def _phases(report: Report) -> Iterator[str]:
    total = sum(phase.seconds for phase in report.phases)
    if not total:
        return
    bars = "".join(
        f'<span>{text(phase.name)}</span><div style="width:{max(phase.seconds / total, 0):.2%}"></div>'
        f'<span class="r">{phase.seconds:.2f} s</span>'
        for phase in report.phases
    )
    yield card(f'<div class="bars">{bars}<b>total</b><span></span><b class="r">{total:.2f} s</b></div>')


_SECTIONS = (
    ("rules", "Rules", _rules),
    ("quality", "Quality", _quality),
    ("curves", "Curves", _curves),
    ("calibration", "Calibration", _calibration),
    ("slices", "Slices", _slices),
    ("server", "The server", server),
    ("parity", "Parity", parity),
    ("leakage", "Leakage", leakage),
    ("provenance", "Provenance", provenance),
    ("earlier", "Earlier verdicts", _earlier),
    ("time", "Where the time went", _phases),
)
