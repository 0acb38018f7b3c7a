"""Promotion: a gated reference into the deployment file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import GateFailed
from trunkline.orchestration.session import Session
from trunkline.project.deploy import rewrite_reference
from trunkline.project.files import write_atomic


@dataclass(frozen=True)
class Promoted:
    """What was written where."""

    deployment: str
    reference: str
    before: str | None
    file: Path


def promote(session: Session, deployment: str | None, reference: str | None) -> Promoted:
    """Rewrite `model:` of the deployment, keep everything else of the file, and move the alias `champion`.

    Raises `GateFailed` without a passing verdict on exactly the bundle that the reference means now.
    """
    spec = session.project.deployment(deployment)
    verdicts = session.context.ledger.read("verdicts", "where deployment = ? order by look_id", [spec.name])
    last = next((v for v in reversed(verdicts) if reference in (None, v["candidate"])), None)
    if last is None:
        raise GateFailed(
            f"{reference or spec.name} has no verdict yet", hint=f"trunkline gate {spec.name}", file=spec.file
        )
    version = session.context.registry().resolve(last["candidate"])
    if not last["passed"]:
        raise GateFailed(f"the gate refused {version.uri}", hint=f"read {last['report']}", file=spec.file)
    if last["sha256"] != version.sha256:
        raise GateFailed(f"{version.uri} is not the bundle that was gated", hint=f"trunkline gate {spec.name}")
    write_atomic(spec.file, rewrite_reference(spec.file, version.uri))
    session.context.registry().set_alias(version.name, "champion", version.version)
    return Promoted(spec.name, version.uri, spec.spec.model, spec.file)
