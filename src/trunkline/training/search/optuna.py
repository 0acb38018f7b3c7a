"""Searching a model function's parameters with Optuna, resumable after any kind of death. A home of optuna.

This process asks and tells; trials are fitted here one by one, or in forked workers, several at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import TrainingError
from trunkline.training.boundary import build_with, plain_settings
from trunkline.training.placement import device_for
from trunkline.training.protocol import Build, FitContext, Pruned, Reporter, TrainingData
from trunkline.training.records import SearchResult, TrialRecord
from trunkline.training.search.objectives import Ended, attempted, measure
from trunkline.training.search.studies import best_of, bests_before, front_of, importance_of
from trunkline.training.search.study import Asked, OpenStudy, Pruner, StudySpec, open_study, records
from trunkline.training.search.workers import Died, Finished, Reported, Workers, warm

__all__ = [
    "Asked", "OpenStudy", "SearchResult", "SearchSpec", "StudySpec", "TrialRecord", "begin_study", "check",
    "open_study", "records", "result_of", "search", "study_spec",
]  # fmt: skip

_EARLIER = 5  # best trials of earlier studies that a new one begins with, and at most a quarter of its own
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class SearchSpec:
    """What to search, and where its trials are kept.

    `trials` is how many finished trials (complete, pruned or failed) the study shall have: a search that is resumed
    goes on to that total. `first` are parameters of the first trial, the defaults for those left out. `timeout` is
    in seconds; the trials that run when it passes are finished. `storage` is a journal file, or the URL of a database.
    `jobs` trials run at once, each in a forked process, several on one thread each; 0 runs them in this process.
    `objectives` are weighed beside the metric (`objectives.OBJECTIVES`). `model` marks the studies whose best trials a
    new study begins with, unless `anew`. `device` is as `placement.device_for` takes it.
    """

    build: Build
    study_name: str
    storage: str | Path
    trials: int
    first: Mapping[str, Any] | None = None
    seed: int = 0
    threads: int = 1
    timeout: float | None = None
    jobs: int = 0
    objectives: tuple[str, ...] = ()
    pruner: Pruner = "median"
    model: str = ""
    anew: bool = False
    device: str = "cpu"

    def context(self, report: Reporter) -> FitContext:
        """How a trial is fitted in the process that calls this."""
        threads = 1 if self.jobs > 1 else self.threads
        return FitContext(seed=self.seed, threads=threads, report=report, device=device_for(self.device))


def search(
    spec: SearchSpec,
    data: TrainingData,
    *,
    on_trial: Callable[[TrialRecord], None] | None = None,
    on_open: Callable[[OpenStudy], None] | None = None,
) -> SearchResult:
    """Run trials until the study has `spec.trials` finished ones.

    `on_open` hears the study before the first, `on_trial` each trial that ends. Raises TrainingError for parameters
    `first` that do not fit, where another search uses the study, and where no trial completes. A failed trial is kept
    with its error, and the search goes on; so it does when a worker dies, whose trial is tried once more.
    """
    check(spec)
    forked = spec.jobs > 0 or not isinstance(spec.storage, Path)
    with contextlib.ExitStack() as stack:
        workers = None
        if forked:  # before the storage is opened: they shall not have its connections
            workers = stack.enter_context(contextlib.closing(_workers(spec, data)))
        study = stack.enter_context(open_study(study_spec(spec, data)))
        begin_study(study, spec)
        if on_open is not None:
            on_open(study)
        heard = on_trial or (lambda record: None)
        until = time.monotonic() + spec.timeout if spec.timeout else float("inf")
        if workers is not None:
            _run_forked(study, spec.build, workers, until, heard)
        else:
            _run_here(study, spec, data, until, heard)
        return result_of(study)


def check(spec: SearchSpec) -> None:
    """Raise TrainingError for parameters `first` that do not fit, and for an estimator that could not be saved."""
    estimator, _ = build_with(spec.build, spec.first)
    plain_settings(estimator)


def study_spec(spec: SearchSpec, data: TrainingData) -> StudySpec:
    """The study of a search: its objectives are the metric of `data` and those asked for."""
    return StudySpec(
        name=spec.study_name,
        storage=spec.storage,
        objectives=(data.metric.name, *spec.objectives),
        higher_is_better=(data.metric.higher_is_better, *(False for _ in spec.objectives)),
        trials=spec.trials,
        model=spec.model,
        pruner=spec.pruner,
        parallel=spec.jobs + 1 if spec.jobs else 1,  # one more is asked for ahead
        seed=spec.seed,
    )


def begin_study(study: OpenStudy, spec: SearchSpec) -> None:
    """Have a study that is new begin with the first parameters, then with the best of the model's earlier studies."""
    if not study.fresh:
        return
    _, first = build_with(spec.build, spec.first)
    tried = [first]
    for params in [] if spec.anew else bests_before(study):
        if len(tried) > min(_EARLIER, spec.trials // 4):
            break
        with contextlib.suppress(TrainingError):  # the function has changed: these no longer fit
            _, fitting = build_with(spec.build, params)
            if fitting not in tried:
                tried.append(fitting)
    study.begin(first, tried[1:])


def result_of(study: OpenStudy) -> SearchResult:
    """What the search has found. Raises TrainingError where no trial is complete."""
    found = records(study)
    best = best_of(found, study.spec.higher_is_better[0])
    if best is None:
        errors = [record.error for record in found if record.error]
        if errors:
            raise TrainingError(f"all {len(errors)} trials failed; the last one: {errors[-1]}")
        raise TrainingError("no trial was completed", hint="allow more time or more trials")
    assert best.value is not None
    return SearchResult(
        dict(best.params),
        best.value,
        best.number,
        found,
        study.spec.objectives,
        front_of(found, study.spec.higher_is_better),
        importance_of(study.study),
    )


def _run_here(
    study: OpenStudy, spec: SearchSpec, data: TrainingData, until: float, heard: Callable[[TrialRecord], None]
) -> None:
    while time.monotonic() < until and (asked := study.ask(spec.build)) is not None:
        if asked.estimator is None:
            _hear(heard, asked.ended)
            continue
        context = spec.context(_reporter(study, asked.number))
        _hear(heard, study.tell(asked.number, measure(asked.estimator, data, spec.objectives, context)))


def _reporter(study: OpenStudy, number: int) -> Reporter:
    def report(step: int, value: float) -> None:
        if study.report(number, step, value):
            raise Pruned

    return report


def _workers(spec: SearchSpec, data: TrainingData) -> Workers:
    def work(params: Mapping[str, Any], report: Reporter) -> Ended:
        def trial() -> Ended:
            estimator, _ = build_with(spec.build, params)
            return measure(estimator, data, spec.objectives, spec.context(report))

        return attempted(trial)

    warm(spec.build, spec.first or {})
    return Workers(max(spec.jobs, 1), work)


def _run_forked(
    study: OpenStudy, build: Build, workers: Workers, until: float, heard: Callable[[TrialRecord], None]
) -> None:
    """Keep the workers busy: while they fit, one more trial is asked for ahead."""
    ahead: Asked | None = None
    running = 0
    while True:
        open_ = time.monotonic() < until
        while open_ and workers.idle and (asked := ahead or _next(study, build, heard)) is not None:
            workers.begin(asked.number, asked.params)
            running, ahead = running + 1, None
        if not running and (not open_ or study.complete()):
            return
        if open_ and ahead is None and not workers.idle:
            ahead = _next(study, build, heard)
        for event in workers.events(_LOOK_SECONDS):
            match event:
                case Reported(number, step, value):
                    workers.answer(number, stop=study.report(number, step, value))
                case Finished(number, ended):
                    running -= 1
                    _hear(heard, study.tell(number, ended))
                case Died(int(number)):
                    running -= 1
                    _hear(heard, study.lose(number))
        study.beat()


def _next(study: OpenStudy, build: Build, heard: Callable[[TrialRecord], None]) -> Asked | None:
    """The next trial that has an estimator; None where no more are due."""
    while (asked := study.ask(build)) is not None:
        if asked.estimator is not None:
            return asked
        _hear(heard, asked.ended)
    return None


def _hear(heard: Callable[[TrialRecord], None], record: TrialRecord | None) -> None:
    """Nothing, where the trial is to be tried again."""
    if record is not None:
        heard(record)
