"""Verdicts where they are kept and found: the ledger, the registry's run of the look, a tag of the version."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.datasets.manifest import Manifest
from trunkline.errors import EngineError, GateFailed, ModelReferenceError, ProjectError, TrunklineError
from trunkline.orchestration.session import Session
from trunkline.project.deploy import Deployment, policy_digest
from trunkline.registry.parcels import ToTag, tell
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.registry.reference import parse_reference
from trunkline.training.ancestry import ancestors, inputs

if TYPE_CHECKING:
    from trunkline.gate.evidence import Latency
    from trunkline.gate.report import Report
    from trunkline.gate.run import GateResult

__all__ = ["Kept", "Row", "champion_alias", "keep", "numbered", "passing", "past", "reports_of"]

_MEASURED = ("p50_ms", "p95_ms", "p99_ms", "max_ms", "requests_per_second", "cold_start_s")
_LOOK = re.compile(r"look_\w+")
_SERVED = (*_MEASURED, "memory_mb")


@dataclass(frozen=True)
class Row:
    """One verdict as it is kept. `metrics` are those of the candidate that were shown: value, low, high.

    `served` are numbers of its server. `policy` is the digest of the rules, empty if it was decided before they were
    kept; `report` is where the report was written, in the project's folder, empty if only the version's tag is known.
    """

    look_id: str
    deployment: str
    candidate: str
    sha256: str
    champion: str | None
    passed: bool
    policy: str
    report: str
    decided_at: dt.datetime
    metrics: Mapping[str, tuple[float, float, float]]
    served: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "decided_at": self.decided_at.isoformat()}


@dataclass(frozen=True)
class Kept:
    """Where a verdict is now: the registry's run of the look, or None and why it is not there yet."""

    run_id: str | None
    why: str = ""


def keep(
    session: Session, spec: Deployment, version: ModelVersion, manifest: Manifest, result: GateResult, look_id: str
) -> Kept:
    """Keep a verdict: in the ledger first, so that it is not lost when the registry is away.

    Then as a run of the experiment `…/gate` and as the tag `trunkline.gate.DEPLOYMENT` of the version, which both wait
    on disk while the registry is away.
    """
    context = session.context
    row = _row(session, spec, result, look_id)
    with context.warehouse.transaction():
        context.ledger.add("verdicts", [row])
        context.ledger.release(look_id, result.released.to_json())
    try:
        run = _run(session, version, manifest, result, row)
        tag = ToTag(version.uri, _tag(spec.name), _tagged(row))
        run_id = tell(context.state / "outbox", context.registry, run, tag)
    except EngineError as exc:
        return Kept(None, f"the registry did not take it: {exc.what}")
    return Kept(run_id, "" if run_id else "the registry does not answer: the verdict is sent once it does")


def passing(session: Session, spec: Deployment, version: ModelVersion) -> Row:
    """The verdict that lets `version` be deployed: the last one on it by these very rules, and it is yes, on this very
    bundle, against the champion of today.

    The last one of those in the ledger and the one in the version's tag, which may come from another ledger. Raises
    `GateFailed`.
    """
    again = f"trunkline gate {spec.name} --model {version.uri}"
    known = [row for row in past(session, spec.name) if row.candidate == version.uri]
    tagged = _from_tag(spec.name, version)
    known = sorted([*known, *([tagged] if tagged else [])], key=lambda row: row.decided_at)
    policy = policy_digest(spec)
    found = next((row for row in reversed(known) if row.policy == policy), known[-1] if known else None)
    if found is None:
        raise GateFailed(f"{version.uri} has no verdict of the gate of {spec.name}", hint=again, file=spec.file)
    if found.sha256 != version.sha256:
        raise GateFailed(
            f"{version.uri} is not the bundle that was gated: {found.sha256[:16]} was, and it is {version.sha256[:16]}",
            hint=again,
            file=spec.file,
        )
    if not found.passed:
        raise GateFailed(
            f"the gate of {spec.name} refused {version.uri}",
            hint=f"read {found.report or 'the report of the run ' + found.look_id}",
            file=spec.file,
        )
    if found.policy != policy:
        raise GateFailed(f"{version.uri} passed by other rules than those in the file now", hint=again, file=spec.file)
    name = parse_reference(found.champion).name if found.champion else version.name
    champion = session.context.registry().alias(name, champion_alias(session.project.deployments, spec.name, name))
    if champion and champion.uri not in (version.uri, found.champion):
        against = f"against {found.champion}" if found.champion else "when there was no champion"
        raise GateFailed(
            f"{version.uri} passed {against}, and {champion.uri} is the champion now", hint=again, file=spec.file
        )
    return found


