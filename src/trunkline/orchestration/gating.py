"""The gate of one deployment: who stands against whom, the look, the verdict, and where both are kept."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.datasets.sealed import Standing, open_sealed, standing
from trunkline.errors import DatasetError, ModelReferenceError, ProjectError, did_you_mean
from trunkline.gate.apart import ApartScorer
from trunkline.gate.metrics import Floats
from trunkline.gate.opened import OpenPart, probe_rows, schema_of
from trunkline.gate.own import own_metric
from trunkline.gate.policy import goals
from trunkline.gate.quality import OwnMetric, check_scores
from trunkline.gate.report import Earlier
from trunkline.gate.run import Clock, Contender, Elsewhere, GateRequest, GateResult, Sealed, Server, Servers, run
from trunkline.gate.subject import common
from trunkline.models.bundle import Bundle
from trunkline.models.task import Task
from trunkline.orchestration.proving import WarehouseScorer, leakage, left_out, opened, provenance
from trunkline.orchestration.session import Session
from trunkline.orchestration.verdicts import Kept, champion_alias, keep, past
from trunkline.orchestration.versions import Resolved, fetched
from trunkline.project import yaml
from trunkline.project.deploy import Deployment
from trunkline.project.ml import declarations
from trunkline.registry.protocol import ModelVersion
from trunkline.serving import process

if TYPE_CHECKING:
    import pyarrow as pa


_FEW = 10  # open rows that show whether the champion can score


@dataclass(frozen=True)
class Gated:
    """A verdict, the look it cost, and where the deployment stood before it."""

    deployment: str
    candidate: str
    champion: str | None
    look_id: str
    standing: Standing
    result: GateResult
    kept: Kept


@dataclass(frozen=True)
class _Side:
    """A contender with all that is known of it; `part` are the open parts of its dataset, if they are here."""

    version: ModelVersion
    resolved: Resolved
    bundle: Bundle
    contender: Contender
    part: OpenPart | None


def gate(session: Session, deployment: str | None, reference: str | None, *, before: str | None = None) -> Gated:
    """Look at the sealed part once, with candidate and champion, and decide. The look is counted whatever happens.

    What can fail without it comes before: rules that make no sense, bundles that are none, models that cannot score,
    servers that do not start. `before` is the model that a change takes the place of.
    """
    spec = session.project.deployment(deployment)
    clock = Clock(session.context.progress)
    with clock.phase("fetch bundles"):
        candidate, champion = _contenders(session, spec, reference, before)
        judged, rival = _side(session, candidate), _side(session, champion) if champion else None
    part = _part(spec, judged)
    task = common(judged.contender.task, rival.contender.task if rival else None)
    own = _own(session, candidate.name, task)
    _check_rules(spec, task, own, schema_of(part))
    stands = standing(session.context, part.manifest, spec.name, spec.spec.gate.looks)
    with clock.phase("score open rows"):
        probe, offline = _open_rows(session, part, judged, rival)
    look_id = ""

    def unseal() -> Sealed:
        nonlocal look_id
        named = {"deployment": spec.name, "candidate": candidate.uri, "sha256": candidate.sha256}
        look_id, table = open_sealed(session.context, part.manifest, **named)
        return Sealed(table, session.context.state / "gates" / look_id, _rests_on(session, part, look_id))

    request = GateRequest(
        deployment=spec.name,
        candidate=judged.contender,
        champion=rival.contender if rival else None,
        unseal=unseal,
        probe=probe,
        offline=offline,
        target=part.manifest.target,
        policy=spec.spec.gate,
        servers=lambda: _servers(session.project.root, spec.name, judged, rival),
        standing=stands,
        own=own,
        earlier=_earlier(session, spec.name),
        elsewhere=_elsewhere(session, judged),
        leakage=lambda sealed: leakage(sealed, part, rival.part if rival else None),
        origin=provenance(candidate, judged.bundle, part.manifest),
        phases=tuple(clock.phases),
    )
    result = run(request, session.context.progress)
    kept = keep(session, spec, candidate, part.manifest, result, look_id)
    return Gated(spec.name, candidate.uri, champion.uri if champion else None, look_id, stands, result, kept)


def _side(session: Session, version: ModelVersion) -> _Side:
    resolved = fetched(session.project, session.context, version)
    bundle = Bundle.open(resolved.bundle, expect_sha256=resolved.sha256)
    signature = bundle.signature
    scorer = ApartScorer(bundle, session.project.root)
    contender = Contender(resolved.reference, resolved.sha256, scorer, signature.names, signature.task)
    part = opened(session, str(bundle.metadata.get("dataset") or ""), resolved.dataset_id)
    return _Side(version, resolved, bundle, contender, part)


def _part(spec: Deployment, judged: _Side) -> OpenPart:
    """The dataset the candidate was trained on: its sealed part is what it is judged by."""
    if judged.part is None:
        name, resolved = str(judged.bundle.metadata.get("dataset") or ""), judged.resolved
        raise DatasetError(
            f"{resolved.reference} was trained on dataset {name!r} {resolved.dataset_id[:16]}, which is not here",
            file=spec.file,
            hint=f"`trunkline run dataset:{name}` from the commit it was trained at, or train it anew",
        )
    return judged.part


def _open_rows(session: Session, part: OpenPart, judged: _Side, rival: _Side | None) -> tuple[pa.Table, Floats]:
    """Rows of the validation part, and the candidate's scores of them. Either model must be able to score them."""
    inputs = dict.fromkeys([*judged.contender.inputs, *(rival.contender.inputs if rival else ())])
    probe = probe_rows(part, list(inputs), seed=session.context.seed)
    if rival is not None:
        few = probe.slice(0, _FEW)
        check_scores(rival.contender.scorer.score(few), len(few), rival.contender.task, "champion")
    scores = judged.contender.scorer.score(probe)
    check_scores(scores, len(probe), judged.contender.task, "candidate")
    return probe, scores


