"""docs/gate.md: its deployments parse, its program reads a report, its table of metrics is what the gate measures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.gate.test_report import RICH
from trunkline.gate.report_files import write
from trunkline.gate.report_markdown import to_markdown
from trunkline.project.deploy import read_deployment

PAGE = Path(__file__).parents[2] / "docs" / "gate.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_its_deployments_parse(tmp_path: Path) -> None:
    written = _blocks("yaml")
    assert len(written) >= 2
    for block in written:
        (tmp_path / "one.yml").write_text(block if block.startswith("deployment:") else f"deployment: one\n{block}")
        assert read_deployment(tmp_path / "one.yml").spec.gate


def test_its_program_reads_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (program,) = _blocks("python")
    write(RICH, tmp_path)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/gate.md", "exec"), {})
    assert capsys.readouterr().out == to_markdown(RICH) + "\n"
