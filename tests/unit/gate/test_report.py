"""The report's text is pinned in tests/golden/gate; `TRUNKLINE_GOLDEN=write` writes it anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from markdown_it import MarkdownIt

from tests.unit.gate.test_markdown import HOSTILE
from trunkline.gate.evidence import (
    Calibration,
    CalibrationBin,
    CounterExample,
    Estimate,
    Evidence,
    Latency,
    Loss,
    MetricEvidence,
    Parity,
    Quality,
    SliceEvidence,
)
from trunkline.gate.policy import GatePolicy
from trunkline.gate.report import Identity, Phase, Report, to_json, to_markdown
from trunkline.gate.verdict import judge

GOLDEN = Path(__file__).parents[2] / "golden" / "gate"

LOSS = Loss(0.0012, -0.0019, 0.0043, -0.0014, 0.0038)
QUALITY = Quality(
    rows=54_021,
    positives=9_120,
    metrics=(
        MetricEvidence("roc_auc", "DeLong", Estimate(0.7712, 0.7655, 0.7768), Estimate(0.7724, 0.7667, 0.778), LOSS),
        MetricEvidence("brier", "bootstrap, 400 resamples", Estimate(0.112, 0.1105, 0.1136), goal="lower"),
    ),
    slices=(
        SliceEvidence("carrier", "UA", 9_000, 1_500, Estimate(0.77, 0.75, 0.79), Estimate(0.771, 0.752, 0.79), LOSS),
        SliceEvidence("carrier", None, 700, 110, Estimate(0.74, 0.69, 0.79)),
        SliceEvidence("carrier", "HA", 40, 2, note="too small: fewer than 20 rows of one class"),
        SliceEvidence("carrier", None, 300, 60, Estimate(0.71, 0.6, 0.8), others=12),
    ),
    calibration=Calibration(
        (
            CalibrationBin(0.0, 0.1, 30_000, 0.061, Estimate(0.058, 0.055, 0.061)),
            CalibrationBin(0.5, 0.6, 900, 0.548, Estimate(0.61, 0.577, 0.641)),
            CalibrationBin(0.9, 1.0, 12, 0.93, Estimate(1.0, 0.757, 1.0)),
        ),
        0.0123,
    ),
)
EVIDENCE = Evidence(
    QUALITY,
    Latency(1000, 0.412, 0.63, 1.204, 7.9, 2411.3, 4),
    Latency(1000, 0.398, 0.61, 1.187, 6.2, 2502.0, 4),
    Parity(1000, 1, 0.0213, 1e-6, CounterExample({"carrier": "UA", "distance": None}, 0.25, 0.2713)),
)
POLICY = msgspec.convert(
    {"metrics": {"roc_auc": {"at_least": 0.765, "may_lose": 0.003}}, "slices": ["carrier"], "latency": {"p99_ms": 10}},
    GatePolicy,
)
REPORT = Report(
    deployment="delay",
    candidate=Identity("models:/delay/8", "c0ffee" * 10 + "beef"),
    champion=Identity("models:/delay/7", "0ddba11" * 9 + "0"),
    verdict=judge(EVIDENCE, POLICY),
    evidence=EVIDENCE,
    phases=(Phase("score candidate", 1.204), Phase("metrics, intervals, slices", 1.9)),
    provenance={"dataset": "d-7f3a", "git commit": "1f0c2d9"},
)
FIRST = replace(
    REPORT,
    champion=None,
    evidence=Evidence(replace(QUALITY, metrics=QUALITY.metrics[1:], slices=())),
    verdict=judge(Evidence(QUALITY), GatePolicy()),
    provenance={},
)


@pytest.mark.parametrize(("name", "report"), [("report.md", REPORT), ("first.md", FIRST)])
def test_markdown_is_as_pinned(name: str, report: Report) -> None:
    text = to_markdown(report)
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        (GOLDEN / name).write_text(text, "utf-8")
    assert text == (GOLDEN / name).read_text("utf-8")


def test_json_holds_everything() -> None:
    data = json.loads(json.dumps(to_json(REPORT), allow_nan=False))
    assert (data["schema"], data["passed"]) == ("trunkline.gate/1", False)
    assert [rule["status"] for rule in data["verdict"]["rules"]] == ["pass", "undecided", "pass", "fail"]
    assert data["evidence"]["quality"]["metrics"][0]["loss"]["at_most"] == 0.0038
    assert data["evidence"]["parity"]["example"]["row"] == {"carrier": "UA", "distance": None}
    assert data["candidate"] == {"reference": "models:/delay/8", "sha256": "c0ffee" * 10 + "beef"}
    assert data["phases"][0] == {"name": "score candidate", "seconds": 1.204}


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    parity = Parity(1, 1, float("inf"), 1e-6, CounterExample({}, float("nan"), 0.5))
    data = to_json(replace(REPORT, evidence=replace(EVIDENCE, parity=parity)))
    found = json.loads(json.dumps(data, allow_nan=False))["evidence"]["parity"]
    assert (found["largest"], found["example"]["offline"]) == (None, None)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_structure(text: str) -> None:
    slices = (replace(QUALITY.slices[0], column=text, value=text),)
    parity = Parity(1, 1, 0.5, 1e-6, CounterExample({text: text}, 0.1, 0.6))
    hostile = replace(
        REPORT,
        deployment=text,
        candidate=Identity(text, text),
        champion=Identity(text, text),
        evidence=replace(EVIDENCE, quality=replace(QUALITY, slices=slices), parity=parity),
        verdict=replace(REPORT.verdict, rules=tuple(replace(r, name=text) for r in REPORT.verdict.rules)),
        provenance={text: text},
    )
    assert _structure(hostile) == _structure(_named(hostile, "plain"))


def _named(report: Report, name: str) -> Report:
    parity = Parity(1, 1, 0.5, 1e-6, CounterExample({name: name}, 0.1, 0.6))
    slices = (replace(QUALITY.slices[0], column=name, value=name),)
    return replace(
        report,
        deployment=name,
        candidate=Identity(name, name),
        champion=Identity(name, name),
        evidence=replace(EVIDENCE, quality=replace(QUALITY, slices=slices), parity=parity),
        verdict=replace(report.verdict, rules=tuple(replace(r, name=name) for r in report.verdict.rules)),
        provenance={name: name},
    )


def _structure(report: Report) -> list[str]:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(to_markdown(report))
    return [leaf.type for token in tokens for leaf in (token, *(token.children or ()))]
