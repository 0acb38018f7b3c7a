"""A look at models that answer classes, numbers, quantiles and lists: evidence, rules, report, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from tests.unit.gate.server import serving
from trunkline.datasets.sealed import Shown, Standing
from trunkline.errors import DatasetError, EngineError
from trunkline.gate.latency import Load
from trunkline.gate.metrics import Bootstrap
from trunkline.gate.numbers import shown, signed
from trunkline.gate.policy import GatePolicy, goals, goodness
from trunkline.gate.quality import OwnMetric, Standard, measure_quality
from trunkline.gate.release import WITHHELD
from trunkline.gate.report import to_json
from trunkline.gate.report_markdown import to_markdown
from trunkline.gate.run import Contender, GateRequest, Sealed, Server, Servers, run
from trunkline.gate.slices import MOST_VALUES, SliceColumn
from trunkline.gate.subject import aligned, common
from trunkline.models.answer import answer
from trunkline.models.task import Task

Floats = npt.NDArray[np.float64]
CLASSES = Task("multiclass", classes=("ant", "bee", "cat"))
VALUE = Task("regression")
SPREAD = Task("quantile", quantiles=(0.1, 0.5, 0.9))
PAIR = Task("custom", outputs=2)
QUICK = Load(requests=30, warmup=2, connections=1, seconds=0.02)


def table(rows: int = 500) -> pa.Table:
    draw = np.random.default_rng(0)
    size = draw.normal(1000, 200, rows)
    return pa.table(
        {
            "id": np.arange(rows),
            "size": size,
            "region": draw.choice(["north", "south", "west"], rows, p=[0.55, 0.4, 0.05]),
            "kind": np.array(["ant", "bee", "cat"])[np.digitize(size + draw.normal(0, 80, rows), [900, 1100])],
            "price": 12.5 * size + draw.normal(0, 400, rows),
            "pair": [[value, -2 * value] for value in size.tolist()],
        }
    )


ROWS = table()
PROBE = ROWS.slice(0, 20)


@dataclass(frozen=True)
class Model:
    """Scores from the column `size`, worse the more `noise`."""

    task: Task
    noise: float = 0.0

    def score(self, table: pa.Table) -> Floats:
        return self.of(np.asarray(table.column("size")))

    def of(self, size: Floats) -> Floats:
        size = size + self.noise * np.sin(size * 12.9898) * 200
        if self.task.kind == "multiclass":
            centres = {"ant": 800, "bee": 1000, "cat": 1200, "dog": 5000}
            logits = np.stack([-np.square((size - centres[name]) / 120) for name in self.task.classes], axis=1)
            score = np.exp(logits - logits.max(axis=1, keepdims=True))
            return np.asarray(score / score.sum(axis=1, keepdims=True))
        if self.task.kind == "quantile":
            return np.stack([12.5 * size + 400 * z for z in (-1.2816, 0.0, 1.2816)], axis=1)
        return np.stack([size, -2 * size], axis=1) if self.task.kind == "custom" else 12.5 * size

    def answer(self, row: dict[str, Any]) -> dict[str, Any]:
        return answer(self.task, self.of(np.array([row["size"]]))[0].tolist())


def contender(version: int, task: Task, noise: float = 0.0) -> Contender:
    return Contender(f"models:/m/{version}", "ab" * 32, Model(task, noise), ("size",), task)


TARGETS = {"multiclass": "kind", "regression": "price", "quantile": "price", "custom": "pair"}


def request_for(tmp_path: Path, task: Task, rules: dict[str, Any], **changes: Any) -> GateRequest:
    policy = msgspec.convert({"metrics": rules, "slices": ["region"]}, GatePolicy)
    request = GateRequest(
        deployment="m",
        candidate=contender(2, task),
        champion=contender(1, task, noise=0.5),
        unseal=lambda: Sealed(ROWS, tmp_path / "look"),
        probe=PROBE,
        offline=contender(2, task).scorer.score(PROBE),
        target=TARGETS[task.kind],
        policy=policy,
        load=QUICK,
    )
    return replace(request, **changes)


PASSING = {
    "multiclass": {"accuracy": {"at_least": 0.7, "may_lose": 0.0}, "log_loss": {"at_most": 0.6, "may_lose": 0.01}},
    "regression": {"rmse": {"at_most": 430, "may_lose": 1}, "r2": {"at_least": 0.9}},
    "quantile": {"pinball_loss": {"may_lose": 0}, "coverage_q90": {"at_least": 0.85, "at_most": 0.95}},
    "custom": {"mae": {"at_most": 0.001, "may_lose": 0}},
}


@pytest.mark.parametrize("task", [CLASSES, VALUE, SPREAD, PAIR], ids=lambda task: task.kind)
def test_a_better_candidate_passes_and_the_champion_would_not(tmp_path: Path, task: Task) -> None:
    request = request_for(tmp_path, task, PASSING[task.kind])
    result = run(request)
    assert result.passed, result.verdict
    quality = result.report.evidence.quality
    assert [metric.name for metric in quality.metrics] == [*goals(task)]
    for metric in quality.metrics:
        assert metric.champion is not None
        assert metric.loss is not None
        gained = goodness(metric.goal, metric.candidate.value) - goodness(metric.goal, metric.champion.value)
        assert metric.loss.value == pytest.approx(-gained)
        assert metric.candidate.low <= metric.candidate.value <= metric.candidate.high
    swapped = replace(request, candidate=request.champion, champion=request.candidate)
    assert "fail" in {rule.status for rule in run(swapped).verdict.rules}


@pytest.mark.parametrize("task", [CLASSES, VALUE, SPREAD, PAIR], ids=lambda task: task.kind)
def test_the_servers_answers_are_compared_number_by_number(tmp_path: Path, task: Task) -> None:
    def gate(told: Callable[[dict[str, Any]], Any]) -> Any:
        @contextmanager
        def servers() -> Any:
            with serving(told) as peer:
                yield Servers(Server(peer.url))

        return run(request_for(tmp_path, task, {}, champion=None, servers=servers)).report

    model = Model(task)
    same = gate(model.answer).evidence.parity
    assert (same.rows, same.differ) == (20, 0)
    nearly = gate(lambda row: model.answer({"size": row["size"] * 1.01}))
    assert nearly.evidence.parity.differ == 20
    assert nearly.evidence.parity.example.row.keys() == {"size"}
    assert "First difference: offline" in to_markdown(nearly)
    with pytest.raises(EngineError, match="something else than a prediction"):
        gate(lambda row: {"prediction": 1.0})


def test_classes_are_reported_with_their_calibration(tmp_path: Path) -> None:
    report = run(request_for(tmp_path, CLASSES, {})).report
    text, data = to_markdown(report), json.loads(json.dumps(to_json(report), allow_nan=False))
    assert "500 rows of 3 classes, from " in text
    assert "`log_loss` by slice" in text
    assert "| column | value | rows | candidate |" in text
    assert "of the probability of the class that is chosen" in text
    calibration = report.evidence.quality.calibration
    assert calibration is not None
    assert sum(found.rows for found in calibration.bins) == 500
    assert all(found.low <= found.mean_score <= found.high for found in calibration.bins)
    assert (data["evidence"]["quality"]["task"], data["evidence"]["quality"]["positives"]) == ("multiclass", None)
    assert sum(data["evidence"]["quality"]["classes"].values()) == 500


def test_numbers_are_reported_at_their_own_size(tmp_path: Path) -> None:
    report = run(request_for(tmp_path, VALUE, {"rmse": {"at_most": 430, "may_lose": 1}})).report
    text = to_markdown(report)
    (rmse, mae, r2) = report.evidence.quality.metrics
    assert f"| `rmse` | {rmse.candidate.value:.2f} (" in text
    assert f"| `r2` | {r2.candidate.value:.4f} (" in text
    assert "### Calibration" not in text
    assert "500 rows. Intervals" in text
    slices = {found.value: found for found in report.evidence.quality.slices}
    assert slices["north"].candidate is not None
    assert slices["west"].note == "too small: fewer than 40 rows"
    assert to_json(report)["evidence"]["quality"]["calibration"] is None  # type: ignore[index]
    assert mae.candidate.value < rmse.candidate.value


def test_quantiles_are_reported_with_what_they_cover(tmp_path: Path) -> None:
    report = run(request_for(tmp_path, SPREAD, {})).report
    calibration = report.evidence.quality.calibration
    assert calibration is not None
    assert [found.mean_score for found in calibration.bins] == [0.1, 0.5, 0.9]
    for name, found in zip(("q10", "q50", "q90"), calibration.bins, strict=True):
        metric = report.evidence.quality.metric(f"coverage_{name}")
        assert metric is not None
        assert metric.candidate == found.rate
        assert metric.goal == found.mean_score
    assert "the share of outcomes at or below each quantile" in to_markdown(report)


def test_slices_of_many_values_and_their_rest() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=4000)
    codes = np.minimum(draw.geometric(0.05, 4000), 100) - 1
    column = SliceColumn(codes, tuple(map(str, range(100))))
    score = y + draw.normal(size=4000)
    found = measure_quality(y, score, None, {"tail": column}, by=Standard(VALUE)).slices
    assert len(found) == MOST_VALUES + 1
    assert sum(each.rows for each in found) == 4000
    first = codes == int(found[0].value or -1)
    assert found[0].candidate is not None
    assert found[0].candidate.value == pytest.approx(np.sqrt(np.mean(np.square(y - score)[first])))


def test_classes_that_only_one_side_knows_are_judged_too(tmp_path: Path) -> None:
    """The champion knows no cats, the candidate no bees, and nobody the dogs that came since."""
    kinds = ["dog" if place % 50 == 0 else kind for place, kind in enumerate(ROWS["kind"].to_pylist())]
    rows = ROWS.set_column(ROWS.column_names.index("kind"), "kind", pa.array(kinds))
    few, others = Task("multiclass", classes=("ant", "cat")), Task("multiclass", classes=("ant", "bee"))
    changes = {"candidate": contender(2, few), "champion": contender(1, others)}
    changes |= {"unseal": lambda: Sealed(rows, tmp_path / "look")}
    quality = run(request_for(tmp_path, CLASSES, {}, **changes)).report.evidence.quality
    assert [*quality.classes] == ["ant", "cat", "bee", "dog"]
    assert quality.classes["dog"] == 10
    accuracy = quality.metric("accuracy")
    assert accuracy is not None
    assert accuracy.candidate.value < 0.7


def test_scores_of_another_order_of_classes_are_put_in_place() -> None:
    own, task = Task("multiclass", classes=("b", "a")), Task("multiclass", classes=("a", "b", "c"))
    assert aligned(np.array([[0.9, 0.1]]), own, task).tolist() == [[0.1, 0.9, 0.0]]


@pytest.mark.parametrize(
    ("candidate", "champion", "says"),
    [
        (VALUE, Task(), "the champion answers binary and the candidate regression"),
        (SPREAD, Task("quantile", quantiles=(0.1, 0.9)), "the champion answers quantile q10, q90 and"),
        (
            Task(classes=("no", "yes")),
            Task(classes=("yes", "no")),
            "the champion answers binary no and the candidate binary",
        ),
        (PAIR, Task("custom", outputs=3), "custom of 3 numbers and the candidate custom of 2 numbers"),
    ],
)
def test_what_cannot_be_compared_is_refused(candidate: Task, champion: Task, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        common(candidate, champion)


def test_more_quantiles_of_the_champion_do_no_harm() -> None:
    champion = Task("quantile", quantiles=(0.05, 0.1, 0.5, 0.9))
    assert common(SPREAD, champion) == SPREAD
    assert aligned(np.array([[1.0, 2.0, 3.0, 4.0]]), champion, SPREAD).tolist() == [[2.0, 3.0, 4.0]]


def own(name: str = "cost", *values: float) -> OwnMetric:
    drawn = Bootstrap(np.array(values), np.array(values) + np.linspace(-0.1, 0.1, 60)[:, None] * [1, 2][: len(values)])
    return OwnMetric(name, "lower", lambda outcome, scores: drawn)


def test_a_metric_of_the_users_is_the_first_and_rules_may_name_it(tmp_path: Path) -> None:
    request = request_for(tmp_path, VALUE, {"cost": {"at_most": 8, "may_lose": 0}}, own=own("cost", 7.0, 9.0))
    result = run(request)
    assert result.passed
    first = result.report.evidence.quality.metrics[0]
    assert (first.name, first.candidate.value, first.method) == ("cost", 7.0, "bootstrap, 60 resamples")
    assert first.loss is not None
    assert first.loss.value == -2.0


def test_outputs_of_another_shape_need_a_metric_of_their_own(tmp_path: Path) -> None:
    changes = {"target": "price", "champion": None}
    with pytest.raises(DatasetError, match="another shape than its target, and it has no metric"):
        run(request_for(tmp_path, PAIR, {}, **changes))
    quality = run(request_for(tmp_path, PAIR, {}, own=own("cost", 7.0), **changes)).report.evidence.quality
    assert [metric.name for metric in quality.metrics] == ["cost"]
    assert quality.slices == ()


def test_the_ladder_withholds_a_distance_as_it_does_a_score(tmp_path: Path) -> None:
    def withheld(metric: str, value: float) -> bool:
        standing = Standing(
            99, 100, (Shown("5ha", metric, value, value - 0.01, value + 0.01), Shown("5ha", "x", 1, 0, 2))
        )
        result = run(request_for(tmp_path, SPREAD, {}, standing=standing))
        shown_now = result.report.evidence.quality.metric(metric)
        assert shown_now is not None
        assert (shown_now.method == WITHHELD) is (metric in result.released.withheld)
        calibration = result.report.evidence.quality.calibration
        assert calibration is not None
        assert (calibration.bins, calibration.kind) == ((), "coverage")
        return metric in result.released.withheld

    assert withheld("coverage_q90", 0.9)  # nothing is closer to 0.9
    assert not withheld("coverage_q90", 0.5)
    assert withheld("pinball_loss", 0.0)
    assert not withheld("pinball_loss", 1e6)


BAD: list[tuple[Task, Any, Any, str]] = [
    (VALUE, [1.0, 2.0], [1.0, float("nan")], "candidate's score of row 1 is nan, which is no number"),
    (VALUE, [1.0, 2.0], [[1.0, 2.0]] * 2, r"scores of shape \[2, 2\], not \[2\]"),
    (CLASSES, [0, 1], [[0.5, 0.5, 0.0], [1.5, -0.5, 0.0]], "row 1 is .* which is no probability"),
    (CLASSES, [0, 1], [[0.5, 0.5]] * 2, r"scores of shape \[2, 2\], not \[2, 3\]"),
]


@pytest.mark.parametrize(("task", "outcome", "score", "says"), BAD, ids=range(len(BAD)))
def test_what_is_no_score_is_refused(task: Task, outcome: Any, score: Any, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        measure_quality(np.array(outcome), np.array(score), None, {}, by=Standard(task))


@pytest.mark.parametrize(("task", "outcome"), [(VALUE, [3.0] * 9), (CLASSES, [1] * 9), (VALUE, [1.0])])
def test_one_value_of_the_target_cannot_be_judged(task: Task, outcome: list[float]) -> None:
    score = np.full((len(outcome), *([3] if task.width else [])), 1 / 3)
    with pytest.raises(DatasetError, match="too little to judge by"):
        measure_quality(np.array(outcome), score, None, {}, by=Standard(task))


def test_a_target_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    prices = [float("inf") if place < 3 else 1.0 * place for place in range(500)]
    rows = ROWS.set_column(ROWS.column_names.index("price"), "price", pa.array(prices))
    with pytest.raises(DatasetError, match="not finite in 3 of 500 rows"):
        run(request_for(tmp_path, VALUE, {}, unseal=lambda: Sealed(rows, tmp_path / "look")))


def test_numbers_have_the_decimals_of_their_size() -> None:
    assert [shown(value) for value in (0.77123, 12345.678, 250.5, 0.000123, 0.0)] == [
        "0.7712",
        "12346",
        "250.50",
        "0.000123",
        "0.0000",
    ]
    assert (signed(-0.4, 12345.0), signed(2.0, 250.0), signed(-0.00001)) == ("+0", "+2.00", "+0.0000")
    assert (shown(float("nan")), signed(float("-inf"), 3.0)) == ("–", "–")  # JSON has one word for both
