"""The report as Markdown: the comment on the pull request and the job's summary. Pure.

Everything in a report may have come from a stranger (`report.read`), so names stand in code spans only, and sentences
too unless they hold nothing but letters, digits and harmless marks (`markdown`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from types import MappingProxyType

from trunkline.gate.evidence import Quality
from trunkline.gate.markdown import code, details, marker, table, words
from trunkline.gate.numbers import estimated, lost, of_rule
from trunkline.gate.report import Looks, Report
from trunkline.gate.report_proof import leakage_lines, parity_lines, provenance_lines, server_lines
from trunkline.gate.report_slices import (
    LADDER,
    calibration_said,
    corrected,
    rules_counted,
    slice_value,
    slices_said,
    tests_listing,
    worst_first,
)
from trunkline.gate.verdict import RuleResult

__all__ = ["LONGEST", "to_markdown"]

LONGEST = 65_000
"""Bytes: GitHub takes 65,536 characters in a comment."""

_MARKS = {"pass": "✓ pass", "fail": "✗ **fail**", "undecided": "? **undecided**"}
_BAR = 24
_NOTE = 100  # bytes of the sentence that says what is left out


@dataclass(frozen=True)
class _Room:
    """How many rows a table may have: that of the slices, and each other one."""

    slices: int
    others: int


_WHOLE = _Room(10_000, 10_000)
_SMALLER = (*(_Room(rows, 10_000) for rows in (200, 100, 50, 20, 0)), *(_Room(0, rows) for rows in (50, 20, 8, 2)))


def to_markdown(report: Report, longest: int = LONGEST) -> str:
    """The report for a pull request, in at most `longest` bytes: if need be with fewer slices, then shorter tables,

    then without the sections at its end. Verdict and rules always stand.
    """
    text = _written(report, _WHOLE)
    for room in _SMALLER:
        if len(text.encode()) <= longest:
            return text
        text = _written(report, room)
    return text if len(text.encode()) <= longest else _written(report, _SMALLER[-1], longest)


def _written(report: Report, room: _Room, longest: float = inf) -> str:
    passed = report.verdict.passed
    verdict = "✅ **The gate passes.**" if passed else "❌ **The gate does not pass.**"
    lines = [marker(report.deployment), f"## Gate of {code(report.deployment)}", ""]
    lines += [f"{verdict} {rules_counted(report.verdict)}", ""]
    lines += _identities(report, room)
    lines += _looks(report.looks, room)
    size = _size(lines) + _NOTE
    for title, section in _SECTIONS.items():
        body = section(report, room)
        if not body:
            continue
        listed = ["", f"### {title}", "", *body]
        size += _size(listed)
        if size > longest and title != "Rules":
            lines += ["", "What follows is left out for want of room; it is in `report.html` and `gate.json`."]
            break
        lines += listed
    return "\n".join(lines) + "\n"


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)


def _identities(report: Report, room: _Room) -> list[str]:
    rows = [["candidate", code(report.candidate.reference), code(report.candidate.sha256[:16])]]
    if report.champion is not None:
        rows.append(["champion", code(report.champion.reference), code(report.champion.sha256[:16])])
    else:
        rows.append(["champion", "none yet", ""])
    lines = table(["", "model", "sha256"], rows, "lll")
    if report.provenance:
        known = [f"{code(name)} {code(value)}" for name, value in sorted(report.provenance.items())[: room.others]]
        lines += ["", f"Rests on {', '.join(known)}."]
    return lines


def _looks(looks: Looks | None, room: _Room) -> list[str]:
    if looks is None:
        return []
    lines = ["", f"This is {looks} at the sealed test part."]
    if looks.ladder:
        lines[1] += f" Few are left: {LADDER}"
        withheld = ", ".join(map(code, looks.withheld[: min(50, room.others)])) or "none"
        lines += ["", f"Withheld scores: {withheld}."]
    return lines


def _rules(report: Report, room: _Room) -> list[str]:
    rules = report.verdict.rules
    if len(rules) > room.others:  # what stands in the way is what must be seen
        rules = tuple(sorted(rules, key=lambda rule: rule.status == "pass"))
    rows = [[code(rule.name), _MARKS[rule.status], *_numbers(rule), words(rule.why)] for rule in rules[: room.others]]
    if not rows:
        return ["No rule is set."]
    return _table(["rule", "verdict", "value", "bound", "why"], rows, "llrrl", room, len(rules))


def _numbers(rule: RuleResult) -> list[str]:
    return [of_rule(rule.name, value, rule.bound) for value in (rule.value, rule.bound)]


def _quality(report: Report, room: _Room) -> list[str]:
    quality = report.evidence.quality
    rows = [
        [
            code(found.name),
            estimated(found.candidate),
            estimated(found.champion),
            lost(found.loss, found.candidate.value),
            words(found.method),
        ]
        for found in quality.metrics
    ]
    return [
        f"{_rows(quality)}. Intervals are at 95%; the loss is"
        " champion against candidate on the same rows, above 0 where the candidate is worse.",
        "",
        *_table(["metric", "candidate", "champion", "loss", "interval by"], rows, "lrrrl", room),
    ]


def _rows(quality: Quality) -> str:
    """How many rows, and how they are spread over what is to be told."""
    if quality.positives is not None:
        return f"{quality.rows:,} rows, {quality.positives:,} positive ({quality.positives / (quality.rows or 1):.1%})"
    if not quality.classes:
        return f"{quality.rows:,} rows"
    ordered = sorted(quality.classes.items(), key=lambda item: item[1])
    (rare, fewest), (frequent, most) = ordered[0], ordered[-1]
    spread = f"from {fewest:,} ({code(rare)}) to {most:,} ({code(frequent)})"
    return f"{quality.rows:,} rows of {len(quality.classes):,} classes, {spread}"


def _slices(report: Report, room: _Room) -> list[str]:
    quality = report.evidence.quality
    if not quality.slices:
        return []
    binary = quality.positives is not None
    kept = set(map(id, worst_first(quality.slices)[: room.slices]))
    listed = [found for found in quality.slices if id(found) in kept]
    rows = [
        [
            code(found.column),
            slice_value(found, code),
            f"{found.rows:,}",
            *([f"{found.positives:,}" if found.positives is not None else ""] if binary else []),
            estimated(found.candidate),
            estimated(found.champion),
            lost(found.loss, found.candidate.value) if found.candidate else words(found.note),
        ]
        for found in listed
    ]
    head = ["column", "value", "rows", *(["positive"] if binary else []), "candidate", "champion", "loss"]
    name = "ROC AUC" if binary else code(quality.sliced_by)
    if tested := any(found.p is not None for found in quality.slices):
        head.append("p")
        rows = [[*row, corrected(found.p)] for row, found in zip(rows, listed, strict=True)]
    say = f"{name} by slice. {slices_said(quality)}"
    tests = tests_listing(quality)
    ruled = [[code(first), *others] for first, *others in tests.rows]
    gone = len(quality.slices) - len(rows)
    left = ["", f"Left out for want of room: {gone:,} slices, those that lose least."] if gone else []
    align = "llr" + "r" * binary + "rrr" + "r" * tested
    lines = [say, *left, "", *(table(head, rows, align) if rows else [])]
    above = [*_table(tests.head, ruled, tests.align, room), ""] if ruled else []
    return above + details(f"{len(quality.slices):,} slices", lines)


def _calibration(report: Report, room: _Room) -> list[str]:
    calibration = report.evidence.quality.calibration
    if calibration is None:
        return []
    rows = [
        [
            f"{found.mean_score:g}" if calibration.kind == "coverage" else f"{found.low:.1f} to {found.high:.1f}",
            f"{found.rows:,}",
            *([] if calibration.kind == "coverage" else [f"{found.mean_score:.3f}"]),
            f"{found.rate.value:.3f} ({found.rate.low:.3f} to {found.rate.high:.3f})",
            code(_bar(found.rate.value, found.mean_score)),
        ]
        for found in calibration.bins
    ]
    if not rows:
        return ["Left out."]
    say, head, align = _CALIBRATIONS[calibration.kind]
    lines = [f"{calibration_said(calibration)} {say}", "", *_table([*head, "from 0 to 1"], rows, align, room)]
    return details(f"Calibration error {calibration.ece:.4f}", lines)


_CALIBRATIONS = {
    "probability": (
        "The bar is the observed rate, its line the mean score.",
        ["score", "rows", "mean score", "observed rate"],
        "rrrrl",
    ),
    "confidence": (
        "It is of the probability of the class that is chosen. The bar is how often that is the right one, its line"
        " the mean probability.",
        ["probability", "rows", "mean probability", "right"],
        "rrrrl",
    ),
    "coverage": (
        "It is the mean distance of the share of outcomes at or below each quantile from what was asked for. The bar"
        " is the observed share, its line the quantile.",
        ["quantile", "rows", "observed share"],
        "rrrl",
    ),
}


def _bar(rate: float, score: float) -> str:
    cells = ["█" if (cell + 0.5) / _BAR <= rate else "·" for cell in range(_BAR)]
    if 0 <= score <= 1:
        cells[min(int(score * _BAR), _BAR - 1)] = "│"
    return "".join(cells)


def _phases(report: Report, room: _Room) -> list[str]:
    total = sum(phase.seconds for phase in report.phases)
    if not report.phases:
        return []
    rows = [[words(phase.name), f"{phase.seconds:.2f}"] for phase in report.phases]
    lines = _table(["phase", "seconds"], [*rows, ["**total**", f"**{total:.2f}**"]], "lr", room)
    return details(f"{total:.1f} s", lines)


def _server(report: Report, room: _Room) -> list[str]:
    return server_lines(report.evidence)


def _parity(report: Report, room: _Room) -> list[str]:
    return parity_lines(report.evidence.parity, room.others) if report.evidence.parity else []


def _leakage(report: Report, room: _Room) -> list[str]:
    return leakage_lines(report.evidence.leakage, room.others) if report.evidence.leakage else []


def _provenance(report: Report, room: _Room) -> list[str]:
    return provenance_lines(report.evidence.provenance, room.others) if report.evidence.provenance else []


def _table(
    head: Sequence[str], rows: Sequence[Sequence[str]], align: str, room: _Room, of: int | None = None
) -> list[str]:
    """A table with as many rows as there is room for, and how many more there are; `of` is how many there were."""
    gone = (len(rows) if of is None else of) - room.others
    more = ["", f"Left out for want of room: {gone:,} rows."] if gone > 0 else []
    return [*table(head, rows[: room.others], align), *more]


_SECTIONS: Mapping[str, Callable[[Report, _Room], list[str]]] = MappingProxyType(
    {
        "Rules": _rules,
        "Quality on the sealed test part": _quality,
        "Slices": _slices,
        "Calibration": _calibration,
        "The server": _server,
        "Parity": _parity,
        "Leakage": _leakage,
        "Provenance": _provenance,
        "Where the time went": _phases,
    }
)
