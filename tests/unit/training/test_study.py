"""Studies: several objectives, what came before, what mattered, and what is no number."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.fakes import Fake, FittedFake
from trunkline.errors import ProjectError, TrainingError, TransientError
from trunkline.training.metrics import METRICS
from trunkline.training.protocol import FitContext, TrainingData
from trunkline.training.records import TrialRecord
from trunkline.training.search.databases import driver_url, shown
from trunkline.training.search.objectives import kept_step
from trunkline.training.search.optuna import SearchSpec, open_study, records, search, study_spec
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
    from trunkline.training.search.objectives import Ended

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
