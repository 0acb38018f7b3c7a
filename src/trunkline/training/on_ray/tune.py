"""A search on Ray: Ray Tune schedules the trials and stops poor ones by ASHA, on one study with inline searches.

The driver, a confined child process, asks and tells the study; Ray's own OptunaSearch is not used, because it tells the
study that a stopped trial is complete, forgets why one failed, and keeps its state in a pickle. Actors fit one trial
after the other, so each loads frameworks and data once. A home of ray.

ASHA: Li et al., A System for Massively Parallel Hyperparameter Tuning, MLSys 2020.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Checkpoint, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search import Searcher

from trunkline.project.ml import Declared
from trunkline.training.boundary import build_with
from trunkline.training.features import Learned
from trunkline.training.inputs import Inputs, load_inputs
from trunkline.training.on_ray.files import Shipment, forget, ship
from trunkline.training.placement import Placement
from trunkline.training.protocol import Build, FitContext
from trunkline.training.records import SearchResult, TrialRecord
from trunkline.training.search.objectives import Ended, attempted, measure
from trunkline.training.search.optuna import SearchSpec, begin_study, check, open_study, result_of, study_spec
from trunkline.training.search.study import OpenStudy

__all__ = ["search_on_ray"]

_VALUE, _STEP, _REPORTS, _ENDED = "value", "step", "reports", "ended"
_GRACE, _SHARE = 2, 3  # reports before a trial may be stopped; one of so many goes on from each rung
_FOREVER = 1_000_000  # reports; ASHA would end a trial there
_LOOK_SECONDS = 1.0  # between two questions for a trial where none is due


@dataclass(frozen=True)
class _Hosts:
    """What the actors need to fit trials, as plain data but for the placement."""

    shipment: Shipment
    declared: str
    dataset_id: str
    learned: str
    objectives: tuple[str, ...]
    seed: int
    placement: Placement


def _hosts(spec: SearchSpec, inputs: Inputs, root: Path, placement: Placement) -> _Hosts:
    learned = Learned(inputs.data.encoder, inputs.data.signature, inputs.data.train.missing)
    return _Hosts(
        ship(root, inputs.declared, inputs.manifest.dataset_id, placement, _folder(spec)),
        json.dumps(asdict(inputs.declared)),
        inputs.manifest.dataset_id,
        json.dumps(learned.to_json()),
        spec.objectives,
        spec.seed,
        placement,
    )


def _room(placement: Placement, most: int) -> int:
    """How many trials the cluster has room for at once; not more than `most`, if that is above 1."""
    cluster: Any = ray
    found = cluster.cluster_resources()
    room = int(found.get("CPU", 1)) // placement.cpus
    if placement.gpus:
        room = min(room, int(found.get("GPU", 0)) // placement.gpus)
    return max(1, min(room, most) if most > 1 else room)


def search_on_ray(
    spec: SearchSpec,
    inputs: Inputs,
    root: Path,
    placement: Placement,
    *,
    on_trial: Callable[[TrialRecord], None],
    on_open: Callable[[OpenStudy], None],
) -> SearchResult:
    """As `optuna.search`, with as many trials at once as the cluster has room for; `spec.jobs`, if that is above 1."""
    check(spec)
    spec = replace(spec, jobs=_room(placement, spec.jobs))
    hosts = _hosts(spec, inputs, root, placement)
    try:
        with open_study(study_spec(spec, inputs.data)) as study:
            begin_study(study, spec)
            on_open(study)
            until = time.monotonic() + spec.timeout if spec.timeout else float("inf")
            searcher = _Asking(study, spec.build, until, on_trial)
            with _quietly():
                _tuner(spec, searcher, hosts).fit()
            return result_of(study)
    finally:
        hosts.shipment.forget()
        forget(f"{placement.storage.rstrip('/')}/{_folder(spec)}")


def _tuner(spec: SearchSpec, searcher: _Asking, hosts: _Hosts) -> Tuner:
    placement, mode = hosts.placement, "max" if searcher.study.spec.higher_is_better[0] else "min"
    stops = spec.pruner != "none" and not spec.objectives
    fifo: Any = FIFOScheduler
    scheduler: Any = fifo()
    if stops:
        scheduler = AsyncHyperBandScheduler(
            time_attr=_REPORTS, metric=_VALUE, mode=mode, grace_period=_GRACE, reduction_factor=_SHARE, max_t=_FOREVER
        )
    trial = tune.with_parameters(_trial, hosts=hosts)
    needs: dict[str, float] = {"cpu": placement.cpus, **({"gpu": placement.gpus} if placement.gpus else {})}
    return Tuner(
        tune.with_resources(trial, needs),
        tune_config=TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,  # until the study has enough
            max_concurrent_trials=spec.jobs,
            reuse_actors=True,
        ),
        run_config=RunConfig(
            name=_folder(spec),
            storage_path=placement.storage,
            failure_config=FailureConfig(max_failures=placement.restarts),
            callbacks=[_Beating(searcher.study)],
            verbose=0,
        ),
    )


def _folder(spec: SearchSpec) -> str:
    """What Ray keeps of a search lies there while it runs; a search goes on from the study itself."""
    return f"tune-{spec.study_name}-{os.getpid()}"


class _Asking(Searcher):
    """Ray Tune's way to the study: it is asked for trials, told what they report, and how they end."""

    def __init__(self, study: OpenStudy, build: Build, until: float, heard: Callable[[TrialRecord], None]) -> None:
        super().__init__(metric=_VALUE, mode="max")
        self.study, self._build, self._until, self._heard = study, build, until, heard
        self._trials: dict[str, _Running] = {}
        self._asked = -_LOOK_SECONDS

    def suggest(self, trial_id: str) -> Any:
        """The next trial; None for later, should one that runs be lost, here or by another search."""
        self.study.beat()  # Tune asks on while none of its trials runs, and does nothing else then
        if time.monotonic() < self._asked + _LOOK_SECONDS:
            return None
        while (open_ := time.monotonic() < self._until) and (asked := self.study.ask(self._build)) is not None:
            if asked.estimator is not None:
                self._trials[trial_id] = _Running(asked.number)
                return {"params": dict(asked.params)}
            if asked.ended is not None:
                self._heard(asked.ended)
        self._asked = time.monotonic()
        over = not self._trials and (not open_ or self.study.complete())
        return str(Searcher.FINISHED) if over else None

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """A trial has come to a step. One that was started again comes to some steps twice."""
        running = self._trials[trial_id]
        if _VALUE in result and result[_STEP] > running.step:
            running.step = result[_STEP]
            self.study.report(running.number, result[_STEP], result[_VALUE])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended: by itself, by the scheduler, or by the death of its actor, more often than was allowed."""
        running = self._trials.pop(trial_id)
        record: TrialRecord | None
        if result is not None and _ENDED in result:
            record = self.study.tell(running.number, Ended.from_json(json.loads(result[_ENDED])))
        elif error:
            record = self.study.lose(running.number)
        else:
            record = self.study.tell(running.number, Ended("pruned"))
        if record is not None:
            self._heard(record)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray keeps a copy of what it runs with, and would bring it back from there."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is kept by itself."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a search goes on from the study."""


