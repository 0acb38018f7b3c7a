"""The workflows that `trunkline ci github` writes: linted, and run by a real runner on a real repository."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, copy_of
from tests.e2e.github_server import (
    TOKEN,
    FakeGitHub,
    Runner,
    lint,
    pull_request_event,
    serve,
    workflow_run_event,
)
from tests.git import git
from trunkline.errors import EngineError, ProjectError, UserError
from trunkline.orchestration.commenting import comment
from trunkline.orchestration.events import gate_run
from trunkline.orchestration.github import WORKFLOWS, compare, read_for_workflows, render
from trunkline.orchestration.github_api import open_github
from trunkline.orchestration.judged_index import Entry, read_index, write_index
from trunkline.orchestration.workflow_env import variables

# As git allows it: commands, quotes, an expression of GitHub's, Markdown and HTML.
BRANCH = "x\";touch${IFS}pwned;echo'$(touch${IFS}pwned)`touch${IFS}pwned`${{github.token}}<img/src=x>@everyone"
TEAM = "team/shop"


def committed(root: Path) -> None:
    """A repository whose one commit is pushed to a bare one beside it, as `origin`."""
    git(root.parent, "init", "--quiet", "--bare", "--initial-branch=main", f"{root.name}.git")
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=first")
    git(root, "remote", "add", "origin", str(root.parent / f"{root.name}.git"))
    git(root, "push", "--quiet", "origin", "main")
    git(root, "remote", "set-head", "origin", "main")


@pytest.fixture
def repository(fresh_shop: Project) -> Project:
    """The start project, committed, nothing run."""
    committed(fresh_shop.root)
    return fresh_shop


# -- what is written


def _snowflake(project: Project) -> None:
    (project.root / "trunkline.yml").write_text("ci: {target: prod, branch: release/v1.2, secrets: [AWS_REGION]}\n")
    settings = {name: f"{{{{ env_var('SNOWFLAKE_{name.upper()}') }}}}" for name in ("account", "user", "password")}
    settings |= {"role": "{{ env_var('SNOWFLAKE_ROLE', 'TRANSFORMER') }}", "type": "snowflake", "database": "SHOP"}
    text = (
        (project.root / "profiles.yml")
        .read_text()
        .replace("    dev:\n", f"    prod: {json.dumps(settings)}\n    dev:\n")
    )
    (project.root / "profiles.yml").write_text(text)
    source = "{connector: sql, dsn: 'env:ORDERS_DSN', query: select 1, load: replace}"
    table = f"{{name: more, config: {{meta: {{trunkline: {source}}}}}, columns: [{{name: a, data_type: integer}}]}}"
    project.edit("models/sources.yml", "tables:\n", f"tables:\n      - {table}\n")


def _hostile(project: Project) -> None:
    """Names that would be expressions, commands or YAML if they stood in a workflow."""
    hostile = "a: ${{ secrets.X }} && `id` # \"'"
    project.edit("dbt_project.yml", "name: shop", f"name: {json.dumps(hostile)}")
    text = (project.root / "deploy" / "returns.yml").read_text()
    (project.root / "deploy" / "$(id) ${{ github.token }}.yml").write_text(
        text.replace("deployment: returns", "deployment: x-.y_")
    )
    project.edit("profiles.yml", "schema: main", "schema: \"{{ env_var('A_SCHEMA', '${{ secrets.X }} || true') }}\"")


@pytest.mark.parametrize("change", [lambda project: None, _snowflake, _hostile], ids=["shop", "snowflake", "hostile"])
def test_linters_find_nothing(repository: Project, change: Any) -> None:
    change(repository)
    repository.run("ci", "github")
    workflows = repository.root / ".github" / "workflows"
    assert sorted(path.stem for path in workflows.iterdir()) == sorted(WORKFLOWS)
    assert lint(workflows) == []
    text = "\n".join(path.read_text() for path in workflows.iterdir())
    assert "secrets.X" not in text
    assert "github.event.pull_request.title" not in text
    assert "pull_request_target" not in text
    for line in text.splitlines():
        assert "run:" not in line or "${{" not in line, line


def test_a_bad_workflow_is_noticed_by_each_linter(tmp_path: Path) -> None:
    workflow = {
        "on": "pull_request_target",
        "jobs": {"gate": {"runs-on": "ubuntu-latest", "steps": [{"run": "echo ${{ github.head_ref }}", "wiht": 1}]}},
    }
    (tmp_path / "gate.yml").write_text(json.dumps(workflow))
    assert [found.partition(":")[0] for found in lint(tmp_path)] == ["actionlint", "zizmor", "check-jsonschema"]


def test_every_action_is_pinned_and_every_job_limited(repository: Project) -> None:
    import yaml

    opened = read_for_workflows(repository.root)
    for name, text in render(opened).items():
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {}, name
        assert "concurrency" in workflow
        for job in workflow["jobs"].values():
            assert {"permissions", "timeout-minutes"} <= set(job)
            for step in job["steps"]:
                command = str(step.get("run", ""))
                assert not command or command.startswith(("trunkline ", "python -m pip install ")), command
                assert "\n" not in command
                if "checkout" in step.get("uses", ""):
                    assert step["with"]["persist-credentials"] is False
                    assert step["with"].get("ref") == ("refs/heads/main" if name == "retrain.yml" else None)
        for line in text.splitlines():
            if "uses:" in line:
                assert len(line.partition("@")[2].partition(" ")[0]) == 40
                assert line.rpartition("# v")[1], line


def test_secrets_are_those_that_the_files_name(repository: Project) -> None:
    names = [variable.name for variable in variables(read_for_workflows(repository.root))]
    assert names == [
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
        "TRUNKLINE_VAULT_KEY",
    ]
    _snowflake(repository)
    found = {variable.name: variable.expression for variable in variables(read_for_workflows(repository.root))}
    theirs = {"SNOWFLAKE_ACCOUNT", "SNOWFLAKE_USER", "SNOWFLAKE_PASSWORD", "SNOWFLAKE_ROLE", "ORDERS_DSN", "AWS_REGION"}
    assert set(found) == {*names, *theirs}
    assert found["SNOWFLAKE_ROLE"] == "secrets.SNOWFLAKE_ROLE || 'TRANSFORMER'"
    gate = render(read_for_workflows(repository.root))["gate.yml"]
    assert '--out "$RUNNER_TEMP/gate" --target prod' in gate
    assert 'branches: ["release/v1.2"]' in gate
    assert "TRUNKLINE_VAULT_KEY" in gate
    assert "TRUNKLINE_VAULT_KEY" not in render(read_for_workflows(repository.root))["deploy.yml"]


def test_what_somebody_changed_is_left_as_it_is(repository: Project) -> None:
    workflows = repository.root / ".github" / "workflows"
    assert all(row["written"] for row in repository.run("ci", "github", "--json").data["files"])
    repository.run("ci", "github", "--check")
    old = (workflows / "ci.yml").read_text()
    (workflows / "ci.yml").write_text(old.replace("timeout-minutes: 30", "timeout-minutes: 31"))
    left = repository.run("ci", "github", check=False)
    assert (left.code, "-    timeout-minutes: 31" in left.out, "+    timeout-minutes: 30" in left.out) == (
        1,
        True,
        True,
    )
    assert "timeout-minutes: 31" in (workflows / "ci.yml").read_text()
    (repository.root / "trunkline.yml").write_text('ci: {retrain: "5 5 * * *"}\n')  # retrain.yml is as we wrote it
    states = {Path(f["file"]).name: f for f in repository.run("ci", "github", "--json", check=False).data["files"]}
    assert (states["retrain.yml"]["state"], states["retrain.yml"]["written"]) == ("old", True)
    assert (states["ci.yml"]["state"], states["ci.yml"]["written"]) == ("changed", False)
    assert repository.run("ci", "github", "--check", check=False).code == 1
    repository.run("ci", "github", "--force")
    repository.run("ci", "github", "--check")
    assert (workflows / "ci.yml").read_text() == old


def test_a_project_in_a_folder_and_names_that_cannot_stand_in_a_workflow(tmp_path: Path) -> None:
    Project(tmp_path).run("init", "repo/ml/shop")
    git(tmp_path / "repo", "init", "--quiet", "--initial-branch=main")
    root = tmp_path / "repo" / "ml" / "shop"
    texts = {
        file.path.relative_to(tmp_path / "repo").as_posix(): file.text for file in compare(read_for_workflows(root))
    }
    assert 'working-directory: "ml/shop"' in texts[".github/workflows/gate.yml"]
    assert '- "ml/shop/deploy/**"' in texts[".github/workflows/deploy.yml"]
    assert texts["ml/shop/requirements.txt"].startswith("trunkline==")
    bad = tmp_path / "repo" / "ml" / "${{ secrets.X }}"
    root.rename(bad)
    with pytest.raises(ProjectError, match="cannot stand in a workflow"):
        compare(read_for_workflows(bad))


# -- what runs


@dataclass(frozen=True)
class Judged:
    """The start project's pull request, gated by act. `folder` has the reports as the artifact had them."""

    project: Project
    runner: Runner
    sha: str
    folder: Path
    log: str
    uri: str


