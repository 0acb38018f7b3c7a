"""One look at the sealed test part: from two models and a policy to a verdict and its report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from trunkline.datasets.sealed import Standing
from trunkline.gate.evidence import Evidence, Latency, Parity, Quality
from trunkline.gate.latency import Load, Target, measure
from trunkline.gate.metrics import Floats, Ints
from trunkline.gate.parity import compare
from trunkline.gate.policy import GatePolicy
from trunkline.gate.quality import OwnMetric, Standard, measure_quality
from trunkline.gate.release import Released, release
from trunkline.gate.report import Identity, Looks, Phase, Report, to_json, to_markdown
from trunkline.gate.rows import classes, json_rows, outcomes, slice_column
from trunkline.gate.subject import aligned, common
from trunkline.gate.verdict import Verdict, judge
from trunkline.models.task import BINARY, Task

if TYPE_CHECKING:
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
class ServerUrls:
    """Where the real servers answer while they are measured."""

    candidate: str
    champion: str | None = None


@dataclass(frozen=True)
class GateRequest:
    """One gate. `table` is the sealed part with `target` and all inputs; it is read, never kept.

    `servers` starts the real servers with exactly these bundles and stops them at its end; None: none is measured.
    `directory` receives `report.md` and `gate.json`. `rows_sent` distinct rows are sent to the servers. `standing` says
    which look it is: without one, everything is shown. `own` is a metric of the user's.
    """

    deployment: str
    candidate: Contender
    champion: Contender | None
    table: pa.Table
    target: str
    policy: GatePolicy
    directory: Path
    servers: Callable[[], AbstractContextManager[ServerUrls]] | None = None
    load: Load = field(default_factory=Load)
    rows_sent: int = 1000
    seed: int = 0
    provenance: Mapping[str, str] = field(default_factory=dict)
    standing: Standing | None = None
    own: OwnMetric | None = None


@dataclass(frozen=True)
class GateResult:
    """The verdict, and where its report lies. Everything in it may be shown: `released` says what is withheld."""

    report: Report
    released: Released
    markdown: Path
    json: Path

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

    Raises `DatasetError` for a table that cannot be judged by, `EngineError` when a model or a server misbehaves. A
    verdict of no is no error.
    """
    clock = _Clock(progress)
    with clock.phase("score candidate"):
        candidate = request.candidate.scorer.score(request.table)
    champion = None
    if request.champion is not None:
        with clock.phase("score champion"):
            champion = request.champion.scorer.score(request.table)
    with clock.phase("metrics, intervals, slices"):
        quality = _quality(request, candidate, champion)
    served = _serve(request, candidate, clock) if request.servers is not None else _Served()
    evidence = Evidence(quality, served.latency, served.champion_latency, served.parity)
    released = release(evidence, judge(evidence, request.policy), request.standing)
    report = Report(
        deployment=request.deployment,
        candidate=_identity(request.candidate),
        champion=_identity(request.champion) if request.champion else None,
        verdict=released.verdict,
        evidence=released.evidence,
        phases=tuple(clock.phases),
        provenance=request.provenance,
        looks=_looks(request.standing, released),
    )
    return _write(report, released, request.directory)


def _quality(request: GateRequest, candidate: Floats, champion: Floats | None) -> Quality:
    """Both models by what they can be judged by together: of several classes, all that either or the rows know."""
    own, rival = request.candidate.task, request.champion.task if request.champion is not None else None
    task = common(own, rival, classes(request.table, request.target) if own.kind == "multiclass" else ())
    return measure_quality(
        outcomes(request.table, request.target, task),
        aligned(candidate, own, task),
        None if champion is None or rival is None else aligned(champion, rival, task),
        {name: slice_column(request.table, name) for name in request.policy.slices},
        by=Standard(task, request.own),
        seed=request.seed,
    )


def _looks(standing: Standing | None, released: Released) -> Looks | None:
    return Looks(standing.look, standing.budget, standing.low, released.withheld) if standing else None


@dataclass(frozen=True)
class _Served:
    latency: Latency | None = None
    champion_latency: Latency | None = None
    parity: Parity | None = None


def _serve(request: GateRequest, scores: Floats, clock: _Clock) -> _Served:
    assert request.servers is not None
    sample = _sample(request.table.num_rows, request.rows_sent, request.seed)
    rows = json_rows(request.table, request.candidate.inputs, sample)
    with ExitStack() as running:
        with clock.phase("start servers"):
            urls = running.enter_context(request.servers())
        targets = [Target(urls.candidate, rows, request.candidate.task)]
        if request.champion is not None and urls.champion is not None:
            rival = request.champion
            targets.append(Target(urls.champion, json_rows(request.table, rival.inputs, sample), rival.task))
        with clock.phase("latency and throughput"):
            measured = measure(targets, request.load)
        with clock.phase("stop servers"):
            running.close()
    probabilities = request.candidate.task.kind in ("binary", "multiclass")
    parity = compare(rows, scores[sample], measured[0].answers, probabilities=probabilities)
    return _Served(measured[0].latency, measured[1].latency if len(measured) > 1 else None, parity)


def _sample(rows: int, wanted: int, seed: int) -> Ints:
    return np.sort(np.random.default_rng(seed).choice(rows, min(rows, wanted), replace=False))


def _identity(contender: Contender) -> Identity:
    return Identity(contender.reference, contender.sha256)


def _write(report: Report, released: Released, directory: Path) -> GateResult:
    directory.mkdir(parents=True, exist_ok=True)
    markdown, data = directory / "report.md", directory / "gate.json"
    markdown.write_text(to_markdown(report), "utf-8")
    data.write_text(json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False) + "\n", "utf-8")
    return GateResult(report, released, markdown, data)


class _Clock:
    """Tells and times phases."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.phases: list[Phase] = []
        self._progress = progress

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._progress(name)
        started = time.perf_counter()
        yield
        self.phases.append(Phase(name, time.perf_counter() - started))
