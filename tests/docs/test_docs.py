"""The documentation says what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.cli.main import COMMANDS
from trunkline.project import yaml
from trunkline.project.deploy import read_deployment
from trunkline.project.ml import declarations
from trunkline.project.sources import read_sources

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)


def test_the_reference_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_project_page_is_a_project_that_parses(tmp_path: Path) -> None:
    sources, deployment = _blocks("docs/project.md", "yaml")
    (tmp_path / "sources.yml").write_text(sources)
    (table,) = read_sources(yaml.load(tmp_path / "sources.yml"))
    assert (table.key, len(table.columns)) == ("nyc.flights", 2)
    (tmp_path / "delay.yml").write_text(deployment)
    assert read_deployment(tmp_path / "delay.yml").spec.model == "models:/delay/7"
    (python,) = _blocks("docs/project.md", "python")
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "delay.py").write_text(python)
    assert [item.name for item in declarations(tmp_path)] == ["flight_features", "delay"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_pages_exist(page: Path) -> None:
    for command in re.findall(r"`trunkline ([a-z]+)|^\$ trunkline ([a-z]+)", page.read_text("utf-8"), re.MULTILINE):
        assert "".join(command) in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target
