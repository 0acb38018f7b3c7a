"""The pages of answers and of the gate say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from trunkline.gate.policy import goals
from trunkline.models.answer import columns, fields, numbers
from trunkline.models.function import returns
from trunkline.models.task import Task
from trunkline.project.deploy import read_deployment

DOCS = Path(__file__).parent.parent.parent / "docs"
TASKS = {
    "binary": Task(),
    "multiclass": Task("multiclass", classes=("ant", "bee", "cat")),
    "regression": Task("regression"),
    "quantile": Task("quantile", quantiles=(0.1, 0.5, 0.9)),
    "custom": Task("custom", outputs=2),
}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)


def rows(page: str, heading: str) -> dict[str, list[str]]:
    """Cells of the table below a heading, by task."""
    text = (DOCS / page).read_text("utf-8").split(heading, 1)[1].split("\n## ", 1)[0]
    found = {}
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            found |= dict.fromkeys(cells[0].split(", "), cells[1:])
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_the_answers_shown_are_answers() -> None:
    whole, *several = [json.loads(block) for block in blocks("answers.md", "json")]
    (plain,) = whole["predictions"]
    shown = [plain, *several]
    for task, told in zip((TASKS[kind] for kind in ("binary", "multiclass", "quantile", "custom")), shown, strict=True):
        assert [*told] == [*fields(task), "prediction_id"]
        assert len(numbers(task, told)) == (task.width or 1)
    assert several[0]["class"] == max(several[0]["probabilities"], key=several[0]["probabilities"].get)


@pytest.mark.parametrize("kind", TASKS)
def test_the_table_of_answers_is_true(kind: str) -> None:
    http, batch, function = rows("answers.md", "# What a model answers")[kind]
    task = TASKS[kind]
    assert named(http) == [*fields(task)][:2]
    assert sorted(named(batch)) == sorted(name for name, _ in columns(task))[: 2 if kind == "quantile" else 3]
    assert ("list" in function) is (returns(task) != "DOUBLE")


@pytest.mark.parametrize("kind", TASKS)
def test_the_table_of_metrics_is_true(kind: str) -> None:
    metrics = named(rows("gate.md", "## Metrics")[kind][0])
    assert metrics == [*goals(TASKS[kind])][: len(metrics)]
    assert len(metrics) == len(goals(TASKS[kind])) or kind == "quantile"


def test_the_rules_shown_are_of_metrics_that_there_are(tmp_path: Path) -> None:
    price, arrival, *_ = blocks("gate.md", "yaml")
    for text, task in ((price, TASKS["regression"]), (arrival, TASKS["quantile"])):
        (tmp_path / "d.yml").write_text(text)
        assert {*read_deployment(tmp_path / "d.yml").spec.gate.metrics} <= {*goals(task)}
