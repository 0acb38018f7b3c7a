"""`tune`: a search, recorded trial by trial while it goes on, and the training with what it found."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import TrainingError, did_you_mean
from trunkline.orchestration.experiments import keep, subject_for
from trunkline.orchestration.local import Ended, Listener, execute
from trunkline.orchestration.planning import plan_for
from trunkline.orchestration.session import Session
from trunkline.registry.outbox import Outbox
from trunkline.registry.protocol import RunRecord, Status
from trunkline.training.ancestry import ancestors
from trunkline.training.apart import Apart, Study
from trunkline.training.placement import place
from trunkline.training.records import SearchResult, StudyOpened, TrialRecord
from trunkline.training.steps import step_name
from trunkline.training.subject import Subject


@dataclass(frozen=True)
class Wanted:
    """What a search is asked for: see `training.search.optuna.SearchSpec`. `pick` is the trial to train with, if not
    the best."""

    trials: int
    timeout: float | None = None
    jobs: int = 1
    pruner: str = "median"
    anew: bool = False
    pick: int | None = None


@dataclass(frozen=True)
class Tuned:
    """A finished search, the trial picked, and the training with its parameters. `unsent` runs await the registry."""

    study: str
    result: SearchResult
    picked: TrialRecord
    trained: list[Ended]
    unsent: int


def tune(
    session: Session,
    model: str,
    wanted: Wanted,
    *,
    hear: Callable[[StudyOpened | TrialRecord], None],
    listen: Listener,
) -> Tuned:
    """Search until the study has `wanted.trials` finished trials, keep the best parameters, train with them."""
    started = dt.datetime.now(dt.UTC)
    subject = subject_for(session, model, listen)
    context = session.context
    name = f"{model}-{subject.manifest.dataset_id[:8]}-{subject.declared.code[:8]}"
    study = Study(
        name, storage_of(session, model), wanted.trials, wanted.timeout, wanted.jobs, wanted.pruner, wanted.anew
    )
    placement = place(context.training, context.state, context.head)
    with _recorded(session, subject, study) as recorder:

        def heard(told: StudyOpened | TrialRecord) -> None:
            if isinstance(told, StudyOpened):
                _refuse_pick(told, wanted.pick)
            recorder.hear(told)
            hear(told)

        result = Apart(subject, context.seed, context.threads, placement).search(study, heard)
        recorder.finish(result)
        picked = _picked(result, wanted.pick)
        # the best parameters are the output of a step `tune:MODEL`: that is where training finds them
        found = {"params": dict(picked.params), "value": picked.value, "trials": len(result.trials), "study": name}
        keep(session, f"tune:{model}", found, started)
        session.refresh()
        compiled, plan = plan_for(session, [step_name(model)])
        trained = execute(session, compiled.graph, plan, listen)
    return Tuned(name, result, picked, trained, recorder.unsent)


def storage_of(session: Session, model: str) -> Path | str:
    """Where a model's studies are kept: a journal in this checkout, or the database of `trunkline.yml`."""
    asked = session.project.config.search.storage
    return str(session.context.secrets.resolve(asked)) if asked else journal_of(session.project.state, model)


def journal_of(state: Path, model: str) -> Path:
    """The journal of a model's studies."""
    return state / "studies" / f"{model}.journal"


def _refuse_pick(study: StudyOpened, number: int | None) -> None:
    """Refuse a trial that ended without a model, before others are tried."""
    for trial in study.trials:
        if trial.number == number and trial.state != "complete":
            raise TrainingError(
                f"trial {number} is not a complete trial of this study: it is {trial.state}",
                hint="trunkline studies show lists all",
            )


def _picked(result: SearchResult, number: int | None) -> TrialRecord:
    wanted = result.best_number if number is None else number
    complete = {trial.number: trial for trial in result.trials if trial.state == "complete"}
    if wanted not in complete:
        close = did_you_mean(str(wanted), map(str, complete))
        raise TrainingError(
            f"trial {wanted} is not a complete trial of this study.{close}",
            hint=f"the front: {', '.join(map(str, result.front))}; trunkline studies show lists all",
        )
    return complete[wanted]


