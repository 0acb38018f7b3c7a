"""Which deployments a branch changes, told from git."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.git import git
from trunkline.errors import EngineError, ProjectError
from trunkline.orchestration.changes import changed
from trunkline.orchestration.repository import repository
from trunkline.project.init import init_project


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The start project in a folder of a repository, with three deployments; `main` goes on after the branch began."""
    root = tmp_path / "repo" / "shop"
    init_project(root)
    git(root.parent, "init", "--quiet", "--initial-branch=main")
    text = (root / "deploy" / "returns.yml").read_text().replace("model: null", "model: models:/returns/1")
    for name in ("a", "b", "c"):
        (root / "deploy" / f"{name}.yml").write_text(text.replace("deployment: returns", f"deployment: {name}"))
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    git(root, "branch", "change")
    _edit(root, "b", "returns/1", "returns/5")
    git(root, "commit", "--quiet", "--all", "--message=main goes on")
    git(root, "switch", "--quiet", "change")
    return root


def _edit(root: Path, name: str, old: str, new: str) -> None:
    path = root / "deploy" / f"{name}.yml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def _changed(root: Path, base: str = "main") -> list[tuple[str, str, str | None]]:
    return [(c.deployment.name, c.what, c.before) for c in changed(root, base)]


def test_models_and_rules_are_changes_and_nothing_else_is(shop: Path) -> None:
    assert _changed(shop) == []  # what main did since is not ours
    for name in ("a", "b"):
        _edit(shop, name, "port: 8000", "port: 9000")
    _edit(shop, "a", "# A pull request", "# Any pull request")
    assert _changed(shop) == []
    _edit(shop, "a", "models:/returns/1", "models:/returns/2")
    _edit(shop, "c", "at_least: 0.6", "at_least: 0.5")
    _edit(shop, "b", "deployment: b", "deployment: renamed")
    git(shop, "commit", "--quiet", "--all", "--message=change")
    assert _changed(shop) == [
        ("a", "model", "models:/returns/1"),
        ("renamed", "model", "models:/returns/1"),  # under its new name it has no verdict yet
        ("c", "rules", "models:/returns/1"),
    ]


def test_a_new_a_moved_and_an_unreadable_file_are_changes(shop: Path) -> None:
    text = (shop / "deploy" / "a.yml").read_text()
    (shop / "deploy" / "new.yml").write_text(text.replace("deployment: a", "deployment: new"))
    git(shop, "mv", "deploy/b.yml", "deploy/moved.yml")
    assert _changed(shop) == [("new", "model", None)]
    _edit(shop, "moved", "models:/returns/1", "models:/other/1")
    assert _changed(shop) == [("b", "model", "models:/returns/1"), ("new", "model", None)]
    (shop / "deploy" / "c.yml").write_text("old: 1\n")
    git(shop, "commit", "--quiet", "--all", "--message=of another version")
    (shop / "deploy" / "c.yml").write_text(text.replace("deployment: a", "deployment: c"))
    assert ("c", "model", None) in _changed(shop, "HEAD")


def test_a_base_that_is_none_is_told_with_what_to_type(shop: Path) -> None:
    with pytest.raises(ProjectError, match="'nowhere' is no commit") as caught:
        _changed(shop, "nowhere")
    assert "fetch-depth: 0" in str(caught.value.hint)
    with pytest.raises(ProjectError, match="is no commit"):
        _changed(shop, "--output=pwned")
    with pytest.raises(ProjectError, match="is in no git repository"):
        repository(Path("/"))


def test_a_commit_beside_the_checkout_leaves_it_alone(shop: Path) -> None:
    there = repository(shop)
    (shop / "ml" / "returns.py").write_text("# unfinished\n")
    before = there.git("status", "--porcelain")
    commit = there.committed(shop / "deploy" / "a.yml", "deployment: a\n", "said")
    assert there.file_at(commit, shop / "deploy" / "a.yml") == "deployment: a\n"
    assert there.git("diff", "--name-only", "HEAD", commit).split() == ["shop/deploy/a.yml"]
    assert there.git("status", "--porcelain") == before
    with pytest.raises(EngineError, match="pushing failed: ") as caught:
        there.git("push", "https://me:secret@127.0.0.1:1/x.git", commit, what="pushing")
    assert "secret" not in str(caught.value)