class _Beating(tune.Callback):
    """Says that the trials are alive at every turn of Tune's loop, ten times a second: some report once, or late."""

    def __init__(self, study: OpenStudy) -> None:
        self._study = study

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """At the end of a turn."""
        self._study.beat()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of what asks."""
        return {}


@dataclass
class _Running:
    number: int
    step: int = 0


@contextlib.contextmanager
def _quietly() -> Any:
    """Tune says nothing of its own; warnings about its defaults are not the user's business."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# -- in an actor


def _trial(config: Mapping[str, Any], hosts: _Hosts) -> None:
    """Fit and measure one trial."""
    kept = _TrialCheckpoints()

    def report(step: int, value: float) -> None:
        kept.reports += 1
        tune.report({_VALUE: value, _STEP: step, _REPORTS: kept.reports})

    context = FitContext(
        seed=hosts.seed,
        threads=hosts.placement.cpus,
        report=report,
        device="cuda" if hosts.placement.gpus else "cpu",
        checkpoints=kept,
    )

    def trial() -> Ended:
        inputs = _inputs(hosts.shipment, hosts.declared, hosts.dataset_id, hosts.learned)
        estimator, _ = build_with(inputs.model.build, config["params"])
        return measure(estimator, inputs.data, hosts.objectives, context)

    tune.report({_ENDED: json.dumps(asdict(attempted(trial)))})


@functools.lru_cache(maxsize=1)  # an actor fits many trials on the same data
def _inputs(shipment: Shipment, declared: str, dataset_id: str, learned: str) -> Inputs:
    with shipment.opened() as root:
        os.chdir(root)
        told = Learned.from_json(json.loads(learned))
        return load_inputs(root, Declared(**json.loads(declared)), dataset_id, learned=told)


@dataclass
class _TrialCheckpoints:
    """The last checkpoint of a trial, for the actor that takes it up when this one dies."""

    pause: float = 5.0
    reports: int = field(default=0)

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the last checkpoint."""
        found = tune.get_checkpoint()
        if found is None:
            return None
        with found.as_directory() as folder:
            files = {file.name: file.read_bytes() for file in Path(folder).iterdir() if file.is_file()}
        self.reports = int(files.pop(_REPORTS, b"0"))
        return {name: content for name, content in files.items() if not name.startswith(".")}

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """Hand it to Ray."""
        with tempfile.TemporaryDirectory() as folder:
            for name, content in {**(files or {}), _REPORTS: str(self.reports).encode()}.items():
                Path(folder, name).write_bytes(content)
            tune.report({_STEP: step}, checkpoint=Checkpoint.from_directory(folder))
