"""The verdict: a pure function of evidence and policy.

One rule, one result. The whole passes if every rule passes: what is undecided has not been shown.

- `metrics.NAME.at_least` / `.at_most`: compares the point estimate; the interval is reported beside it.
- `metrics.NAME.may_lose`: a test of non-inferiority. The loss is how much worse the candidate is than the champion on
  the same rows. *pass* if its one-sided 95% upper limit is within the bound (so a candidate whose true loss is just the
  bound passes in 5% of samples at most), *fail* if its one-sided 95% lower limit is beyond it, else *undecided*. Passes
  if there is no champion. Where a number is the goal (coverage), the loss is how much farther from it the candidate is.
- `latency.p50_ms` / `.p99_ms`: compares the quantile measured at the real server; undecided if none was measured.
- `parity`: fails if one HTTP answer differs from the offline score; left out if no server was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trunkline.gate.evidence import Estimate, Evidence, Latency, Loss, MetricEvidence, Parity
from trunkline.gate.numbers import shown, signed
from trunkline.gate.policy import GatePolicy, LatencyRule, MetricRule

Status = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class RuleResult:
    """One rule: its path in the deployment's file, what was found, what was asked, and why it is so.

    `why` holds numbers and fixed words only, no text of the user's.
    """

    name: str
    value: float | None
    bound: float | None
    status: Status
    why: str


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
    rules += _latency(policy.latency, evidence.latency)
    if evidence.parity is not None:
        rules.append(_parity(evidence.parity))
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
    why = f"loses {signed(loss.value, scale)}, with 95% confidence"
    least, most = f"{signed(loss.at_least, scale)} at least", f"{signed(loss.at_most, scale)} at most"
    if loss.at_most <= bound:
        return RuleResult(path, loss.value, bound, "pass", f"{why} {most}")
    if loss.at_least > bound:
        return RuleResult(path, loss.value, bound, "fail", f"{why} {least}")
    needed = _rows_needed(loss, bound, rows)
    return RuleResult(path, loss.value, bound, "undecided", f"{why} {least} and {most}; {needed}")


def _rows_needed(loss: Loss, bound: float, rows: int) -> str:
    """How many rows would decide, if the loss stays what it is: the limit closes in with the root of the rows."""
    if loss.value == bound:
        return "no number of rows decides a loss that is just the bound"
    half = loss.at_most - loss.value if loss.value < bound else loss.value - loss.at_least
    needed = rows * (half / abs(bound - loss.value)) ** 2
    way = "pass" if loss.value < bound else "fail"
    return f"if it stays so, about {needed:,.0f} rows would {way} it ({rows:,} now)"


def _latency(rule: LatencyRule, found: Latency | None) -> list[RuleResult]:
    results = []
    for kind, bound in (("p50_ms", rule.p50_ms), ("p99_ms", rule.p99_ms)):
        path = f"latency.{kind}"
        if bound is None:
            continue
        if found is None:
            results.append(RuleResult(path, None, bound, "undecided", "no server was measured"))
            continue
        value = found.p50_ms if kind == "p50_ms" else found.p99_ms
        why = f"{value:.2f} ms over {found.requests:,} requests of one row"
        results.append(RuleResult(path, value, bound, "pass" if value <= bound else "fail", why))
    return results


def _parity(found: Parity) -> RuleResult:
    why = f"{found.differ} of {found.rows} HTTP answers differ from the offline score"
    return RuleResult("parity", float(found.differ), 0.0, "fail" if found.differ else "pass", why)
