"""From outcomes and scores to evidence: slices, calibration, refusals."""

from __future__ import annotations

from math import inf

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import roc_auc_score

from tests.unit.gate.test_metrics import simulate
from trunkline.errors import DatasetError, EngineError
from trunkline.gate.calibration import calibrate
from trunkline.gate.evidence import Evidence, Loss
from trunkline.gate.metrics import Bootstrap
from trunkline.gate.policy import GatePolicy
from trunkline.gate.quality import OwnMetric, Standard, measure_quality
from trunkline.gate.slices import MOST_VALUES, SliceColumn
from trunkline.gate.verdict import judge
from trunkline.models.task import Task

Bools = npt.NDArray[np.bool_]


def test_every_metric_has_an_interval_and_a_loss() -> None:
    outcome, (candidate, champion) = simulate(1, 2000)
    quality = measure_quality(outcome, candidate, champion, {})
    assert [metric.name for metric in quality.metrics] == ["roc_auc", "average_precision", "log_loss", "brier"]
    assert (quality.rows, quality.positives) == (2000, int(outcome.sum()))
    for metric in quality.metrics:
        assert metric.candidate.low < metric.candidate.value < metric.candidate.high
        assert metric.champion is not None
        assert metric.loss is not None
        difference = metric.champion.value - metric.candidate.value
        higher = metric.name in ("roc_auc", "average_precision")
        assert metric.loss.value == pytest.approx(difference if higher else -difference)


def test_without_a_champion_there_is_no_loss() -> None:
    outcome, (candidate, _) = simulate(1, 500)
    quality = measure_quality(outcome, candidate, None, {})
    assert all(metric.champion is None and metric.loss is None for metric in quality.metrics)


def test_slices_are_what_their_rows_show() -> None:
    outcome, (candidate, champion) = simulate(2, 3000)
    codes = np.random.default_rng(0).choice(4, 3000, p=[0.5, 0.3, 0.195, 0.005])
    column = SliceColumn(codes, ("UA", None, "AA", "HA"))
    found = measure_quality(outcome, candidate, champion, {"carrier": column}).slices
    assert [(each.value, each.rows) for each in found] == [
        (label, int((codes == code).sum())) for code, label in enumerate(column.labels)
    ]
    mask = codes == 2
    assert found[2].candidate is not None
    assert found[2].candidate.value == pytest.approx(roc_auc_score(outcome[mask], candidate[mask]))
    assert found[2].loss is not None
    assert (found[3].candidate, found[3].loss) == (None, None)
    assert "too small" in found[3].note


def test_rare_values_are_shown_together() -> None:
    outcome, (candidate, _) = simulate(3, 4000)
    codes = np.minimum(np.random.default_rng(0).geometric(0.05, 4000), 100) - 1
    column = SliceColumn(codes, tuple(map(str, range(100))))
    found = measure_quality(outcome, candidate, None, {"tail": column}).slices
    assert len(found) == MOST_VALUES + 1
    assert found[-1].others == len(set(codes)) - MOST_VALUES
    assert sum(each.rows for each in found) == 4000


def test_calibration_sums_up() -> None:
    score = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    outcome = np.array([False, True, True, True, True])
    found = calibrate(outcome, score)
    assert [(each.low, each.high, each.rows) for each in found.bins] == [(0.0, 0.1, 2), (0.9, 1.0, 3)]
    assert [each.rate.value for each in found.bins] == [0.5, 1.0]
    assert found.bins[1].mean_score == pytest.approx(2.9 / 3)
    assert found.ece == pytest.approx((2 * 0.45 + 3 * (1 - 2.9 / 3)) / 5)


def test_calibrated_scores_have_a_small_error() -> None:
    draw = np.random.default_rng(0)
    score = draw.random(50_000)
    assert calibrate(draw.random(50_000) < score, score).ece < 0.01
    assert calibrate(draw.random(50_000) < score**2, score).ece > 0.1


@pytest.mark.parametrize("outcome", [[True] * 9 + [False], [False] * 10, []])
def test_one_class_cannot_be_judged(outcome: list[bool]) -> None:
    with pytest.raises(DatasetError, match="too few to judge by"):
        measure_quality(np.array(outcome, dtype=np.bool_), np.full(len(outcome), 0.5), None, {})


