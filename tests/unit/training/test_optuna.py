"""A search goes on to the number of trials it was asked for, whatever it dies of in between."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.unit.training.fakes import Fake
from trunkline.errors import TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.training.metrics import METRICS
from trunkline.training.protocol import Pruned, TrainingData
from trunkline.training.search.optuna import SearchSpec, TrialRecord, search


def build(trial: Any) -> Fake:
    """The less noise the better."""
    return Fake(noise=trial.suggest_float("noise", 0.0, 4.0))


@pytest.fixture
def spec(tmp_path: Path) -> SearchSpec:
    """Eight trials."""
    return SearchSpec(build, "delay", tmp_path / "search" / "delay.journal", trials=8, seed=5)


def test_it_searches(spec: SearchSpec, data: TrainingData, capfd: pytest.CaptureFixture[str]) -> None:
    heard: list[TrialRecord] = []
    result = search(replace(spec, trials=20), data, on_trial=heard.append)
    assert list(result.trials) == heard
    assert len(heard) == 20
    assert heard[0].params == {"noise": 2.0}  # the default first
    assert result.best_value == max(record.value for record in heard if record.state == "complete")  # type: ignore[type-var]
    assert result.best_params["noise"] < 0.5
    assert result.trials[result.best_number].params == result.best_params
    assert {record.estimator for record in heard} == {"fake"}
    assert "pruned" in {record.state for record in heard}
    assert capfd.readouterr() == ("", "")


def test_the_first_parameters_are_tried_first(spec: SearchSpec, data: TrainingData) -> None:
    result = search(replace(spec, trials=1, first={"noise": 3.5}), data)
    assert result.trials[0].params == {"noise": 3.5}


@pytest.mark.parametrize("first", [{"nosie": 1.0}, {"noise": 5.0}])
def test_first_parameters_that_do_not_fit_are_refused(
    spec: SearchSpec, data: TrainingData, first: dict[str, float]
) -> None:
    with pytest.raises(TrainingError):
        search(replace(spec, first=first), data)
    assert not spec.storage.exists()


def test_a_loss_is_minimised(spec: SearchSpec, data: TrainingData) -> None:
    result = search(spec, replace(data, metric=METRICS["log_loss"]))
    assert result.best_value == min(record.value for record in result.trials if record.state == "complete")  # type: ignore[type-var]


def test_it_goes_on_to_the_total(spec: SearchSpec, data: TrainingData) -> None:
    before = search(replace(spec, trials=3), data).trials
    heard: list[TrialRecord] = []
    after = search(spec, data, on_trial=heard.append).trials
    assert after[:3] == before
    assert len(after) == 8
    assert len(heard) == 5
    assert len({record.params["noise"] for record in after}) == 8
    assert search(spec, data, on_trial=heard.append).trials == after
    assert len(heard) == 5


KILLED = """
import sys
from pathlib import Path
from tests.unit.training.conftest import SCHEMA, table
from tests.unit.training.fakes import Fake
from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.search.optuna import SearchSpec, search

def build(trial):
    noise = trial.suggest_float("noise", 0.0, 4.0)
    return Fake(noise=noise, seconds=60.0 if getattr(trial, "number", 0) == 2 else 0.0)

data = prepare(table(300, 1), table(300, 2), Signature.from_schema(SCHEMA, target="late"))
spec = SearchSpec(build, "delay", Path(sys.argv[1]), trials=8, seed=5)
search(spec, data, on_trial=lambda trial: print(trial.number, flush=True))
"""


def test_it_goes_on_after_a_kill(spec: SearchSpec, data: TrainingData) -> None:
    root = Path(__file__).resolve().parents[3]
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(spec.storage)], cwd=root, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert [child.stdout.readline() for _ in range(2)] == [b"0\n", b"1\n"]
    deadline = time.monotonic() + 30
    while spec.storage.read_bytes().count(b'"noise"') < 4 and time.monotonic() < deadline:
        time.sleep(0.02)  # until the third trial has its parameters: the first one's are there twice, as enqueued
    with pytest.raises(TrainingError, match="another search is running"):
        search(spec, data)
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with open(spec.storage, "ab") as journal:
        journal.write(b'{"op_code":4,"worker_id":"cut o')  # as a kill in the middle of a write leaves it

    result = search(spec, data)
    assert len(result.trials) == 8
    assert [record.number for record in result.trials] == [0, 1, *range(3, 9)]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (study,) = optuna.get_all_study_summaries(_storage(spec))
    assert study.n_trials == 9
    left = optuna.load_study(study_name="delay", storage=_storage(spec)).trials[2]
    assert left.state == optuna.trial.TrialState.FAIL
    assert result.trials[2].params == left.params  # tried again, next


def _storage(spec: SearchSpec) -> optuna.storages.JournalStorage:
    backend = optuna.storages.journal.JournalFileBackend(str(spec.storage))
    return optuna.storages.JournalStorage(backend)


def test_an_interrupted_trial_is_tried_again(spec: SearchSpec, data: TrainingData) -> None:
    calls = []

    def interrupted(trial: Any) -> Fake:
        calls.append(trial)
        if len(calls) == 4:  # two looks at `first`, then the second trial
            trial.suggest_float("noise", 0.0, 4.0)
            raise KeyboardInterrupt
        return build(trial)

    with pytest.raises(KeyboardInterrupt):
        search(replace(spec, build=interrupted), data)
    result = search(spec, data)
    assert [record.number for record in result.trials] == [0, *range(2, 9)]
    assert [record.state for record in result.trials].count("failed") == 0


def test_a_trial_that_fails_is_kept_with_its_error(spec: SearchSpec, data: TrainingData) -> None:
    def sometimes(trial: Any) -> Fake:
        fake = build(trial)
        if fake.noise > 2.0:
            raise ZeroDivisionError("of the user")
        return fake

    result = search(replace(spec, build=sometimes), data)
    failed = [record for record in result.trials if record.state == "failed"]
    assert failed
    assert len(result.trials) == 8
    assert all("ZeroDivisionError: of the user" in (record.error or "") for record in failed)
    assert all(f"{__file__}" in (record.error or "") for record in failed)


def test_a_search_whose_trials_all_fail_says_why(spec: SearchSpec, data: TrainingData) -> None:
    def only_once(trial: Any) -> Fake:
        if isinstance(trial, optuna.Trial):
            raise ZeroDivisionError("of the user")
        return Fake()

    with pytest.raises(TrainingError, match="all 8 trials failed; the last one: .*ZeroDivisionError: of the user"):
        search(replace(spec, build=only_once), data)


def test_a_search_without_time_says_so(spec: SearchSpec, data: TrainingData) -> None:
    def pruned(trial: Any) -> Fake:
        if isinstance(trial, optuna.Trial):
            raise Pruned
        return Fake()

    with pytest.raises(TrainingError, match="no trial was completed"):
        search(replace(spec, build=pruned), data)


def test_both_families_in_one_study(spec: SearchSpec, data: TrainingData) -> None:
    def families(trial: Any) -> MLP | LightGBM:
        if trial.suggest_categorical("family", ["mlp", "lightgbm"]) == "mlp":
            return MLP(width=trial.suggest_int("width", 8, 16), epochs=2, batch_size=512)
        return LightGBM(leaves=trial.suggest_int("leaves", 7, 15), rounds=50, min_leaf=20)

    result = search(replace(spec, build=families, trials=12), data)
    assert {record.estimator for record in result.trials} == {"mlp", "lightgbm"}
    assert {record.state for record in result.trials} <= {"complete", "pruned"}
    assert result.best_value > 0.8
