"""`trunkline ci gate` and `ci propose`: what they leave behind when something is wrong."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

from trunkline.cli import ci
from trunkline.errors import EngineError, ProjectError, TrunklineError
from trunkline.orchestration import changes, proposing
from trunkline.orchestration.changes import Change, Judged
from trunkline.orchestration.judged_index import Entry, read_index
from trunkline.orchestration.proposing import Proposal
from trunkline.project.init import init_project


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The start project in a repository with one commit."""
    root = tmp_path / "shop"
    init_project(root)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"]):
        subprocess.run(["git", *command], cwd=root, check=True, timeout=30)
    for name in ("GITHUB_EVENT_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(root)
    return root


def _two(root: Path) -> None:
    text = (root / "deploy" / "returns.yml").read_text().replace("model: null", "model: models:/returns/1")
    for name in ("a", "b"):
        (root / "deploy" / f"{name}.yml").write_text(text.replace("deployment: returns", f"deployment: {name}"))


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(ci.command, arguments)


def _gate(*arguments: str) -> Result:
    return _run("gate", "--base", "HEAD", "--out", "out", *arguments)


def test_the_index_is_left_whatever_happens(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _gate().exit_code == 0
    assert read_index(shop / "out") == ()
    _two(shop)
    file = shop / "profiles.yml"
    file.write_text(file.read_text().replace("schema: main", "schema: \"{{ env_var('NO_SUCH_VARIABLE') }}\""))
    found = _gate()
    assert isinstance(found.exception, ProjectError)
    index = read_index(shop / "out")
    assert index is not None
    assert [(one.deployment, one.passed) for one in index] == [("a", None), ("b", None)]
    assert all("NO_SUCH_VARIABLE" in str(one.error) for one in index)

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ci, "session", stopped)
    _gate()
    assert read_index(shop / "out") == (Entry("a"), Entry("b"))


@pytest.fixture
def no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that opens nothing."""

    @contextmanager
    def opened(project: Path | None, target: str | None, show: Any) -> Iterator[Any]:
        named = [SimpleNamespace(name=name) for name in ("a", "b")]
        yield SimpleNamespace(project=SimpleNamespace(root=Path.cwd(), deployments=named, config=None))

    monkeypatch.setattr(ci, "session", opened)


@pytest.mark.usefixtures("no_session")
def test_one_that_errs_does_not_lose_the_other_verdict(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _two(shop)
    error = EngineError("no answer from <the registry>", hint="try again")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(shop / "summary.md"))

    def judge(_: Any, found: list[Change], out: Path, tell: Callable[..., None], *, again: bool) -> list[Judged]:
        judged = [Judged(found[0], error=error), Judged(found[1], passed=True)]
        for one in judged:
            tell(one, None)
        return judged

    monkeypatch.setattr(changes, "judge_changed", judge)
    told = _gate("--json")
    data = json.loads(told.stdout)
    assert (told.exit_code, data["passed"], data["error"], data["hint"]) == (1, False, "EngineError", "try again")
    assert [(one["deployment"], one["passed"]) for one in data["judged"]] == [("a", False), ("b", True)]
    assert _gate().exception is error
    assert read_index(shop / "out") == (Entry("a", None, error.what), Entry("b", True))
    summary = "The gate on `a` ended with an error: `no answer from \\x3cthe registry\\x3e`\n\n"
    assert (shop / "summary.md").read_text() == summary * 2


@pytest.mark.usefixtures("no_session")
def test_one_that_cannot_be_proposed_does_not_hold_up_the_other(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "a-token")
    monkeypatch.setenv("GITHUB_REPOSITORY", "team/shop")

    def propose(_: Any, __: Any, ___: Any, one: Any, base: str) -> Proposal:
        if one.name == "a":
            raise TrunklineError("no")
        return Proposal("b", "models:/b/2", None, "trunkline/b", "made", "")

    monkeypatch.setattr(proposing, "propose", propose)
    told = _run("propose", "--base", "main", "--json")
    data = json.loads(told.stdout)
    assert (told.exit_code, data["message"], [one["deployment"] for one in data["proposed"]]) == (1, "no", ["b"])
    text = _run("propose", "--base", "main")
    assert "a: no\nb: nothing → models:/b/2: made" in text.stdout
    assert str(text.exception) == "no"
