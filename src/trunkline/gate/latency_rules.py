"""The rules on the speed of the real server. Pure.

A rule is judged by limits that hold whatever else the machine does, or it is not decided. *pass* if the far limit of
what was measured is within the bound, *fail* if the near limit is beyond it, else *undecided*.

- `latency.p50_ms`, `.p95_ms`, `.p99_ms`: of requests on a schedule, counted from when each was due, and undisturbed by
  others. Where others keep the machine busy, no schedule can be kept, and what counts is single requests, without the
  time they waited for a CPU. A server that stood still does not pass if those who would have come meanwhile, at any
  moment, and waited longer than the bound, would have been too many.
- `latency.may_slow`: how many times the champion's latency the candidate's is, one request at a time; of p50, or of
  what it names. Passes if there is no champion.
- `latency.throughput_at_least`: passes by what was seen; fails only if it would be too little without others too.
- `latency.cold_start_s`: passes by the whole time; fails only if it is too long without waiting for a CPU too.
- `latency.memory_mb`: the most that all processes of the server held, in 10^6 bytes.

Between two measurements of the same server lies more than chance within one: it sits elsewhere in memory, on other
cores, beside other work. A limit therefore counts only if it holds with a margin: `_MARGIN` on a calm machine, and more
the more of it others keep busy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from trunkline.gate.evidence import MEBIBYTE, Latency, Own
from trunkline.gate.policy import LatencyRule
from trunkline.gate.rule import RuleResult
from trunkline.project.deploy import MaySlow

__all__ = ["BUSY_CORES", "latency_rules", "settled"]

_MARGIN = 0.05
"""How far two measurements of the same server may be apart on a calm machine, whatever their limits say."""
_BUSY_MARGIN = 0.35
"""The same with all cores busy; in between, in proportion."""
_BUSY_RATIO_MARGIN = 1.0
"""The same of a ratio: each server has its own luck with where its threads run. Measured by benchmarks/gate_latency.py,
of 20 starts of the same pair beside ten other busy processes one was 2.3 times slower."""
BUSY_CORES = 0.2
"""From so many cores on that others keep busy, waiting for a CPU is counted as their doing."""


def settled(rule: LatencyRule, found: Latency, champion: Latency | None) -> bool:
    """Whether more requests would not help: each rule that they could decide is decided."""
    open_ = [result.name for result in latency_rules(rule, found, champion) if result.status == "undecided"]
    return not [name for name in open_ if not name.endswith((".cold_start_s", ".memory_mb"))]


def latency_rules(rule: LatencyRule, found: Latency | None, champion: Latency | None) -> list[RuleResult]:
    """The rules in the order above; those that are not set are left out."""
    return [*_quantiles(rule, found), *_ratios(rule, found, champion), *_others(rule, found)]


def _quantiles(rule: LatencyRule, found: Latency | None) -> Iterator[RuleResult]:
    for name, bound in (("p50", rule.p50_ms), ("p95", rule.p95_ms), ("p99", rule.p99_ms)):
        path = f"latency.{name}_ms"
        if bound is None:
            continue
        if found is None:
            yield RuleResult(path, None, bound, "undecided", "no server was measured")
            continue
        seen: float = getattr(found, f"{name}_ms")
        own, requests = found.own.get(name), found.requests
        if own is None:
            why = f"{seen:.2f} ms over {found.requests:,} requests of one row"
            yield RuleResult(path, seen, bound, "pass" if seen <= bound else "fail", why)
            continue
        why = f"{own.value:.2f} ms over {found.requests:,} requests at {found.rate or 0:,.0f} a second"
        if seen > own.value * (1 + _MARGIN):
            why += f" ({seen:.2f} ms with those that others disturbed)"
        if found.others_cores > BUSY_CORES and name in found.single:
            own, requests = found.single[name], found.single_requests
            why = f"{own.value:.2f} ms one at a time without what others took of the machine"
            why += f" ({seen:.2f} ms over {found.requests:,} requests at {found.rate or 0:,.0f} a second with it)"
        yield _unless_it_stood_still(_ceiling(path, bound, own, why, found, requests), name, found)


def _unless_it_stood_still(result: RuleResult, name: str, found: Latency) -> RuleResult:
    """Stalls by the time they took: as many as would have come in it."""
    assert result.bound is not None
    beyond = sum(max(stall - result.bound, 0.0) for stall in found.stalls_ms) / 1e3
    may_be_late = 1 - int(name.removeprefix("p")) / 100
    if result.status != "pass" or beyond <= may_be_late * found.watched_seconds:
        return result
    why = (
        f"{result.why}; but it stood still for up to {found.stalls_ms[0]:,.0f} ms: who comes at any moment waits "
        f"longer than {result.bound:g} ms with a probability of {beyond / found.watched_seconds:.1%}"
    )
    return replace(result, status="undecided", why=why)


def _ratios(rule: LatencyRule, found: Latency | None, champion: Latency | None) -> Iterator[RuleResult]:
    asked = rule.may_slow
    if asked is None:
        return
    several = {"": asked} if not isinstance(asked, MaySlow) else {f".{n}": getattr(asked, n) for n in _NAMES}
    for name, bound in several.items():
        path = f"latency.may_slow{name}"
        if bound is None:
            continue
        if found is None:
            yield RuleResult(path, None, bound, "undecided", "no server was measured")
        elif champion is None:
            yield RuleResult(path, None, bound, "pass", "there is no champion to be slower than")
        elif (slower := found.slower.get(name[1:] or "p50")) is None:
            yield RuleResult(path, None, bound, "undecided", "the servers were not compared")
        else:
            quantile = name[1:] or "p50"
            times = f"{found.single_ms[quantile]:.2f} and {champion.single_ms[quantile]:.2f} ms"
            why = f"{quantile} is {slower.value:.2f} times the champion's ({times})"
            why += f" over {found.single_requests:,} requests"
            yield _ceiling(path, bound, slower, why, found, found.single_requests, _BUSY_RATIO_MARGIN)


_NAMES = ("p50", "p95", "p99")


def _others(rule: LatencyRule, found: Latency | None) -> Iterator[RuleResult]:
    if rule.throughput_at_least is not None:
        yield _throughput(rule.throughput_at_least, found)
    if rule.cold_start_s is not None:
        yield _cold_start(rule.cold_start_s, found)
    if rule.memory_mb is not None:
        yield _memory(rule.memory_mb, found)


def _ceiling(
    path: str, bound: float, own: Own, why: str, found: Latency, requests: int, busiest: float = _BUSY_MARGIN
) -> RuleResult:
    margin = 1 + _margin(found, busiest)
    low = own.low / margin if own.low is not None else None
    high = own.high * margin if own.high is not None else None
    why += f", surely between {_or_none(low)} and {_or_none(high)}"
    if high is not None and high <= bound:
        return RuleResult(path, own.value, bound, "pass", why)
    if low is not None and low > bound:
        return RuleResult(path, own.value, bound, "fail", why)
    return RuleResult(path, own.value, bound, "undecided", f"{why}; {_needed(bound, own, margin, found, requests)}")


def _margin(found: Latency, busiest: float = _BUSY_MARGIN) -> float:
    busy = min(found.others_cores / found.cores, 1.0) if found.others_cores > BUSY_CORES else 0.0
    return _MARGIN + (busiest - _MARGIN) * busy


def _or_none(limit: float | None) -> str:
    return "any number" if limit is None else f"{limit:.2f}"


def _needed(bound: float, own: Own, margin: float, found: Latency, requests: int) -> str:
    """How many requests would decide, if the value stays: limits close in with the root of the requests."""
    if own.value / margin <= bound <= own.value * margin:
        busy = f" while others keep {found.others_cores:.1f} cores busy" if margin > 1 + _MARGIN else ""
        return f"no number of requests decides a bound so close to the value{busy}"
    limit = own.high if own.value < bound else own.low
    if limit is None:
        return f"about {3 * requests:,} requests would set a limit ({requests:,} now)"
    room = bound / margin - own.value if own.value < bound else own.value - bound * margin
    needed = requests * ((limit - own.value) / room) ** 2
    return f"if it stays so, about {needed:,.0f} requests would decide it ({requests:,} now)"


def _throughput(bound: float, found: Latency | None) -> RuleResult:
    path = "latency.throughput_at_least"
    if found is None or found.throughput is None:
        return RuleResult(path, None, bound, "undecided", "no server was measured")
    seen, margin = found.throughput, 1 + _margin(found)
    low = seen.low / margin if seen.low is not None else None
    high = seen.high * margin if seen.high is not None else None
    why = f"{seen.value:,.0f} a second over {found.connections} connections, in the median of {found.rounds:,} rounds"
    if low is not None and low >= bound:
        return RuleResult(path, seen.value, bound, "pass", f"{why}; surely {low:,.0f} at least")
    if high is not None and high < bound:
        return RuleResult(path, seen.value, bound, "fail", f"{why}; surely {high:,.0f} at most")
    why += f"; others kept {found.others_cores:.1f} cores busy"
    needed = max(3 * found.rounds, 30)
    return RuleResult(path, seen.value, bound, "undecided", f"{why}; {needed:,} rounds on a calm machine may decide it")


def _cold_start(bound: float, found: Latency | None) -> RuleResult:
    path = "latency.cold_start_s"
    if found is None or found.cold_start_s is None:
        return RuleResult(path, None, bound, "undecided", "the start of the server was not measured")
    whole = found.cold_start_s
    own = found.cold_start_own_s if found.cold_start_own_s is not None else whole
    why = f"{whole:.2f} s from the start of the process to its first answer"
    if whole <= bound:
        return RuleResult(path, whole, bound, "pass", why)
    if own / (1 + _margin(found)) > bound:
        return RuleResult(path, whole, bound, "fail", f"{why}, {own:.2f} s without waiting for a CPU")
    why += f", {own:.2f} s without waiting for a CPU; one start on a calm machine may decide it"
    return RuleResult(path, whole, bound, "undecided", why)


def _memory(bound: float, found: Latency | None) -> RuleResult:
    path = "latency.memory_mb"
    if found is None or found.memory is None:
        return RuleResult(path, None, bound, "undecided", "the memory of the server was not measured")
    peak, steady = found.memory.peak_mb * MEBIBYTE, found.memory.steady_mb * MEBIBYTE
    why = f"{peak:,.0f} MB at most under load, {steady:,.0f} MB at its end, in {found.memory.processes} processes"
    return RuleResult(path, peak, bound, "pass" if peak <= bound else "fail", why)
