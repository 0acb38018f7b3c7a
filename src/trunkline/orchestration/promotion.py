"""Promotion: a gated reference into the deployment file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import GateFailed
from trunkline.orchestration.session import Session
from trunkline.orchestration.verdicts import champion_alias, passing, past
from trunkline.project.deploy import Deployment, rewrite_reference
from trunkline.project.files import write_atomic


@dataclass(frozen=True)
class Promoted:
    """What was written where."""

    deployment: str
    reference: str
    before: str | None
    file: Path


def promote(session: Session, deployment: str | None, reference: str | None, *, move_alias: bool = True) -> Promoted:
    """Rewrite `model:` of the deployment, keep everything else of the file, and move its alias.

    Without a reference: the version gated last. Raises `GateFailed` without a passing verdict on exactly the bundle
    that the reference means now, by the rules that are in the file now.
    """
    spec = session.project.deployment(deployment)
    registry = session.context.registry()
    version = registry.resolve(reference or _gated_last(session, spec))
    passing(session, spec, version)
    write_atomic(spec.file, rewrite_reference(spec.file, version.uri))
    if move_alias:
        alias = champion_alias(session.project.deployments, spec.name, version.name)
        registry.set_alias(version.name, alias, version.version)
    return Promoted(spec.name, version.uri, spec.spec.model, spec.file)


def _gated_last(session: Session, spec: Deployment) -> str:
    verdicts = past(session, spec.name)
    if not verdicts:
        raise GateFailed(f"{spec.name} has no verdict yet", hint=f"trunkline gate {spec.name}", file=spec.file)
    return verdicts[-1].candidate
