"""Comments of the gate: on which pull request, and what becomes of them when something is missing or wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.github_server import TOKEN, FakeGitHub, serve, workflow_run_event
from trunkline.errors import UserError
from trunkline.orchestration.commenting import Outcome, comment, pull_request
from trunkline.orchestration.events import gate_run
from trunkline.orchestration.github_api import GitHub
from trunkline.orchestration.judged_index import FILE, LARGEST, MOST, Entry, read_index, write_index

TEAM, SHA, OLD = "team/shop", "a" * 40, "<!-- trunkline:gate:delay -->\nThe gate passes."


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """GitHub with one pull request, on which our comment says that the gate passes."""
    with serve(FakeGitHub(TEAM)) as api:
        api.pull(7, "x", SHA)
        api.comments[1] = {"id": 1, "issue": 7, "user": {"type": "Bot"}, "body": OLD}
        yield api


def _comment(github: FakeGitHub, folder: Path, **told: Any) -> Outcome:
    run = gate_run(workflow_run_event(TEAM, "x", SHA, **told))
    return comment(GitHub(github.url, TEAM, TOKEN), run, folder)


def _index(folder: Path, *judged: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / FILE).write_text(json.dumps({"schema": "trunkline.judged/1", "judged": judged}))
    return folder


def test_without_the_index_a_comment_that_may_be_right_stays(github: FakeGitHub, tmp_path: Path) -> None:
    assert f"holds no {FILE}" in _comment(github, tmp_path / "no artifact").why
    for conclusion in ("timed_out", "startup_failure", "action_required", "skipped"):
        assert conclusion in _comment(github, tmp_path, conclusion=conclusion).why
    assert github.of(7) == [OLD]
    _comment(github, _index(tmp_path), conclusion="success")
    assert "No verdict: what is in this pull request now changes neither" in github.of(7)[0]


def test_what_kept_the_gate_from_a_verdict_is_said_and_harmless(github: FakeGitHub, tmp_path: Path) -> None:
    error = "no model 'x' @everyone <img src=x> [a](http://b) `c`"
    _comment(github, _index(tmp_path, {"deployment": "delay", "passed": None, "error": error}))
    assert github.of(7) == [
        "<!-- trunkline:gate:delay -->\n**No verdict.** The gate on `delay` ended with an error: "
        "`no model 'x' @everyone \\x3cimg src=x\\x3e [a](http://b) \\x60c\\x60`"
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"[]",
        b"\xff",
        b"[" * 9_000,
        b'{"schema": "trunkline.judged/2", "judged": []}',
        b'{"schema": "trunkline.judged/1", "judged": [], "more": 1}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "delay", "passed": 1}]}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "../x"}]}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "a\\n"}]}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "a"}, {"deployment": "a"}]}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "a", "error": "' + b"x" * 1001 + b'"}]}',
        b'{"schema": "trunkline.judged/1", "judged": [{"deployment": "delay", "passed": true}]}',  # and no report
        b'{"schema": "trunkline.judged/1", "judged": []}' + b" " * LARGEST,
        json.dumps({"schema": "trunkline.judged/1", "judged": [{"deployment": f"d{n}"} for n in range(21)]}).encode(),
    ],
)
def test_an_index_that_is_none_changes_nothing(data: bytes, github: FakeGitHub, tmp_path: Path) -> None:
    assert MOST == 20
    (tmp_path / FILE).write_bytes(data)
    with pytest.raises(UserError):
        _comment(github, tmp_path)
    assert github.of(7) == [OLD]


def test_an_index_that_is_a_link_is_refused(github: FakeGitHub, tmp_path: Path) -> None:
    _index(tmp_path / "real")
    (tmp_path / FILE).symlink_to(tmp_path / "real" / FILE)
    with pytest.raises(UserError, match="no plain file"):
        _comment(github, tmp_path)


def test_what_is_written_is_read_and_tells_no_secret(tmp_path: Path) -> None:
    (tmp_path / "trunkline.yml").write_text("datasets: {storage: {secret: env:STORE_KEY}}\n")
    environ = {"STORE_KEY": "hunter2", "TRUNKLINE_VAULT_KEY": "k=", "MLFLOW_TRACKING_PASSWORD": "s3cret", "HOME": "/h"}
    error = "hunter2 and s3cret at postgres://me:pw@host in /h" + "x" * 2000
    write_index(tmp_path / "out", [Entry("a", None, error), Entry("b", False)], tmp_path, environ)
    found = read_index(tmp_path / "out")
    assert found is not None
    assert found[1] == Entry("b", False)
    assert str(found[0].error).startswith("*** and *** at postgres://me:***@host in /hx")
    assert len(str(found[0].error)) == 1000


def test_a_fork_is_told_only_if_it_changes_a_deployment(github: FakeGitHub, tmp_path: Path) -> None:
    github.comments.clear()
    github.pull(9, "x", SHA, owner="stranger")
    github.files[9] = ["README.md", "src/deploy/notes.md", "deployed/a.yml"]  # red for another reason
    _comment(github, tmp_path, head="stranger/shop")
    assert github.of(9) == []
    github.files[9].append("ml/shop/deploy/delay.yml")
    _comment(github, tmp_path, head="stranger/shop", conclusion="startup_failure")
    assert github.of(9) == []
    _comment(github, tmp_path, head="stranger/shop")
    assert "**Not judged.**\nThis pull request comes from a fork" in github.of(9)[0]


def test_of_several_pull_requests_of_a_branch_it_is_the_one_that_was_judged(github: FakeGitHub) -> None:
    hub = GitHub(github.url, TEAM, TOKEN)
    github.pulls.clear()
    github.pull(5, "x", SHA, base="dev")
    github.pull(6, "x", SHA, base="main")
    github.pull(8, "x", SHA, base="docs")
    run = gate_run(workflow_run_event(TEAM, "x", SHA))
    assert pull_request(hub, run, "main") == 6
    assert pull_request(hub, run) == 5
    counted = gate_run(workflow_run_event(TEAM, "x", SHA, numbers=[8, 6]))
    assert (pull_request(hub, counted), pull_request(hub, counted, "docs")) == (6, 8)
    assert pull_request(hub, gate_run(workflow_run_event(TEAM, "x", SHA, numbers=[8])), "main") == 8
