"""The answer of the process that checks a project is its own: what the project's code prints is not in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trunkline.errors import ProjectError, StepFailed
from trunkline.orchestration import checking

NOISY = """
import atexit, json, sys
from pathlib import Path

atexit.register(lambda: print("bye, without an end of line", end=""))

def inside(answer: Path) -> None:
    print("{not an answer", end="")
    if Path("told.json").exists():
        answer.write_text(Path("told.json").read_text())
"""


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose process says more than it is asked."""
    (tmp_path / "project").mkdir()
    (tmp_path / "noisy_check.py").write_text(NOISY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(checking, "__name__", "noisy_check")
    return tmp_path / "project"


def test_what_is_printed_is_no_answer(copy: Path) -> None:
    (copy / "told.json").write_text(json.dumps({"steps": 3, "ran": [f"{copy}/models/a.sql"]}))
    assert checking._apart(copy, copy) == {"steps": 3, "ran": ["models/a.sql"]}


def test_an_error_comes_with_its_place(copy: Path) -> None:
    error = ProjectError("no such table", file=copy / "models" / "a.sql", line=3)
    (copy / "told.json").write_text(json.dumps(error.to_json()))
    with pytest.raises(ProjectError, match="no such table") as caught:
        checking._apart(copy, copy)
    assert caught.value.where == "models/a.sql:3"


def test_no_answer_is_a_failure(copy: Path) -> None:
    with pytest.raises(StepFailed, match="the check ended with 0"):
        checking._apart(copy, copy)
