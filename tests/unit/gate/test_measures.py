"""Metrics of classes, numbers and quantiles: against scikit-learn, against DeLong, and by simulation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as theirs

from trunkline.gate import measures, metrics
from trunkline.gate.evidence import Estimate
from trunkline.models.measures import hits

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
QUANTILES = (0.1, 0.5, 0.9)


def classes(seed: int, n: int, width: int = 4) -> tuple[Ints, Floats]:
    """Places of classes, uneven, and the probabilities of two models, [2, n, width]."""
    draw = np.random.default_rng(seed)
    place = draw.choice(width, n, p=np.arange(1, width + 1) / sum(range(1, width + 1)))
    logits = np.eye(width)[place] * 1.5 + draw.normal(0, np.array([0.7, 1.2])[:, None, None], (2, n, width))
    score = np.exp(logits)
    return place, score / score.sum(axis=2, keepdims=True)


def numbers(seed: int, n: int) -> tuple[Floats, Floats]:
    """Outcomes far from 0 and the values of two models, [2, n]."""
    draw = np.random.default_rng(seed)
    y = draw.normal(1e6, 50, n)
    return y, y + draw.normal(0, [[10.0], [20.0]], (2, n))


def weights(seed: int, n: int) -> Floats:
    return np.random.default_rng(seed).poisson(1.0, n).astype(np.float64)


def test_metrics_of_classes_are_scikit_learns() -> None:
    place, (score, _) = classes(0, 900)
    often = weights(1, 900)
    chosen = score.argmax(axis=1)
    assert measures.class_log_loss(place, score)(often) == pytest.approx(
        theirs.log_loss(place, score, sample_weight=often)
    )
    assert metrics.mean_of(hits(place, score))(often) == pytest.approx(
        theirs.accuracy_score(place, chosen, sample_weight=often)
    )
    assert measures.macro_f1(place, score)(often) == pytest.approx(
        theirs.f1_score(place, chosen, average="macro", sample_weight=often)
    )
    area = measures.areas_against_rest(place, [score]).auc[0]
    assert area == pytest.approx(theirs.roc_auc_score(place, score, multi_class="ovr", average="macro"))


def test_a_class_that_is_only_chosen_counts_in_f1_as_scikit_learn_has_it() -> None:
    place, (score, _) = classes(3, 300)
    there = place != 0
    place, score = place[there], score[there]
    assert (score.argmax(axis=1) == 0).any()
    expected = theirs.f1_score(place, score.argmax(axis=1), average="macro", zero_division=0)
    assert measures.macro_f1(place, score)(np.ones(len(place))) == pytest.approx(expected)


def test_the_area_of_two_classes_is_delongs() -> None:
    place, scores = classes(5, 500, width=2)
    ours = measures.areas_against_rest(place, list(scores))
    delong = metrics.delong(place == 1, scores[:, :, 1])
    np.testing.assert_allclose(ours.auc, delong.auc)
    np.testing.assert_allclose(ours.covariance, delong.covariance)


def test_the_interval_of_the_area_holds_what_it_promises() -> None:
    """True area from many rows; of 300 samples of 200 rows the interval has it in about 95%."""
    place, scores = classes(0, 100_000)
    truth = measures.areas_against_rest(place, list(scores))
    inside = paired = 0
    for seed in range(1, 301):
        found = measures.areas_against_rest(*classes(seed, 200))
        interval, loss = found.estimate(0), found.loss()
        inside += interval.low <= truth.auc[0] <= interval.high
        paired += loss.low <= truth.auc[1] - truth.auc[0] <= loss.high
    assert 0.91 <= inside / 300 <= 0.99
    assert 0.91 <= paired / 300 <= 0.99


def test_perfect_order_has_an_interval() -> None:
    place = np.repeat([0, 1, 2], [30, 40, 50])
    found = measures.areas_against_rest(place, [np.eye(3)[place]])
    assert found.estimate(0) == Estimate(1.0, pytest.approx(0.025 ** (1 / 30)), 1.0)


def test_metrics_of_numbers_are_scikit_learns() -> None:
    y, (score, _) = numbers(0, 700)
    often = weights(2, 700)
    for ours, reference in (
        (measures.root_mean_square, theirs.root_mean_squared_error),
        (measures.absolute_error, theirs.mean_absolute_error),
        (measures.r2, theirs.r2_score),
    ):
        assert ours(y, score)(often) == pytest.approx(reference(y, score, sample_weight=often), rel=1e-9)


def test_several_outputs_are_one_error() -> None:
    y, score = np.zeros((3, 2)), np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]])
    once = np.ones(3)
    assert measures.root_mean_square(y, score)(once) == pytest.approx((50 / 6) ** 0.5)
    assert measures.absolute_error(y, score)(once) == pytest.approx(12 / 6)


def test_quantiles_are_scikit_learns_and_cover_what_they_should() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=4000)
    score = np.tile([-1.2815515655446004, 0.0, 1.2815515655446004], (4000, 1))
    often = weights(3, 4000)
    expected = np.mean(
        [
            theirs.mean_pinball_loss(y, score[:, place], alpha=level, sample_weight=often)
            for place, level in enumerate(QUANTILES)
        ]
    )
    assert measures.pinball(y, score, QUANTILES)(often) == pytest.approx(expected)
    names = ("q10", "q50", "q90")
    shares = {name: measures.within(y, score, f"coverage_{name}", names).mean() for name in names}
    assert shares == pytest.approx({"q10": 0.1, "q50": 0.5, "q90": 0.9}, abs=0.02)
    inside = measures.within(y, score, "coverage", names).mean()
    assert inside == pytest.approx(shares["q90"] - shares["q10"])


def test_the_bootstrap_interval_of_an_error_holds_what_it_promises() -> None:
    inside = 0
    for seed in range(100):
        y, scores = numbers(seed, 150)
        models = [[measures.root_mean_square(y, score) for score in scores]]
        (found,) = metrics.bootstrap(np.zeros(150, np.int8), models, resamples=200, seed=seed)
        loss = found.loss("lower")
        assert loss.value == pytest.approx(found.value[0] - found.value[1])
        inside += loss.low <= 10.0 - 20.0 <= loss.high
    assert inside >= 88


def test_a_goal_that_is_a_number_counts_the_distance() -> None:
    found = metrics.Bootstrap(np.array([0.80, 0.91]), np.array([[0.80, 0.91], [0.82, 0.89]]))
    assert found.loss(0.9).value == pytest.approx(0.09)
    assert found.loss(0.9).high == pytest.approx(0.09, abs=1e-3)
