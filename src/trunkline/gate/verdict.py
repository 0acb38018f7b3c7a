"""The verdict: a pure function of evidence and policy.

One rule, one result. The whole passes if every rule passes: what is undecided has not been shown.

- `metrics.NAME.at_least` / `.at_most`: compares the point estimate; the interval is reported beside it.
- `metrics.NAME.may_lose`: a test of non-inferiority. The loss is how much worse the candidate is than the champion on
  the same rows. *pass* if its one-sided 95% upper limit is within the bound (so a candidate whose true loss is just the
  bound passes in 5% of samples at most), *fail* if its one-sided 95% lower limit is beyond it, else *undecided*. Passes
  if there is no champion. Where a number is the goal (coverage), the loss is how much farther from it the candidate is.
- `calibration.ece_at_most`: *pass* if the upper limit of the calibration error is within the bound, *fail* if its lower
  limit is beyond it, both one-sided at 95%, else *undecided*.
- `slices`: see `slice_rules.py`.
- `latency`: see `latency_rules.py`.
- `parity`, `leakage`, `bundle`, `provenance`: see `proof.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from trunkline.gate.evidence import Estimate, Evidence, Loss, MetricEvidence, Quality
from trunkline.gate.latency_rules import latency_rules
from trunkline.gate.needed import rows_needed
from trunkline.gate.numbers import shown, signed
from trunkline.gate.policy import GatePolicy, Goal, MetricRule
from trunkline.gate.proof import proven
from trunkline.gate.rule import RuleResult, Status
from trunkline.gate.slice_rules import slice_rules

__all__ = ["RuleResult", "Status", "Verdict", "judge"]


@dataclass(frozen=True)
class Verdict:
    """All rules, in the order of the policy."""

    rules: tuple[RuleResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every rule passes."""
        return all(rule.status == "pass" for rule in self.rules)


def judge(evidence: Evidence, policy: GatePolicy) -> Verdict:
    """The verdict on `evidence` by `policy`."""
    rules: list[RuleResult] = []
    for name, rule in policy.metrics.items():
        rules += _metric(name, rule, evidence.quality.metric(name), evidence.quality.rows)
    rules += slice_rules(policy, evidence.quality)
    rules += _calibration(policy.calibration.ece_at_most, evidence.quality)
    rules += latency_rules(policy.latency, evidence.latency, evidence.champion_latency)
    rules += proven(evidence, policy)
    return Verdict(tuple(rules))


def _metric(name: str, rule: MetricRule, found: MetricEvidence | None, rows: int) -> list[RuleResult]:
    results = []
    for kind, bound in (("at_least", rule.at_least), ("at_most", rule.at_most), ("may_lose", rule.may_lose)):
        path = f"metrics.{name}.{kind}"
        if bound is None:
            continue
        if found is None:
            results.append(RuleResult(path, None, bound, "undecided", "this metric was not measured"))
        elif kind == "may_lose":
            results.append(_may_lose(path, bound, found, rows))
        else:
            results.append(_bounded(path, bound, found.candidate, floor=kind == "at_least"))
    return results


def _bounded(path: str, bound: float, found: Estimate, *, floor: bool) -> RuleResult:
    holds = found.value >= bound if floor else found.value <= bound
    open_ended = not (found.low >= bound if floor else found.high <= bound)
    low, high = shown(found.low, found.value), shown(found.high, found.value)
    why = f"{shown(found.value)}, 95% interval {low} to {high}"
    if holds and open_ended:
        why += "; the interval reaches beyond the bound"
    return RuleResult(path, found.value, bound, "pass" if holds else "fail", why)


def _may_lose(path: str, bound: float, found: MetricEvidence, rows: int) -> RuleResult:
    loss, scale = found.loss, found.candidate.value
    if loss is None:
        return RuleResult(path, None, bound, "pass", "there is no champion to lose against")
    if not isfinite(loss.at_most):
        why = f"loses {signed(loss.value, scale)} on every resample too, which tells nothing of rows that were not seen"
        return RuleResult(path, loss.value, bound, "undecided", why)
    why = f"loses {signed(loss.value, scale)}, with 95% confidence"
    least, most = f"{signed(loss.at_least, scale)} at least", f"{signed(loss.at_most, scale)} at most"
    if loss.at_most <= bound:
        return RuleResult(path, loss.value, bound, "pass", f"{why} {most}")
    if loss.at_least > bound:
        return RuleResult(path, loss.value, bound, "fail", f"{why} {least}")
    needed = _needed(loss, bound, rows, found.goal)
    return RuleResult(path, loss.value, bound, "undecided", f"{why} {least} and {most}; {needed}")


def _needed(loss: Loss, bound: float, rows: int, goal: Goal = "higher") -> str:
    """How many rows would decide, if the loss stays what it is."""
    needed = rows_needed(loss, bound, rows, goal)
    if needed is None:
        return "no number of rows decides a loss that is just the bound"
    way = "pass" if loss.value < bound else "fail"
    return f"if it stays so, about {needed:,.0f} rows would {way} it ({rows:,} now)"


def _calibration(bound: float | None, found: Quality) -> list[RuleResult]:
    """The rule `calibration.ece_at_most`, if there is one."""
    path, calibration = "calibration.ece_at_most", found.calibration
    if bound is None:
        return []
    if calibration is None or calibration.beyond_chance is None or calibration.at_least is None:
        return [RuleResult(path, None, bound, "undecided", "no probability was measured")]
    value, least, most = calibration.beyond_chance.value, calibration.at_least, calibration.at_most
    assert most is not None
    limits = f"with 95% confidence {shown(least)} at least and {shown(most)} at most"
    if most <= bound:
        return [RuleResult(path, value, bound, "pass", limits)]
    if least > bound:
        return [RuleResult(path, value, bound, "fail", limits)]
    limit = Loss(value, least, most, least, most, unseen=calibration.unseen)
    needed = _needed(limit, bound, found.rows)
    return [RuleResult(path, value, bound, "undecided", f"{limits}; {needed}")]
