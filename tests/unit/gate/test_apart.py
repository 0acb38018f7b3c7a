"""A model that is the project's own code sees the inputs of the test part, and has nowhere to take them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.training.torch_cases import made
from trunkline.estimators import Torch
from trunkline.gate.apart import ApartScorer
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.project import python
from trunkline.serving import process
from trunkline.training.run import TrainSpec, train

NET = """
import os
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).parent.parent


def tried(act):
    try:
        act()
    except OSError:
        return 0.0
    return 1.0


def squared(output, y):
    return (output - y).square().mean()


class Curious(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.front, self.layer = columns.standardised(), nn.Linear(columns.width, 1)

    def forward(self, x):
        reached = tried((ROOT / ".trunkline" / "vault" / "rows").read_text)
        kept = tried(lambda: (ROOT / "ml" / "kept.txt").write_text("rows"))
        told = self.layer(self.front(x))
        for _ in range(int(told.detach().abs().mean().item() > 1e9) + 1):  # depends on the data: no graph can tell it
            told = told * 0
        return told + 10 * reached + kept + 100 * ("TRUNKLINE_VAULT_KEY" in os.environ)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a vault."""
    root = tmp_path_factory.mktemp("project")
    (root / "ml").mkdir()
    (root / "ml" / "net.py").write_text(NET)
    (root / "dbt_project.yml").write_text("name: curious\nprofile: curious\n")
    (root / "profiles.yml").write_text(PROFILES)
    return root


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    """Of a network that says what it got hold of: trained before there is a vault."""
    net = python.load(root, root / "ml" / "net.py")
    spec = TrainSpec("curious", lambda trial: Torch(module=net.Curious, loss=net.squared, epochs=1))
    trained = train(spec, made(Task("regression")), out=root / ".trunkline" / "bundles" / "curious")
    (root / ".trunkline" / "vault").mkdir()
    (root / ".trunkline" / "vault" / "rows").write_text("secret")
    assert trained.bundle.is_module
    return trained.bundle


PROFILES = "curious: {target: dev, outputs: {dev: {type: duckdb, path: warehouse.duckdb}}}"
VAULT, KEPT, KEY = 10.0, 1.0, 100.0
ROW = {"up": 0.5, "gap": None, "kind": "x"}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """It is in the environment while the gate is at work."""
    monkeypatch.setenv("TRUNKLINE_VAULT_KEY", "key")


def test_unconfined_it_gets_hold_of_all(root: Path, bundle: Bundle) -> None:
    assert Scorer(bundle, root=root).score_rows([ROW]) == [VAULT + KEPT + KEY]


def test_the_gate_scores_it_where_nothing_is_in_reach(root: Path, bundle: Bundle) -> None:
    (root / "ml" / "kept.txt").unlink(missing_ok=True)
    table = pa.table({"up": [0.5, 1.0], "gap": pa.array([None, 2.0], pa.float64()), "kind": ["x", "y"], "y": [1.0, 2]})
    assert ApartScorer(bundle, root).score(table).tolist() == [0, 0]
    assert not (root / "ml" / "kept.txt").exists()


def test_the_server_that_the_gate_times_reaches_neither_vault_nor_key(
    root: Path, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    names = {"reference": "models:/curious/1", "deployment": "curious"}
    with process.start(bundle.path, **names, spool=tmp_path / "spool") as server:
        request = urllib.request.Request(f"{server.url}/predict", json.dumps(ROW).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["predictions"][0]["score"] == KEPT  # it writes where `ml/` code may write
