"""`trunkline functions`: what is listed, what is tried out, and how a difference is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.unit.transform.writing import SAMPLES, Sample
from trunkline.cli.functions import command
from trunkline.errors import ProjectError
from trunkline.orchestration.functions import list_functions, try_functions

DEPENDS = Sample("def main(a):\n    return a - a.mean()\n", "a: double", "double", "{packages: [numpy]}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "dbt_project.yml").write_text("name: x\nprofile: x\n")
    SAMPLES["label"].write(tmp_path, "label")
    DEPENDS.write(tmp_path, "depends")
    return tmp_path


def test_functions_are_listed_by_name(project: Path) -> None:
    assert [function.name for function in list_functions(project)] == ["depends", "label"]
    assert [function.name for function in list_functions(project, "label")] == ["label"]
    with pytest.raises(ProjectError, match=r"no function 'lable'\. Did you mean 'label'\?"):
        list_functions(project, "lable")


def test_each_function_is_tried_in_turn(project: Path) -> None:
    told: list[str] = []
    tried = {agreement.function.name: agreement.ok for agreement in try_functions(project, None, 50, 0, told.append)}
    assert tried == {"depends": False, "label": True}
    assert told == ["tests depends", "tests label"]


def test_the_list_says_what_each_is(project: Path) -> None:
    shown = CliRunner().invoke(command, ["list", "-p", str(project)])
    assert shown.exit_code == 0
    assert [line.split() for line in shown.output.splitlines()] == [
        ["name", "kind", "arguments", "returns", "packages", "file"],
        ["depends", "vectorised", "a", "DOUBLE", "DOUBLE", "numpy", "functions/depends.py"],
        ["label", "scalar", "name", "VARCHAR,", "n", "BIGINT", "VARCHAR", "functions/label.py"],
    ]
    listed = json.loads(CliRunner().invoke(command, ["list", "-p", str(project), "--json"]).output)["functions"]
    assert listed[1] == {
        "name": "label",
        "kind": "scalar",
        "arguments": [{"name": "name", "type": "VARCHAR"}, {"name": "n", "type": "BIGINT"}],
        "returns": "VARCHAR",
        "packages": [],
        "file": "functions/label.py",
        "modules": ["functions/label.py", "lib/text.py"],
    }


def test_a_project_without_functions_says_how_to_begin(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: x\nprofile: x\n")
    shown = CliRunner().invoke(command, ["list", "-p", str(tmp_path)])
    assert "write functions/NAME.py" in shown.output


def test_a_difference_is_shown_with_the_row_and_ends_in_exit_code_2(project: Path) -> None:
    shown = CliRunner().invoke(command, ["test", "depends", "--rows", "40", "--seed", "2", "-p", str(project)])
    assert shown.exit_code == 2
    first, row, plain, side = shown.output.splitlines()
    assert first.startswith("✗ depends")
    assert "DuckDB: no differ" in first
    assert "Snowflake by 1: " in first
    assert row.strip().startswith("first in row 1: depends(a=")
    assert plain.split()[0] == "plain"
    assert side.strip().startswith("Snowflake by 1")
    told = json.loads(
        CliRunner().invoke(command, ["test", "depends", "--rows", "40", "--json", "-p", str(project)]).output
    )
    (outcome,) = told["functions"]
    assert (outcome["agree"], outcome["rows"], outcome["differing"]["DuckDB"]) == (False, 40, 0)
    assert outcome["first"]["plain"] != outcome["first"]["answer"]


def test_agreement_ends_in_exit_code_0(project: Path) -> None:
    shown = CliRunner().invoke(command, ["test", "label", "--rows", "40", "-p", str(project)])
    assert (shown.exit_code, shown.output.split()[:4]) == (0, ["✓", "label", "40", "rows,"])
