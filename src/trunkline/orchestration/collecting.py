"""What `trunkline dataset gc` may remove: what is needed is asked of everybody who may need something first."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.datasets.collect import (
    Built,
    Keep,
    Rubbish,
    leftovers,
    needed,
    remove,
    unneeded,
    unneeded_snapshots,
)
from trunkline.errors import ModelReferenceError
from trunkline.orchestration.datasets import Known, known
from trunkline.orchestration.local import checkout_turn
from trunkline.orchestration.session import Session
from trunkline.project.ml import declarations
from trunkline.registry.reference import parse_reference


@dataclass(frozen=True)
class Found:
    """What nobody needs, and why each build of a dataset that is kept is kept (by its label).

    `strange` are builds on this disk that the target's ledger does not know: another target may need them.
    """

    rubbish: tuple[Rubbish, ...]
    kept: Mapping[str, str]
    strange: tuple[Known, ...]


def rubbish(session: Session, newest: int, younger: dt.timedelta) -> Found:
    """Look, and remove nothing. The registry is asked only if there is something to remove."""
    listed = known(session)
    builds = [Built(one.name, one.dataset_id, one.created_at, one.snapshot) for one in listed if one.recorded]
    now = session.context.now()
    keep = Keep(newest, younger, now)
    users = _in_use(session)
    kept = needed(builds, users, keep)
    found = _of(session, builds, kept, now)
    if found:
        kept = needed(builds, {**_registered(session), **users}, keep)
        found = _of(session, builds, kept, now)
    ids = {one.dataset_id for one in listed} | set(users)
    found += leftovers(session.project.state, ids, now)
    labels = {one.dataset_id: one.label for one in listed}
    return Found(
        tuple(found),
        {labels[dataset_id]: why for dataset_id, why in kept.items()},
        tuple(one for one in listed if not one.recorded),
    )


def collect(session: Session, seen: Found, newest: int, younger: dt.timedelta) -> Iterator[Rubbish]:
    """Remove what is still not needed of what was `seen`; each thing once it is gone. Runs of this checkout wait."""
    with checkout_turn(session, sweep=False):
        session.refresh()
        told = {item.what for item in seen.rubbish}
        for item in rubbish(session, newest, younger).rubbish:
            if item.what in told and remove(item, session.context.warehouse):
                yield item


def _of(session: Session, builds: Sequence[Built], kept: Mapping[str, str], now: dt.datetime) -> list[Rubbish]:
    return [
        *unneeded(session.project.state, builds, kept),
        *unneeded_snapshots(session.context.warehouse, builds, kept, now),
    ]


def _in_use(session: Session) -> dict[str, str]:
    """The datasets that a step left behind last: of this target, and of those this checkout has worked with."""
    found: dict[str, str] = {}
    for file in sorted((session.project.state / "cache").glob("state-*.json")):
        try:
            past: dict[str, Any] = json.loads(file.read_text("utf-8"))["past"]
            outputs = [last["output"] for name, last in past.items() if name.startswith("dataset:")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # only a copy
        target = file.stem.removeprefix("state-")
        found |= {str(output.get("dataset_id")): f"target {target} uses it" for output in outputs}
    own = [last.output for name, last in session.past.items() if name.startswith("dataset:")]
    return found | {str(output["dataset_id"]): "it is used now" for output in own}


def _registered(session: Session) -> dict[str, str]:
    """The datasets that registered versions were trained on: as the registry says, and as the ledger does.

    A version of the ledger that was deleted in the registry needs nothing, as long as the registry knows the model.
    """
    context, project = session.context, session.project
    rows = context.ledger.read("versions", "order by version_id")
    deployed = [deployment.spec.model for deployment in project.deployments if deployment.spec.model]
    names = {str(row["model"]) for row in rows} | {parse_reference(reference).name for reference in deployed}
    names |= {item.name for item in declarations(project.root) if item.kind == "model"}
    found: dict[str, str] = {}
    for name in sorted(names):
        versions = context.registry().versions(name)
        there = {version.uri for version in versions}
        trained = [(row["dataset_id"], row["reference"]) for row in rows if row["model"] == name]
        trained = [(dataset_id, uri) for dataset_id, uri in trained if uri in there or not versions]
        trained += [(version.tags.get("trunkline.dataset_id", ""), version.uri) for version in versions]
        found |= {str(dataset_id): f"{uri} was trained on it" for dataset_id, uri in trained if dataset_id}
    return found | _deployed(session, rows)


def _deployed(session: Session, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The datasets of what the deployments answer with. Raises `ModelReferenceError` if that cannot be known."""
    found: dict[str, str] = {}
    for deployment in session.project.deployments:
        if not deployment.spec.model:
            continue
        try:
            version = session.context.registry().resolve(deployment.spec.model)
        except ModelReferenceError as exc:
            raise ModelReferenceError(
                f"what deployment {deployment.name!r} needs is not known: {exc.what}",
                file=deployment.file,
                line=deployment.model_line,
                hint="nothing was removed: mend its `model`",
            ) from exc
        dataset_id = version.tags.get("trunkline.dataset_id", "")
        dataset_id = dataset_id or next((str(r["dataset_id"]) for r in rows if r["reference"] == version.uri), "")
        if dataset_id:
            found[dataset_id] = f"deployment {deployment.name} answers with {version.uri}"
    return found
