"""Rooms import lower rooms only: the contract of `[tool.importlinter]` holds, and would notice if it did not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def lint_imports(config: Path, source: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts of `config` on the package in `source`."""
    command = [Path(sys.executable).with_name("lint-imports"), "--config", config, "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(source), "COLUMNS": "200"}
    return subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)


def test_the_layers_hold(root: Path) -> None:
    result = lint_imports(root / "pyproject.toml", root / "src")
    assert result.returncode == 0, result.stdout
    assert "1 kept, 0 broken" in result.stdout


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A copy of the package that a test may break."""
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "templates"))
    return tmp_path / "src"


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("newroom.py", "", "trunkline.newroom"),
        ("graph/probe.py", "from trunkline.project import yaml", "trunkline.graph is not allowed to import"),
        ("graph/probe.py", "def f():\n    from trunkline.warehouse import protocol", "trunkline.graph is not allowed"),
    ],
    ids=["a room without a place", "a sibling", "a higher room, lazily"],
)
def test_a_breach_is_noticed(root: Path, copy: Path, file: str, text: str, complaint: str) -> None:
    (copy / "trunkline" / file).write_text(text, encoding="utf-8")
    result = lint_imports(root / "pyproject.toml", copy)
    assert result.returncode == 1
    assert complaint in result.stdout
