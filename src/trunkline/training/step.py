"""The train step: one training, its bundle, its run and its version."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from typing import TYPE_CHECKING, Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.datasets.manifest import Manifest
from trunkline.errors import EngineError, IntegrityError
from trunkline.graph.step import digest
from trunkline.ledger.ids import new_id
from trunkline.models.place import bundle_folder
from trunkline.registry.files import put
from trunkline.registry.parcels import Parcel, ToRegister, keep, register
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.training.ancestry import ancestors, inputs
from trunkline.training.apart import Apart, FitPlace
from trunkline.training.placement import place
from trunkline.training.records import Trained
from trunkline.training.subject import find_subject

if TYPE_CHECKING:
    from trunkline.models.bundle import Bundle


def run(job: Job, ctx: StepContext) -> StepResult:
    """Train with the best known parameters, or the first; register the bundle; write the ledger's version row.

    The same bundle is never registered twice: after a kill, or when forced, the version it has is found again. Where
    the registry is away or lets nobody in, the version waits in the outbox (`registry.parcels`) and the ledger has no
    row of it yet.
    """
    config, started = job.step.config, ctx.now()
    dataset_id = str(job.inputs[job.step.needs[0]]["dataset_id"])
    ctx.progress(f"reading the dataset of {config['name']}")
    subject = find_subject(ctx.root, config["name"], dataset_id)
    params = config["params"] if config["params"] is not None else subject.declared.data["first"]
    placement = place(ctx.training, ctx.state, ctx.head)
    fit_at = _fit_place(job, ctx, dataset_id, config["seed"])
    try:
        trained = Apart(subject, config["seed"], ctx.threads, placement).train(
            {"dataset": subject.manifest.name, "dataset_id": dataset_id},
            params,
            fit_at,
            lambda step, value: ctx.progress(f"training {config['name']}: {value:.4f} at {step}"),
        )
        bundle = _keep(trained.bundle, ctx)
    finally:
        shutil.rmtree(fit_at.out, ignore_errors=True)
    ctx.progress(f"registering {config['name']}")
    parcel = _parcel(trained, bundle, subject.manifest, ctx, job.fingerprint, started)
    try:
        version, new = register(ctx.state / "outbox", ctx.registry(), parcel)
    except EngineError as exc:  # what was trained is not lost for that
        keep(ctx.state / "outbox", parcel)
        fit_at.forget()
        return _waiting(bundle.sha256, trained, subject.manifest, exc)
    if not ctx.ledger.read("versions", "where reference = ? and sha256 = ?", [version.uri, version.sha256]):
        _record(version, parcel, ctx)
    fit_at.forget()
    return _result(version, trained, subject.manifest, new)


def _fit_place(job: Job, ctx: StepContext, dataset_id: str, seed: int) -> FitPlace:
    """A fit is taken up where everything is as it was: parameters, code, libraries, data, seed, threads, workers."""
    facts = {"fingerprint": job.fingerprint, "dataset_id": dataset_id, "seed": seed, "threads": ctx.threads}
    return FitPlace(ctx.state, digest(facts)[:32], ctx.state / "bundles" / f".train-{os.getpid()}")


def _keep(bundle: Bundle, ctx: StepContext) -> Bundle:
    place = bundle_folder(ctx.state, bundle.sha256)
    if place.is_dir():
        try:
            return type(bundle).open(place, expect_sha256=bundle.sha256)
        except IntegrityError:
            shutil.rmtree(place)  # damaged: the one just made takes its place
    put(bundle.path, place)
    return type(bundle).open(place, expect_sha256=bundle.sha256)


def _parcel(
    trained: Trained, bundle: Bundle, manifest: Manifest, ctx: StepContext, fingerprint: str, started: dt.datetime
) -> Parcel:
    """What the registry is to know: the run, and the version its bundle becomes."""
    tags = {**ancestors(manifest, ctx, fingerprint), "trunkline.sha256": bundle.sha256}
    run = RunRecord(
        experiment=ctx.experiment,
        name=f"{trained.name} {trained.estimator}",
        params={**trained.params, "estimator": trained.estimator},
        metrics={f"validation_{name}": value for name, value in trained.metrics.items()},
        curves={f"{trained.metric}_by_step": trained.history},
        tags=tags,
        started_at=started,
        ended_at=ctx.now(),
        key=f"train-{trained.name}-{bundle.sha256}",
        datasets=inputs(manifest, ctx, {"train": "training", "validation": "validation"}),
    )
    row = {
        "run_id": ctx.run_id,
        "model": trained.name,
        "sha256": bundle.sha256,
        "dataset_id": manifest.dataset_id,
        "params": dict(trained.params),
        "metrics": dict(trained.metrics),
    }
    example = {field.name: field.example for field in bundle.signature.inputs}
    return Parcel(run, ToRegister(trained.name, bundle.path, bundle.sha256, tags, example, row))


def _record(version: ModelVersion, parcel: Parcel, ctx: StepContext) -> None:
    assert parcel.version is not None  # a training has made one
    made = {"version_id": new_id("version"), "reference": version.uri, "registry_run_id": version.run_id}
    with ctx.warehouse.transaction():
        ctx.ledger.add("versions", [{**parcel.version.row, **made, "created_at": ctx.now()}])


def _result(version: ModelVersion, trained: Trained, manifest: Manifest, new: bool) -> StepResult:
    known = "" if new else " (the very bundle it already was)"
    output = {"reference": version.uri, **_output(version.sha256, trained, manifest)}
    return StepResult(output, f"{version.uri} {_measured(trained)}{known}")


def _waiting(sha256: str, trained: Trained, manifest: Manifest, why: EngineError) -> StepResult:
    """The registry gives the numbers, and gave none: nothing is called by one that nobody gave."""
    output = {"reference": None, **_output(sha256, trained, manifest)}
    waits = "no version yet, it is kept here and registered by the next command that the registry lets in"
    told = f"{why.what} ({why.hint})" if why.hint else why.what
    return StepResult(output, f"{trained.name} {_measured(trained)}; {told}: {waits}")


def _output(sha256: str, trained: Trained, manifest: Manifest) -> dict[str, Any]:
    return {
        "model": trained.name,
        "sha256": sha256,
        "dataset_id": manifest.dataset_id,
        "estimator": trained.estimator,
        "params": dict(trained.params),
        "metrics": dict(trained.metrics),
    }


def _measured(trained: Trained) -> str:
    low, high = trained.interval
    return f"{trained.estimator}, {trained.metric} {trained.value:.4f} ({low:.4f} to {high:.4f}) on validation"
