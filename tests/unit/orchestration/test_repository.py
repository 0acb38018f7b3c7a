"""Git's own reasons, and files that git does not know as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.git import git
from trunkline.errors import ProjectError
from trunkline.orchestration.changes import changed
from trunkline.orchestration.repository import repository
from trunkline.project.init import init_project


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The start project, which deploys a model, in a folder of a repository with one commit."""
    root = tmp_path / "repo" / "shop"
    init_project(root)
    file = root / "deploy" / "returns.yml"
    file.write_text(file.read_text().replace("model: null", "model: models:/returns/1"))
    git(root.parent, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    return root


def test_a_deployment_behind_a_link_is_refused(shop: Path, tmp_path: Path) -> None:
    file = shop / "deploy" / "returns.yml"
    text = file.read_text()
    for where in (shop / "same.yml", tmp_path / "outside.yml"):
        where.write_text(text.replace("returns/1", "returns/2"))
        file.unlink()
        file.symlink_to(where)
        with pytest.raises(ProjectError, match="shop/deploy/returns.yml is a link"):
            changed(shop, "HEAD")
    file.unlink()
    file.write_text(text)
    (shop / "deploy").rename(shop / "deploy.old")
    (shop / "deploy").symlink_to("deploy.old")
    with pytest.raises(ProjectError, match="shop/deploy is a link"):
        changed(shop, "HEAD")
    with pytest.raises(ProjectError, match="not in the repository"):
        repository(shop).file_at("HEAD", tmp_path / "outside.yml")


def test_a_repository_that_is_reached_by_a_link_is_as_good(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "repo")
    assert changed(tmp_path / "link" / "shop", "HEAD") == []
    assert repository(tmp_path / "link").name(tmp_path / "link" / "shop" / "x.yml") == "shop/x.yml"


def test_line_ends_are_those_of_the_commit(shop: Path) -> None:
    there = repository(shop)
    commit = there.committed(shop / "deploy" / "returns.yml", "a: 1\r\nb: ü\n", "said")
    assert there.file_at(commit, shop / "deploy" / "returns.yml") == "a: 1\r\nb: ü\n"


def test_git_says_why_there_is_no_repository(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProjectError, match="not a git repository"):
        repository(tmp_path)
    with pytest.raises(ProjectError, match="no such folder"):
        repository(tmp_path / "nowhere")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests use it
    with pytest.raises(ProjectError, match="dubious ownership") as caught:
        repository(shop)
    assert str(caught.value.hint).startswith("git config --global --add safe.directory ")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProjectError, match="git is not installed"):
        repository(shop)
