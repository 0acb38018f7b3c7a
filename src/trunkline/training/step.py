"""The train step: one training, its bundle, its run and its version."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from trunkline.context import Job, StepContext, StepResult
from trunkline.datasets.manifest import Manifest
from trunkline.errors import IntegrityError
from trunkline.graph.step import digest
from trunkline.ledger.ids import new_id
from trunkline.models.place import bundle_folder
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.training.apart import Apart, FitPlace
from trunkline.training.placement import place
from trunkline.training.records import Trained
from trunkline.training.subject import find_subject

if TYPE_CHECKING:
    from trunkline.models.bundle import Bundle


def run(job: Job, ctx: StepContext) -> StepResult:
    """Train with the best known parameters, or the first; register the bundle; write the ledger's version row.

    The same bundle is never registered twice: after a kill, or when forced, the version it has is found again.
    """
    config = job.step.config
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
    version, new = _version(trained, bundle, subject.manifest, ctx, job.fingerprint)
    if not ctx.ledger.read("versions", "where reference = ? and sha256 = ?", [version.uri, version.sha256]):
        _record(version, trained, subject.manifest, ctx)
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
    bundle.path.rename(place)
    return type(bundle).open(place, expect_sha256=bundle.sha256)


def _version(
    trained: Trained, bundle: Bundle, manifest: Manifest, ctx: StepContext, fingerprint: str
) -> tuple[ModelVersion, bool]:
    registry = ctx.registry()
    known = next((v for v in reversed(registry.versions(trained.name)) if v.sha256 == bundle.sha256), None)
    if known is not None:
        return known, False
    tags = {
        "trunkline.dataset": manifest.name,
        "trunkline.dataset_id": manifest.dataset_id,
        "trunkline.snapshot": manifest.snapshot,
        "trunkline.load_ids": " ".join(manifest.load_ids),
        "trunkline.git_commit": ctx.git_commit() or "",
        "trunkline.fingerprint": fingerprint,
        "trunkline.run_id": ctx.run_id,
    }
    run_id = registry.log_run(
        RunRecord(
            experiment=ctx.experiment,
            name=f"{trained.name} {trained.estimator}",
            params={**trained.params, "estimator": trained.estimator},
            metrics={f"validation_{name}": value for name, value in trained.metrics.items()},
            curves={f"{trained.metric}_by_step": trained.history},
            tags=tags,
        )
    )
    example = {field.name: field.example for field in bundle.signature.inputs}
    version = registry.register(
        trained.name, bundle.path, run_id=run_id, sha256=bundle.sha256, tags=tags, example=example
    )
    return version, True


def _record(version: ModelVersion, trained: Trained, manifest: Manifest, ctx: StepContext) -> None:
    with ctx.warehouse.transaction():
        row = {
            "version_id": new_id("version"),
            "run_id": ctx.run_id,
            "model": version.name,
            "reference": version.uri,
            "sha256": version.sha256,
            "dataset_id": manifest.dataset_id,
            "registry_run_id": version.run_id,
            "params": dict(trained.params),
            "metrics": dict(trained.metrics),
            "created_at": ctx.now(),
        }
        ctx.ledger.add("versions", [row])


def _result(version: ModelVersion, trained: Trained, manifest: Manifest, new: bool) -> StepResult:
    low, high = trained.interval
    output = {
        "model": version.name,
        "reference": version.uri,
        "sha256": version.sha256,
        "dataset_id": manifest.dataset_id,
        "estimator": trained.estimator,
        "params": dict(trained.params),
        "metrics": dict(trained.metrics),
    }
    known = "" if new else " (the very bundle it already was)"
    measure = f"{trained.metric} {trained.value:.4f} ({low:.4f} to {high:.4f}) on validation"
    return StepResult(output, f"{version.uri} {trained.estimator}, {measure}{known}")
