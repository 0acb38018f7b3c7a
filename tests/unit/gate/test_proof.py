"""The rules on parity, leakage, size and provenance."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trunkline.gate.evidence import Estimate, Evidence, Leakage, MetricEvidence, Parity, Provenance, Quality, Sign
from trunkline.gate.policy import GatePolicy
from trunkline.gate.proof import proven
from trunkline.gate.verdict import judge

QUALITY = Quality(100, 30, (MetricEvidence("roc_auc", "DeLong", Estimate(0.8, 0.7, 0.9)),), (), None)
SIGNS = tuple(Sign(f"probe {outcome}", outcome, "text") for outcome in ("ok", "warn", "skipped"))
WHOLE = Provenance({"git commit": "abc", "dataset": "d"}, (), 2_500_000)
LACKING = Provenance({"dataset": "d"}, ("git commit", "snapshot"), 2_500_000)


def policy(**rules: Any) -> GatePolicy:
    return msgspec.convert(rules, GatePolicy)


def results(evidence: Evidence, rules: GatePolicy) -> dict[str, tuple[str, float | None]]:
    return {rule.name: (rule.status, rule.value) for rule in proven(evidence, rules)}


@pytest.mark.parametrize(
    ("evidence", "rules", "expected"),
    [
        (Evidence(QUALITY), {}, {}),
        (Evidence(QUALITY, parity=Parity(9, 0, 0.0, 1e-6)), {}, {"parity": ("pass", 0)}),
        (Evidence(QUALITY, parity=Parity(9, 2, 0.5, 1e-6)), {}, {"parity": ("fail", 2)}),
        (
            Evidence(QUALITY, leakage=Leakage(SIGNS, 50, 0)),
            {},
            {"leakage.probes": ("pass", 0), "leakage.keys": ("pass", 0)},
        ),
        (
            Evidence(QUALITY, leakage=Leakage((*SIGNS, Sign("p", "fail", "t")), 50, 1, 50)),
            {},
            {"leakage.probes": ("fail", 1), "leakage.keys": ("fail", 1)},
        ),
        (Evidence(QUALITY, leakage=Leakage((), 50, 0)), {}, {"leakage.keys": ("pass", 0)}),
        (Evidence(QUALITY, provenance=LACKING), {}, {}),
        (Evidence(QUALITY, provenance=LACKING), {"provenance": "required"}, {"provenance": ("fail", 2)}),
        (Evidence(QUALITY, provenance=WHOLE), {"provenance": "required"}, {"provenance": ("pass", 0)}),
        (Evidence(QUALITY), {"provenance": "required"}, {"provenance": ("undecided", None)}),
        (Evidence(QUALITY, provenance=WHOLE), {"bundle": {"size_mb": 2.5}}, {"bundle.size_mb": ("pass", 2.5)}),
        (Evidence(QUALITY, provenance=WHOLE), {"bundle": {"size_mb": 2.4}}, {"bundle.size_mb": ("fail", 2.5)}),
        (Evidence(QUALITY), {"bundle": {"size_mb": 9}}, {"bundle.size_mb": ("undecided", None)}),
    ],
    ids=range(13),
)
def test_each_rule(evidence: Evidence, rules: dict[str, Any], expected: dict[str, tuple[str, float | None]]) -> None:
    assert results(evidence, policy(**rules)) == expected


def test_a_warning_is_told_and_fails_nothing() -> None:
    (probes, _) = proven(Evidence(QUALITY, leakage=Leakage(SIGNS, 50, 0)), policy())
    assert probes.why == "of 3 answers of the dataset's probes 0 failed and 1 warned"


def test_they_are_part_of_the_verdict() -> None:
    evidence = Evidence(QUALITY, parity=Parity(9, 1, 0.5, 1e-6, ways=("http", "warehouse")))
    verdict = judge(evidence, policy(metrics={"roc_auc": {"at_least": 0.7}}))
    assert [(rule.name, rule.status) for rule in verdict.rules] == [
        ("metrics.roc_auc.at_least", "pass"),
        ("parity", "fail"),
    ]
    assert verdict.rules[1].why == ("1 of 9 rows differ: HTTP answers and warehouse scores against offline scores")
    assert not verdict.passed


@pytest.mark.parametrize("size", [0, -1, float("inf")])
def test_a_size_that_makes_no_sense_is_refused(size: float) -> None:
    with pytest.raises(msgspec.ValidationError, match="above 0"):
        policy(bundle={"size_mb": size})
