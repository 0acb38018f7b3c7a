"""A model's way into production as a team goes it: git, act as GitHub's runner, MLflow on PostgreSQL, a shared lake.

The tests are one story and run in this order. Only GitHub itself is ours (`github_server.py`).
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.contract import servers
from tests.contract.tracking import Tracking, tracking
from tests.e2e.conftest import Outcome, Project
from tests.e2e.github_server import Done, FakeGitHub, Runner, pull_request_event, serve, workflow_run_event
from tests.e2e.test_github import committed
from tests.git import git

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.timeout(900)

TEAM = "team/shop"
PROFILES = """\
shop:
  target: team
  outputs:
    team:
      type: duckdb
      path: ":memory:"
      database: lake
      schema: main
      threads: 1
      extensions: [ducklake, postgres_scanner]
      config_options: {allow_unsigned_extensions: "true"}
      settings: {TimeZone: UTC}
      secrets:
        - type: postgres
          name: catalog
          host: 127.0.0.1
          port: "{{ env_var('LAKE_PORT') }}"
          database: "{{ env_var('LAKE_DATABASE') }}"
          user: team
          password: "{{ env_var('LAKE_PASSWORD') }}"
      attach:
        - path: "ducklake:postgres:"
          alias: lake
          options: {data_path: "{{ env_var('LAKE_DATA') }}", meta_secret: catalog}
      plugins:
        - module: trunkline.transform.functions
"""
DEPLOYMENT = """\
deployment: returns
model: null
gate:
  metrics: {roc_auc: {at_least: 0.6, may_lose: 0.05}}
  slices: [country]
  latency: {p99_ms: 2000}   # other tests run beside it: no claim on time here
rollout:
  - [mkdir, --parents, SERVING]
  - [cp, --recursive, "{bundle}", "SERVING/{version}"]
"""
FIT = re.compile(r"return LightGBM\(.*\)", re.DOTALL)
WEAK = "return LightGBM(leaves=4, lr=0.1, rounds=2, min_leaf=20)"
WORSE = "return LightGBM(leaves=15, lr=0.06, rounds=60, min_leaf=600)"  # so large that no split is left
BETTER = "return LightGBM(leaves=15, lr=0.06, rounds=60, min_leaf=20)"


@dataclass(frozen=True)
class Team:
    """What a team has: a checkout, a lake and an MLflow server that all see, GitHub, and its runner."""

    project: Project
    environ: dict[str, str]
    server: Tracking
    github: FakeGitHub
    runner: Runner

    def run(self, *arguments: str, check: bool = True) -> Outcome:
        """`trunkline ARGUMENTS` on somebody's laptop."""
        return self.project.run(*arguments, check=check, **self.environ)

    def train(self, fit: str) -> str:
        """The new version's reference."""
        path = self.project.root / "ml" / "returns.py"
        path.write_text(FIT.sub(fit, path.read_text()))
        ran = {step["step"]: step for step in self.run("run", "--json").data["ran"]}
        return str(ran["train:returns"]["output"]["reference"])

    def propose(self, number: int, branch: str, reference: str) -> str:
        """A pull request that changes nothing but the model's reference; its commit."""
        root = self.project.root
        git(root, "switch", "--quiet", "--create", branch, "main")
        path = root / "deploy" / "returns.yml"
        path.write_text(re.sub(r"model: .*", f"model: {reference}", path.read_text()))
        git(root, "commit", "--quiet", "--message", f"Deploy {reference}", "deploy/returns.yml")
        git(root, "push", "--quiet", "origin", branch)
        sha = git(root, "rev-parse", "HEAD")
        self.github.pull(number, branch, sha)
        return sha

    def judge(self, number: int, branch: str, sha: str) -> tuple[Done, dict[str, Any]]:
        """gate.yml on the pull request, then comment.yml; what the first did, and its report."""
        shutil.rmtree(self.runner.artifacts, ignore_errors=True)
        gate = self.runner.run("gate", "pull_request", pull_request_event(TEAM, number, branch, sha))
        git(self.project.root, "switch", "--quiet", "main")  # what GitHub checks out for `workflow_run`
        event = workflow_run_event(TEAM, branch, sha)
        comment = self.runner.run("comment", "workflow_run", event, api=self.github.url)
        assert comment.code == 0, gate.log + comment.log
        return gate, json.loads((self.runner.artifacts / "gate" / "returns" / "gate.json").read_text())

    def client(self) -> MlflowClient:
        """The MLflow server's own client, logged in."""
        from mlflow import MlflowClient

        login = f"{quote(self.server.user, '')}:{quote(self.server.password, '')}"
        return MlflowClient(self.server.uri.replace("://", f"://{login}@"))

    def looks(self) -> list[Any]:
        """The runs of the gate's looks, the first one first."""
        client = self.client()
        (experiment,) = [each for each in client.search_experiments() if each.name.endswith("/gate")]
        return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"]))

    def champion(self) -> str:
        """The version that the alias means."""
        return str(self.client().get_model_version_by_alias("returns", "champion").version)


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """Everything set up as docs/ci.md says, and nothing trained."""
    place = tmp_path_factory.mktemp("story")
    with (
        servers.postgres() as postgres,
        servers.object_store() as store,
        tracking(postgres, store, "runs") as server,
        serve(FakeGitHub(TEAM)) as github,
    ):
        environ = {
            "LAKE_DATA": str(place / "lake"),
            "LAKE_DATABASE": postgres.database("lake"),
            "LAKE_PASSWORD": postgres.password,
            "LAKE_PORT": str(postgres.port),
            "MLFLOW_TRACKING_PASSWORD": server.password,
            "MLFLOW_TRACKING_URI": server.uri,
            "MLFLOW_TRACKING_USERNAME": server.user,
            "TRUNKLINE_VAULT_KEY": base64.b64encode(os.urandom(32)).decode(),
        }
        Project(place).run("init", "shop")
        root = place / "shop"
        (root / "profiles.yml").write_text(PROFILES)
        (root / "deploy" / "returns.yml").write_text(DEPLOYMENT.replace("SERVING", str(place / "serving")))
        (root / "trunkline.yml").write_text(f"datasets: {{location: {place}/datasets}}\ntraining: {{threads: 1}}\n")
        git(root, "init", "--quiet", "--initial-branch=main")
        Project(root).run("ci", "github")
        committed(root)
        yield Team(Project(root), environ, server, github, Runner(root, place / "act", TEAM, environ))


