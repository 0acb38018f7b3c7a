"""The report's text and schema are pinned; `TRUNKLINE_GOLDEN=write` writes them anew."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import jsonschema
import msgspec
import pytest
from markdown_it import MarkdownIt

from tests.unit.gate.test_markdown import HOSTILE
from trunkline.gate import report as report_module
from trunkline.gate.evidence import (
    Calibration,
    CalibrationBin,
    CounterExample,
    Curve,
    Estimate,
    Evidence,
    Latency,
    Leakage,
    Loss,
    Memory,
    MetricEvidence,
    Own,
    Parity,
    Provenance,
    Quality,
    Sign,
    SliceEvidence,
    SliceTest,
)
from trunkline.gate.policy import GatePolicy
from trunkline.gate.report import Earlier, Identity, Looks, Phase, Report, json_schema, read, to_json
from trunkline.gate.report_files import write
from trunkline.gate.report_html import to_html
from trunkline.gate.report_markdown import to_markdown
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
SIGN = Sign("adversarial", "warn", "train and validation are told apart by `time_hour`", "time_hour", 0.93, 0.8)
CURVES = tuple(
    Curve(kind, model, (0.0, 0.5, 1.0), (0.0, 0.5 + up, 1.0))
    for kind in ("roc", "precision_recall", "residuals", "deciles")
    for model, up in (("candidate", 0.3), ("champion", 0.2))
)
SERVED = replace(
    EVIDENCE.latency,
    rate=800.0,
    quantiles_ms=(*(0.3 + place / 100 for place in range(99)), 7.9),
    single_ms={"p50": 0.4, "p95": 0.6, "p99": 1.1},
    single_requests=500,
    cold_start_s=1.25,
    memory=Memory(110.0, 120.0, 150.0, 1),
    others_cores=0.4,
    rounds=8,
)
RICH = replace(
    REPORT,
    evidence=Evidence(
        replace(
            QUALITY,
            slices=(replace(QUALITY.slices[0], p=0.012), *QUALITY.slices[1:]),
            slice_tests=(SliceTest("carrier", 3, 3, 1, 0.0012, 9_000, 0.012, 40),),
            curves=CURVES,
            calibration=replace(QUALITY.calibration, beyond_chance=Estimate(0.01, 0.006, 0.014)),
        ),
        replace(SERVED, slower={"p50": Own(1.03, 0.99, 1.08), "p99": Own(1.1)}),
        replace(SERVED, single_ms={"p50": 0.39, "p95": 0.58, "p99": 1.0}),
        EVIDENCE.parity,
        Leakage((SIGN, Sign("duplicates", "ok", "no row stands in two parts")), 54_021, 0, 3),
        Provenance({"git commit": "1f0c2d9", "dataset": "d-7f3a"}, ("lock file",), 4_512_331),
    ),
    looks=Looks(7, 100, False),
    earlier=(
        Earlier("models:/delay/6", False, "2026-11-01T10:00:00+00:00", {"roc_auc": (0.76, 0.754, 0.766)}),
        Earlier("models:/delay/7", True, "2026-11-08T10:00:00+00:00", {"roc_auc": (0.7724, 0.7667, 0.778)}),
    ),
)
SHIPPED = Path(report_module.__file__).with_name("schema.json")


@pytest.mark.parametrize(
    ("name", "report"), [("report.md", REPORT), ("first.md", FIRST), ("rich.md", RICH)], ids=["report", "first", "rich"]
)
def test_markdown_is_as_pinned(name: str, report: Report) -> None:
    text = to_markdown(report)
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        (GOLDEN / name).write_text(text, "utf-8")
    assert text == (GOLDEN / name).read_text("utf-8")


def test_json_holds_everything() -> None:
    data = json.loads(json.dumps(to_json(REPORT), allow_nan=False))
    assert (data["schema"], data["passed"]) == ("trunkline.gate/2", False)
    assert [rule["status"] for rule in data["verdict"]["rules"]][:4] == ["pass", "undecided", "pass", "fail"]
    assert data["evidence"]["quality"]["metrics"][0]["loss"]["at_most"] == 0.0038
    assert data["evidence"]["parity"]["example"]["row"] == {"carrier": "UA", "distance": None}
    assert data["candidate"] == {"reference": "models:/delay/8", "sha256": "c0ffee" * 10 + "beef"}
    assert data["phases"][0] == {"name": "score candidate", "seconds": 1.204}


def test_the_shipped_schema_is_that_of_the_records() -> None:
    written = json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        SHIPPED.write_text(written, "utf-8")
    assert written == SHIPPED.read_text("utf-8")


@pytest.mark.parametrize("report", [REPORT, FIRST, RICH], ids=["report", "first", "rich"])
def test_a_report_fits_the_schema_and_is_read_again_as_it_was(report: Report) -> None:
    data = json.dumps(to_json(report), allow_nan=False)
    schema = json.loads(SHIPPED.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(data))
    again = read(data.encode())
    assert again == report
    assert to_markdown(again) == to_markdown(report)
    assert to_html(again) == to_html(report)


def test_numbers_that_are_not_finite_are_null_in_json() -> None:
    parity = Parity(1, 1, float("inf"), 1e-6, CounterExample({}, float("nan"), 0.5))
    data = to_json(replace(REPORT, evidence=replace(EVIDENCE, parity=parity)))
    found = json.loads(json.dumps(data, allow_nan=False))["evidence"]["parity"]
    assert (found["largest"], found["example"]["offline"]) == (None, None)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_no_structure(text: str) -> None:
    assert _structure(named(RICH, text)) == _structure(named(RICH, "plain"))


def test_one_line_finds_the_comment_again() -> None:
    assert to_markdown(REPORT).splitlines()[0] == "<!-- trunkline:gate:delay -->"
    for name in ("a-->b", "", "a b", "a\nb", "delay -->"):
        with pytest.raises(ValueError, match="no deployment is called"):
            to_markdown(replace(REPORT, deployment=name))


def test_a_long_report_fits_a_comment() -> None:
    """Slices go first, those that lose least; then rows of other tables. Rules that do not pass stay longest."""
    many = tuple(
        replace(QUALITY.slices[0], value=f"{'v' * 60}{place}", loss=replace(LOSS, at_least=place / 1e4))
        for place in range(600)
    )
    text = to_markdown(replace(REPORT, evidence=replace(EVIDENCE, quality=replace(QUALITY, slices=many))))
    assert len(text.encode()) < 65_536
    assert "Left out for want of room: 400 slices, those that lose least." in text
    assert ("v599`" in text, "v400`" in text, "v399`" in text) == (True, True, False)
    rules = tuple(
        replace(rule, name=f"metrics.{'x' * 80}", why="`" * 900, status=status)
        for status in ("pass", "fail")
        for rule in REPORT.verdict.rules * 30
    )
    text = to_markdown(named(replace(REPORT, verdict=replace(REPORT.verdict, rules=rules)), "\u202e" * 500))
    assert len(text.encode()) < 65_536
    assert "✗ **fail**" in text
    assert "### Where the time went" in text


def test_what_is_written_can_be_read(tmp_path: Path) -> None:
    """Of thousands of slices the JSON has those that lose most, rather than be more than `read` takes."""
    slices = tuple(
        replace(QUALITY.slices[0], value=f"{'v' * 600}{place}", loss=replace(LOSS, at_least=place / 1e4))
        for place in range(1500)
    )
    large = replace(RICH, evidence=replace(RICH.evidence, quality=replace(QUALITY, slices=slices)))
    files = write(large, tmp_path)
    again = read(files.json.read_bytes())
    assert [found.value[600:] for found in again.evidence.quality.slices if found.value][:2] == ["1499", "1498"]
    assert len(again.evidence.quality.slices) == 500
    assert again.verdict == large.verdict
    assert files.html.stat().st_size < 500_000


def test_a_row_with_much_in_it_goes_last(tmp_path: Path) -> None:
    example = CounterExample({f"c{place}": "é" * 1_000 for place in range(600)}, 0.1, 0.9)
    large = replace(RICH, evidence=replace(RICH.evidence, parity=replace(EVIDENCE.parity, example=example)))
    again = read(write(large, tmp_path).json.read_bytes())
    assert again.evidence.quality.slices == RICH.evidence.quality.slices
    assert again.evidence.parity == replace(EVIDENCE.parity, example=replace(example, row={}))


def test_verdict_and_rules_stand_where_there_is_room_for_nothing_else() -> None:
    names = tuple("\u202e" * 500 + str(place) for place in range(60))
    quality = replace(QUALITY, metrics=tuple(replace(QUALITY.metrics[0], name=name, method=name) for name in names))
    looks = Looks(80, 100, True, names)
    report = replace(named(RICH, names[0]), looks=looks, phases=tuple(Phase(name, 1.0) for name in names))
    report = replace(report, evidence=replace(report.evidence, quality=quality))
    for longest in (65_000, 20_000):
        text = to_markdown(report, longest)
        assert len(text.encode()) <= longest
        assert "The gate does not pass" in text
        assert "### Rules" in text
    assert "left out for want of room; it is in `report.html`" in text
    assert "### Where the time went" not in text


def named(report: Report, name: str) -> Report:
    """`report` with `name` wherever text may come from a stranger."""
    evidence, quality = report.evidence, report.evidence.quality
    example = CounterExample({name: name}, 0.1, 0.6)
    sign = replace(SIGN, probe=name, outcome=name, text=f"see `{name}` and {name}", column=name)
    listed = replace(
        quality,
        metrics=tuple(replace(found, name=name, method=name) for found in quality.metrics),
        slices=(replace(QUALITY.slices[0], column=name, value=name), replace(QUALITY.slices[2], note=name)),
        curves=tuple(replace(curve, label=name) for curve in quality.curves),
        sliced_by=name,
    )
    return replace(
        report,
        candidate=Identity(name, name),
        champion=Identity(name, name),
        evidence=replace(
            evidence,
            quality=listed,
            parity=Parity(1, 1, 0.5, 1e-6, example, left_out=name or "nothing"),
            leakage=Leakage((sign,), 10, 0),
            provenance=Provenance({name: name}, (name,), 5),
        ),
        verdict=replace(report.verdict, rules=tuple(replace(r, name=name, why=name) for r in report.verdict.rules)),
        provenance={name: name},
        phases=(Phase(name, 1.0),),
        looks=Looks(80, 100, True, (name,)),
        earlier=(Earlier(name, True, name, {name: (0.5, 0.4, 0.6)}),),
    )


def _structure(report: Report) -> list[str]:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(to_markdown(report))
    kinds = [leaf.type for token in tokens for leaf in (token, *(token.children or ()))]
    # A sentence is a code span where it holds a mark with a meaning, else plain text: either is one cell.
    return [kind for kind in kinds if kind not in ("code_inline", "text")]
