"""One look at the sealed test part: from two models and a policy to a verdict and its report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trunkline.datasets.sealed import Standing
from trunkline.gate.evidence import Evidence, Latency, Leakage, Parity, Provenance, Quality, Way
from trunkline.gate.latency import Load, Target, measure
from trunkline.gate.metrics import Floats
from trunkline.gate.parity import compare
from trunkline.gate.policy import GatePolicy
from trunkline.gate.quality import OwnMetric, Standard, measure_quality
from trunkline.gate.release import Released, release
from trunkline.gate.report import Earlier, Identity, Looks, Phase, Report
from trunkline.gate.report_files import write
from trunkline.gate.rows import classes, json_rows, outcomes, slice_column
from trunkline.gate.subject import aligned, common
from trunkline.gate.verdict import Verdict, judge
from trunkline.models.task import BINARY, Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa


class TableScorer(Protocol):
    """What the gate needs of a model: scores, float64 [n] or [n, k], for the rows of a table, in order."""

    def score(self, table: pa.Table) -> Floats:
        """Scores of the rows of `table`."""
        ...


@dataclass(frozen=True)
class Contender:
    """A model version under test: how it scores, the input columns its server wants, and what it answers."""

    reference: str
    sha256: str
    scorer: TableScorer
    inputs: tuple[str, ...]
    task: Task = BINARY


@dataclass(frozen=True)
class Server:
    """A real server while it is measured: where it answers, its process, and the seconds from its start to that."""

    url: str
    pid: int | None = None
    cold_start: float | None = None


@dataclass(frozen=True)
class Servers:
    """Those of both contenders."""

    candidate: Server
    champion: Server | None = None


@dataclass(frozen=True)
class Elsewhere:
    """How the target's warehouse scores the candidate: `score` does it, or is None, and `left_out` says why."""

    score: Callable[[pa.Table], Floats] | None = None
    left_out: str = ""


@dataclass(frozen=True)
class Sealed:
    """The sealed part once it is open: `table` has the target, the key and all inputs, and is read, never kept.

    `directory` receives `report.md`, `report.html` and `gate.json`; `provenance` is what the look rests on.
    """

    table: pa.Table
    directory: Path
    provenance: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GateRequest:
    """One gate. `unseal` opens the sealed part, which is counted: it is asked last, once all else has been measured.

    `probe` are rows of the open validation part with all inputs: servers, the warehouse and the report see no others;
    `offline` are the candidate's scores of them. `servers` starts the real servers with exactly these bundles and stops
    them at its end; None: none is measured. `standing` says which look it is: without one, everything is shown. `own`
    is a metric of the user's, `earlier` are the verdicts before, `phases` what was timed before. `leakage` looks for
    signs of it in the sealed part, and `origin` is where the candidate comes from.
    """

    deployment: str
    candidate: Contender
    champion: Contender | None
    unseal: Callable[[], Sealed]
    probe: pa.Table
    offline: Floats
    target: str
    policy: GatePolicy
    servers: Callable[[], AbstractContextManager[Servers]] | None = None
    load: Load = field(default_factory=Load)
    standing: Standing | None = None
    own: OwnMetric | None = None
    earlier: tuple[Earlier, ...] = ()
    elsewhere: Elsewhere | None = None
    leakage: Callable[[pa.Table], Leakage] | None = None
    origin: Provenance | None = None
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """The verdict, and where its report lies. Everything in it may be shown: `released` says what is withheld."""

    report: Report
    released: Released
    markdown: Path
    json: Path
    html: Path

    @property
    def verdict(self) -> Verdict:
        """The rules and how each came out."""
        return self.report.verdict

    @property
    def passed(self) -> bool:
        """Whether every rule passes."""
        return self.report.verdict.passed


