"""The rules `slices.COLUMN.may_lose`: whether some slice of a column loses more than it may.

*fail* if a slice's loss is beyond the bound with 95% confidence for all slices of the gate together. Else *pass*:
unlike a metric's `may_lose`, what is not shown is taken as fine here, for a slice with few rows could never show that
it loses nothing. *undecided* only where no slice has enough rows for a test.
"""

from __future__ import annotations

from trunkline.gate.evidence import Quality, SliceTest
from trunkline.gate.numbers import signed
from trunkline.gate.policy import GatePolicy
from trunkline.gate.rule import RuleResult

__all__ = ["slice_rules"]


def slice_rules(policy: GatePolicy, found: Quality) -> list[RuleResult]:
    """One result for each column with a bound."""
    tests = {test.column: test for test in found.slice_tests}
    whole = found.metric(found.sliced_by)
    results = []
    for column, rule in policy.slice_rules.items():
        if (bound := rule.may_lose) is None:
            continue
        path, test = f"slices.{column}.may_lose", tests.get(column)
        if test is not None:
            results.append(_tested(path, bound, test, whole.candidate.value if whole else 1.0, found.rows))
        elif whole is not None and whole.champion is None:
            results.append(RuleResult(path, None, bound, "pass", "there is no champion to lose against"))
        else:
            results.append(RuleResult(path, None, bound, "undecided", "the slices were not measured"))
    return results


def _tested(path: str, bound: float, test: SliceTest, scale: float, rows: int) -> RuleResult:
    if not test.slices or test.loss is None or test.p is None:
        why = "no slice has enough rows for a test"
        if test.needed is not None:
            why += f"; about {test.needed:,} rows would have one that has ({rows:,} now)"
        return RuleResult(path, None, bound, "undecided", why)
    clearest = f"of {test.rows:,} rows, loses {signed(test.loss, scale)} (p {test.p:.3g} after Holm over {test.family})"
    untested = f"; {test.untested:,} rows are in slices too small to test" if test.untested else ""
    if test.beyond:
        why = f"{test.beyond} of {test.slices} slices lose more, with 95% confidence; the clearest, {clearest}"
        return RuleResult(path, test.loss, bound, "fail", why + untested)
    why = f"none of {test.slices} slices is shown to lose more; the closest to it, {clearest}"
    return RuleResult(path, test.loss, bound, "pass", why + untested)
