"""docs/ci.md: its files parse, its commands exist with their options, its table is what the workflows say."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from trunkline.cli.main import _trunkline
from trunkline.orchestration.deploying import MINUTES
from trunkline.orchestration.github import WORKFLOWS, read_for_workflows, render
from trunkline.orchestration.judged_index import MOST
from trunkline.orchestration.workflow_env import variables
from trunkline.project.config import read_config
from trunkline.project.deploy import read_deployment
from trunkline.project.init import init_project

PAGE = (Path(__file__).parents[2] / "docs" / "ci.md").read_text("utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The start project, in a repository."""
    root = tmp_path_factory.mktemp("ci") / "shop"
    init_project(root)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], cwd=root, check=True, timeout=30)
    return root


def test_the_files_parse(tmp_path: Path) -> None:
    config, deployment = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "trunkline.yml").write_text(config)
    found = read_config(tmp_path).ci
    assert (found.branch, found.target, len(found.secrets)) == ("main", "prod", 2)
    (tmp_path / "delay.yml").write_text(deployment)
    assert len(read_deployment(tmp_path / "delay.yml").spec.rollout) == 2


def _check(line: str, *, whole: bool) -> None:
    """Parse one command as it would be run, without running it. Click complains of what it does not know, and of what
    is missing if the line is to be a `whole` command."""
    command: click.Command = _trunkline
    context = click.Context(_trunkline, info_name="trunkline")
    words = line.split()[1:]
    while isinstance(command, click.Group):
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
    command.make_context(line, words, parent=context, resilient_parsing=not whole)


def test_the_commands_exist() -> None:
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL))
    lines = [line for line in blocks.splitlines() if line.startswith("trunkline ")]
    assert len(lines) == 5
    for line in lines:
        _check(line, whole=True)
    for line in re.findall(r"`(trunkline [^`]*)`", PAGE):
        _check(line, whole=False)


def test_the_table_is_what_the_workflows_say(shop: Path) -> None:
    rows = re.findall(r"^\| `(\w+)\.yml` \| .* \| (.*) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [row[0] for row in rows] == list(WORKFLOWS)
    rendered = render(read_for_workflows(shop))
    base = '"origin/${GITHUB_BASE_REF:-main}"'
    for name, commands, may in rows:
        (job,) = yaml.safe_load(rendered[f"{name}.yml"])["jobs"].values()
        told = {tuple(found.split(": ")) for found in re.findall(r"`([\w-]+: \w+)`", may)}
        assert {("contents", "read"), *told} >= set(job["permissions"].items()) >= told, name
        ran = [step["run"] for step in job["steps"] if str(step.get("run", "")).startswith("trunkline")]
        for command, wanted in zip(ran, re.findall(r"`(.*?)`", commands), strict=True):
            assert command.startswith(wanted.replace("origin/main", base)), name


def test_secrets_and_numbers_are_those_of_the_code(shop: Path) -> None:
    rows = re.findall(r"^\| (`[A-Z].*?) \|", PAGE, re.MULTILINE)
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert told == [*(variable.name for variable in variables(read_for_workflows(shop))), "TRUNKLINE_RETRAIN_TOKEN"]
    assert f"{MOST} at most" in PAGE
    assert f"`--minutes`, {MINUTES:g} each" in PAGE
