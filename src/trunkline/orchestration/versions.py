"""From a model reference to a checked bundle on this disk."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.context import StepContext
from trunkline.errors import IntegrityError, ModelReferenceError, ProjectError
from trunkline.models.bundle import Bundle
from trunkline.models.place import bundle_folder
from trunkline.project.files import write_atomic
from trunkline.project.load import Project
from trunkline.registry.address import shown
from trunkline.registry.files import put
from trunkline.registry.reference import parse_reference

if TYPE_CHECKING:
    from trunkline.registry.protocol import ModelVersion


@dataclass(frozen=True)
class Resolved:
    """A registered version and its bundle, here."""

    reference: str
    sha256: str
    dataset_id: str
    bundle: Path


def resolve(project: Project, ctx: StepContext, reference: str) -> Resolved:
    """Fetch the bundle of `reference` unless it is here. A numbered version never changes, so once it was resolved
    no registry is asked (and MLflow is not loaded) again. The bundle's digest is checked every time."""
    cache_file = project.state / "cache" / "references.json"
    cache = _read(cache_file)
    key = f"{shown(project.registry_uri or project.tracking_uri)} {reference}"
    if key in cache and bundle_folder(project.state, cache[key][0]).is_dir():
        sha256, dataset_id = cache[key]
        return _checked(project, reference, sha256, dataset_id)
    version = ctx.registry().resolve(reference)
    found = fetched(project, ctx, version)
    if "@" not in reference:
        write_atomic(cache_file, json.dumps({**_read(cache_file), key: [found.sha256, found.dataset_id]}))
    return found


def fetched(project: Project, ctx: StepContext, version: ModelVersion) -> Resolved:
    """The bundle of a registered version, fetched if it is not here, its digest checked."""
    if not re.fullmatch(r"[0-9a-f]{64}", version.sha256):
        raise ModelReferenceError(
            f"{version.uri} was not registered by Trunkline: it carries no digest of a bundle",
            hint="train it here: `trunkline train`",
        )
    place = bundle_folder(project.state, version.sha256)
    if not place.is_dir():
        scratch = project.state / "fetch" / f"{place.name}.{os.getpid()}"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.parent.mkdir(parents=True, exist_ok=True)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            ctx.registry().fetch(version, scratch)
            Bundle.open(scratch, expect_sha256=version.sha256)
            put(scratch, place)  # unless another process was as quick
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return _checked(project, version.uri, version.sha256, version.tags.get("trunkline.dataset_id", ""))


def deployed_reference(project: Project, name: str | None) -> tuple[str, str]:
    """Name and reference of a deployment. Raises `ProjectError` if nothing was promoted yet."""
    deployment = project.deployment(name)
    if not deployment.spec.model:
        raise ProjectError(
            f"deployment {deployment.name!r} has no model yet",
            file=deployment.file,
            line=deployment.model_line,
            hint=f"`trunkline gate {deployment.name}`, then `trunkline promote {deployment.name}`",
        )
    return deployment.name, deployment.spec.model


def named(project: Project, ctx: StepContext, model: str | None) -> tuple[str, Resolved]:
    """What a command calls MODEL: a deployment, which means its promoted version, or a reference. Its name, and it."""
    if model is not None and model.startswith("models:/"):
        return parse_reference(model).name, resolve(project, ctx, model)
    name, reference = deployed_reference(project, model)
    return name, resolve(project, ctx, reference)


def _checked(project: Project, reference: str, sha256: str, dataset_id: str) -> Resolved:
    place = bundle_folder(project.state, sha256)
    try:
        bundle = Bundle.open(place, expect_sha256=sha256)
    except IntegrityError as exc:
        hint = f"rm -r {place}, and the same command again: the registry has the bundle"
        raise IntegrityError(exc.what, file=exc.file, hint=hint) from exc
    return Resolved(reference, sha256, dataset_id or str(bundle.metadata.get("dataset_id") or ""), bundle.path)


def _read(path: Path) -> dict[str, list[str]]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