def test_the_first_version_is_gated_and_promoted_on_a_laptop(team: Team) -> None:
    assert team.train(WEAK) == "models:/returns/1"
    gate = team.run("gate", "returns", "--json").data
    assert (gate["passed"], gate["looks"]) == (True, 1), gate
    team.run("promote", "returns")
    assert team.champion() == "1"
    git(team.project.root, "commit", "--quiet", "--all", "--message=Deploy the first version")
    git(team.project.root, "push", "--quiet", "origin", "main")


def test_a_worse_one_is_refused_with_the_reason(team: Team) -> None:
    reference = team.train(WORSE)
    git(team.project.root, "commit", "--quiet", "--all", "--message=Another idea")
    gate, report = team.judge(1, "worse", team.propose(1, "worse", reference))
    assert gate.code == 1
    assert "returns: models:/returns/1 → models:/returns/2" in gate.log
    assert report["passed"] is False
    (comment,) = team.github.of(1)
    assert "does not pass" in comment
    assert "metrics.roc_auc.at_least" in comment
    assert team.champion() == "1"
    git(team.project.root, "switch", "--quiet", "worse")
    refused = team.run("deploy", "returns", check=False)
    git(team.project.root, "switch", "--quiet", "main")
    assert (refused.code, "the gate of returns refused models:/returns/2" in refused.err) == (3, True)


def test_a_better_one_is_merged_and_the_alias_moves(team: Team) -> None:
    reference = team.train(BETTER)
    git(team.project.root, "commit", "--quiet", "--all", "--message=A better idea")
    gate, report = team.judge(2, "better", team.propose(2, "better", reference))
    assert gate.code == 0, gate.log
    assert report["passed"] is True
    (comment,) = team.github.of(2)
    assert "The gate passes" in comment
    assert "This is look 3 of 100" in comment  # looks at one sealed part count, whoever takes them
    assert team.champion() == "1"
    root = team.project.root
    git(root, "merge", "--quiet", "--no-ff", "--message=Merge better", "better")
    git(root, "push", "--quiet", "origin", "main")
    deployed = team.runner.run("deploy", "push", {"ref": "refs/heads/main", "repository": {"full_name": TEAM}})
    assert deployed.code == 0, deployed.log
    assert team.champion() == "3"
    assert "models:/returns/3 is deployed" in deployed.log
    (rolled_out,) = (root.parent / "serving").iterdir()
    assert (rolled_out.name, (rolled_out / "model.onnx").is_file()) == ("3", True)
    assert "models:/returns/3 was deployed before" in team.run("deploy", "returns").out


def test_mlflow_shows_every_look(team: Team) -> None:
    client, runs = team.client(), team.looks()
    verdicts = [run.data.tags["trunkline.verdict"] for run in runs]
    assert verdicts == ["passed", "refused", "passed"]
    points = [client.get_metric_history(run.info.run_id, "roc_auc") for run in runs]
    assert [[point.step for point in of_run] for of_run in points] == [[1], [2], [3]]
    values = [of_run[0].value for of_run in points]
    assert values[1] < values[0] < values[2]
    for run in runs:
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files >= {"gate.json", "report.md", "report.html"}
        (dataset,) = run.inputs.dataset_inputs
        assert dataset.dataset.name == "order_features test"
    for number, run in enumerate(runs, 1):
        told = json.loads(client.get_model_version("returns", str(number)).tags["trunkline.gate.returns"])
        assert (told["passed"], told["run_id"]) == (verdicts[number - 1] == "passed", run.info.run_id)


def test_no_secret_is_in_a_log_or_a_commit(team: Team) -> None:
    root = team.project.root
    history = git(root, "log", "--all", "--patch")
    secret = ("LAKE_PASSWORD", "MLFLOW_TRACKING_PASSWORD", "TRUNKLINE_VAULT_KEY")
    assert not [name for name in secret if team.environ[name] in history]
    assert "env_var('LAKE_PASSWORD')" in history
