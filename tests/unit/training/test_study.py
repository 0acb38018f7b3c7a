"""Studies: several objectives, what came before, what mattered, and what is no number."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from tests.unit.training.fakes import Fake, FittedFake
from trunkline.errors import EngineError, ProjectError, TrainingError, TransientError
from trunkline.training.metrics import METRICS
from trunkline.training.protocol import FitContext, TrainingData
from trunkline.training.records import TrialRecord
from trunkline.training.run import TrainSpec, train
from trunkline.training.search import databases
from trunkline.training.search.databases import driver_url, shown
from trunkline.training.search.objectives import Ended, kept_step
from trunkline.training.search.optuna import SearchSpec, begin_study, open_study, records, search, study_spec
from trunkline.training.search.studies import front_of, read_studies
from trunkline.training.search.study_page import study_page


def build(trial: Any) -> Fake:
    """Noise matters, `unused` does not."""
    trial.suggest_int("unused", 0, 1_000)
    return Fake(noise=trial.suggest_float("noise", 0.0, 4.0))


@pytest.fixture
def spec(tmp_path: Path) -> SearchSpec:
    """Ten trials."""
    return SearchSpec(build, "delay-1", tmp_path / "delay.journal", trials=10, seed=5, model="delay")


def test_a_front_of_quality_and_cost(spec: SearchSpec, data: TrainingData) -> None:
    def sized(trial: Any) -> Fake:  # less noise, more time
        noise = trial.suggest_float("noise", 0.0, 4.0)
        return Fake(noise=noise, seconds=(4.0 - noise) / 200)

    weighed = replace(spec, build=sized, trials=16, objectives=("train_seconds", "size_kb", "latency_us"))
    result = search(weighed, data)
    assert result.objectives == ("roc_auc", "train_seconds", "size_kb", "latency_us")
    assert {record.state for record in result.trials} == {"complete"}  # nothing is pruned
    assert all(len(record.history) == 3 for record in result.trials)
    assert result.front[0] == result.best_number
    assert len(result.front) > 1
    by_number = {record.number: record.values for record in result.trials}
    auc, seconds, size, latency = by_number[result.best_number]
    assert auc == max(values[0] for values in by_number.values())
    assert 0.01 < seconds < 1.0
    assert 0.1 < size < 10
    assert 1 < latency < 10_000
    (study,) = read_studies(spec.storage, importance=spec.study_name)
    assert study.front == result.front
    assert study.higher_is_better == (True, False, False, False)
    page = study_page(study)
    assert page.count("<svg") >= 5  # the history, three fronts, curves
    assert f">{result.best_number}</text>" in page


def test_the_front_leaves_out_what_is_beaten() -> None:
    def trial(number: int, *values: float, state: Any = "complete") -> TrialRecord:
        return TrialRecord(number, state, "fake", {}, values[0], (), 1.0, None, values)

    trials = [
        trial(0, 0.7, 10),
        trial(1, 0.8, 30),
        trial(2, 0.75, 40),
        trial(3, 0.8, 30),
        trial(4, 0.6, 5, state="pruned"),
    ]
    assert front_of(trials, (True, False)) == (1, 0)
    assert front_of(trials, (False, False)) == (0,)
    assert front_of(trials, (True,)) == (1,)
    assert front_of([], (True, False)) == ()


def test_other_objectives_need_another_study(spec: SearchSpec, data: TrainingData) -> None:
    search(replace(spec, trials=1), data)
    with pytest.raises(TrainingError, match="weighs roc_auc, not roc_auc, size_kb") as caught:
        search(replace(spec, objectives=("size_kb",)), data)
    assert caught.value.file == spec.storage
    with pytest.raises(TrainingError, match="weighs roc_auc, not log_loss"):
        search(spec, replace(data, metric=METRICS["log_loss"]))


def test_a_new_study_begins_with_the_best_of_earlier_ones(spec: SearchSpec, data: TrainingData) -> None:
    def wider(trial: Any) -> Fake:  # the space has changed: noise above 3 does not fit any more
        trial.suggest_int("unused", 0, 1_000)
        return Fake(noise=trial.suggest_float("noise", 0.0, 3.0))

    before = search(replace(spec, trials=20), data)
    after = search(replace(spec, study_name="delay-2", build=wider, trials=20), data)
    assert after.trials[0].params == {"unused": 500, "noise": 1.5}
    assert after.trials[1].params == before.best_params
    early = [record.params for record in after.trials[1:6]]
    assert all(params in [record.params for record in before.trials] for params in early)
    anew = search(replace(spec, study_name="delay-3", trials=8, anew=True), data)
    assert before.best_params not in [record.params for record in anew.trials]
    other = search(replace(spec, study_name="other-1", model="other", trials=8), data)
    assert before.best_params not in [record.params for record in other.trials]
    assert [study.name for study in read_studies(spec.storage)] == ["delay-1", "delay-2", "delay-3", "other-1"]


def test_what_mattered(spec: SearchSpec, data: TrainingData) -> None:
    def families(trial: Any) -> Fake:
        trial.suggest_int("unused", 0, 1_000)
        if trial.suggest_categorical("family", ["loud", "quiet"]) == "loud":
            return Fake(noise=3.0 + trial.suggest_float("noise", 0.0, 1.0))
        return Fake(noise=trial.suggest_float("hush", 0.0, 1.0))

    result = search(replace(spec, build=families, trials=30, pruner="none"), data)
    assert next(iter(result.importance)) in ("family", "hush")
    assert result.importance["unused"] < 0.4
    assert set(result.importance) == {"unused", "family", "noise", "hush"}


@dataclass(frozen=True)
class Diverging(Fake):
    """Reports no number at its second step if there is much noise."""

    def fit(self, data: TrainingData, context: FitContext) -> FittedFake:
        """As said."""
        if self.noise > 1:
            context.report(1, 0.5)
            context.report(2, math.nan)
        return super().fit(data, context)


def test_what_is_no_number_ends_the_trial_with_advice(spec: SearchSpec, data: TrainingData) -> None:
    result = search(
        replace(spec, build=lambda trial: Diverging(noise=trial.suggest_float("noise", 0.0, 3.0)), pruner="none"), data
    )
    failed = [record for record in result.trials if record.state == "failed"]
    assert failed
    for record in failed:
        assert record.error is not None
        assert "roc_auc is nan at step 2: the training diverged" in record.error
        assert "smaller learning rate" in record.error
        assert record.history == ((1, 0.5),)


@pytest.mark.parametrize("pruner", ["median", "halving", "none"])
def test_pruners(spec: SearchSpec, data: TrainingData, pruner: Any) -> None:
    steps = replace(spec, build=lambda trial: replace(build(trial), steps=9), pruner=pruner, trials=20)
    states = {record.state for record in search(steps, data).trials}
    assert states == ({"complete"} if pruner == "none" else {"complete", "pruned"})


def test_which_steps_are_kept() -> None:
    assert [step for step in range(1, 1_001) if kept_step(step)] == list(range(1, 1_001))
    assert [step for step in range(1_001, 1_031) if kept_step(step)] == [1_010, 1_020, 1_030]
    assert sum(kept_step(step) for step in range(1, 100_001)) == 2_800


def test_a_trial_asked_and_told_from_elsewhere(spec: SearchSpec, data: TrainingData) -> None:
    with open_study(study_spec(spec, data)) as study:
        assert study.fresh
        study.enqueue({"noise": 1.0, "unused": 7})
        asked = study.ask(build)
        assert (asked.number, asked.params) == (0, {"unused": 7, "noise": 1.0})
        assert not study.report(0, 1, 0.5)
        told = study.tell(0, Ended("complete", (0.75,)))
        assert (told.value, told.history) == (0.75, ((1, 0.5),))
        study.ask(build)  # left behind: on leaving it is given back
        key = study.key
    with open_study(study_spec(spec, data)) as study:
        assert not study.fresh
        assert study.key == key
        assert [record.number for record in records(study)] == [0]
        assert study.ask(build).number == 2
        assert study.study.trials[2].params == study.study.trials[1].params


def test_a_journal_can_be_read_while_it_is_written(spec: SearchSpec, data: TrainingData) -> None:
    seen: list[int] = []
    search(replace(spec, trials=3), data, on_trial=lambda _: seen.append(len(read_studies(spec.storage)[0].trials)))
    assert seen == [1, 2, 3]
    lines = Path(spec.storage).read_text().splitlines()
    assert all(json.loads(line) for line in lines)


def test_what_a_study_begins_with_is_queued_once_whoever_is_killed(spec: SearchSpec, data: TrainingData) -> None:
    search(replace(spec, trials=4), data)
    second = replace(spec, study_name="delay-2", trials=8, first={"noise": 3.5, "unused": 1})
    with open_study(study_spec(second, data)):
        pass  # killed when it was made
    with open_study(study_spec(second, data)) as study:
        study.enqueue({"noise": 3.5, "unused": 1})  # killed while what it begins with was queued
    with open_study(study_spec(second, data)) as study:
        begin_study(study, second)
        begin_study(study, replace(second, first=None))  # another search, a moment later
        queued = [trial.system_attrs["fixed_params"] for trial in study.study.trials]
    assert queued[0] == {"noise": 3.5, "unused": 1}
    assert len(queued) == len({str(params) for params in queued}) == 3  # a quarter of the trials, and it
    assert search(second, data).trials[0].params == queued[0]


@pytest.fixture
def shared(spec: SearchSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SearchSpec:
    """In a database, which other searches may use."""
    monkeypatch.setattr(databases, "HEARTBEAT_SECONDS", 1)
    return replace(spec, storage=f"sqlite:///{tmp_path}/studies.db")


def test_a_trial_that_another_search_took_is_its_business(shared: SearchSpec, data: TrainingData) -> None:
    with open_study(study_spec(shared, data)) as mine, open_study(study_spec(shared, data)) as other:
        numbers = [mine.ask(build).number for _ in range(4)]
        for number in numbers:
            other.study.tell(number, state=TrialState.FAIL)
        assert mine.report(numbers[0], 1, 0.5)  # to be stopped
        assert mine.tell(numbers[0], Ended("complete", (0.5,))) is None
        assert mine.tell(numbers[1], Ended("failed", error="why")) is None
        assert mine.lose(numbers[2]) is None
        asked = mine.ask(build)
        assert mine.tell(asked.number, Ended("complete", (0.75,))).value == 0.75
    states = [trial.state for trial in optuna.load_study(study_name="delay-1", storage=shared.storage).trials]
    assert states == [TrialState.FAIL] * 4 + [TrialState.COMPLETE]


def test_a_search_that_slept_keeps_its_trials(shared: SearchSpec, data: TrainingData) -> None:
    with open_study(study_spec(shared, data)) as study:
        asked = study.ask(build)
        with study.database.engine.begin() as connection:
            connection.execute(sqlalchemy.text("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'"))
        study._beaten = -math.inf
        study.beat()
        assert study.tell(asked.number, Ended("complete", (0.75,))) is not None


def test_a_full_disk_leaves_the_journal_whole(
    spec: SearchSpec, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, write, room = search(replace(spec, trials=2), data).trials, os.write, [3_000]

    def limited(file: int, content: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, content[: min(60, room[0])])
        room[0] -= done
        return done

    with monkeypatch.context() as patched:
        patched.setattr("os.write", limited)
        with pytest.raises(EngineError, match="cannot be written: No space") as caught:
            search(spec, data)
    assert caught.value.file == spec.storage
    assert all(json.loads(line) for line in Path(spec.storage).read_text().splitlines())
    after = search(spec, data).trials
    assert after[:2] == before
    assert len(after) == 10


@dataclass(frozen=True)
class Unsavable(Fake):
    """Its settings are no JSON where there is much noise."""

    def settings(self) -> dict[str, Any]:
        """As said."""
        return {"noise": Path() if self.noise > 1 else self.noise}

    def fit(self, data: TrainingData, context: FitContext) -> FittedFake:
        """Not of those."""
        assert self.noise <= 1
        return super().fit(data, context)


def test_what_could_not_be_saved_is_not_fitted(spec: SearchSpec, data: TrainingData, tmp_path: Path) -> None:
    made = replace(spec, build=lambda trial: Unsavable(noise=trial.suggest_float("noise", 0.0, 3.0)), trials=8)
    with pytest.raises(TrainingError, match="the settings of fake cannot be written down: TypeError"):
        search(made, data)
    assert not Path(spec.storage).exists()
    found = search(replace(made, first={"noise": 0.5}), data).trials
    failed = [record for record in found if record.state == "failed"]
    assert failed
    assert all("cannot be written down" in (record.error or "") for record in failed)
    with pytest.raises(TrainingError, match="cannot be written down"):
        train(TrainSpec("delay", made.build), data, params={"noise": 2.0}, out=tmp_path / "bundle")


@pytest.mark.parametrize("password", ["hu/sh", "hush#1", "hu@sh", "hu?sh", "hush%2F"])
def test_a_password_of_any_signs_is_not_shown(password: str) -> None:
    assert shown(f"postgresql://me:{password}@127.0.0.1:1/db") == "postgresql://127.0.0.1:1/db"


@pytest.mark.parametrize(
    "url", ["postgresql://me:hush@host:port/db", "postgresql//me:hush@host", "postgresql://me:hu:sh"]
)
def test_what_is_no_address_is_told_without_it(url: str, spec: SearchSpec, data: TrainingData) -> None:
    for use in (shown, driver_url, lambda url: search(replace(spec, storage=url), data)):
        with pytest.raises(ProjectError, match="no address of a database") as caught:
            use(url)
        assert caught.value.__cause__ is None
        assert (
            "hush" not in f"{caught.value}{caught.value.__context__ if not caught.value.__suppress_context__ else ''}"
        )


def test_addresses_are_shown_without_passwords(data: TrainingData, spec: SearchSpec) -> None:
    url = "postgresql://me:hush@127.0.0.1:1/db?connect_timeout=2"
    assert driver_url(url) == "postgresql+psycopg://me:hush@127.0.0.1:1/db?connect_timeout=2"
    assert shown(url) == "postgresql://127.0.0.1:1/db"
    with pytest.raises(TransientError, match="postgresql://127.0.0.1:1/db does not answer") as caught:
        search(replace(spec, storage=url), data)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ProjectError, match="no address of a database"):
        search(replace(spec, storage="somewhere"), data)
