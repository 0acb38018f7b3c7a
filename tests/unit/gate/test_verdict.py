"""The verdict as data: evidence, policy, what comes of it."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from trunkline.gate.evidence import Calibration, Estimate, Evidence, Latency, Loss, MetricEvidence, Parity, Quality
from trunkline.gate.metrics import delong
from trunkline.gate.policy import GatePolicy
from trunkline.gate.verdict import judge


def evidence(loss: Loss | None, **changes: object) -> Evidence:
    champion = Estimate(0.7650, 0.7590, 0.7710) if loss else None
    metrics = (
        MetricEvidence("roc_auc", "DeLong", Estimate(0.7640, 0.7580, 0.7700), champion, loss),
        MetricEvidence("log_loss", "bootstrap", Estimate(0.38, 0.37, 0.39), champion, loss),
    )
    quality = Quality(54_000, 9_000, metrics, (), Calibration((), 0.01))
    measured = Evidence(
        quality, latency=Latency(1000, 0.8, 1.5, 4.0, 9.0, 2500.0, 4), parity=Parity(1000, 0, 0.0, 1e-6)
    )
    return replace(measured, **changes)


def loss(value: float, half: float) -> Loss:
    return Loss(value, value - 1.2 * half, value + 1.2 * half, value - half, value + half)


CASES: list[tuple[dict[str, object], Loss | None, str, str]] = [
    # policy, loss, status, words of the reason
    ({"metrics": {"roc_auc": {"at_least": 0.76}}}, None, "pass", "reaches beyond the bound"),
    ({"metrics": {"roc_auc": {"at_least": 0.75}}}, None, "pass", "interval 0.7580 to 0.7700"),
    ({"metrics": {"roc_auc": {"at_least": 0.764}}}, None, "pass", "0.7640"),
    ({"metrics": {"roc_auc": {"at_least": 0.765}}}, None, "fail", "0.7640"),
    ({"metrics": {"log_loss": {"at_most": 0.38}}}, None, "pass", "reaches beyond the bound"),
    ({"metrics": {"log_loss": {"at_most": 0.37}}}, None, "fail", "0.3800"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, None, "pass", "no champion"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(0.001, 0.001), "pass", "+0.0020 at most"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(-0.01, 0.001), "pass", "loses -0.0100"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(0.006, 0.001), "fail", "+0.0050 at least"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(0.001, 0.004), "undecided", "about 216,000 rows would pass"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(0.005, 0.004), "undecided", "about 216,000 rows would fail"),
    ({"metrics": {"roc_auc": {"may_lose": 0.003}}}, loss(0.003, 0.001), "undecided", "no number of rows"),
    ({"metrics": {"roc_auc": {"may_lose": 0}}}, loss(0.0, 0.0), "pass", "loses +0.0000"),
    ({"metrics": {"roc_auc": {"may_lose": 0}}}, loss(-1e-9, 1e-9), "pass", "loses +0.0000"),
    ({"metrics": {"f1": {"at_least": 0.5}}}, None, "undecided", "not measured"),
    ({"latency": {"p99_ms": 4}}, None, "pass", "4.00 ms over 1,000 requests"),
    ({"latency": {"p99_ms": 3.9}}, None, "fail", "4.00 ms"),
    ({"latency": {"p50_ms": 0.5}}, None, "fail", "0.80 ms"),
]


@pytest.mark.parametrize(("policy", "loss", "status", "words"), CASES)
def test_one_rule(policy: dict[str, object], loss: Loss | None, status: str, words: str) -> None:
    verdict = judge(evidence(loss), msgspec.convert(policy, GatePolicy))
    rule, parity = verdict.rules
    assert (rule.status, parity.status) == (status, "pass")
    assert words in rule.why
    assert verdict.passed is (status == "pass")


def test_rules_keep_the_order_and_path_of_the_policy() -> None:
    policy = msgspec.convert(
        {
            "metrics": {"log_loss": {"at_most": 0.4}, "roc_auc": {"at_least": 0.7, "may_lose": 0.003}},
            "latency": {"p99_ms": 10, "p50_ms": 2},
        },
        GatePolicy,
    )
    assert [rule.name for rule in judge(evidence(None), policy).rules] == [
        "metrics.log_loss.at_most",
        "metrics.roc_auc.at_least",
        "metrics.roc_auc.may_lose",
        "latency.p50_ms",
        "latency.p99_ms",
        "parity",
    ]


def test_one_rule_that_does_not_pass_is_enough() -> None:
    policy = msgspec.convert({"metrics": {"roc_auc": {"at_least": 0.7, "may_lose": 0.003}}}, GatePolicy)
    assert judge(evidence(loss(0.001, 0.001)), policy).passed
    assert not judge(evidence(loss(0.001, 0.004)), policy).passed
    assert not judge(evidence(None, parity=Parity(1000, 1, 0.2, 1e-6)), policy).passed


def test_what_was_not_measured_does_not_pass() -> None:
    found = judge(evidence(None, latency=None, parity=None), msgspec.convert({"latency": {"p99_ms": 10}}, GatePolicy))
    assert [(rule.name, rule.status) for rule in found.rules] == [("latency.p99_ms", "undecided")]
    assert not found.passed


def test_a_true_loss_of_just_the_bound_rarely_passes() -> None:
    """Under 5% of samples but for chance: 300 of them, so up to 29 with a probability of 0.9999."""
    passed = 0
    for seed in range(300):
        draw = np.random.default_rng([9, seed])
        outcome = np.arange(1000) < 250
        seen = outcome + draw.normal(size=1000)
        scores = seen + draw.normal(size=(2, 1000)) * np.sqrt([[0.5], [0.25]])
        bound = 0.7364554 - 0.7181486  # Phi(1/sqrt 2.5) - Phi(1/sqrt 3)
        areas = delong(outcome, scores)
        measured = evidence(areas.measured(0).loss(areas.measured(1), "higher"))
        passed += judge(measured, msgspec.convert({"metrics": {"roc_auc": {"may_lose": bound}}}, GatePolicy)).passed
    assert passed <= 29


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"may_lose": float("nan")}, "may_lose must be 0 or more"),
        ({"may_lose": float("inf")}, "may_lose must be 0 or more"),
        ({"may_lose": -0.1}, "may_lose must be 0 or more"),
        ({"at_least": float("nan")}, "at_least must be a number"),
        ({"at_most": float("inf")}, "at_most must be a number"),
    ],
)
def test_a_bound_is_a_number(rule: dict[str, float], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({"metrics": {"r2": rule}}, GatePolicy)
    assert (
        msgspec.convert({"metrics": {"r2": {"at_least": -1, "may_lose": 0}}}, GatePolicy).metrics["r2"].at_least == -1
    )


ECE_CASES = [
    (None, None, "undecided", "no probability"),
    (0.001, 0.018, "pass", "0.0180 at most"),
    (0.021, 0.05, "fail", "0.0210 at least"),
    (0.001, 0.03, "undecided", "rows would pass it"),
]


@pytest.mark.parametrize(("least", "most", "status", "words"), ECE_CASES)
def test_calibration_is_judged_by_its_limits(least: float | None, most: float | None, status: str, words: str) -> None:
    told = Estimate(0.01, 0.0, 0.05) if least is not None else None
    measured = evidence(None)
    calibration = Calibration((), 0.01, beyond_chance=told, at_least=least, at_most=most)
    quality = replace(measured.quality, calibration=calibration)
    rules = {"calibration": {"ece_at_most": 0.02}}
    rule, *_ = judge(replace(measured, quality=quality), msgspec.convert(rules, GatePolicy)).rules
    assert (rule.name, rule.status) == ("calibration.ece_at_most", status)
    assert words in rule.why
