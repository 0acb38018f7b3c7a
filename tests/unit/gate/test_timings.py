"""From timings to verdicts on speed, on machines whose noise is known."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline.errors import ProjectError
from trunkline.gate.evidence import Latency, Memory, Own
from trunkline.gate.latency_rules import latency_rules, settled
from trunkline.gate.timings import QUANTILES, Block, limits, own_times, paired, quantile, ratio, throughput
from trunkline.project.deploy import LatencyRule, MaySlow, read_deployment

Draw = np.random.Generator


def block(draw: Draw, middle: float, *, busy: bool, requests: int = 100) -> Block:
    """Requests of one round to a server whose own median is `middle` ms. On a busy machine a fifth of them wait for a

    CPU, 5 ms on average, and what is known of that is 5% off.
    """
    own = middle * np.exp(draw.normal(scale=0.25, size=requests))
    waited = np.where(draw.random(requests) < 0.2, draw.exponential(5.0, requests), 0.0) * busy
    known = waited * draw.normal(1.0, 0.05, requests).clip(0.8, 1.2)
    return Block(own + waited, known, np.zeros(requests, bool), busy)


def latency(draw: Draw, slower: float, *, busy: bool, rounds: int = 10) -> tuple[Latency, Latency]:
    """What a phase finds of a candidate that is `slower` times the champion, whose own median is 0.4 ms. Where a

    process sits makes one run differ from the next by 2% (standard deviation), and by 6% on a busy machine.
    """
    run = np.exp(draw.normal(scale=0.06 if busy else 0.02, size=2)) * [0.4 * slower, 0.4]
    single = [[block(draw, middle, busy=busy) for _ in range(rounds)] for middle in run]
    found = [summary([one.own for one in blocks], busy=busy) for blocks in single]
    ours, theirs = ([one.own for one in blocks] for blocks in single)
    times = {name: ratio(ours, theirs, share) for name, share in QUANTILES}
    return replace(found[0], slower=times), found[1]


def summary(own: list[Any], *, busy: bool) -> Latency:
    pooled = np.concatenate(own)
    p50, p95, p99 = (quantile(pooled, share) for _, share in QUANTILES)
    told = {name: limits(own, share) for name, share in QUANTILES}
    singles = {name: each.value for name, each in told.items()}
    made = Latency(len(pooled), p50, p95, p99, float(pooled.max()), 2000.0, 4, rate=500.0, own=told, single=told)
    return replace(made, single_ms=singles, single_requests=len(pooled), others_cores=2.0 * busy, cores=2)


@pytest.mark.parametrize("busy", [False, True], ids=["calm", "busy"])
def test_verdicts_of_the_same_pair_are_the_same(busy: bool) -> None:
    """1,002 gates: of each pair 98% at least say the same, and none says the opposite of the truth."""
    draw = np.random.default_rng([7, busy])
    rules = {
        "equal": LatencyRule(p50_ms=0.8, p95_ms=1.5, p99_ms=4.0, may_slow=3.0),
        "at the bound": LatencyRule(p50_ms=0.4, p95_ms=0.4 * np.exp(0.25 * 1.645), may_slow=1.0),
        "slower": LatencyRule(p50_ms=0.6, p95_ms=0.9, may_slow=1.2),
    }
    wanted = {"equal": "pass", "at the bound": "undecided", "slower": "fail"}
    for name, rule in rules.items():
        said: dict[str, Counter[str]] = {}
        for _ in range(167):
            for one in latency_rules(rule, *latency(draw, 4.0 if name == "slower" else 1.0, busy=busy)):
                said.setdefault(one.name, Counter())[one.status] += 1
        for counter in said.values():
            assert counter[wanted[name]] >= 0.98 * 167, (name, said)
            assert not {"pass", "fail"} <= set(counter), (name, said)


def test_limits_hold() -> None:
    """The true quantile is beyond a limit in 1 of 300 samples at most: of 600 in 2; in 10 hardly ever."""
    draw = np.random.default_rng(3)
    beyond: Counter[tuple[str, str]] = Counter()
    for _ in range(600):
        rounds = [draw.exponential(1.0, 60) for _ in range(12)]
        for name, share in QUANTILES:
            found, true = limits(rounds, share), -np.log(1 - share)
            assert found.low is not None
            beyond[name, "low"] += found.low > true
            beyond[name, "high"] += found.high is not None and found.high < true
    assert max(beyond.values()) <= 9, beyond


def test_rounds_that_differ_count_for_less() -> None:
    draw = np.random.default_rng(4)
    alike = [draw.exponential(1.0, 100) for _ in range(10)]
    apart = [draw.exponential(0.3 if place % 2 else 3.0, 100) for place in range(10)]
    near, far = limits(alike, 0.5), limits(apart, 0.5)
    assert near.low is not None
    assert near.high is not None
    assert far.high is None or far.high / far.value > 2 * near.high / near.value


def test_so_few_requests_set_no_limit_to_a_high_quantile() -> None:
    assert limits([np.arange(567.0)], 0.99).high is None
    assert limits([np.arange(568.0)], 0.99).high == 567.0
    assert ratio([np.ones(80)], [np.ones(80)], 0.5) == Own(1.0)
    assert ratio([np.full(90, 3.0)], [np.ones(90)], 0.5) == Own(3.0, 3.0, 3.0)


def test_what_others_disturbed_does_not_count_and_waiting_only_where_they_had_no_core() -> None:
    seen, waited = np.array([[1.0, 1.2, 9.0, 1.1], [0.2, 0.2, 8.0, 0.2]])
    disturbed = np.array([False, False, True, False])
    assert Block(seen, waited, disturbed, False).own.tolist() == [1.0, 1.2, 1.1]
    all_of_it = Block(seen, waited, ~disturbed | disturbed, False)
    assert [found.tolist() for found in own_times([all_of_it, Block(seen, waited, disturbed, False)])] == [
        [1.0, 1.2, 1.1]
    ]
    assert [found.tolist() for found in own_times([all_of_it])] == [seen.tolist()]  # nothing else is known
    assert Block(seen, waited, disturbed, True).own == pytest.approx([1.0, 1.2, 1.2, 1.1])  # 0.2 is the server's own


def test_pairs_stay_pairs() -> None:
    ones, none = np.arange(4.0), np.zeros(4)
    one, other = np.array([True, False, False, False]), np.array([False, False, True, False])
    calm = [Block(ones, none, one, False)], [Block(10 + ones, none, other, False)]
    assert [found[0].tolist() for found in paired(*calm)] == [[1.0, 3.0], [11.0, 13.0]]
    lost = [Block(ones, none, one | ~one, False)], [Block(10 + ones, none, other, False)]
    assert [found[0].tolist() for found in paired(*lost)] == [ones.tolist(), (10 + ones).tolist()]


def test_rounds_that_differ_set_no_limit_beyond_what_was_seen() -> None:
    """Two of twelve rounds are slow throughout: that all 720 requests were within 100 ms says little of the next."""
    rounds = [np.full(60, 100.0 if place < 2 else 1.0) + np.arange(60) / 1e3 for place in range(12)]
    assert limits(rounds, 0.99).high is None


def test_throughput_has_room_for_what_was_taken() -> None:
    found = throughput([500.0] * 12, [0.5] * 12)
    assert (found.value, found.low, found.high) == (500.0, 500.0, 1000.0)
    assert throughput([500.0] * 5, [0.5] * 5) == Own(500.0)


FOUND = Latency(
    requests=1000,
    p50_ms=2.0,
    p95_ms=3.0,
    p99_ms=5.0,
    max_ms=9.0,
    requests_per_second=900.0,
    connections=4,
    rate=300.0,
    own={"p50": Own(2.0, 1.9, 2.1), "p95": Own(3.0, 2.8, 3.3), "p99": Own(5.0, 4.0, None)},
    single={"p50": Own(1.0, 0.9, 1.1)},
    single_ms={"p50": 1.0, "p95": 1.5, "p99": 2.0},
    single_requests=600,
    slower={"p50": Own(1.1, 1.05, 1.15), "p99": Own(1.3, None, None)},
    throughput=Own(900.0, 850.0, 950.0),
    cold_start_s=2.0,
    cold_start_own_s=1.5,
    memory=Memory(90.0, 100.0, 150.0, 3),
    cores=2,
    rounds=12,
)
BUSY = replace(FOUND, others_cores=2.0)

STILL = replace(FOUND, stalls_ms=(400.0, 200.0), watched_seconds=10.0)  # 0.6 s of 10 s

CASES: list[tuple[dict[str, Any], Latency, str, str]] = [
    # rule, what was found, status, words of the reason
    ({"p50_ms": 2.3}, FOUND, "pass", "2.00 ms over 1,000 requests at 300 a second, surely between 1.81 and 2.21"),
    ({"p50_ms": 2.3}, STILL, "pass", "surely between 1.81 and 2.21"),
    ({"p95_ms": 10}, STILL, "undecided", "up to 400 ms: who comes at any moment waits longer than 10 ms"),
    ({"p95_ms": 150}, STILL, "pass", "surely"),
    ({"p50_ms": 1.8}, FOUND, "fail", "surely between 1.81"),
    ({"p50_ms": 2.15}, FOUND, "undecided", "about 4,410 requests would decide it (1,000 now)"),
    ({"p50_ms": 2.0}, FOUND, "undecided", "no number of requests decides a bound so close"),
    ({"p95_ms": 3.5}, FOUND, "pass", "3.00 ms"),
    ({"p99_ms": 50}, FOUND, "undecided", "about 3,000 requests would set a limit (1,000 now)"),
    ({"p99_ms": 3}, FOUND, "fail", "between 3.81 and any number"),
    (
        {"p50_ms": 1.6},
        BUSY,
        "pass",
        "1.00 ms one at a time without what others took of the machine (2.00 ms over 1,000",
    ),
    ({"p50_ms": 1.2}, BUSY, "undecided", "while others keep 2.0 cores busy"),
    ({"may_slow": 1.3}, FOUND, "pass", "p50 is 1.10 times the champion's (1.00 and 1.00 ms)"),
    ({"may_slow": 0.99}, FOUND, "fail", "between 1.00"),
    ({"may_slow": MaySlow(p50=1.2, p99=1.5)}, FOUND, "undecided", "p99 is 1.30 times"),
    ({"may_slow": 1.3}, BUSY, "undecided", "no number of requests"),
    ({"throughput_at_least": 800}, FOUND, "pass", "900 a second over 4 connections"),
    ({"throughput_at_least": 1000}, FOUND, "fail", "998 at most"),
    ({"throughput_at_least": 900}, FOUND, "undecided", "36 rounds on a calm machine"),
    ({"cold_start_s": 2}, FOUND, "pass", "2.00 s from the start of the process"),
    ({"cold_start_s": 1.4}, FOUND, "fail", "1.50 s without waiting"),
    ({"cold_start_s": 1.6}, FOUND, "undecided", "one start on a calm machine may decide it"),
    ({"memory_mb": 105}, FOUND, "pass", "105 MB at most under load, 94 MB at its end, in 3 processes"),
    ({"memory_mb": 100}, FOUND, "fail", "105 MB"),
]


@pytest.mark.parametrize(("rule", "found", "status", "words"), CASES)
def test_one_rule(rule: dict[str, Any], found: Latency, status: str, words: str) -> None:
    *_, result = latency_rules(LatencyRule(**rule), found, FOUND)
    assert (result.status, words in result.why) == (status, True), result


def test_without_a_champion_nobody_is_slower() -> None:
    rule = LatencyRule(may_slow=1.1)
    assert [each.status for each in latency_rules(rule, FOUND, None)] == ["pass"]
    assert [each.status for each in latency_rules(rule, None, None)] == ["undecided"]


def test_what_was_not_measured_is_not_decided() -> None:
    rule = LatencyRule(1, 1, 1, 1, 1, 1, 1)
    bare = Latency(1000, 2.0, 3.0, 5.0, 9.0, 900.0, 4)
    assert {each.status for each in latency_rules(rule, None, None)} == {"undecided"}
    assert [each.status for each in latency_rules(rule, bare, bare)][3:] == ["undecided"] * 4


def test_a_phase_ends_when_more_requests_would_not_help() -> None:
    assert settled(LatencyRule(p50_ms=9, cold_start_s=1.6), FOUND, None)
    assert not settled(LatencyRule(p50_ms=9, p99_ms=9), FOUND, None)
    assert settled(LatencyRule(), FOUND, FOUND)


@pytest.mark.parametrize(
    ("rules", "line", "says"),
    [
        ("{p99: 25}", 3, "unknown key 'p99'. Did you mean 'p99_ms'?"),
        ("{p99_ms: 0}", 3, "p99_ms must be above 0"),
        ("{p50_ms: -1}", 3, "p50_ms must be above 0"),
        ("{p50_ms: .inf}", 3, "p50_ms must be above 0"),
        ("{memory_mb: much}", 3, "memory_mb: Expected 'float | null', got 'str'"),
        ("{rate: 1000000}", 3, "rate must be 100,000 requests a second or less"),
        ("\n    may_slow: 0", 4, "may_slow must be above 0"),
        ("\n    may_slow:\n      p50: 0", 5, "p50 must be above 0"),
        ("\n    may_slow:\n      p500: 1.2", 5, "unknown key 'p500'. Did you mean 'p50'?"),
    ],
)
def test_rules_that_cannot_be_meant(tmp_path: Path, rules: str, line: int, says: str) -> None:
    file = tmp_path / "delay.yml"
    file.write_text(f"deployment: delay\ngate:\n  latency: {rules}\n")
    with pytest.raises(ProjectError) as caught:
        read_deployment(file)
    assert says in caught.value.what
    assert caught.value.file == file
    assert caught.value.line is not None
    assert 2 < caught.value.line <= line


def test_a_number_and_a_mapping_are_both_read(tmp_path: Path) -> None:
    file = tmp_path / "delay.yml"
    file.write_text("deployment: delay\ngate: {latency: {may_slow: {p50: 1.2, p99: 2}, rate: 50}}\n")
    assert read_deployment(file).spec.gate.latency == LatencyRule(may_slow=MaySlow(p50=1.2, p99=2), rate=50)
    file.write_text("deployment: delay\ngate: {latency: {may_slow: 2}}\n")
    assert read_deployment(file).spec.gate.latency.may_slow == 2
