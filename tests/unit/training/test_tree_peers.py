"""Trees that two processes grow, each on rows of its own: both get one model, as good as that of all rows."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xgboost.tracker import RabitTracker

from tests.unit.training.tree_peers_case import ESTIMATORS
from trunkline.errors import TransientError
from trunkline.models.task import TaskKind
from trunkline.testing import estimator_cases
from trunkline.training.protocol import FitContext, Peers
from trunkline.training.trees.peers import total

SCRIPT = Path(__file__).with_name("tree_peers_case.py")


def machines() -> list[dict[str, Any]]:
    """LightGBM's settings of two processes here, on ports that are free."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [server.getsockname()[1] for server in held]
    for server in held:
        server.close()
    names = ",".join(f"127.0.0.1:{port}" for port in ports)
    return [{"machines": names, "local_listen_port": port, "num_machines": 2} for port in ports]


def together(name: str, kind: TaskKind, settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each of two processes says of the model."""
    asked = [{"name": name, "kind": kind, "rank": rank, "settings": settings[rank]} for rank in range(2)]
    began = [
        subprocess.Popen([sys.executable, str(SCRIPT), json.dumps(request)], stdout=subprocess.PIPE, text=True)
        for request in asked
    ]
    try:
        return [json.loads(process.communicate(timeout=240)[0].splitlines()[-1]) for process in began]
    finally:
        for process in began:
            with process:  # closes its pipe and waits
                process.kill()


def alone(name: str, kind: TaskKind) -> float:
    """The metric of one process with all rows."""
    data = estimator_cases.case(kind)
    balanced = "balanced" if kind in ("binary", "multiclass") else None
    fitted = replace(ESTIMATORS[name], class_weights=balanced).fit(data, FitContext(seed=1))
    return data.metric.of(data.validation.y, fitted.predict(data.validation.x))


@pytest.mark.parametrize("kind", ["binary", "quantile"])
def test_lightgbm_grows_one_model_with_others(kind: TaskKind) -> None:
    first, second = together("lightgbm", kind, machines())
    assert first["digest"] == second["digest"]
    assert first["value"] == pytest.approx(alone("lightgbm", kind), rel=0.08)


@pytest.fixture
def met() -> Iterator[list[dict[str, Any]]]:
    """XGBoost's settings of two processes here."""
    tracker = RabitTracker(n_workers=2, host_ip="127.0.0.1")
    tracker.start()
    waiting = threading.Thread(target=tracker.wait_for, daemon=True)
    waiting.start()
    yield [tracker.worker_args()] * 2
    waiting.join(5)


@pytest.mark.parametrize("kind", ["multiclass"])
def test_xgboost_grows_one_model_with_others(kind: TaskKind, met: list[dict[str, Any]]) -> None:
    first, second = together("xgboost", kind, met)
    assert first["digest"] == second["digest"]
    assert first["value"] == pytest.approx(alone("xgboost", kind), rel=0.08)


@pytest.mark.parametrize("name", ["lightgbm", "xgboost"])
def test_the_death_of_a_peer_is_no_fault_of_the_data(name: str, request: pytest.FixtureRequest) -> None:
    settings = machines() if name == "lightgbm" else request.getfixturevalue("met")
    asked = [{"name": name, "kind": "regression", "rank": rank, "settings": settings[rank]} for rank in range(2)]
    commands = [[sys.executable, str(SCRIPT), json.dumps({**one, "forever": True})] for one in asked]
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)) for command in commands
        )
        stack.callback(first.kill)
        assert first.stdout is not None
        assert "grown\n" in iter(first.stdout.readline, "")
        second.kill()
        said = first.communicate(timeout=60)[1]
    assert f"transient: {'LightGBM' if name == 'lightgbm' else 'XGBoost'} with 2 processes: " in said


def test_peers_that_do_not_come_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.training.trees.peers._PATIENCE", 0.1)
    with pytest.raises(TransientError, match="the 2 processes of the training lost each other"):
        total([np.ones(1)], Peers(1, 2, 10, machines()[1]))


def test_peers_add_up_arrays_again_and_again() -> None:
    settings, sums = machines(), {}

    def add(rank: int) -> None:
        peers = Peers(rank, 2, 10, settings[rank])
        sums[rank] = [
            total([np.full((2, 3), rank + 1.0), np.array([10.0 ** (rank + turn)])], peers) for turn in range(3)
        ]

    others = [threading.Thread(target=add, args=(rank,)) for rank in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join(60)
    for turn in range(3):
        for rank in range(2):
            matrix, number = sums[rank][turn]
            assert matrix.tolist() == [[3.0] * 3] * 2
            assert number.tolist() == [11.0 * 10**turn]


def test_without_peers_arrays_are_as_they_are() -> None:
    (same,) = total([np.array([1.0, 2.0])], None)
    assert same.tolist() == [1.0, 2.0]