def _elsewhere(session: Session, judged: _Side) -> Elsewhere:
    if why := left_out(session, judged.bundle):
        return Elsewhere(left_out=why)
    return Elsewhere(WarehouseScorer(session, judged.bundle, judged.resolved.reference).score)


def _rests_on(session: Session, part: OpenPart, look_id: str) -> dict[str, str]:
    return {
        "look": look_id,
        "dataset": f"{part.manifest.name} {part.manifest.dataset_id[:16]}",
        "git commit": session.context.git_commit() or "none",
    }


def _earlier(session: Session, deployment: str) -> tuple[Earlier, ...]:
    rows = past(session, deployment)
    return tuple(Earlier(row.candidate, row.passed, row.decided_at.isoformat(), row.metrics) for row in rows)


def _contenders(
    session: Session, spec: Deployment, reference: str | None, before: str | None = None
) -> tuple[ModelVersion, ModelVersion | None]:
    """The candidate: as asked for; else the file's reference if it is not the champion; else the newest version.

    The champion: what the deployment's alias says of the model that is to be replaced, which is that of `before`, else
    the file's, else the candidate's; without an alias that model itself. A promotion may have moved the alias to the
    candidate already: then it is `before`.
    """
    registry = session.context.registry()
    asked = registry.resolve(reference) if reference else None
    replaced = before or spec.spec.model
    incumbent = registry.resolve(replaced) if replaced and replaced != reference else None
    named = incumbent or asked
    name = named.name if named else model_name(session, spec)
    champion = registry.alias(name, champion_alias(session.project.deployments, spec.name, name))
    candidate = asked or incumbent
    if asked is None and (incumbent is None or (champion and champion.version == incumbent.version)):
        versions = registry.versions(name)
        if not versions:
            raise ModelReferenceError(f"model {name!r} has no version yet", hint=f"trunkline run train:{name}")
        candidate = versions[-1]
    assert candidate is not None
    rivals = (rival for rival in (champion, incumbent) if rival is not None and rival.uri != candidate.uri)
    return candidate, next(rivals, None)


def model_name(session: Session, spec: Deployment) -> str:
    """The model that a deployment without a reference means: of its name, or the only one there is."""
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


def _own(session: Session, name: str, task: Task) -> OwnMetric | None:
    """The metric of its own that the model `name` is declared with, if it is declared still."""
    root = session.project.root
    declared = next((item for item in declarations(root) if item.kind == "model" and item.name == name), None)
    if declared is None:
        return None
    classes = task.kind in ("binary", "multiclass")
    return own_metric(root, declared, classes=classes, seed=session.context.seed)


def _check_rules(spec: Deployment, task: Task, own: OwnMetric | None, schema: pa.Schema) -> None:
    """Raise `ProjectError` for a rule on a metric or a column that is not there: before the look, which is counted."""
    _check_slices(spec, schema)
    known = [*([own.name] if own else []), *goals(task)]
    for name in spec.spec.gate.metrics:
        if name not in known:
            raise ProjectError(
                f"a {task.kind} model has no metric {name!r} at the gate.{did_you_mean(name, known)}",
                file=spec.file,
                line=_line(spec, "metrics", name),
                hint=f"its metrics are: {', '.join(known)}",
            )
    if spec.spec.gate.calibration.ece_at_most is not None and task.kind not in ("binary", "multiclass"):
        raise ProjectError(
            f"a {task.kind} model has no probabilities to be calibrated",
            file=spec.file,
            line=_line(spec, "calibration", "ece_at_most"),
            hint="bound the coverage of quantiles: metrics: {coverage_q90: {at_least: 0.88}}"
            if task.kind == "quantile"
            else "take the rule out",
        )


def _check_slices(spec: Deployment, schema: pa.Schema) -> None:
    from pyarrow.types import is_nested

    for name in spec.spec.gate.slice_rules:
        if name not in schema.names:
            what = f"the dataset has no column {name!r} to slice by.{did_you_mean(name, schema.names)}"
        elif is_nested(schema.field(name).type):
            what = f"the column {name!r} holds lists or records: there are no slices of it"
        else:
            continue
        hint = f"its columns are: {', '.join(schema.names[:40])}"
        raise ProjectError(what, file=spec.file, line=_line(spec, "slices", name), hint=hint)


def _line(spec: Deployment, *rule: str) -> int:
    return yaml.load(spec.file).line(("gate", *rule))


@contextmanager
def _servers(root: Path, deployment: str, candidate: _Side, champion: _Side | None) -> Iterator[Servers]:
    """The real servers with exactly these bundles, away from all secrets; their prediction logs are thrown away."""
    with tempfile.TemporaryDirectory() as spool, ExitStack() as stack:

        def start(which: str, side: _Side) -> Server:
            place, reference, own = side.resolved.bundle, side.resolved.reference, Path(spool, which)
            started = process.start(place, reference=reference, deployment=deployment, spool=own, root=root)
            stack.enter_context(started)
            return Server(started.url, started.pid, started.cold_start)

        yield Servers(start("candidate", candidate), start("champion", champion) if champion else None)
