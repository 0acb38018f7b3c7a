"""The gate's report: one record, rendered as Markdown for people and as JSON for machines. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import cast

from trunkline.gate.evidence import Calibration, Estimate, Evidence, Latency, Loss, Parity, Quality, SliceEvidence
from trunkline.gate.markdown import code, table
from trunkline.gate.numbers import shown, signed
from trunkline.gate.verdict import RuleResult, Verdict

SCHEMA = "trunkline.gate/1"

_MARKS = {"pass": "✓ pass", "fail": "✗ **fail**", "undecided": "? **undecided**"}
_BAR = 24


@dataclass(frozen=True)
class Identity:
    """A model version by its reference and the digest of its bundle."""

    reference: str
    sha256: str


@dataclass(frozen=True)
class Phase:
    """A part of the gate's work and how long it took."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Looks:
    """Which look at the sealed part this is, of how many; whether the Ladder shows its scores, what it withholds."""

    number: int
    budget: int
    ladder: bool
    withheld: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"look {self.number} of {self.budget}"


@dataclass(frozen=True)
class Report:
    """Everything that is said about one look at the test part.

    `provenance` names what the verdict rests on: dataset, look, git commit, whatever the caller knows.
    """

    deployment: str
    candidate: Identity
    champion: Identity | None
    verdict: Verdict
    evidence: Evidence
    phases: tuple[Phase, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    looks: Looks | None = None


def to_json(report: Report) -> dict[str, object]:
    """The report as plain data with the schema's name; numbers that are not finite become None."""
    data = cast("dict[str, object]", _plain(asdict(report)))
    return {"schema": SCHEMA, "passed": report.verdict.passed, **data}


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value


def to_markdown(report: Report) -> str:
    """The report for a pull request. Text of the user's stands in code spans only (see `markdown`)."""
    verdict = "**The gate passes.**" if report.verdict.passed else "**The gate does not pass.**"
    lines = [f"## Gate of {code(report.deployment)}", "", f"{verdict} {_counts(report.verdict)}", ""]
    lines += _identities(report)
    lines += _looks(report.looks)
    lines += ["", "### Rules", "", *_rules(report.verdict)]
    lines += ["", "### Quality on the sealed test part", "", *_quality(report.evidence.quality)]
    if report.evidence.quality.slices:
        lines += ["", "### Slices", "", *_slices(report.evidence.quality)]
    if report.evidence.quality.calibration is not None:
        lines += ["", "### Calibration", "", *_calibration(report.evidence.quality.calibration)]
    lines += ["", "### The server", "", *_server(report.evidence)]
    lines += ["", "### Where the time went", "", *_phases(report.phases)]
    return "\n".join(lines) + "\n"


def _counts(verdict: Verdict) -> str:
    if not verdict.rules:
        return "No rule is set."
    counts = [
        f"{sum(rule.status == status for rule in verdict.rules)} {word}"
        for status, word in (("pass", "passed"), ("fail", "failed"), ("undecided", "undecided"))
    ]
    return f"Rules: {', '.join(counts)}."


def _identities(report: Report) -> list[str]:
    rows = [["candidate", code(report.candidate.reference), code(report.candidate.sha256[:16])]]
    if report.champion is not None:
        rows.append(["champion", code(report.champion.reference), code(report.champion.sha256[:16])])
    else:
        rows.append(["champion", "none yet", ""])
    lines = table(["", "model", "sha256"], rows, "lll")
    if report.provenance:
        known = [f"{code(name)} {code(value)}" for name, value in sorted(report.provenance.items())]
        lines += ["", f"Rests on {', '.join(known)}."]
    return lines


def _looks(looks: Looks | None) -> list[str]:
    if looks is None:
        return []
    lines = ["", f"This is {looks} at the sealed test part."]
    if looks.ladder:
        lines[1] += (
            " Few are left: a score is shown only if it beats the best shown so far by more than its standard error"
            " (the Ladder of Blum & Hardt, 2015); else that best stands in its place. Slices and calibration are left"
            " out."
        )
        withheld = ", ".join(map(code, looks.withheld)) or "none"
        lines += ["", f"Withheld scores: {withheld}."]
    return lines


def _rules(verdict: Verdict) -> list[str]:
    rows = [
        [code(rule.name), _MARKS[rule.status], _number(rule, rule.value), _number(rule, rule.bound), rule.why]
        for rule in verdict.rules
    ]
    return table(["rule", "verdict", "value", "bound", "why"], rows, "llrrl") if rows else ["No rule is set."]


def _number(rule: RuleResult, value: float | None) -> str:
    if value is None:
        return "–"
    return (
        f"{value:.2f}"
        if rule.name.startswith("latency.")
        else f"{value:.0f}"
        if rule.name == "parity"
        else shown(value, max(abs(value), abs(rule.bound or 0.0)))
    )


def _quality(quality: Quality) -> list[str]:
    rows = [
        [
            code(found.name),
            _estimate(found.candidate),
            _estimate(found.champion),
            _loss(found.loss, found.candidate),
            found.method,
        ]
        for found in quality.metrics
    ]
    return [
        f"{_rows(quality)}. Intervals are at 95%; the loss is"
        " champion against candidate on the same rows, above 0 where the candidate is worse.",
        "",
        *table(["metric", "candidate", "champion", "loss", "interval by"], rows, "lrrrl"),
    ]


def _rows(quality: Quality) -> str:
    """How many rows, and how they are spread over what is to be told."""
    if quality.positives is not None:
        return f"{quality.rows:,} rows, {quality.positives:,} positive ({quality.positives / quality.rows:.1%})"
    if not quality.classes:
        return f"{quality.rows:,} rows"
    (rare, fewest), *_, (frequent, most) = sorted(quality.classes.items(), key=lambda item: item[1])
    spread = f"from {fewest:,} ({code(rare)}) to {most:,} ({code(frequent)})"
    return f"{quality.rows:,} rows of {len(quality.classes):,} classes, {spread}"


def _slices(quality: Quality) -> list[str]:
    binary = quality.positives is not None
    rows = [
        [
            code(found.column),
            _slice_value(found),
            f"{found.rows:,}",
            *([f"{found.positives:,}"] if found.positives is not None else []),
            _estimate(found.candidate),
            _estimate(found.champion),
            _loss(found.loss, found.candidate) if found.candidate else found.note,
        ]
        for found in quality.slices
    ]
    head = ["column", "value", "rows", *(["positive"] if binary else []), "candidate", "champion", "loss"]
    name = "ROC AUC" if binary else code(quality.sliced_by)
    # Twenty slices at 95% show one loss by chance: nothing is decided here until the rules control for that (Holm).
    say = f"{name} by slice, for information: the intervals are not corrected for how many slices there are."
    return [say, "", *table(head, rows, "llrrrrr" if binary else "llrrrr")]


def _slice_value(found: SliceEvidence) -> str:
    if found.others:
        return f"{found.others} rarer values"
    return "missing" if found.value is None else code(found.value)


def _calibration(calibration: Calibration) -> list[str]:
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
    return [say.format(calibration.ece), "", *table([*head, "from 0 to 1"], rows, align)]


_CALIBRATIONS = {
    "probability": (
        "Expected calibration error {:.4f}. The bar is the observed rate, its line the mean score.",
        ["score", "rows", "mean score", "observed rate"],
        "rrrrl",
    ),
    "confidence": (
        "Expected calibration error {:.4f}, of the probability of the class that is chosen. The bar is how often that"
        " is the right one, its line the mean probability.",
        ["probability", "rows", "mean probability", "right"],
        "rrrrl",
    ),
    "coverage": (
        "Outcomes at or below each quantile; the mean distance from what was asked for is {:.4f}. The bar is the"
        " observed share, its line the quantile.",
        ["quantile", "rows", "observed share"],
        "rrrl",
    ),
}


def _bar(rate: float, score: float) -> str:
    cells = ["█" if (cell + 0.5) / _BAR <= rate else "·" for cell in range(_BAR)]
    cells[min(int(score * _BAR), _BAR - 1)] = "│"
    return "".join(cells)


def _server(evidence: Evidence) -> list[str]:
    if evidence.latency is None:
        return ["No server was measured."]
    rows = [_latency_row("candidate", evidence.latency)]
    if evidence.champion_latency is not None:
        rows.append(_latency_row("champion", evidence.champion_latency))
    head = ["", "p50", "p95", "p99", "max", "requests/s"]
    connections = evidence.latency.connections
    return [
        f"Single-row requests over one connection, in milliseconds ({evidence.latency.requests:,} each, servers in"
        f" turn); requests a second over {connections} connections of one Python client.",
        "",
        *table(head, rows, "lrrrrr"),
        *(_parity(evidence.parity) if evidence.parity else []),
    ]


def _latency_row(who: str, found: Latency) -> list[str]:
    times = (found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms)
    return [who, *(f"{time:.2f}" for time in times), f"{found.requests_per_second:,.0f}"]


def _parity(parity: Parity) -> list[str]:
    of_size = " of the score's size" if parity.relative else ""
    lines = [
        "",
        f"Parity of HTTP answer and offline score: **{parity.differ:,} of {parity.rows:,} differ**"
        f" (by more than {parity.tolerance:g}{of_size}; largest difference {parity.largest:.2g}).",
    ]
    if parity.example is not None:
        found = parity.example
        lines += ["", f"First difference: offline {found.offline!r}, HTTP {found.http!r}, for this row:", ""]
        rows = [[code(name), code(repr(value))] for name, value in found.row.items()]
        lines += table(["column", "value"], rows, "ll")
    return lines


def _phases(phases: tuple[Phase, ...]) -> list[str]:
    total = sum(phase.seconds for phase in phases)
    rows = [[phase.name, f"{phase.seconds:.2f}"] for phase in phases]
    return table(["phase", "seconds"], [*rows, ["**total**", f"**{total:.2f}**"]], "lr")


def _estimate(found: Estimate | None) -> str:
    if found is None:
        return "–"
    return f"{shown(found.value)} ({shown(found.low, found.value)} to {shown(found.high, found.value)})"


def _loss(found: Loss | None, of: Estimate) -> str:
    if found is None:
        return "–"
    return f"{signed(found.value, of.value)} ({signed(found.low, of.value)} to {signed(found.high, of.value)})"
