"""A search from the command line: several processes, the registry beside it, and every look at it afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.contract.servers import free_port
from tests.e2e.conftest import Project, copy_of

pytestmark = [
    # MLflow 3.17 uses a loader option that SQLAlchemy 2.1 deprecates; Python shows such warnings in tests only.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def searched(shop_done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The start project, with a search of LightGBM for quality and size in two processes, killed once on its way."""
    shop = copy_of(shop_done, tmp_path_factory.mktemp("search") / "shop")
    shop.edit("ml/returns.py", 'metric="roc_auc")', 'metric="roc_auc", objectives=["size_kb"])')
    return shop


def test_the_search(searched: Project) -> None:
    root = searched.root
    command = [sys.executable, "-m", "trunkline", "tune", "returns", "--trials", "60", "--jobs", "2"]
    killed = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert killed.stdout is not None
    for line in killed.stdout:
        if "  trial 2 " in line:
            break
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=60)
    refused = searched.run("tune", "returns", "--trials", "8", "--jobs", "2", "--pick", "999", check=False)
    assert (refused.code, "trial 999 is not a complete trial" in refused.err) == (2, True)
    assert "going on after" in refused.out
    shown = searched.run("studies", "show", "returns", "--json").data
    smallest = shown["front"][-1]
    done = searched.run("tune", "returns", "--trials", "8", "--pick", str(smallest), "--json").data
    assert [trial["number"] for trial in done["trials"]] == [trial["number"] for trial in shown["trials"]]
    assert len(done["trials"]) >= 8
    assert done["objectives"] == ["roc_auc", "size_kb"]
    assert done["front"] == shown["front"]
    assert done["best"]["number"] == smallest
    assert done["trained"][0]["params"] == done["best"]["params"] != shown["best"]["params"]


def test_every_trial_is_a_run_below_its_study(searched: Project) -> None:
    from mlflow import MlflowClient

    shown = searched.run("studies", "show", "returns", "--json").data
    client = MlflowClient(f"sqlite:///{searched.root}/.trunkline/mlflow/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name.endswith("/tune")]
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    (study,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert (study.info.status, study.info.run_name) == ("FINISHED", shown["study"])
    trials = {int(run.data.tags["trial"]): run for run in runs if run is not study}
    assert len(trials) == len(runs) - 1 == shown["trials_finished"]
    for trial in shown["trials"]:
        run = trials[trial["number"]]
        assert run.data.tags["mlflow.parentRunId"] == study.info.run_id
        assert run.data.params == {name: str(value) for name, value in trial["params"].items()}
        assert run.data.metrics.items() >= {"roc_auc": trial["values"][0], "size_kb": trial["values"][1]}.items()
        curve = client.get_metric_history(run.info.run_id, "roc_auc_by_step")
        assert sorted((point.step, point.value) for point in curve) == [tuple(point) for point in trial["history"]]


def test_looks_at_it(searched: Project, tmp_path: Path) -> None:
    listed = searched.run("studies", "list").out
    page = tmp_path / "study.html"
    shown = searched.run("studies", "show", "returns", "--html", str(page)).out
    name = re.search(r"returns-\w{8}-\w{8}", listed)
    assert name is not None
    assert name[0] in shown
    assert "importance of parameters:" in shown
    assert "none beaten in all of roc_auc, size_kb" in shown
    html = page.read_text("utf-8")
    assert "roc_auc against size_kb" in html
    assert "<script" not in html
    assert searched.run("studies", "show", "retruns", check=False).err.count("Did you mean") == 1
    _dashboard(shown, name[0])


def _dashboard(shown: str, study: str) -> None:
    """The printed command opens Optuna's own pages on the journal."""
    command = re.search(r"optuna-dashboard (\S+\.journal)", shown)
    assert command is not None
    port = free_port()
    program = str(Path(sys.executable).parent / "optuna-dashboard")
    server = subprocess.Popen(
        [program, command[1], "--port", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=10) as answer:
                    names = [each["study_name"] for each in json.load(answer)["study_summaries"]]
                break
            except OSError:
                assert time.monotonic() < until, "the dashboard does not answer"
                time.sleep(0.2)
    finally:
        server.kill()
        server.wait()
    assert study in names