def champion_alias(deployments: Sequence[Deployment], name: str, model: str) -> str:
    """The alias of `model` that says what the deployment `name` serves: `champion`, unless others deploy it too."""
    others = (one.spec.model or "" for one in deployments if one.name != name)
    shared = any(re.fullmatch(rf"models:/{re.escape(model)}[/@].*", other) for other in others)
    return f"champion-{name}" if shared else "champion"


def numbered(spec: Deployment) -> str:
    """The file's reference. What an alias means may change after the verdict, so it must be a version."""
    if spec.spec.model is None:
        raise ProjectError(f"{spec.name} deploys no model yet", file=spec.file, hint=f"trunkline promote {spec.name}")
    if parse_reference(spec.spec.model).version is None:
        raise ModelReferenceError(
            f"{spec.spec.model} may mean another version tomorrow",
            file=spec.file,
            line=spec.model_line,
            hint=f"name the version: `trunkline promote {spec.name}` writes it",
        )
    return spec.spec.model


def reports_of(session: Session, row: Row, version: ModelVersion, directory: Path) -> Path | None:
    """The folder with the reports of a verdict: here, or in the registry's run of the look, written to `directory`.

    None if they are not to be had, or gate.json is not of this verdict.
    """
    from trunkline.gate.report import read

    here = session.context.state / "gates" / row.look_id
    try:
        if not here.is_dir():
            told = json.loads(version.tags.get(_tag(row.deployment), "{}"))
            if told.get("look_id") != row.look_id:
                return None
            here = session.context.registry().artifacts(str(told.get("run_id")), directory)
        report = read((here / "gate.json").read_bytes())
    except (TrunklineError, OSError, ValueError, AttributeError):
        return None
    said = (report.deployment, report.candidate.sha256, report.verdict.passed)
    return here if said == (row.deployment, row.sha256, row.passed) else None


def past(session: Session, deployment: str) -> list[Row]:
    """The verdicts on a deployment that the ledger knows, the oldest first."""
    rows = session.context.ledger.read("verdicts", "where deployment = ? order by look_id", [deployment])
    return [_read(row) for row in rows]


def _read(row: Mapping[str, Any]) -> Row:
    told = row["metrics"] or {}
    withheld = (told.get("looks") or {}).get("withheld", ())
    metrics = {
        name: (values[0], values[1], values[2])
        for name, values in told.items()
        if isinstance(values, list) and name not in withheld
    }
    return Row(
        look_id=row["look_id"],
        deployment=row["deployment"],
        candidate=row["candidate"],
        sha256=row["sha256"],
        champion=row["champion"],
        passed=bool(row["passed"]),
        policy=str(told.get("policy") or ""),
        report=row["report"] or "",
        decided_at=row["decided_at"],
        metrics=metrics,
        served={name: told[name] for name in _SERVED if name in told},
    )


def _row(session: Session, spec: Deployment, result: GateResult, look_id: str) -> dict[str, Any]:
    report, context = result.report, session.context
    metrics = report.evidence.quality.metrics
    told: dict[str, Any] = {m.name: [m.candidate.value, m.candidate.low, m.candidate.high] for m in metrics}
    looks = asdict(report.looks) if report.looks else {}
    return {
        "look_id": look_id,
        "deployment": report.deployment,
        "candidate": report.candidate.reference,
        "sha256": report.candidate.sha256,
        "champion": report.champion.reference if report.champion else None,
        "passed": result.passed,
        "metrics": {**told, **_server(report.evidence.latency), "looks": looks, "policy": policy_digest(spec)},
        "report": str(result.markdown.relative_to(context.root)),
        "decided_at": context.now(),
    }


