"""A study of trials that outlives every process: asked, told, revived. A home of optuna.

One process asks and tells (`open_study`); where the trials are fitted is the caller's business: in this process, in
forked workers, on a cluster. The trials are kept in a journal file of this machine, which one search at a time holds,
or in a database, where searches of many machines work on one study and heartbeats tell who died.
"""

from __future__ import annotations

import contextlib
import math
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, RDBStorage
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from trunkline.errors import TrainingError
from trunkline.project.config import SEEDS
from trunkline.training.boundary import build_estimator
from trunkline.training.protocol import Build, Estimator, Pruned
from trunkline.training.records import State, TrialRecord
from trunkline.training.search import databases
from trunkline.training.search.journal import alone, open_journal
from trunkline.training.search.objectives import Ended, said

__all__ = ["Asked", "OpenStudy", "Pruner", "StudySpec", "finished_of", "open_study", "quiet", "record_of", "records"]

Pruner = Literal["median", "halving", "none"]

_ERROR, _RETRY_OF, _ESTIMATOR, _CURVE = "error", "retry_of", "estimator", "curve"
_BEGUN = "begun"
_STATES: Mapping[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
_DIED_TWICE = "the process died on these parameters, and once more when they were tried again: was there memory enough?"


@dataclass(frozen=True)
class StudySpec:
    """Which study, and how it searches.

    `storage` is a journal file, or the URL of a database. `objectives` are what is measured, the metric first;
    `higher_is_better` says it of each. `parallel` is how many trials run at once, `trials` how many finished ones
    (complete, pruned or failed) there shall be. Pruning is for one objective only.
    """

    name: str
    storage: str | Path
    objectives: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    trials: int
    model: str = ""
    pruner: Pruner = "median"
    parallel: int = 1
    seed: int = 0

    @property
    def prunes(self) -> bool:
        """Whether trials report and may be stopped."""
        return len(self.objectives) == 1


@dataclass(frozen=True)
class Asked:
    """A trial to be fitted. Where the model function raised or pruned there is no estimator: `ended` is its record."""

    number: int
    params: Mapping[str, Any]
    estimator: Estimator | None
    ended: TrialRecord | None = None


@dataclass
class OpenStudy:
    """A study that this process asks and tells. For one thread.

    `key` is its own id, which another study of that name does not share.
    """

    spec: StudySpec
    study: Study
    key: str
    database: RDBStorage | None = None
    _running: dict[int, Trial] = field(default_factory=dict)
    _beaten: float = 0.0
    _unheard: dict[int, float] = field(default_factory=dict)

    @property
    def fresh(self) -> bool:
        """Whether it has not begun: nothing was tried in it, and what it is to begin with is not all queued."""
        if _BEGUN in self.study.user_attrs:
            return False
        return all(trial.state == TrialState.WAITING for trial in self.study.get_trials(deepcopy=False))

    def begin(self, first: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> None:
        """Queue what it begins with, once, however many searches begin it at once, and whichever of them is killed."""
        with databases.turn(self.study, self.database):
            if not self.fresh:
                return
            self.study.enqueue_trial(dict(first), skip_if_exists=True)
            for params in earlier:
                self.study.enqueue_trial(dict(params), user_attrs={"earlier": True}, skip_if_exists=True)
            self.study.set_user_attr(_BEGUN, True)

    def enqueue(self, params: Mapping[str, Any], **attributes: Any) -> None:
        """Have `params` tried before anything the sampler would draw; those left out are drawn."""
        self.study.enqueue_trial(dict(params), user_attrs=attributes)

    def complete(self) -> bool:
        """Whether it has its trials; if not and none is due, others are at the last, or have died at them."""
        return len(finished_of(self.study)) >= self.spec.trials

    def ask(self, build: Build) -> Asked | None:
        """Begin a trial: parameters from the queue or the sampler, and the estimator they make. None: no more are due.

        Trials that run, here or elsewhere, count as if they were to finish.
        """
        with databases.turn(self.study, self.database):  # two that begin the last one at once would make one too many
            if not self._due():
                return None
            trial = self.study.ask()
        self._running[trial.number] = trial
        self.beat(at_once=True)
        try:
            estimator = build_estimator(build, trial, let_pass=(Pruned, optuna.TrialPruned))
        except (Pruned, optuna.TrialPruned):
            return Asked(trial.number, trial.params, None, self.tell(trial.number, Ended("pruned")))
        except TrainingError as exc:
            return Asked(trial.number, trial.params, None, self.tell(trial.number, Ended("failed", error=said(exc))))
        trial.set_user_attr(_ESTIMATOR, estimator.name)
        return Asked(trial.number, trial.params, estimator)

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep an intermediate value of a running trial; whether the trial is to be stopped."""
        if not self.spec.prunes or not math.isfinite(value):
            return False
        trial = self._running[number]
        try:
            trial.report(value, step)
        except optuna.exceptions.UpdateFinishedTrialError:
            return True  # another search has it tried again: see `tell`
        return bool(trial.should_prune())  # NumPy has bools of its own

    def tell(self, number: int, ended: Ended) -> TrialRecord | None:
        """Keep how a trial ended; its record. None where another search took it for dead, and has it tried again."""
        with _unless_taken():
            return self._tell(self._running.pop(number), ended)
        return None

    def _tell(self, trial: Trial, ended: Ended) -> TrialRecord:
        if ended.error is not None:
            trial.set_user_attr(_ERROR, ended.error)
        if not self.spec.prunes and ended.history:
            trial.set_user_attr(_CURVE, [list(point) for point in ended.history])
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(ended.state, TrialState.FAIL)
        values = list(ended.values) if ended.state == "complete" else None
        return record_of(_told(self.study, trial, state, values))

    def lose(self, number: int) -> TrialRecord | None:
        """The process of a running trial died: it is tried again once. Its record if it was tried again already."""
        trial = self._running[number]
        if _RETRY_OF in trial.user_attrs:
            return self.tell(number, Ended("failed", error=_DIED_TWICE))
        self._release(self._running.pop(number))
        return None

    def release(self) -> None:
        """Give up what runs: it is tried again by whoever goes on."""
        while self._running:
            self._release(self._running.popitem()[1])

    def beat(self, *, at_once: bool = False) -> None:
        """Where the study is in a database: say that our trials are alive, and take up those of searches that died.

        To be called every few seconds; talks to the database once in `databases.HEARTBEAT_SECONDS`.
        """
        now = time.monotonic()
        if self.database is None or not (at_once or now - self._beaten > databases.HEARTBEAT_SECONDS):
            return
        for trial in self._running.values():  # first: this machine may have slept, and its trials are no others' yet
            self.database.record_heartbeat(trial._trial_id)
        if now - self._beaten > databases.HEARTBEAT_SECONDS:
            self._beaten = now
            databases.fail_stale(self.study, self.database, self._unheard, now)

    def revive(self) -> None:
        """Try again what processes that died left unfinished, each such trial once more. For whoever holds it alone."""
        trials = self.study.get_trials(deepcopy=False)
        retried = {trial.user_attrs.get(_RETRY_OF) for trial in trials}
        for trial in trials:
            running = trial.state == TrialState.RUNNING
            if running:
                self.study.tell(trial.number, state=TrialState.FAIL)
            interrupted = trial.state == TrialState.FAIL and _ERROR not in trial.user_attrs
            if (running or interrupted) and trial.number not in retried:
                _retry(self.study, trial)

    def _due(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        running = sum(trial.state == TrialState.RUNNING for trial in trials)
        return len(_finished(trials)) + running < self.spec.trials

    def _release(self, trial: Trial) -> None:
        with _unless_taken():
            _retry(self.study, _told(self.study, trial, TrialState.FAIL))


@contextlib.contextmanager
def open_study(spec: StudySpec) -> Iterator[OpenStudy]:
    """Open the study, made if it is not there, and take up what died in it; on leaving, unfinished trials are released.

    Raises TrainingError where another search holds the journal, or the study has other objectives; TransientError
    where the database does not answer.
    """
    here = isinstance(spec.storage, Path)
    held = alone(spec.storage) if isinstance(spec.storage, Path) else contextlib.nullcontext()
    with quiet(), held, databases.translated(spec.storage):
        storage = _storage(spec.storage)
        with databases.closing(storage):
            opened = _open(spec, storage)
            if here:
                opened.revive()
            try:
                yield opened
            finally:
                opened.release()


def records(study: OpenStudy) -> tuple[TrialRecord, ...]:
    """Its finished trials, oldest first."""
    return tuple(record_of(trial) for trial in finished_of(study.study))


def record_of(trial: FrozenTrial) -> TrialRecord:
    """A finished trial as a record."""
    curve = trial.user_attrs.get(_CURVE) or sorted(trial.intermediate_values.items())
    values = tuple(trial.values or ())
    return TrialRecord(
        number=trial.number,
        state=_STATES.get(trial.state, "failed"),
        estimator=trial.user_attrs.get(_ESTIMATOR),
        params=dict(trial.params),
        value=values[0] if values else None,
        history=tuple((int(step), float(value)) for step, value in curve),
        seconds=trial.duration.total_seconds() if trial.duration else 0.0,
        error=trial.user_attrs.get(_ERROR),
        values=values,
        started=trial.datetime_start.timestamp() if trial.datetime_start else None,
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No log lines and no notes about experimental samplers: progress is told by records."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used with")  # `beat` sees to it
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _storage(storage: str | Path) -> BaseStorage:
    return open_journal(storage) if isinstance(storage, Path) else databases.open_database(storage, _retry)


def _open(spec: StudySpec, storage: BaseStorage) -> OpenStudy:
    directions = [StudyDirection.MAXIMIZE if up else StudyDirection.MINIMIZE for up in spec.higher_is_better]
    study = optuna.create_study(
        storage=storage, study_name=spec.name, load_if_exists=True, directions=directions, pruner=_pruner(spec)
    )
    database = storage if isinstance(storage, RDBStorage) else None
    attributes = _attributes(spec, study, database)
    if study.directions != directions or attributes["objectives"] != list(spec.objectives):
        raise TrainingError(
            f"the study {spec.name!r} weighs {', '.join(attributes['objectives'])}, not {', '.join(spec.objectives)}",
            file=spec.storage if isinstance(spec.storage, Path) else None,
            hint="give the search a study of its own: another name, or another storage",
        )
    # A resumed search must not draw again what it drew before, hence the seed moves on with the trials.
    seed = (spec.seed + len(study.get_trials(deepcopy=False))) % SEEDS
    shared = spec.parallel > 1 or not isinstance(spec.storage, Path)
    study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=shared)
    return OpenStudy(spec, study, attributes["key"], database)


def _attributes(spec: StudySpec, study: Study, database: RDBStorage | None) -> dict[str, Any]:
    """What it was made with. Two searches may make it at the same moment, or one may have been killed in doing so."""
    with databases.turn(study, database):
        found = study.user_attrs
        made = {"objectives": list(spec.objectives), "model": spec.model, "key": uuid.uuid4().hex}
        for name in made.keys() - found.keys():
            study.set_user_attr(name, made[name])
        return {**made, **found}


def _pruner(spec: StudySpec) -> optuna.pruners.BasePruner:
    if spec.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource="auto", reduction_factor=3)
    if spec.pruner == "none" or not spec.prunes:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1, n_min_trials=5)


def finished_of(study: Study) -> list[FrozenTrial]:
    """The trials that count: complete, pruned, or failed for a reason of their own, which a killed process is not."""
    return _finished(study.get_trials(deepcopy=False))


def _finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state in _STATES or _ERROR in trial.user_attrs]


def _told(study: Study, trial: Trial, state: TrialState, values: Sequence[float] | None = None) -> FrozenTrial:
    """The trial with its end. Raises UpdateFinishedTrialError where it has one."""
    if study._storage.get_trial(trial._trial_id).state.is_finished():
        raise optuna.exceptions.UpdateFinishedTrialError
    return study.tell(trial, values, state=state)


@contextlib.contextmanager
def _unless_taken() -> Iterator[None]:
    """Leave off where another search has ended the trial: it took it for dead, and what it becomes is its business."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        yield


def _retry(study: Study, trial: FrozenTrial) -> None:
    study.enqueue_trial(trial.params, user_attrs={_RETRY_OF: trial.number})