class _Recorder:
    """Tells the registry of the study and its trials, as they come, through an outbox."""

    def __init__(self, session: Session, subject: Subject, study: Study) -> None:
        self._context, self._subject, self._study = session.context, subject, study
        self._experiment = f"{session.context.experiment}/tune"
        self._outbox: Outbox | None = None
        self._key = ""
        self._objectives: tuple[str, ...] = ()
        self.unsent = 0

    def hear(self, told: StudyOpened | TrialRecord) -> None:
        """The study, then each trial."""
        if isinstance(told, StudyOpened):
            self._open(told)
        else:
            self._add(told)

    def finish(self, result: SearchResult) -> None:
        """The study has what was asked for."""
        (values,) = [trial.values for trial in result.trials if trial.number == result.best_number]
        best = {f"best_{name}": value for name, value in zip(self._objectives, values, strict=True)}
        tags = {"best_trial": str(result.best_number), "best_params": json.dumps(dict(result.best_params))}
        states = [trial.state for trial in result.trials]
        counts = {f"trials_{state}": float(states.count(state)) for state in dict.fromkeys(states)}
        self._end("FINISHED", {**best, **counts}, tags)

    def close(self, *, whole: bool) -> None:
        """Wait for the registry; less long where the command has failed anyway."""
        if self._outbox is None:
            return
        if not whole:
            self._end("KILLED", {}, {})
        self.unsent = self._outbox.close(60.0 if whole else 3.0)

    def _open(self, study: StudyOpened) -> None:
        self._key, self._objectives = study.key, study.objectives
        self._outbox = Outbox(self._context.state / "outbox" / f"{study.key}.jsonl", self._context.registry)
        self._end("RUNNING", {}, {})
        if isinstance(self._study.storage, Path):  # trials that a killed command had no time to tell of
            for trial in study.trials:
                self._add(trial)

    def _end(self, status: Status, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        assert self._outbox is not None
        shared = ancestors(self._subject.manifest, self._context)
        run = RunRecord(
            experiment=self._experiment,
            name=self._study.name,
            metrics=metrics,
            tags={**shared, **tags},
            status=status,
            key=self._key,
            started_at=dt.datetime.now(dt.UTC) if status == "RUNNING" else None,
            ended_at=dt.datetime.now(dt.UTC),
        )
        self._outbox.add(run)

    def _add(self, trial: TrialRecord) -> None:
        assert self._outbox is not None
        run = self._run(trial)
        if not self._outbox.knows(run.key):
            self._outbox.add(run, below=self._key)

    def _run(self, trial: TrialRecord) -> RunRecord:
        metric = self._objectives[0]
        values = dict(zip(self._objectives, trial.values, strict=False))
        started = dt.datetime.fromtimestamp(trial.started, dt.UTC) if trial.started is not None else None
        tags = {"state": trial.state, "trial": str(trial.number), "estimator": trial.estimator or ""}
        return RunRecord(
            experiment=self._experiment,
            name=f"trial {trial.number} {trial.estimator or ''}".strip(),
            params=dict(trial.params),
            metrics={name: value for name, value in values.items() if value is not None},
            curves={f"{metric}_by_step": trial.history} if trial.history else {},
            tags={**tags, **({"error": trial.error} if trial.error else {})},
            status="FAILED" if trial.state == "failed" else "FINISHED",
            key=f"{self._key}/{trial.number}",
            started_at=started,
            ended_at=started + dt.timedelta(seconds=trial.seconds) if started else None,
        )


@contextmanager
def _recorded(session: Session, subject: Subject, study: Study) -> Iterator[_Recorder]:
    recorder = _Recorder(session, subject, study)
    whole = False
    try:
        yield recorder
        whole = True
    finally:
        recorder.close(whole=whole)


def storages(session: Session) -> Iterator[tuple[str, Path | str]]:
    """Every place where studies of this project are kept, with its name."""
    asked = session.project.config.search.storage
    if asked:
        yield "database", str(session.context.secrets.resolve(asked))
    for path in sorted((session.project.state / "studies").glob("*.journal")):
        yield path.stem, path
