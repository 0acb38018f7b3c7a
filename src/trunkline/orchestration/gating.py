"""The gate of one deployment: who stands against whom, the look, the verdict, and where both are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.datasets.sealed import Standing, open_sealed, standing
from trunkline.errors import DatasetError, ModelReferenceError, ProjectError, did_you_mean
from trunkline.gate.modules import ModuleScorer
from trunkline.gate.own import own_metric
from trunkline.gate.policy import goals
from trunkline.gate.quality import OwnMetric
from trunkline.gate.run import Contender, GateRequest, GateResult, ServerUrls, run
from trunkline.gate.subject import common
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.orchestration.session import Session
from trunkline.orchestration.versions import Resolved, fetched
from trunkline.project import yaml
from trunkline.project.deploy import Deployment
from trunkline.project.ml import declarations
from trunkline.registry.protocol import ModelVersion, RunRecord
from trunkline.serving import process


@dataclass(frozen=True)
class Gated:
    """A verdict, the look it cost, and where the deployment stood before it."""

    deployment: str
    candidate: str
    champion: str | None
    look_id: str
    standing: Standing
    result: GateResult


def gate(session: Session, deployment: str | None, reference: str | None) -> Gated:
    """Look at the sealed part once, with candidate and champion, and decide. The look is counted whatever happens."""
    spec = session.project.deployment(deployment)
    candidate, champion = _contenders(session, spec, reference)
    bundle = fetched(session.project, session.context, candidate)
    rival = fetched(session.project, session.context, champion) if champion else None
    root = session.project.root
    judged, judged_against = _contender(bundle, root), _contender(rival, root) if rival else None
    task = common(judged.task, judged_against.task if judged_against else None)
    manifest = _manifest(session, spec, bundle)
    own = _own(session, candidate.name, task)
    _check_rules(spec, task, own)
    before = standing(session.context, manifest, spec.name, spec.spec.gate.looks)
    look_id, table = open_sealed(
        session.context, manifest, deployment=spec.name, candidate=candidate.uri, sha256=candidate.sha256
    )
    request = GateRequest(
        deployment=spec.name,
        candidate=judged,
        champion=judged_against,
        table=table,
        target=manifest.target,
        policy=spec.spec.gate,
        directory=session.context.state / "gates" / look_id,
        servers=lambda: _servers(spec.name, bundle, rival),
        seed=session.context.seed,
        provenance={
            "look": look_id,
            "dataset": f"{manifest.name} {manifest.dataset_id[:16]}",
            "git commit": session.context.git_commit() or "none",
        },
        standing=before,
        own=own,
    )
    result = run(request, session.context.progress)
    _record(session, manifest, result, look_id)
    return Gated(spec.name, candidate.uri, champion.uri if champion else None, look_id, before, result)


def _contenders(session: Session, spec: Deployment, reference: str | None) -> tuple[ModelVersion, ModelVersion | None]:
    """The candidate: as asked for; else the file's reference if it is not the champion; else the newest version.

    The champion: that of its name; else, of one that is asked for, what the file deploys under another name.
    """
    registry = session.context.registry()
    promoted = registry.resolve(spec.spec.model) if spec.spec.model else None
    if reference:
        candidate = registry.resolve(reference)
        champion = registry.alias(candidate.name, "champion") or promoted
    else:
        name = promoted.name if promoted else _model_name(session, spec)
        champion = registry.alias(name, "champion")
        if promoted and (champion is None or promoted.version != champion.version):
            candidate = promoted
        else:
            versions = registry.versions(name)
            if not versions:
                raise ModelReferenceError(f"model {name!r} has no version yet", hint=f"trunkline run train:{name}")
            candidate = versions[-1]
    same = champion is not None and (champion.name, champion.version) == (candidate.name, candidate.version)
    return candidate, None if same else champion


def _model_name(session: Session, spec: Deployment) -> str:
    models = [item.name for item in declarations(session.project.root) if item.kind == "model"]
    if spec.name in models:
        return spec.name
    if len(models) == 1:
        return models[0]
    raise ProjectError(
        f"deployment {spec.name!r} names no model yet, and no model is called {spec.name!r}",
        file=spec.file,
        line=spec.model_line,
        hint=f"trunkline gate {spec.name} --model models:/NAME/1 (models: {', '.join(models) or 'none'})",
    )


def _manifest(session: Session, spec: Deployment, bundle: Resolved) -> Manifest:
    """The manifest of the dataset the candidate was trained on: its sealed part is what it is judged by."""
    metadata = Bundle.open(bundle.bundle, expect_sha256=bundle.sha256).metadata
    name = str(metadata.get("dataset") or "")
    place = folder(session.context.state, name, bundle.dataset_id)
    if not bundle.dataset_id or not place.is_dir():
        raise DatasetError(
            f"{bundle.reference} was trained on dataset {name!r} {bundle.dataset_id[:16]}, which is not here",
            file=spec.file,
            hint=f"`trunkline run dataset:{name}` from the commit it was trained at, or train it anew",
        )
    return read_manifest(place)


def _contender(resolved: Resolved, root: Path) -> Contender:
    bundle = Bundle.open(resolved.bundle, expect_sha256=resolved.sha256)
    signature = bundle.signature
    scorer = ModuleScorer(bundle, root) if bundle.is_module else Scorer(bundle)
    return Contender(resolved.reference, resolved.sha256, scorer, signature.names, signature.task)


def _own(session: Session, name: str, task: Task) -> OwnMetric | None:
    """The metric of its own that the model `name` is declared with, if it is declared still."""
    root = session.project.root
    declared = next((item for item in declarations(root) if item.kind == "model" and item.name == name), None)
    if declared is None:
        return None
    classes = task.kind in ("binary", "multiclass")
    return own_metric(root, declared, classes=classes, seed=session.context.seed)


def _check_rules(spec: Deployment, task: Task, own: OwnMetric | None) -> None:
    """Raise `ProjectError` for a rule on a metric that such a model has not: before the look, which is counted."""
    known = [*([own.name] if own else []), *goals(task)]
    for name in spec.spec.gate.metrics:
        if name not in known:
            raise ProjectError(
                f"a {task.kind} model has no metric {name!r} at the gate.{did_you_mean(name, known)}",
                file=spec.file,
                line=yaml.load(spec.file).line(("gate", "metrics", name)),
                hint=f"its metrics are: {', '.join(known)}",
            )


@contextmanager
def _servers(deployment: str, candidate: Resolved, champion: Resolved | None) -> Iterator[ServerUrls]:
    """The real servers with exactly these bundles; their prediction logs are thrown away."""
    with tempfile.TemporaryDirectory() as spool, ExitStack() as stack:

        def start(which: str, resolved: Resolved) -> str:
            server = process.start(
                resolved.bundle, reference=resolved.reference, deployment=deployment, spool=Path(spool, which)
            )
            return stack.enter_context(server).url

        yield ServerUrls(start("candidate", candidate), start("champion", champion) if champion else None)


def _record(session: Session, manifest: Manifest, result: GateResult, look_id: str) -> None:
    """The verdict in the ledger, and the look as a run of the registry with its report."""
    report, context = result.report, session.context
    found = {metric.name: metric.candidate for metric in report.evidence.quality.metrics}
    latency = report.evidence.latency
    looks = report.looks
    assert looks is not None
    served = {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms} if latency else {}
    with context.warehouse.transaction():
        row = {
            "look_id": look_id,
            "deployment": report.deployment,
            "candidate": report.candidate.reference,
            "sha256": report.candidate.sha256,
            "champion": report.champion.reference if report.champion else None,
            "passed": result.passed,
            "metrics": {name: [e.value, e.low, e.high] for name, e in found.items()}
            | served
            | {"looks": asdict(looks)},
            "report": str(result.markdown.relative_to(context.root)),
            "decided_at": context.now(),
        }
        context.ledger.add("verdicts", [row])
        context.ledger.release(look_id, result.released.to_json())
    context.registry().log_run(
        RunRecord(
            experiment=f"{context.experiment}/gate",
            name=f"{report.deployment} {report.candidate.reference}",
            metrics={f"test_{name}": estimate.value for name, estimate in found.items()} | served,
            tags={
                "trunkline.look_id": look_id,
                "trunkline.look": f"{looks.number} of {looks.budget}",
                "trunkline.withheld": " ".join(looks.withheld),
                "trunkline.dataset_id": manifest.dataset_id,
                "trunkline.sha256": report.candidate.sha256,
                "trunkline.verdict": "pass" if result.passed else "fail",
                "trunkline.git_commit": context.git_commit() or "",
            },
            artifacts=result.markdown.parent,
        )
    )
