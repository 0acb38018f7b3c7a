"""The workflows as files: whose they are, and what their variables are."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from trunkline.errors import ProjectError
from trunkline.orchestration.github import compare, read_for_workflows, render, write
from trunkline.orchestration.workflow_env import Variable, variables
from trunkline.project.init import init_project


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The start project in a folder of a repository."""
    root = tmp_path / "repo" / "shop"
    init_project(root)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=root.parent, check=True, timeout=30)
    return root


def test_the_workflows_of_another_project_are_left_alone(shop: Path) -> None:
    write(compare(read_for_workflows(shop)), force=False)
    other = shop.parent / "other"
    init_project(other)
    with pytest.raises(ProjectError, match="of the project in 'shop', and would be of the one in 'other'"):
        compare(read_for_workflows(other))
    init_project(shop.parent)
    with pytest.raises(ProjectError, match="of the project in 'shop', and would be of the one in '.'"):
        compare(read_for_workflows(shop.parent))
    (shop / "dbt_project.yml").unlink()  # it moved: they are old ones of the same project
    assert {file.state for file in compare(read_for_workflows(other)) if file.path.suffix == ".yml"} == {"old"}


def test_branches_and_times_are_texts_whatever_they_look_like(shop: Path) -> None:
    (shop / "trunkline.yml").write_text('ci: {branch: "1e3", retrain: "0 5 * * 1"}\n')
    found = {name: yaml.load(text, yaml.BaseLoader) for name, text in render(read_for_workflows(shop)).items()}
    assert found["gate.yml"]["on"]["pull_request"]["branches"] == ["1e3"]
    assert found["gate.yml"]["on"]["merge_group"]["branches"] == ["1e3"]
    texts = render(read_for_workflows(shop))
    assert 'branches: ["1e3"]' in texts["deploy.yml"]
    assert 'cron: "0 5 * * 1"' in texts["retrain.yml"]
    assert "merge_group" in found["ci.yml"]["on"]
    retrain = found["retrain.yml"]["jobs"]["retrain"]
    assert retrain["if"] == "github.event_name == 'schedule' || github.ref == 'refs/heads/1e3'"
    assert retrain["steps"][0]["with"]["ref"] == "refs/heads/1e3"


def _variables(root: Path, schema: str) -> dict[str, Variable]:
    profiles = root / "profiles.yml"
    profiles.write_text(re.sub("schema: .*", lambda _: f"schema: {schema}", profiles.read_text()))
    return {variable.name: variable for variable in variables(read_for_workflows(root))}


def test_what_the_runner_sets_is_no_secret(shop: Path) -> None:
    names = ("HOME", "PATH", "CI", "RUNNER_TEMP", "ACTIONS_CACHE_URL", "GITHUB_RUN_ID", "HOMELY", "CITY")
    schema = '"' + "_".join(f"{{{{ env_var('{name}', 'x') }}}}" for name in names) + '"'
    assert sorted(set(_variables(shop, schema)) & set(names)) == ["CITY", "HOMELY"]
    with pytest.raises(ProjectError, match="no secret may be called 'GITHUB_PAT'"):
        _variables(shop, "\"{{ env_var('GITHUB_PAT') }}\"")
    (shop / "trunkline.yml").write_text("ci: {secrets: [HOME]}\n")
    with pytest.raises(ProjectError, match="no secret may be called 'HOME'"):
        _variables(shop, "main")


def test_names_are_found_beside_quotes(shop: Path) -> None:
    assert "ONE" in _variables(shop, """'{{ env_var(''ONE'') ~ "_x" }}'""")
    assert "TWO" in _variables(shop, '''"{{ env_var(\\"TWO\\") ~ '_x' }}"''')


@pytest.mark.parametrize(
    ("default", "expression"),
    [
        ("main", "'main'"),
        ("a b", """fromJSON('"a b"')"""),
        ("it: #}} ${{ x", r"""fromJSON('"it\u003a \u0023\u007d\u007d \u0024\u007b\u007b x"')"""),
        ("ü\U0001f600", r"""fromJSON('"\u00fc\ud83d\ude00"')"""),
    ],
)
def test_a_default_is_written_so_that_it_means_itself(shop: Path, default: str, expression: str) -> None:
    variable = _variables(shop, f"\"{{{{ env_var('A_SCHEMA', '{default}') }}}}\"")["A_SCHEMA"]
    assert variable.expression == f"secrets.A_SCHEMA || {expression}"
    assert yaml.safe_load(str(variable)) == {"A_SCHEMA": f"${{{{ {variable.expression} }}}}"}
    if expression.startswith("fromJSON"):
        assert json.loads(expression.removeprefix("fromJSON('").removesuffix("')")) == default


def test_a_number_is_a_default_too(shop: Path) -> None:
    assert _variables(shop, "\"{{ env_var('A', 5432) }}\"")["A"].expression == "secrets.A || '5432'"
