"""A whole gate on a small table, with scorers and servers of the test's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.unit.gate.server import Row, serving
from trunkline.errors import EngineError
from trunkline.gate.evidence import Leakage, Provenance
from trunkline.gate.latency import Load
from trunkline.gate.policy import GatePolicy
from trunkline.gate.run import Contender, Elsewhere, GateRequest, Sealed, Server, Servers, run

QUICK = Load(requests=50, warmup=5, connections=2, seconds=0.05, longest=0.1)


def table(rows: int = 600, seed: int = 0) -> pa.Table:
    draw = np.random.default_rng(seed)
    late = draw.random(rows) < 0.3
    return pa.table(
        {
            "flight_id": np.arange(rows),
            "distance": draw.normal(size=rows) + late,
            "wind": draw.normal(size=rows) + 0.5 * late,
            "carrier": draw.choice(["UA", "AA"], rows),
            "late": late,
        }
    )


def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-x)))


@dataclass(frozen=True)
class Linear:
    """A model that adds its columns up."""

    columns: tuple[str, ...]

    def score(self, table: pa.Table) -> npt.NDArray[np.float64]:
        return sigmoid(np.sum([table.column(name).to_numpy() for name in self.columns], axis=0))

    def answer(self, row: Row) -> float:
        assert tuple(row) == self.columns
        return float(sigmoid(np.array(sum(row.values()))))


def contender(version: int, *columns: str) -> Contender:
    return Contender(f"models:/delay/{version}", "ab" * 32, Linear(columns), columns)


BOTH = contender(8, "distance", "wind")
ONE = contender(7, "distance")
PROBE = table(20, seed=1)


@contextmanager
def servers(answer: Callable[[Row], float], champion: Callable[[Row], float] | None = None) -> Iterator[Servers]:
    with serving(answer) as first:
        if champion is None:
            yield Servers(Server(first.url))
            return
        with serving(champion) as second:
            yield Servers(Server(first.url), Server(second.url))


def request_for(tmp_path: Path, **changes: object) -> GateRequest:
    request = GateRequest(
        deployment="delay",
        candidate=BOTH,
        champion=ONE,
        unseal=lambda: Sealed(table(), tmp_path / "looks" / "1", {"dataset": "d-1"}),
        probe=PROBE,
        offline=BOTH.scorer.score(PROBE),
        target="late",
        policy=msgspec.convert(
            {
                "metrics": {"roc_auc": {"at_least": 0.6, "may_lose": 0.02}},
                "slices": ["carrier"],
                "latency": {"p50_ms": 5000},
            },
            GatePolicy,
        ),
        servers=lambda: servers(Linear(("distance", "wind")).answer, Linear(("distance",)).answer),
        load=QUICK,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def test_a_better_candidate_passes(tmp_path: Path) -> None:
    told: list[str] = []
    result = run(request_for(tmp_path), told.append)
    assert result.passed, result.verdict
    assert [rule.name for rule in result.verdict.rules] == [
        "metrics.roc_auc.at_least",
        "metrics.roc_auc.may_lose",
        "latency.p50_ms",
        "parity",
    ]
    assert told == [phase.name for phase in result.report.phases]
    assert "latency and throughput" in told
    evidence = result.report.evidence
    assert evidence.parity is not None
    assert (evidence.parity.rows, evidence.parity.differ) == (20, 0)
    assert evidence.champion_latency is not None
    assert {each.value for each in evidence.quality.slices} == {"UA", "AA"}
    assert "## Gate of `delay`\n\n✅ **The gate passes.**" in result.markdown.read_text("utf-8")
    assert json.loads(result.json.read_text("utf-8"))["passed"] is True
    assert {path.name for path in (tmp_path / "looks" / "1").iterdir()} == {"report.md", "report.html", "gate.json"}


def test_a_worse_candidate_does_not(tmp_path: Path) -> None:
    swapped = request_for(tmp_path, candidate=contender(9, "wind"), champion=BOTH, servers=None)
    verdict = run(swapped).verdict
    assert [(rule.name, rule.status) for rule in verdict.rules] == [
        ("metrics.roc_auc.at_least", "pass"),
        ("metrics.roc_auc.may_lose", "fail"),
        ("latency.p50_ms", "undecided"),
    ]


def test_a_server_that_scores_otherwise_does_not_pass(tmp_path: Path) -> None:
    request = request_for(tmp_path, champion=None, servers=lambda: servers(lambda row: 0.5))
    result = run(request)
    assert not result.passed
    assert result.report.evidence.parity is not None
    assert result.report.evidence.parity.example is not None
    assert set(result.report.evidence.parity.example.row) == {"distance", "wind"}


def test_a_first_version_has_nothing_to_lose(tmp_path: Path) -> None:
    request = request_for(tmp_path, champion=None, servers=lambda: servers(BOTH.scorer.answer))  # type: ignore[attr-defined]
    assert run(request).passed


def test_the_same_request_gives_the_same_numbers(tmp_path: Path) -> None:
    request = request_for(tmp_path, servers=None)
    assert run(request).report.evidence == run(request).report.evidence


def test_servers_that_fail_cost_no_look(tmp_path: Path) -> None:
    stopped, looks = [], []

    @contextmanager
    def failing() -> Iterator[Servers]:
        try:
            with serving(status=500) as peer:
                yield Servers(Server(peer.url))
        finally:
            stopped.append(True)

    with pytest.raises(EngineError, match="status 500"):
        run(request_for(tmp_path, servers=failing, unseal=lambda: looks.append(True)))
    assert stopped
    assert not looks


def test_neither_servers_nor_warehouse_are_given_a_sealed_row(tmp_path: Path) -> None:
    sealed = table()  # what `request_for` unseals
    open_rows = {tuple(row.values()) for row in PROBE.select(["distance", "wind"]).to_pylist()}
    sent: list[tuple[object, ...]] = []

    def answer(row: Row) -> float:
        sent.append(tuple(row.values()))
        return BOTH.scorer.answer(row)  # type: ignore[attr-defined,no-any-return]

    def score(rows: pa.Table) -> npt.NDArray[np.float64]:
        sent.extend(tuple(row.values()) for row in rows.select(["distance", "wind"]).to_pylist())
        return BOTH.scorer.score(rows)

    elsewhere = Elsewhere(score)
    request = request_for(tmp_path, champion=None, servers=lambda: servers(answer), elsewhere=elsewhere)
    assert run(request).passed
    assert {*sent} == open_rows
    assert open_rows.isdisjoint(tuple(row.values()) for row in sealed.select(["distance", "wind"]).to_pylist())


def test_a_warehouse_that_scores_otherwise_does_not_pass(tmp_path: Path) -> None:
    def score(rows: pa.Table) -> npt.NDArray[np.float64]:
        found = BOTH.scorer.score(rows)
        found[7] += 0.25
        return found

    result = run(request_for(tmp_path, elsewhere=Elsewhere(score)))
    assert {rule.name: rule.status for rule in result.verdict.rules}["parity"] == "fail"
    assert result.report.evidence.parity is not None
    example = result.report.evidence.parity.example
    assert example is not None
    assert example.warehouse == pytest.approx(example.offline + 0.25)  # type: ignore[operator]
    assert example.http == pytest.approx(example.offline)
    assert example.row == PROBE.select(["distance", "wind"]).to_pylist()[7]
    assert repr(example.row["distance"]) in result.markdown.read_text("utf-8")


def test_what_the_warehouse_cannot_run_is_said(tmp_path: Path) -> None:
    result = run(request_for(tmp_path, elsewhere=Elsewhere(left_out="the model takes images (photo)")))
    assert result.passed
    assert result.report.evidence.parity is not None
    assert result.report.evidence.parity.ways == ("http",)
    assert "the model takes images (photo)" in result.markdown.read_text("utf-8")


def test_leakage_and_origin_are_evidence(tmp_path: Path) -> None:
    asked: list[int] = []

    def leakage(sealed: pa.Table) -> Leakage:
        asked.append(len(sealed))
        return Leakage(keys=len(sealed), seen=3)

    origin = Provenance({"git commit": "abc"}, ("snapshot",), 12_345)
    result = run(request_for(tmp_path, servers=None, leakage=leakage, origin=origin))
    assert asked == [600]
    assert {rule.name: rule.status for rule in result.verdict.rules}["leakage.keys"] == "fail"
    assert result.report.evidence.provenance == origin
