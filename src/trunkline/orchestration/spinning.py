"""`spin`: one step once more on the exact inputs of a past run, with the code of today, beside everything official."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext
from trunkline.datasets import compare as comparing
from trunkline.datasets.manifest import FILE, Manifest, manifest_of, read_manifest
from trunkline.datasets.publish import SEALED, fetch
from trunkline.datasets.run import built, folder, put_in_place
from trunkline.datasets.vault import sealed_file
from trunkline.errors import DatasetError, EngineError, IntegrityError, TrunklineError, UserError, did_you_mean
from trunkline.graph.step import Step, digest
from trunkline.ledger.ids import new_id
from trunkline.models.bundle import Bundle
from trunkline.models.place import bundle_folder
from trunkline.orchestration.compile import Compiled
from trunkline.orchestration.history import PastRun, find_past, input_of, last_output
from trunkline.orchestration.local import checkout_turn
from trunkline.orchestration.session import Session
from trunkline.orchestration.versions import fetched
from trunkline.project.config import SEEDS
from trunkline.project.files import write_atomic
from trunkline.project.ml import find_model
from trunkline.registry.ancestry import git_tags
from trunkline.registry.parcels import tell
from trunkline.registry.protocol import RunRecord
from trunkline.training.apart import Apart
from trunkline.training.experiments.spun import Spun, ToSpin
from trunkline.training.placement import Placement
from trunkline.training.subject import Subject
from trunkline.warehouse.protocol import Loader, Snapshots

KINDS = ("train", "dataset")


@dataclass(frozen=True)
class Overrides:
    """What is to be other than it was: parameters and the seed of a training."""

    params: Mapping[str, Any]
    seed: int | None = None


@dataclass(frozen=True)
class SpunModel:
    """A training on past inputs: parameters that differ (name -> before, after), the result, and where it lies."""

    spin_id: str
    past: PastRun
    dataset: str
    changed: Mapping[str, tuple[Any, Any]]
    result: Spun
    same: bool
    folder: Path


@dataclass(frozen=True)
class SpunDataset:
    """A dataset made of a past snapshot, and how it compares with what that run had made."""

    spin_id: str
    past: PastRun
    snapshot: str
    comparison: comparing.Comparison
    folder: Path


def spin(session: Session, step: str, run: str, overrides: Overrides) -> SpunModel | SpunDataset:
    """Run one step on what it was given in a past run. Nothing official changes: results lie in `.trunkline/spins`.

    Raises UserError for a step or a run that is not there, for a step that cannot be spun, and for inputs that are
    gone; else the step's own errors.
    """
    refuse_seed(overrides)
    compiled = session.compile()
    found = step_of(compiled, step)
    if found.kind not in KINDS:
        raise UserError(
            f"{found.name} cannot be spun: only steps of {' and '.join(KINDS)} can",
            hint="a build or an ingest reads the warehouse or the source as it is now: there is nothing to hand over",
        )
    past = find_past(session.context.ledger, found.name, run)
    spin_id = new_id("spin")
    place = session.context.state / "spins" / spin_id
    place.mkdir(parents=True)
    try:
        if found.kind == "train":
            return _train(session, compiled, found, past, overrides, place)
        if overrides.params or overrides.seed is not None:
            raise UserError(f"{found.name} has neither parameters nor a seed", hint="leave out --params and --seed")
        return _dataset(session, found, past, place)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def refuse_seed(overrides: Overrides) -> None:
    """Raise UserError for a seed that not every library takes."""
    if overrides.seed is not None and not 0 <= overrides.seed < SEEDS:
        raise UserError(f"the seed {overrides.seed} is not from 0 to {SEEDS - 1}")


def step_of(compiled: Compiled, text: str) -> Step:
    """The step of that name, or the only one that can be spun of that subject. Raises UserError with the close one."""
    steps = compiled.graph.steps
    if text in steps:
        return steps[text]
    named = [step for step in steps.values() if step.subject == text and step.kind in KINDS]
    if len(named) == 1:
        return named[0]
    known = [name for name, step in steps.items() if step.kind in KINDS]
    raise UserError(
        f"there is no step {text!r}.{did_you_mean(text, [*known, *steps])}",
        hint=f"steps that can be spun: {', '.join(known) or 'none'}",
    )


# -- train


def _train(
    session: Session, compiled: Compiled, step: Step, past: PastRun, overrides: Overrides, place: Path
) -> SpunModel:
    context = session.context
    (need,) = step.needs
    dataset_id = str(input_of(context.ledger, past, need)["dataset_id"])
    subject = Subject(
        context.root,
        find_model(compiled.declared, step.subject),
        _dataset_here(session, need.partition(":")[2], dataset_id, past),
    )
    tuned = last_output(context.ledger, f"tune:{step.subject}", past.started_at)
    known = tuned["params"] if tuned else subject.declared.data["first"]
    seed = overrides.seed if overrides.seed is not None else context.seed
    before, gone = _past_bundle(session, past)
    wanted = ToSpin(known=known, wanted=overrides.params, out=place / "bundle", past=before)
    here = Placement(device=context.training.device)
    result = Apart(subject, seed, context.threads, here).spin(
        {"dataset": subject.manifest.name, "dataset_id": dataset_id},
        wanted,
        lambda step, value: context.progress(f"training {subject.name}: {value:.4f} at {step}"),
    )
    result = replace(result, why=result.why or gone)
    was = past.output.get("params") or {}
    now = result.trained.params
    changed = {
        name: (was.get(name), now.get(name)) for name in dict.fromkeys([*was, *now]) if was.get(name) != now.get(name)
    }
    same = result.trained.bundle.sha256 == past.output.get("sha256")
    label = f"{subject.manifest.name}@{dataset_id[:8]}"
    spun = SpunModel(place.name, past, label, changed if was else {}, result, same, place)
    _log_training(session, spun, subject, seed)
    return spun


def _dataset_here(session: Session, name: str, dataset_id: str, past: PastRun) -> Manifest:
    """The dataset that the past run was given: on this disk, or its published copy."""
    context = session.context
    place = folder(context.state, name, dataset_id)
    if not (place / FILE).is_file():
        scratch = place.with_name(f".{place.name}.{os.getpid()}")
        with checkout_turn(session, sweep=False):
            scratch.mkdir(parents=True)
            try:
                if fetch(context, name, dataset_id, scratch) is None:
                    raise DatasetError(
                        f"the files of dataset {name}@{dataset_id[:8]}, which {past.run_id} trained on, are not on this"
                        " disk, and no copy of them is published",
                        hint=f"`trunkline spin dataset:{name} --from {past.run_id}` makes it of the snapshot of that"
                        " time; docs/dataset-commands.md has how datasets are published",
                    )
                put_in_place(scratch, place, sealed_file(context.state, name, dataset_id))
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return read_manifest(place)


def _past_bundle(session: Session, past: PastRun) -> tuple[Path | None, str]:
    """The folder of the model the past run left, and if there is none, why."""
    reference = past.output.get("reference")
    if past.status != "done" or not past.output.get("sha256"):
        return None, f"the step failed in {past.run_id}: it left no model"
    here = bundle_folder(session.context.state, str(past.output["sha256"]))
    with contextlib.suppress(IntegrityError):  # damaged, or gone: the registry has it
        return Bundle.open(here, expect_sha256=str(past.output["sha256"])).path, ""
    if not reference:
        return None, f"the model of {past.run_id} had no version yet, and its files are gone"
    try:
        version = session.context.registry().resolve(str(reference))
        return fetched(session.project, session.context, version).bundle, ""
    except (EngineError, IntegrityError, UserError) as exc:
        return None, f"the model of {past.run_id} cannot be had: {exc.what}"


def _log_training(session: Session, spun: SpunModel, subject: Subject, seed: int) -> None:
    trained = spun.result.trained
    against = {f"difference_{one.metric}": one.value for one in spun.result.against}
    facts = {
        "step": spun.past.step,
        "from": spun.past.asked,
        "dataset_id": subject.manifest.dataset_id,
        "code": subject.declared.code,
        "params": dict(trained.params),
        "seed": seed,
        "metrics": dict(trained.metrics),
        "sha256": trained.bundle.sha256,
        "against": [asdict(one) for one in spun.result.against],
    }
    _log(
        session,
        spun.folder,
        facts,
        RunRecord(
            experiment=f"{session.context.experiment}/spin",
            name=f"{spun.past.step} on {spun.past.asked}",
            params={**trained.params, "estimator": trained.estimator, "seed": seed},
            metrics={f"validation_{name}": value for name, value in trained.metrics.items()} | against,
            curves={f"{trained.metric}_by_step": trained.history},
            tags={
                **_tags(session, spun.folder.name, spun.past),
                "trunkline.dataset": subject.manifest.name,
                "trunkline.dataset_id": subject.manifest.dataset_id,
                "trunkline.sha256": trained.bundle.sha256,
            },
            artifacts=spun.folder,
        ),
    )


def _tags(session: Session, spin_id: str, past: PastRun) -> dict[str, str]:
    return {
        "trunkline.spin": spin_id,
        "trunkline.spin_of": past.asked,
        "trunkline.step": past.step,
        **git_tags(session.context.git_commit()),
    }


def _log(session: Session, place: Path, facts: Mapping[str, Any], record: RunRecord) -> None:
    write_atomic(place / "spin.json", json.dumps({"spin": place.name, **facts}, indent=1, default=str))
    session.context.progress("recording the run")
    whole = replace(record, key=place.name, ended_at=session.context.now())
    try:
        tell(session.context.state / "outbox", session.context.registry, whole)
    except TrunklineError as exc:  # what was made is not lost for that, and the run waits in the outbox
        session.context.progress(f"not recorded yet: {exc.what}")


# -- dataset


def _dataset(session: Session, step: Step, past: PastRun, place: Path) -> SpunDataset:
    context = session.context
    before = _past_manifest(context, past)
    _refuse_lost(context, step, before, past)
    probes = {**step.config.get("probes", {}), "as_of_change": "off"}  # "earlier" snapshots may be later ones here
    config = {**step.config, "probes": probes}
    made = place / "dataset"
    made.mkdir()
    job = Job(replace(step, config=config), digest(["spin", before.dataset_id, config]), {})
    manifest = built(job, context, made, before.snapshot)
    (made / SEALED).unlink()  # counted and hashed, and of no use: a spin is not gated
    manifest = replace(manifest, load_ids=before.load_ids, location="")
    manifest.write(made)
    found = _compared(session, before, manifest, made)
    rows = {f"rows_{name}": float(part.rows) for name, part in manifest.parts.items()}
    facts = {
        "step": step.name,
        "from": past.asked,
        "snapshot": before.snapshot,
        "content_id": manifest.content_id,
        "same": found.same,
    }
    _log(
        session,
        place,
        facts,
        RunRecord(
            experiment=f"{context.experiment}/spin",
            name=f"{step.name} on {past.asked}",
            params={"snapshot": before.snapshot},
            metrics=rows,
            tags={**_tags(session, place.name, past), "trunkline.dataset": manifest.name},
        ),
    )
    return SpunDataset(place.name, past, before.snapshot, found, made)


def _past_manifest(context: StepContext, past: PastRun) -> Manifest:
    """What the past run had made, as the ledger has it."""
    dataset_id = str(past.output.get("dataset_id") or "")
    rows = context.ledger.read("datasets", "where dataset_id = ?", [dataset_id]) if dataset_id else []
    try:
        return manifest_of(rows[0]["manifest"])
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as exc:
        why = f"it failed: {past.error}" if past.status != "done" else "the ledger does not have its manifest"
        raise DatasetError(
            f"it is not known at which snapshot {past.run_id} read the table of {past.step}: {why}",
            hint="spin a run in which it succeeded: `trunkline spin` without --from lists them",
        ) from exc


def _refuse_lost(context: StepContext, step: Step, before: Manifest, past: PastRun) -> None:
    """A warehouse without history cannot give back what a run saw."""
    warehouse = context.warehouse
    if not isinstance(warehouse, Snapshots) or not before.snapshot:
        raise EngineError(
            f"the {warehouse.name} target {context.target!r} keeps no earlier states of its tables: what"
            f" {before.relation} held at {past.run_id} cannot be read any more",
            hint="DuckLake keeps them, and so does Snowflake for its retention time: docs/warehouses.md",
        )
    table = ".".join(step.config["table"])
    if before.snapshot.startswith("clone:") and table != before.relation:
        raise DatasetError(
            f"{step.name} is made of {table} now, and the snapshot of {past.run_id} holds {before.relation} alone"
        )


def _compared(session: Session, before: Manifest, after: Manifest, made: Path) -> comparing.Comparison:
    """The two, down to rows where the past files are here."""
    found = comparing.compare(before, after)
    there = folder(session.context.state, before.name, before.dataset_id)
    warehouse = session.context.warehouse
    if found.same or before.key != after.key or not isinstance(warehouse, Loader):
        return found
    if not (there / FILE).is_file():
        return replace(found, why="the files of the past one are not here")
    files = comparing.sides(before, after, (there, made))
    columns = comparing.column_changes(warehouse.reader(), found, files)
    rows = comparing.row_changes(warehouse.reader(), found, files, 3, session.context.progress)
    return replace(found, columns=columns, rows=rows)