@pytest.mark.parametrize("bad", [float("nan"), 1.5, -0.1, float("inf")])
def test_scores_must_be_probabilities(bad: float) -> None:
    outcome = np.arange(10) > 4
    score = np.full(10, 0.5)
    score[7] = bad
    with pytest.raises(EngineError, match="champion's score of row 7"):
        measure_quality(outcome, np.full(10, 0.5), score, {})


def test_probabilities_of_classes_must_be_one_together() -> None:
    task = Task("multiclass", classes=("a", "b", "c"))
    place, right = np.arange(9) % 3, np.full((9, 3), 1 / 3)
    wrong = right.copy()
    wrong[4:] = 1.0
    with pytest.raises(EngineError, match="champion's probabilities of row 4 are 3 together, not 1") as caught:
        measure_quality(place, right, wrong, {}, by=Standard(task))
    assert "in 5 of 9 rows" in caught.value.what
    assert "softmax" in (caught.value.hint or "")
    measure_quality(place, right.astype(np.float32).astype(np.float64), right * 1.0005, {}, by=Standard(task))


def test_the_same_scores_lose_nothing_in_any_share() -> None:
    draw = np.random.default_rng(0)
    y, score = draw.normal(size=60), np.sort(draw.normal(size=(60, 3)), axis=1)
    task = Task("quantile", quantiles=(0.1, 0.5, 0.9))
    place, chances = draw.integers(0, 3, 60), draw.dirichlet(np.ones(3), 60)
    classes = Task("multiclass", classes=("a", "b", "c"))
    cost = OwnMetric("cost", "lower", lambda outcome, scores: Bootstrap(np.ones(2), np.ones((50, 2))))
    for outcome, scores, of in ((y, score, task), (place, chances, classes)):
        found = measure_quality(outcome, scores, scores.copy(), {}, by=Standard(of, cost))
        assert all(metric.loss == Loss(0.0, 0.0, 0.0, 0.0, 0.0) for metric in found.metrics)


def test_a_metric_of_ones_own_that_never_varies_leaves_a_loss_open() -> None:
    outcome = np.arange(60.0)
    cost = OwnMetric("cost", "lower", lambda outcome, scores: Bootstrap(np.ones(2), np.ones((50, 2))))
    quality = measure_quality(outcome, outcome + 1, outcome + 2, {}, by=Standard(Task("regression"), cost))
    metric = quality.metrics[0]
    assert metric.method == "bootstrap, 50 resamples, all alike: no interval"
    assert metric.loss == Loss(0.0, -inf, inf, -inf, inf)
    policy = msgspec.convert({"metrics": {"cost": {"may_lose": 0.5}}}, GatePolicy)
    (rule,) = judge(Evidence(quality), policy).rules
    assert (rule.status, rule.why) == (
        "undecided",
        "loses +0.0000 on every resample too, which tells nothing of rows that were not seen",
    )


def test_a_slice_of_one_value_that_both_models_miss_alike_is_tested() -> None:
    """All its rows are the same, so what it may hide goes by how far apart the outcomes of all rows are."""
    draw = np.random.default_rng(0)
    inside = np.arange(400) < 50
    y = np.where(inside, 0.0, draw.normal(10, 2, 400))
    candidate, champion = (np.where(inside, missed, y + draw.normal(size=400)) for missed in (0.3, 0.1))
    column = SliceColumn(np.where(inside, 0, 1), ("closed", "open"), may_lose=0.1)
    found = measure_quality(y, candidate, champion, {"state": column}, by=Standard(Task("regression")))
    closed = next(each for each in found.slices if each.value == "closed")
    assert closed.loss is not None
    assert closed.loss.value == pytest.approx(0.2)
    assert closed.loss.at_least < 0.1 < closed.loss.at_most
    assert closed.p is not None


def test_scores_must_be_as_many_as_rows() -> None:
    with pytest.raises(EngineError, match="candidate gave 9 scores for 10 rows"):
        measure_quality(np.arange(10) > 4, np.full(9, 0.5), None, {})