def _server(found: Latency | None) -> dict[str, float]:
    if found is None:
        return {}
    from trunkline.gate.evidence import MEBIBYTE

    told = {name: getattr(found, name) for name in _MEASURED}
    if found.memory is not None:
        told["memory_mb"] = found.memory.peak_mb * MEBIBYTE
    return {name: float(value) for name, value in told.items() if value is not None and math.isfinite(value)}


def _run(
    session: Session, version: ModelVersion, manifest: Manifest, result: GateResult, row: Mapping[str, Any]
) -> RunRecord:
    """The look as a run: its numbers stand at the step of the version's number, so that a chart shows them over it."""
    report, context = result.report, session.context
    looks = report.looks
    numbers = dict(_numbers(report))
    return RunRecord(
        experiment=f"{context.experiment}/gate",
        name=f"{report.deployment} v{version.version}",
        params={
            "deployment": report.deployment,
            "model": version.name,
            "version": version.version,
            "champion": row["champion"] or "none",
            "rules": row["metrics"]["policy"][:16],
        },
        curves={name: ((version.version, value),) for name, value in numbers.items()},
        tags={
            **ancestors(manifest, context),
            "trunkline.look_id": row["look_id"],
            "trunkline.look": str(looks) if looks else "",
            "trunkline.withheld": " ".join(looks.withheld) if looks else "",
            "trunkline.sha256": report.candidate.sha256,
            "trunkline.verdict": "passed" if result.passed else "refused",
        },
        artifacts=result.markdown.parent,
        key=row["look_id"],
        datasets=inputs(manifest, context, {"test": "test"}),
    )


def _numbers(report: Report) -> Iterator[tuple[str, float]]:
    """Every number that may be shown, by its name on a chart; what the Ladder withholds is none of this version."""
    evidence = report.evidence
    withheld = report.looks.withheld if report.looks else ()
    shown = [found for found in evidence.quality.metrics if found.name not in withheld]
    told: dict[str, float] = {found.name: found.candidate.value for found in shown}
    told |= {f"champion_{found.name}": found.champion.value for found in shown if found.champion}
    told |= {f"loss_{found.name}": found.loss.value for found in shown if found.loss}
    told |= _server(evidence.latency)
    told |= {f"champion_{name}": value for name, value in _server(evidence.champion_latency).items()}
    if evidence.provenance is not None and evidence.provenance.bundle_bytes:
        told["bundle_mb"] = evidence.provenance.bundle_bytes / 1e6
    if evidence.parity is not None:
        told["parity_differ"] = float(evidence.parity.differ)
    told["passed"] = float(report.verdict.passed)
    yield from ((name, value) for name, value in told.items() if math.isfinite(value))


def _tag(deployment: str) -> str:
    return f"trunkline.gate.{deployment}"


def _tagged(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("look_id", "sha256", "champion", "passed")}
    kept["policy"] = row["metrics"]["policy"]
    return {**kept, "decided_at": row["decided_at"].isoformat()}


def _from_tag(deployment: str, version: ModelVersion) -> Row | None:
    """The verdict in the version's tag; None if there is none that can be read."""
    try:
        told = json.loads(version.tags.get(_tag(deployment), ""))
        if not _LOOK.fullmatch(str(told["look_id"])):  # it becomes part of a path
            return None
        return Row(
            look_id=str(told["look_id"]),
            deployment=deployment,
            candidate=version.uri,
            sha256=str(told["sha256"]),
            champion=told.get("champion"),
            passed=told["passed"] is True,
            policy=str(told["policy"]),
            report="",
            decided_at=dt.datetime.fromisoformat(told["decided_at"]).astimezone(dt.UTC),
            metrics={},
            served={},
        )
    except (ValueError, KeyError, TypeError):
        return None
