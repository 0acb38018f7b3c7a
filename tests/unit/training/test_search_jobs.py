"""Trials in several forked processes: as many as asked for, whoever dies, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.processes import alive
from tests.unit.training.fakes import Fake, FittedFake
from trunkline.errors import TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.training.protocol import FitContext, TrainingData
from trunkline.training.search.optuna import SearchSpec, TrialRecord, search


@dataclass(frozen=True)
class Deadly(Fake):
    """Ends its process in the first trial whose noise is above 1, or in all of them."""

    marks: Path = Path()
    always: bool = False

    def settings(self) -> dict[str, Any]:
        """Plain data."""
        return {**super().settings(), "marks": str(self.marks)}

    def fit(self, data: TrainingData, context: FitContext) -> FittedFake:
        """As Fake's, after the process has shown itself."""
        (self.marks / str(os.getpid())).touch()
        if self.noise > 1 and (self.always or not (self.marks / "killed").exists()):
            (self.marks / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(data, context)


def quiet(trial: Any) -> Fake:
    """The less noise the better."""
    return Fake(noise=trial.suggest_float("noise", 0.0, 4.0))


def deadly(marks: Path, *, always: bool = False) -> Callable[[Any], Fake]:
    """A model function of `Deadly`."""
    return lambda trial: Deadly(noise=trial.suggest_float("noise", 0.0, 2.0), marks=marks, always=always)


@pytest.fixture
def spec(tmp_path: Path) -> SearchSpec:
    """Twelve trials, two at once."""
    return SearchSpec(quiet, "delay", tmp_path / "delay.journal", trials=12, seed=5, jobs=2)


def wait_for(met: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it comes true in time."""
    until = time.monotonic() + seconds
    while not (found := met()) and time.monotonic() < until:
        time.sleep(0.02)
    return found


def test_the_trials_asked_for_and_no_more(spec: SearchSpec, data: TrainingData) -> None:
    heard: list[TrialRecord] = []
    result = search(spec, data, on_trial=heard.append)
    assert [record.number for record in result.trials] == list(range(12))
    assert sorted(record.number for record in heard) == list(range(12))
    assert result.trials[0].params == {"noise": 2.0}
    assert "complete" in {record.state for record in heard}
    assert all(len(record.history) == 3 for record in heard if record.state == "complete")
    assert all(record.started is not None for record in heard)
    more = search(replace(spec, trials=15, jobs=3), data).trials
    assert more[:12] == result.trials
    assert len(more) == 15


def test_they_run_at_the_same_time(spec: SearchSpec, data: TrainingData) -> None:
    slow = replace(spec, build=lambda trial: replace(quiet(trial), seconds=0.2), pruner="none")
    found = search(slow, data).trials
    began, ended = (min, max)
    span = ended(t.started + t.seconds for t in found) - began(t.started for t in found)  # type: ignore[operator]
    assert sum(record.seconds for record in found) > 1.5 * span


def test_hopeless_trials_are_stopped(spec: SearchSpec, data: TrainingData) -> None:
    steps = replace(spec, build=lambda trial: replace(quiet(trial), steps=8, seconds=0.01), trials=24)
    found = search(steps, data).trials
    stopped = [record for record in found if record.state == "pruned"]
    assert stopped
    assert min(len(record.history) for record in stopped) < 8


def test_a_trial_whose_worker_dies_is_tried_again(spec: SearchSpec, data: TrainingData, tmp_path: Path) -> None:
    first = {"noise": 1.5}
    result = search(replace(spec, build=deadly(tmp_path), first=first), data)
    assert (tmp_path / "killed").exists()
    assert len(result.trials) == 12
    assert 0 not in [record.number for record in result.trials]
    assert [record.params for record in result.trials].count(first) == 1
    assert not any(alive(int(mark.name)) for mark in tmp_path.iterdir() if mark.name.isdigit())


def test_one_that_dies_twice_has_failed(spec: SearchSpec, data: TrainingData, tmp_path: Path) -> None:
    result = search(replace(spec, build=deadly(tmp_path, always=True), trials=8), data)
    failed = [record for record in result.trials if record.state == "failed"]
    assert failed
    assert len(result.trials) == 8
    assert all("died on these parameters, and once more" in (record.error or "") for record in failed)
    assert all(record.params["noise"] > 1 for record in failed)


DRIVER = """
import os, sys
from pathlib import Path
from tests.unit.training.conftest import SCHEMA, table
from tests.unit.training.test_search_jobs import Deadly
from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.search.optuna import SearchSpec, search

marks = Path(sys.argv[1])
def build(trial):
    return Deadly(noise=trial.suggest_float("noise", 0.0, 1.0), seconds=60.0, marks=marks)

data = prepare(table(300, 1), table(300, 2), Signature.from_schema(SCHEMA, target="late"))
search(SearchSpec(build, "delay", marks / "delay.journal", trials=8, jobs=2), data)
"""


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGINT], ids=lambda blow: blow.name)
def test_nobody_outlives_the_search(spec: SearchSpec, data: TrainingData, tmp_path: Path, blow: signal.Signals) -> None:
    root = Path(__file__).resolve().parents[3]
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path)], cwd=root, stderr=subprocess.DEVNULL, start_new_session=True
    )

    def workers() -> list[int]:
        return [int(mark.name) for mark in tmp_path.iterdir() if mark.name.isdigit()]

    assert wait_for(lambda: len(workers()) == 2)
    os.killpg(driver.pid, blow) if blow is signal.SIGINT else driver.send_signal(blow)
    assert driver.wait(timeout=30) != 0
    assert wait_for(lambda: not any(map(alive, workers())), 10)
    found = search(replace(spec, build=quiet, trials=4), data).trials
    assert len(found) == 4  # those that were cut off are tried again, and counted once
    assert {0.5} <= {record.params["noise"] for record in found}


def test_frameworks_work_after_the_fork(spec: SearchSpec, data: TrainingData) -> None:
    def families(trial: Any) -> MLP | LightGBM:
        if trial.suggest_categorical("family", ["mlp", "lightgbm"]) == "mlp":
            return MLP(width=trial.suggest_int("width", 8, 16), epochs=2, batch_size=512)
        return LightGBM(leaves=trial.suggest_int("leaves", 7, 15), rounds=30, min_leaf=20)

    result = search(replace(spec, build=families, pruner="none"), data)
    assert {record.estimator for record in result.trials} == {"mlp", "lightgbm"}
    assert {record.state for record in result.trials} == {"complete"}
    assert result.best_value > 0.8
    assert abs(sum(result.importance.values()) - 1) < 1e-9


def test_what_goes_wrong_before_a_fit_is_shown_too(spec: SearchSpec, data: TrainingData) -> None:
    here = os.getpid()

    def elsewhere(trial: Any) -> Fake:
        if os.getpid() != here:
            raise FileNotFoundError("not on this machine")
        return quiet(trial)

    with pytest.raises(TrainingError, match="all 4 trials failed; the last one: .*FileNotFoundError: not on this mac"):
        search(replace(spec, build=elsewhere, trials=4), data)


def test_what_a_trial_raises_is_shown_with_its_lines(spec: SearchSpec, data: TrainingData) -> None:
    @dataclass(frozen=True)
    class Raising(Fake):
        def fit(self, data: TrainingData, context: FitContext) -> FittedFake:
            if self.noise > 1:
                raise ZeroDivisionError("of the user")
            return super().fit(data, context)

    result = search(replace(spec, build=lambda trial: Raising(noise=trial.suggest_float("noise", 0.0, 3.0))), data)
    failed = [record for record in result.trials if record.state == "failed"]
    assert failed
    assert all("ZeroDivisionError: of the user" in (record.error or "") for record in failed)
    assert all(__file__ in (record.error or "") and "workers.py" not in (record.error or "") for record in failed)