def run(request: GateRequest, progress: Callable[[str], None] = lambda text: None) -> GateResult:
    """Measure, judge, write the report. `progress` is told each phase as it begins.

    What sees no row of the sealed part comes before it is opened: a server that does not start costs no look.

    Raises `DatasetError` for a table that cannot be judged by, `EngineError` when a model or a server misbehaves. A
    verdict of no is no error.
    """
    clock = Clock(progress, request.phases)
    rows = json_rows(request.probe, request.candidate.inputs, np.arange(len(request.probe)))
    served = _serve(request, rows, clock) if request.servers is not None else _Served()
    parity = _parity(request, rows, served.answers, clock)
    with clock.phase("open the sealed part"):
        sealed = request.unseal()
    with clock.phase("score candidate"):
        candidate = request.candidate.scorer.score(sealed.table)
    champion = None
    if request.champion is not None:
        with clock.phase("score champion"):
            champion = request.champion.scorer.score(sealed.table)
    with clock.phase("metrics, intervals, slices"):
        quality = _quality(request, sealed.table, candidate, champion)
    leakage = None
    if request.leakage is not None:
        with clock.phase("signs of leakage"):
            leakage = request.leakage(sealed.table)
    evidence = Evidence(quality, served.latency, served.champion_latency, parity, leakage, request.origin)
    released = release(evidence, judge(evidence, request.policy), request.standing)
    report = Report(
        deployment=request.deployment,
        candidate=_identity(request.candidate),
        champion=_identity(request.champion) if request.champion else None,
        verdict=released.verdict,
        evidence=released.evidence,
        phases=tuple(clock.phases),
        provenance=sealed.provenance,
        looks=_looks(request.standing, released),
        earlier=request.earlier,
    )
    return _write(report, released, sealed.directory)


def _quality(request: GateRequest, table: pa.Table, candidate: Floats, champion: Floats | None) -> Quality:
    """Both models by what they can be judged by together: of several classes, all that either or the rows know."""
    own, rival = request.candidate.task, request.champion.task if request.champion is not None else None
    task = common(own, rival, classes(table, request.target) if own.kind == "multiclass" else ())
    return measure_quality(
        outcomes(table, request.target, task),
        aligned(candidate, own, task),
        None if champion is None or rival is None else aligned(champion, rival, task),
        {
            name: replace(slice_column(table, name), may_lose=rule.may_lose)
            for name, rule in request.policy.slice_rules.items()
        },
        by=Standard(task, request.own),
    )


def _looks(standing: Standing | None, released: Released) -> Looks | None:
    return Looks(standing.look, standing.budget, standing.low, released.withheld) if standing else None


@dataclass(frozen=True)
class _Served:
    latency: Latency | None = None
    champion_latency: Latency | None = None
    answers: tuple[tuple[float, ...], ...] | None = None


def _serve(request: GateRequest, rows: Sequence[Mapping[str, object]], clock: Clock) -> _Served:
    """What the real servers show on the open rows; `rows` are they as the candidate takes them."""
    assert request.servers is not None
    with ExitStack() as running:
        with clock.phase("start servers"):
            servers = running.enter_context(request.servers())
        targets = [_target(servers.candidate, request.candidate, rows)]
        if request.champion is not None and servers.champion is not None:
            others = json_rows(request.probe, request.champion.inputs, np.arange(len(request.probe)))
            targets.append(_target(servers.champion, request.champion, others))
        with clock.phase("latency and throughput"):
            measured = measure(targets, request.load, request.policy.latency)
        with clock.phase("stop servers"):
            running.close()
    champion = measured[1].latency if len(measured) > 1 else None
    return _Served(measured[0].latency, champion, measured[0].answers)


def _target(server: Server, contender: Contender, rows: Sequence[Mapping[str, object]]) -> Target:
    return Target(server.url, rows, contender.task, server.pid, server.cold_start)


def _parity(
    request: GateRequest,
    rows: Sequence[Mapping[str, object]],
    answers: Sequence[Sequence[float]] | None,
    clock: Clock,
) -> Parity | None:
    """The offline scores of the open rows against the answers of the server, and of the warehouse, to the same rows."""
    told: dict[Way, npt.ArrayLike] = {} if answers is None else {"http": answers}
    elsewhere = request.elsewhere or Elsewhere()
    if elsewhere.score is not None:
        with clock.phase("score in the warehouse"):
            told["warehouse"] = elsewhere.score(request.probe)
    if not told:
        return None
    probabilities = request.candidate.task.kind in ("binary", "multiclass")
    return compare(rows, request.offline, told, probabilities=probabilities, left_out=elsewhere.left_out)


def _identity(contender: Contender) -> Identity:
    return Identity(contender.reference, contender.sha256)


def _write(report: Report, released: Released, directory: Path) -> GateResult:
    files = write(report, directory)
    return GateResult(report, released, files.markdown, files.json, files.html)


class Clock:
    """Tells and times phases; `phases` are those that are over."""

    def __init__(self, progress: Callable[[str], None], phases: Sequence[Phase] = ()) -> None:
        self.phases: list[Phase] = [*phases]
        self._progress = progress

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._progress(name)
        started = time.perf_counter()
        yield
        self.phases.append(Phase(name, time.perf_counter() - started))
