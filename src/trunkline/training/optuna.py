"""Searching a model function's parameters with Optuna, resumable after any kind of death. The home of optuna.

The study is a journal file. A search holds a lock of the operating system on it while it runs, so a trial that is
found running at the start was left by a process that died: it is marked failed and its parameters are tried again.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import filelock
import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from trunkline.errors import TrainingError, TrunklineError
from trunkline.project.boundary import told
from trunkline.training.boundary import build_estimator, build_with
from trunkline.training.metrics import Metric
from trunkline.training.protocol import Build, FitContext, Pruned, TrainingData
from trunkline.training.records import SearchResult, TrialRecord

__all__ = ["SearchResult", "SearchSpec", "TrialRecord", "search"]

_ERROR, _RETRY_OF, _ESTIMATOR = "error", "retry_of", "estimator"


@dataclass(frozen=True)
class SearchSpec:
    """What to search, and where its trials are kept.

    `trials` is how many finished trials (complete, pruned or failed) the study shall have: a search that is resumed
    goes on to that total. `first` are parameters of the first trial, the defaults for those left out. `timeout` is
    in seconds; the trial that runs when it passes is finished.
    """

    build: Build
    study_name: str
    storage: Path
    trials: int
    first: Mapping[str, Any] | None = None
    seed: int = 0
    threads: int = 1
    timeout: float | None = None


class _Failed(Exception):
    """A trial that failed, for a reason already kept with it."""


def search(
    spec: SearchSpec, data: TrainingData, *, on_trial: Callable[[TrialRecord], None] | None = None
) -> SearchResult:
    """Run trials until the study has `spec.trials` finished ones; `on_trial` hears each that ends.

    Raises TrainingError for parameters `first` that do not fit, where another search uses the study, and where no
    trial completes. A failed trial is kept with its error, and the search goes on.
    """
    _, first = build_with(spec.build, spec.first)
    with _quiet(), _alone(spec.storage):
        study = _study(spec, data.metric)
        if not study.get_trials(deepcopy=False):
            study.enqueue_trial(first)
        _revive(study)
        left = spec.trials - len(_finished(study))
        if left > 0:
            study.optimize(
                lambda trial: _objective(trial, spec, data),
                n_trials=left,
                timeout=spec.timeout,
                catch=(_Failed,),
                callbacks=[lambda _, trial: on_trial(_record(trial))] if on_trial else [],
            )
        return _result(study)


def _study(spec: SearchSpec, metric: Metric) -> Study:
    _mend(spec.storage)
    storage = JournalStorage(JournalFileBackend(str(spec.storage), lock_obj=_Lock(spec.storage)))
    study = optuna.create_study(
        storage=storage,
        study_name=spec.study_name,
        load_if_exists=True,
        direction="maximize" if metric.higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1, n_min_trials=5),
    )
    # A resumed search must not draw again what it drew before, hence the seed moves on with the trials.
    seed = spec.seed + len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True)
    return study


def _objective(trial: optuna.Trial, spec: SearchSpec, data: TrainingData) -> float:
    def report(step: int, value: float) -> None:
        trial.report(value, step)
        if trial.should_prune():
            raise Pruned

    try:
        estimator = build_estimator(spec.build, trial, let_pass=(Pruned, optuna.TrialPruned))
        trial.set_user_attr(_ESTIMATOR, estimator.name)
        fitted = estimator.fit(data, FitContext(seed=spec.seed, threads=spec.threads, report=report))
        value = data.metric.of(data.validation.y, fitted.predict(data.validation.x))
    except Pruned as exc:
        raise optuna.TrialPruned from exc
    except optuna.TrialPruned:
        raise
    except Exception as exc:  # whatever a trial dies of is kept with it and shown
        trial.set_user_attr(_ERROR, str(exc) if isinstance(exc, TrunklineError) else told(exc))
        raise _Failed from exc
    if not math.isfinite(value):
        trial.set_user_attr(_ERROR, f"{data.metric.name} is {value}")
        raise _Failed
    return value


def _revive(study: Study) -> None:
    """Try again what a process that died left unfinished, each such trial once."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
    for trial in trials:
        running = trial.state == TrialState.RUNNING
        if running:
            study.tell(trial.number, state=TrialState.FAIL)
        interrupted = trial.state == TrialState.FAIL and _ERROR not in trial.user_attrs
        if (running or interrupted) and trial.number not in retried:
            study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})


def _finished(study: Study) -> list[FrozenTrial]:
    done = (TrialState.COMPLETE, TrialState.PRUNED)
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state in done or _ERROR in trial.user_attrs]


def _result(study: Study) -> SearchResult:
    records = tuple(_record(trial) for trial in _finished(study))
    if not any(record.state == "complete" for record in records):
        errors = [record.error for record in records if record.error]
        if errors:
            raise TrainingError(f"all {len(errors)} trials failed; the last one: {errors[-1]}")
        raise TrainingError("no trial was completed", hint="allow more time or more trials")
    best = study.best_trial
    assert best.value is not None
    return SearchResult(dict(best.params), best.value, best.number, records)


def _record(trial: FrozenTrial) -> TrialRecord:
    states: dict[TrialState, Literal["complete", "pruned"]]
    states = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    return TrialRecord(
        number=trial.number,
        state=states.get(trial.state, "failed"),
        estimator=trial.user_attrs.get(_ESTIMATOR),
        params=dict(trial.params),
        value=trial.value,
        history=tuple(sorted(trial.intermediate_values.items())),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        error=trial.user_attrs.get(_ERROR),
    )


def _mend(path: Path) -> None:
    """Drop a last line that a killed process left half written; Optuna would not read on past it."""
    if not path.exists():
        return
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


@contextlib.contextmanager
def _alone(storage: Path) -> Iterator[None]:
    storage.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{storage}.search")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as exc:
        raise TrainingError(
            "another search is running on this study", file=storage, hint="wait for it, or stop it"
        ) from exc
    try:
        yield
    finally:
        lock.release()


class _Lock(JournalFileOpenLock):
    """A lock of the operating system for each append: Optuna's own lock files outlive a killed process by 30 s."""

    def __init__(self, storage: Path) -> None:
        self._lock = filelock.FileLock(f"{storage}.append")

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No log lines and no notes about experimental samplers: progress is told by `on_trial`."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
