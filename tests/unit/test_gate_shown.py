"""What `trunkline gate` prints, and what it tells a job of GitHub Actions."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.gate.test_report import RICH
from trunkline.cli import gate_shown
from trunkline.cli.show import Show
from trunkline.gate.report_files import write
from trunkline.orchestration.verdicts import Kept, Row


@pytest.fixture
def gated(tmp_path: Path) -> Any:
    files = write(RICH, tmp_path / ".trunkline" / "gates" / "look_1")
    result = SimpleNamespace(
        report=RICH, verdict=RICH.verdict, passed=False, markdown=files.markdown, html=files.html, json=files.json
    )
    return SimpleNamespace(
        deployment="delay",
        candidate="models:/delay/8",
        champion="models:/delay/7",
        look_id="look_1",
        result=result,
        kept=Kept("run7"),
    )


def test_a_person_sees_each_rule_and_where_the_report_is(
    gated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate_shown.shown(Show(as_json=False), gated, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "models:/delay/8 against models:/delay/7, look 7 of 100 at this sealed part"
    assert "  sealed test part  n=54,021  95% interval      champion     loss" in lines
    assert "  roc_auc             0.7712  0.7655 to 0.7768    0.7724  +0.0012" in lines
    (parity,) = [line for line in lines if line.startswith("  ✗ fail      parity ")]
    assert "1 of 1,000 rows differ" in parity
    assert lines[-2] == "refused in 3.1 s, 1.9 s of them for metrics, intervals, slices"
    assert lines[-1] == "report: .trunkline/gates/look_1/report.html (to look at), report.md, gate.json"
    gated.kept = Kept(None, "the registry does not answer")
    gate_shown.shown(Show(as_json=False), gated, tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == "the verdict is in the ledger; the registry does not answer"


def test_json_is_one_document(gated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(as_json=True)
    gate_shown.shown(show, gated, tmp_path)
    spec: Any = SimpleNamespace(file=tmp_path / "deploy" / "delay.yml", model_line=2)
    gate_shown.told_to_job(show, gated, spec, tmp_path, {"GITHUB_ACTIONS": "true"})
    show.result(gate_shown.to_json(gated, tmp_path))
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["look_id"], told["seconds"], told["registry_run"]) == (False, "look_1", 3.104, "run7")
    assert json.loads((tmp_path / told["json"]).read_text())["schema"] == "trunkline.gate/2"


def test_a_job_gets_summary_outputs_and_a_note_at_the_line(
    gated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary").write_text("before\n")
    environ = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_WORKSPACE": str(tmp_path),
    }
    spec: Any = SimpleNamespace(file=tmp_path / "deploy" / "delay.yml", model_line=2)
    gate_shown.told_to_job(Show(as_json=False), gated, spec, tmp_path, environ)
    assert (tmp_path / "summary").read_text().startswith("before\n<!-- trunkline:gate:delay -->\n## Gate of `delay`")
    outputs = dict(line.split("=", 1) for line in (tmp_path / "output").read_text().splitlines())
    assert outputs["passed"] == "false"
    assert Path(outputs["report"]).read_text() == gated.result.markdown.read_text()
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "::error file=deploy/delay.yml,line=2,title=models%3A/delay/8 does not pass::metrics.roc_auc"
    )
    assert "%0Aparity: 1 of 1,000 rows differ" in line


def test_nothing_is_told_where_there_is_no_job(gated: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gate_shown.told_to_job(Show(as_json=False), gated, SimpleNamespace(), tmp_path, {})
    assert capsys.readouterr().out == ""


def test_history_lists_the_last_first(capsys: pytest.CaptureFixture[str]) -> None:
    show = Show(as_json=False)
    gate_shown.history(show, "delay", [])
    assert capsys.readouterr().out == "delay has no verdict yet: trunkline gate delay\n"
    at = dt.datetime(2026, 11, 1, 10, tzinfo=dt.UTC)
    first = Row(
        look_id="look_1",
        deployment="delay",
        candidate="models:/delay/1",
        sha256="1" * 64,
        champion=None,
        passed=True,
        policy="",
        report="a.md",
        decided_at=at,
        metrics={"roc_auc": (0.75, 0.74, 0.76)},
        served={"p99_ms": 1.25},
    )
    second = replace(
        first, candidate="models:/delay/2", passed=False, metrics={"roc_auc": (0.72, 0.71, 0.73)}, served={}
    )
    third = replace(
        first, candidate="models:/delay/3", metrics={"roc_auc": (0.78, 0.77, 0.79), "brier": (0.1, 0.1, 0.1)}
    )
    gate_shown.history(show, "delay", [first, second, third])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["models:/delay/3", "passed"],
        ["models:/delay/2", "refused"],
        ["models:/delay/1", "passed"],
    ]
    assert lines[0].split() == ["version", "verdict", "decided", "(UTC)", "roc_auc", "brier", "p99", "ms", "report"]
    assert lines[4] == "  roc_auc from the first to the last: ▅▁█  (0.7200 to 0.7800)"
