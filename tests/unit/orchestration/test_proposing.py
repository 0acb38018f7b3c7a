"""Proposals: on top of what origin has, signed in at GitHub alone, and turned down once for all."""

from __future__ import annotations

import dataclasses
import datetime as dt
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.github_server import TOKEN, FakeGitHub, serve
from tests.git import git
from trunkline.errors import UserError
from trunkline.orchestration import proposing
from trunkline.orchestration.github_api import GitHub
from trunkline.orchestration.proposing import Proposal, propose
from trunkline.orchestration.repository import repository
from trunkline.project.deploy import read_deployment
from trunkline.registry.protocol import ModelVersion

TEAM = "team/shop"
TEXT = "---\r\n# who?\r\ndeployment: delay\r\nmodel: models:/delay/1   # the promoted one\r\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A checkout with one deployment, its line ends those of Windows, pushed to a bare repository beside it."""
    root = tmp_path / "shop"
    (root / "deploy").mkdir(parents=True)
    (root / "deploy" / "delay.yml").write_bytes(TEXT.encode())
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", "origin.git")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "core.autocrlf", "false")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    git(root, "remote", "add", "origin", str(tmp_path / "origin.git"))
    git(root, "push", "--quiet", "origin", "main")
    return root


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """GitHub, with nothing in it."""
    with serve(FakeGitHub(TEAM)) as api:
        yield api


def _propose(root: Path, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch, base: str = "main") -> Proposal | None:
    """Propose version 2, as if the registry had it."""
    version = ModelVersion("delay", 2, "models:/delay/2", "b" * 64, "run", {}, {}, dt.datetime.now(dt.UTC))
    monkeypatch.setattr(proposing, "candidate", lambda session, deployment: version)
    deployment = read_deployment(root / "deploy" / "delay.yml")
    return propose(None, GitHub(github.url, TEAM, TOKEN), repository(root), deployment, base)  # type: ignore[arg-type]


def test_nothing_goes_along_that_is_here_alone(
    shop: Path, github: FakeGitHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "secret.txt").write_text("not for the public")
    git(shop, "add", "--all")
    git(shop, "commit", "--quiet", "--message=unpushed")
    assert _propose(shop, github, monkeypatch) is not None
    origin = tmp_path / "origin.git"
    assert git(origin, "log", "--format=%s", "trunkline/delay").splitlines() == ["delay: models:/delay/2", "first"]
    shown = subprocess.run(["git", "show", "trunkline/delay:deploy/delay.yml"], cwd=origin, capture_output=True)
    assert shown.stdout.decode() == TEXT.replace("delay/1", "delay/2")
    pushed = git(origin, "rev-parse", "trunkline/delay")
    again = _propose(shop, github, monkeypatch)
    assert (again and again.done, git(origin, "rev-parse", "trunkline/delay")) == ("as it was", pushed)


def test_a_file_that_origin_has_otherwise_is_refused(
    shop: Path, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no branch 'nowhere'"):
        _propose(shop, github, monkeypatch, "nowhere")
    (shop / "deploy" / "delay.yml").write_text(f"{TEXT}serve: {{port: 9000}}\n")
    git(shop, "commit", "--quiet", "--all", "--message=unpushed")
    with pytest.raises(UserError, match="not as it is on origin's branch 'main'"):
        _propose(shop, github, monkeypatch)
    assert github.pulls == []


def test_what_was_turned_down_is_known_by_its_mark_or_its_title(
    shop: Path, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _propose(shop, github, monkeypatch) is not None
    (pull,) = github.pulls
    assert pull["body"].startswith("<!-- trunkline:proposal models:/delay/2 -->\n")
    pull |= {"state": "closed", "title": "no, thanks"}
    down = _propose(shop, github, monkeypatch)
    assert down is not None
    assert down.done == "turned down"
    pull |= {"body": "", "title": "delay: models:/delay/2"}
    down = _propose(shop, github, monkeypatch)
    assert down is not None
    assert down.done == "turned down"
    pull |= {"body": "<!-- trunkline:proposal models:/delay/20 -->", "title": "delay: models:/delay/20"}
    made = _propose(shop, github, monkeypatch)
    assert made is not None
    assert made.done == "made"


def test_the_token_goes_to_github_alone_and_the_users_settings_stay(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, hub = repository(shop), GitHub("https://api.github.com", TEAM, TOKEN)

    def told(origin: str, server: str = "https://github.com") -> dict[str, str]:
        git(shop, "remote", "set-url", "origin", origin)
        return dict(proposing._signed_in(there, dataclasses.replace(hub, server=server)))

    for other in ("https://gitlab.com/team/shop", "https://github.com.evil.example/x", "https://github.com:8443/x"):
        assert told(other) == {}
    assert told("git@github.com:team/shop.git") == {}
    assert told("https://github.com/team/shop", "https://github.example.com") == {}
    assert told("https://me@github.example.com/x", "https://github.example.com/")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.name")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "Ann")
    found = told("https://github.com/team/shop")
    assert there.git("config", "user.name", environ=found) == "Ann\n"
    listed = there.git("config", "--get-urlmatch", "http.extraheader", "https://github.com/team/shop", environ=found)
    assert listed.startswith("AUTHORIZATION: basic ")
