"""What the report says of rules, looks, slices and calibration, in Markdown and HTML alike. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from trunkline.gate.evidence import Calibration, Quality, SliceEvidence
from trunkline.gate.numbers import shown, signed
from trunkline.gate.report_proof import Listing
from trunkline.gate.verdict import Verdict

__all__ = [
    "LADDER",
    "calibration_said",
    "corrected",
    "rules_counted",
    "slice_value",
    "slices_said",
    "tests_listing",
    "worst_first",
]

LADDER = (
    "a score is shown only if it beats the best shown so far by more than its standard error (the Ladder of Blum &"
    " Hardt, 2015); else that best stands in its place. Slices, curves and calibration are left out."
)
"""What is withheld where few looks are left."""


def rules_counted(verdict: Verdict) -> str:
    """How many rules came out how."""
    if not verdict.rules:
        return "No rule is set."
    counts = [
        f"{sum(rule.status == status for rule in verdict.rules)} {word}"
        for status, word in (("pass", "passed"), ("fail", "failed"), ("undecided", "undecided"))
    ]
    return f"Rules: {', '.join(counts)}."


def slice_value(found: SliceEvidence, written: Callable[[str], str] = str) -> str:
    """Which slice of its column it is; `written` makes a value of the user's harmless."""
    if found.others:
        return f"{found.others} rarer values"
    return "missing" if found.value is None else written(found.value)


def worst_first(slices: Sequence[SliceEvidence]) -> list[SliceEvidence]:
    """Those that surely lose most first; those of which no loss is known last."""
    return sorted(slices, key=lambda found: -found.loss.at_least if found.loss else inf)


def slices_said(quality: Quality) -> str:
    """Whether chance was allowed for: of twenty slices at 95%, one loses by chance."""
    if not quality.slice_tests:
        return "For information: the intervals are not corrected for how many slices there are."
    family = max(found.family for found in quality.slice_tests)
    return (
        f"The intervals are of each slice by itself. p is corrected for all {family:,} slices that are tested"
        " (Holm, 1979): the chance of such a loss if the true one were just the bound."
    )


def tests_listing(quality: Quality) -> Listing:
    """The test of each column that has a rule."""
    metric = quality.metric(quality.sliced_by)
    size = metric.candidate.value if metric else 1.0
    rows = tuple(
        (
            found.column,
            f"{found.slices:,}",
            f"{found.beyond:,}",
            signed(found.loss, size) if found.loss is not None else "",
            f"{found.rows:,}" if found.loss is not None else "",
            corrected(found.p),
            f"{found.untested:,}",
        )
        for found in quality.slice_tests
    )
    head = ("column", "tested", "beyond the bound", "clearest loss", "its rows", "p", "rows in no test")
    return Listing("", head, rows)


def corrected(p: float | None) -> str:
    """A corrected p-value."""
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def calibration_said(found: Calibration) -> str:
    """The error, and what of it cannot be chance where that is known."""
    said = f"Calibration error {found.ece:.4f}"
    if found.beyond_chance is not None:
        own = found.beyond_chance
        said += f"; beyond chance {shown(own.value, 0.1)} ({shown(own.low, 0.1)} to {shown(own.high, 0.1)})"
    return f"{said}."
