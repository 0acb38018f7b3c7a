"""Trees that two processes grow, each on rows of its own: both get one model, as good as that of all rows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xgboost.tracker import RabitTracker

from tests.unit.training.tree_peers_case import ESTIMATORS
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


@pytest.mark.parametrize("kind", ["multiclass"])
def test_xgboost_grows_one_model_with_others(kind: TaskKind) -> None:
    tracker = RabitTracker(n_workers=2, host_ip="127.0.0.1")
    tracker.start()
    waiting = threading.Thread(target=tracker.wait_for, daemon=True)
    waiting.start()
    first, second = together("xgboost", kind, [tracker.worker_args()] * 2)
    waiting.join(20)
    assert first["digest"] == second["digest"]
    assert first["value"] == pytest.approx(alone("xgboost", kind), rel=0.08)


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