@pytest.fixture(scope="module")
def judged(shop_done: Project, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """gate.yml, run on a branch with a hostile name that deploys the first version and asks too much of another."""
    place = tmp_path_factory.mktemp("github")
    project = copy_of(shop_done, place / "shop")
    shutil.rmtree(project.root / ".trunkline")
    shutil.rmtree(project.root / "warehouse")
    shutil.rmtree(project.root / "ml" / "__pycache__", ignore_errors=True)
    shutil.copytree(shop_done.root / ".trunkline" / "mlflow", place / "mlflow")
    project.edit("deploy/returns.yml", "p99_ms: 25", "p99_ms: 2000")
    text = (project.root / "deploy" / "returns.yml").read_text()
    (project.root / "deploy" / "strict.yml").write_text(
        text.replace("deployment: returns", "deployment: strict").replace("at_least: 0.6", "at_least: 0.99")
    )
    git(project.root, "init", "--quiet", "--initial-branch=main")
    project.run("ci", "github")
    committed(project.root)
    git(project.root, "switch", "--quiet", "--create", BRANCH)
    for name in ("returns", "strict"):
        project.edit(f"deploy/{name}.yml", "model: null", "model: models:/returns/1")
    git(project.root, "commit", "--quiet", "--all", "--message=deploy")
    sha = git(project.root, "rev-parse", "HEAD")
    uri = f"sqlite:///{place / 'mlflow' / 'mlflow.db'}"
    secrets = {"MLFLOW_TRACKING_URI": uri, "TRUNKLINE_VAULT_KEY": base64.b64encode(os.urandom(32)).decode()}
    runner = Runner(project.root, place / "act", TEAM, secrets)
    done = runner.run("gate", "pull_request", pull_request_event(TEAM, 7, BRANCH, sha))
    assert done.code == 1, done.log
    assert secrets["TRUNKLINE_VAULT_KEY"] not in done.log
    return Judged(project, runner, sha, runner.artifacts / "gate", done.log, uri)


def test_the_gate_runs_on_a_pull_request(judged: Judged) -> None:
    assert sorted(path.parent.name for path in judged.folder.glob("*/gate.json")) == ["returns", "strict"]
    passed = {path.parent.name: json.loads(path.read_text())["passed"] for path in judged.folder.glob("*/gate.json")}
    assert passed == {"returns": True, "strict": False}
    assert "exit status 3" in judged.log or "exitcode '3'" in judged.log
    assert "returns: nothing → models:/returns/1" in judged.log
    assert "metrics.roc_auc.at_least" in judged.log
    assert list(judged.project.root.parent.rglob("pwned")) == []


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """GitHub, with nothing in it."""
    with serve(FakeGitHub(TEAM)) as api:
        yield api


def test_the_comment_is_written_once_and_then_changed(judged: Judged, github: FakeGitHub) -> None:
    github.pull(7, BRANCH, judged.sha)
    github.pull(8, "another", "1" * 40)
    event = workflow_run_event(TEAM, BRANCH, judged.sha)
    git(judged.project.root, "switch", "--quiet", "main")  # what GitHub checks out for `workflow_run`
    done = judged.runner.run("comment", "workflow_run", event, api=github.url)
    assert done.code == 0, done.log
    first, second = github.of(7)
    assert first.startswith("<!-- trunkline:gate:returns -->\n")
    assert "The gate passes" in first
    assert "does not pass" in second
    assert "metrics.roc_auc.at_least" in second
    assert github.of(8) == []
    assert TOKEN not in done.log
    hub = open_github({"GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": TOKEN})
    again = comment(hub, gate_run(event), judged.folder)
    assert github.of(7) == [first, second]
    assert (again.number, [one.done for one in again.done]) == (7, ["as it was", "as it was"])
    github.comments[2]["body"] += "\nsomething older"
    again = comment(hub, gate_run(event), judged.folder)
    assert [one.done for one in again.done] == ["as it was", "changed"]
    assert github.of(7) == [first, second]


def _hub(github: FakeGitHub) -> Any:
    return open_github({"GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": TOKEN})


def _index(folder: Path, passed: bool = True) -> Path:
    """The folder of an artifact whose index tells of one deployment."""
    (folder / "returns").mkdir(parents=True)
    write_index(folder, [Entry("returns", passed)], folder, {})
    return folder


def test_what_a_pull_request_left_is_not_believed(judged: Judged, github: FakeGitHub, tmp_path: Path) -> None:
    github.pull(7, BRANCH, judged.sha)
    run = gate_run(workflow_run_event(TEAM, BRANCH, judged.sha))
    good = (judged.folder / "returns" / "gate.json").read_bytes()
    hostile = good.replace(b'"models:/returns/1"', b'"<script>alert(1)</script> @everyone [x](http://x)"')
    wrong = {
        "too large": good + b" " * (1 << 20),
        "no report": b'{"schema": "another"}',
        "no JSON": b"\xff\x00",
        "of another deployment": good.replace(b'"deployment":"returns"', b'"deployment":"other"').replace(
            b'"deployment": "returns"', b'"deployment": "other"'
        ),
    }
    for name, data in wrong.items():
        folder = _index(tmp_path / name)
        (folder / "returns" / "gate.json").write_bytes(data)
        with pytest.raises(UserError):
            comment(_hub(github), run, folder)
    (_index(tmp_path / "linked") / "returns" / "gate.json").symlink_to(judged.folder / "returns" / "gate.json")
    with pytest.raises(UserError, match="no plain file"):
        comment(_hub(github), run, tmp_path / "linked")
    (_index(tmp_path / "otherwise", False) / "returns" / "gate.json").write_bytes(good)
    with pytest.raises(UserError, match="not what judged.json says"):
        comment(_hub(github), run, tmp_path / "otherwise")
    assert github.of(7) == []
    (_index(tmp_path / "hostile") / "returns" / "gate.json").write_bytes(hostile)
    assert hostile != good
    comment(_hub(github), run, tmp_path / "hostile")
    (body,) = github.of(7)
    assert "<script" not in body
    assert "`\\x3cscript\\x3ealert(1)\\x3c/script\\x3e @everyone [x](http://x)`" in body


def test_a_fork_is_told_so_and_a_moved_branch_nothing(
    judged: Judged, merged: Project, github: FakeGitHub, tmp_path: Path
) -> None:
    run = gate_run(workflow_run_event(TEAM, BRANCH, judged.sha))
    github.pull(7, BRANCH, "2" * 40)  # somebody has pushed since
    moved = comment(_hub(github), run, judged.folder)
    assert (moved.number, moved.done, moved.why) == (None, (), "no open pull request is at that commit any more")
    github.pull(9, "main", judged.sha, owner="stranger")
    github.files[9] = ["README.md", "deploy/returns.yml"]
    fork = gate_run(workflow_run_event(TEAM, "main", judged.sha, head="stranger/shop"))
    told = comment(_hub(github), fork, judged.folder)  # a stranger's report says it passed
    assert (told.number, len(told.done)) == (9, 1)
    (body,) = github.of(9)
    assert "**Not judged.**" in body
    assert "passes" not in body
    other = workflow_run_event(TEAM, "main", judged.sha, head="stranger/shop", conclusion="success")
    comment(_hub(github), gate_run(other), judged.folder)  # it changes no deployment any more
    assert "No verdict" in github.of(9)[0]
    event = tmp_path / "event.json"
    event.write_text(json.dumps(pull_request_event(TEAM, 9, "main", judged.sha, head="stranger/shop")))
    summary = tmp_path / "summary.md"
    job = {"GITHUB_EVENT_PATH": str(event), "GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"}
    said = merged.run("ci", "gate", "--base", "origin/main", check=False, **job)
    assert said.code == 3
    assert "::error title=gate::not judged" in said.out
    assert "from a fork" in summary.read_text()


def test_a_comment_of_a_person_is_left_alone_and_an_old_one_of_ours_says_so(judged: Judged, github: FakeGitHub) -> None:
    github.pull(7, BRANCH, judged.sha)
    mine = {"id": 1, "issue": 7, "user": {"type": "User"}, "body": "<!-- trunkline:gate:returns -->\nmine"}
    ours = {"id": 2, "issue": 7, "user": {"type": "Bot"}, "body": "<!-- trunkline:gate:gone -->\nold"}
    github.comments |= {1: mine, 2: ours}
    comment(_hub(github), gate_run(workflow_run_event(TEAM, BRANCH, judged.sha)), judged.folder)
    assert github.comments[1]["body"].endswith("mine")
    assert "No verdict" in github.comments[2]["body"]
    assert len(github.comments) == 4


def test_github_that_refuses_or_is_away_is_told(github: FakeGitHub) -> None:
    environ = {"GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": TEAM, "GITHUB_TOKEN": "wrong-token"}
    with pytest.raises(EngineError, match="401: Bad credentials") as caught:
        open_github(environ).get("pulls")
    assert "wrong-token" not in str(caught.value)
    assert "wrong-token" not in repr(open_github(environ))
    with pytest.raises(ProjectError, match="https only"):
        open_github({**environ, "GITHUB_API_URL": "http://example.invalid"})
    with pytest.raises(ProjectError, match="GITHUB_TOKEN"):
        open_github({"GITHUB_REPOSITORY": TEAM})
    assert open_github(environ | {"GITHUB_REPOSITORY": ""}, "git@github.com:some/where.git").repository == "some/where"


def test_the_check_needs_nothing_from_outside(repository: Project) -> None:
    """A source in a database elsewhere, whose secret is not set, is empty; the files in the repository are read."""
    source = "{connector: sql, dsn: 'env:NO_SUCH_DSN', query: select 1, load: merge, key: [a]}"
    columns = "[{name: a, data_type: integer}, {name: seen, data_type: timestamptz}]"
    table = f"{{name: more, config: {{meta: {{trunkline: {source}}}}}, columns: {columns}}}"
    repository.edit("models/sources.yml", "tables:\n", f"tables:\n      - {table}\n")
    (repository.root / "models" / "more.sql").write_text("select a, seen from {{ source('shop', 'more') }}")
    before = git(repository.root, "status", "--porcelain", "--ignored")
    done = repository.run("ci", "check", "--json").data
    assert done["empty"] == ["shop.more"]
    ran = {step["step"]: step["summary"] for step in done["ran"]}
    assert {"ingest:shop.orders", "build:order_features", "build:more", "test:order_features"} <= set(ran)
    assert ran["ingest:shop.orders"].startswith("2,400 rows read")
    assert not {name for name in ran if name.startswith(("dataset:", "train:"))}
    assert git(repository.root, "status", "--porcelain", "--ignored") == before
    repository.edit("deploy/returns.yml", "slices:", "slics:")
    refused = repository.run("ci", "check", check=False)
    assert (refused.code, "deploy/returns.yml:6" in refused.err, "trunkline-check-" in refused.err) == (2, True, False)


def _alias(uri: str) -> list[tuple[str, int]]:
    """Every alias that the registry's own store holds, and the version that it means."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as store:
        return [
            (name, int(version))
            for name, version in store.execute("select alias, version from registered_model_aliases")
        ]


@pytest.fixture
def merged(judged: Judged, tmp_path: Path) -> Project:
    """The judged branch in a checkout of its own, as a job elsewhere has it: no state, and an empty ledger."""
    git(tmp_path, "clone", "--quiet", str(judged.project.root), "shop")
    git(tmp_path / "shop", "checkout", "--quiet", judged.sha)
    return Project(tmp_path / "shop")


def test_what_was_merged_is_deployed_if_the_gate_passed_it(judged: Judged, merged: Project) -> None:
    told = {"MLFLOW_TRACKING_URI": judged.uri, "TRUNKLINE_VAULT_KEY": judged.runner.secrets["TRUNKLINE_VAULT_KEY"]}
    file = merged.root / "deploy" / "returns.yml"
    plain = file.read_text()
    file.write_text(plain.replace("models:/returns/1", "null"))
    merged.run("promote", "returns", "--model", "models:/returns/1", "--no-alias", **told)
    assert (file.read_text(), _alias(judged.uri)) == (plain, [])
    file.write_text(f"{plain}rollout: [['true'], [bash, -c, 'exit 7']]\n")
    failed = merged.run("deploy", "returns", check=False, **told)
    assert (failed.code, "'bash' ended with 7" in failed.err) == (1, True), failed.err
    file.write_text(f"{plain}rollout: [[bash, -c, 'sleep 30 & sleep 30']]\n")
    late = merged.run("deploy", "returns", "--minutes", "0.01", check=False, **told)
    assert (late.code, "took more than 0.01 minutes" in late.err) == (1, True)
    script = 'echo "$0 $1 $TRUNKLINE_SHA256 ${TRUNKLINE_VAULT_KEY:-no key}" >> rolled'
    script += '; test -f "$TRUNKLINE_BUNDLE/model.onnx"'
    rollout = [["bash", "-c", script, "{model}", "$(id)"]]
    file.write_text(f"{plain}rollout: {json.dumps(rollout)}\n")
    dry = merged.run("deploy", "returns", "--dry-run", **told)
    assert "would be deployed" in dry.out
    assert not (merged.root / "rolled").exists()
    assert _alias(judged.uri) == []
    (first,) = merged.run("deploy", "returns", "--json", **told).data["deployed"]
    assert (first["done"], first["model"]) == ("deployed", "models:/returns/1")
    assert (merged.root / "rolled").read_text() == f"models:/returns/1 $(id) {first['sha256']} no key\n"
    assert _alias(judged.uri) == [("champion-returns", 1)]  # `strict` deploys that model too
    refused = merged.run("deploy", "--all", "--json", check=False, **told)  # returns is left as it is, strict refused
    assert (refused.code, "refused models:/returns/1" in refused.data["message"]) == (3, True)
    assert (merged.root / "rolled").read_text().count("\n") == 1
    rows = merged.sql("select deployment, reference, sha256, look_id from lake.trunkline.deployments")
    assert rows == [("returns", "models:/returns/1", first["sha256"], first["look_id"])]
    file.write_text(file.read_text().replace("at_least: 0.6", "at_least: 0.1"))
    other = merged.run("deploy", "returns", check=False, **told)
    assert (other.code, "other rules" in other.err) == (3, True)
    file.write_text(plain.replace("models:/returns/1", "models:/returns@champion"))
    alias = merged.run("deploy", "returns", check=False, **told)
    assert (alias.code, "may mean another version tomorrow" in alias.err) == (2, True)


def test_what_has_passed_is_not_looked_at_again(judged: Judged, merged: Project, tmp_path: Path) -> None:
    """In a checkout without ledger and state: the verdict is in the version's tag, its report in the registry's run."""
    told = {"MLFLOW_TRACKING_URI": judged.uri, "TRUNKLINE_VAULT_KEY": judged.runner.secrets["TRUNKLINE_VAULT_KEY"]}
    told |= {"GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    merged.edit("deploy/strict.yml", "model: models:/returns/1", "model: null")
    gate = ("ci", "gate", "--base", "origin/main", "--out", str(tmp_path / "again"), "--json")
    (one,) = merged.run(*gate, **told).data["judged"]
    assert (one["deployment"], one["passed"], one["judged_before"]) == ("returns", True, True)
    report = (judged.folder / "returns" / "gate.json").read_bytes()
    assert (tmp_path / "again" / "returns" / "gate.json").read_bytes() == report
    assert "The gate passes" in (tmp_path / "summary.md").read_text()
    assert not (merged.root / ".trunkline" / "datasets").exists()  # so there was nothing to look at
    merged.edit("deploy/returns.yml", "at_least: 0.6", "at_least: 0.5")  # other rules: it would be judged, but for data
    (merged.root / "data").rename(merged.root / "no-data")
    shutil.copyfile(merged.root / "deploy" / "returns.yml", merged.root / "deploy" / "again.yml")
    merged.edit("deploy/again.yml", "deployment: returns", "deployment: again")
    merged.edit("deploy/again.yml", "at_least: 0.5", "at_least: 0.6")
    other = merged.run(*gate, check=False, **told)
    assert other.code == 2
    found = {one["deployment"]: (one["passed"], bool(one["error"])) for one in other.data["judged"]}
    assert found == {"again": (False, True), "returns": (False, True)}
    assert other.data["message"] in (tmp_path / "summary.md").read_text()
    index = read_index(tmp_path / "again")
    assert index is not None
    assert [(one.deployment, one.passed) for one in index] == [("again", None), ("returns", None)]
    assert other.data["message"] in [one.error for one in index]


def test_the_check_runs_on_a_pull_request(judged: Judged) -> None:
    done = judged.runner.run("ci", "pull_request", pull_request_event(TEAM, 7, BRANCH, judged.sha))
    assert done.code == 0, done.log
    assert "build:order_features" in done.log
    assert "train:" not in done.log


def test_a_new_version_is_proposed_once(judged: Judged, github: FakeGitHub, tmp_path: Path) -> None:
    """By retrain.yml, which trains it; asked again, nothing is proposed twice."""
    git(judged.project.root, "switch", "--quiet", "main")
    done = judged.runner.run("retrain", "workflow_dispatch", {"ref": "refs/heads/main"}, api=github.url)
    assert done.code == 0, done.log
    assert TOKEN not in done.log
    pull, strict = github.pulls
    title, _, reference = pull["title"].partition(": ")
    assert (title, strict["title"]) == ("returns", f"strict: {reference}")
    assert reference in done.log
    origin = judged.project.root.parent / "shop.git"
    git(tmp_path, "clone", "--quiet", str(origin), "shop")
    project = Project(tmp_path / "shop")
    told = {"MLFLOW_TRACKING_URI": judged.uri, "GITHUB_API_URL": github.url, "GITHUB_REPOSITORY": TEAM}
    told |= {"GITHUB_TOKEN": TOKEN}

    def propose() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = project.run("ci", "propose", "returns", "--json", **told).data["proposed"]
        return found

    head = git(project.root, "rev-parse", "HEAD")
    pushed = git(origin, "rev-parse", "trunkline/returns")
    (made,) = propose()
    assert (made["done"], made["reference"], made["before"]) == ("as it was", reference, None)
    assert git(origin, "rev-parse", "trunkline/returns") == pushed
    assert (pull["head"]["ref"], pull["base"]["ref"]) == ("trunkline/returns", "main")
    assert "Merging deploys it" in pull["body"]
    assert git(origin, "log", "--format=%s", "main..trunkline/returns") == pull["title"]
    changes = git(origin, "diff", "--unified=0", "main", "trunkline/returns").splitlines()[-2:]
    assert changes == ["-model: null", f"+model: {reference}"]
    assert (git(project.root, "rev-parse", "HEAD"), git(project.root, "status", "--porcelain")) == (head, "")
    github.pulls[0]["state"] = "closed"
    assert [one["done"] for one in propose()] == ["turned down"]
    assert len(github.pulls) == 2
    git(project.root, "pull", "--quiet", "origin", "trunkline/returns")  # merged
    assert propose() == []
    project.edit("deploy/returns.yml", f"model: {reference}", "model: null  # not pushed")
    refused = project.run("ci", "propose", "--json", check=False, **told)  # strict is proposed all the same
    assert (refused.code, "not as it is on origin's branch 'main'" in refused.data["message"]) == (2, True)
    assert [one["deployment"] for one in refused.data["proposed"]] == ["strict"]
