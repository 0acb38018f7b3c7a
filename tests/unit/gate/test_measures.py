"""Metrics of classes, numbers and quantiles: against scikit-learn, against DeLong, and row by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as theirs

from trunkline.gate import measures, metrics
from trunkline.gate.evidence import Estimate
from trunkline.gate.intervals import Measured

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


def without_each(measure: Callable[[npt.NDArray[Any], Floats], Measured], y: npt.NDArray[Any], score: Floats) -> Floats:
    """The jackknife written out: the metric without each row."""
    return np.array([measure(np.delete(y, row), np.delete(score, row, axis=0)).value for row in range(len(y))])


def test_metrics_of_classes_are_scikit_learns() -> None:
    place, (score, _) = classes(0, 900)
    assert measures.log_loss(place, score).value == pytest.approx(theirs.log_loss(place, score))
    expected = theirs.f1_score(place, score.argmax(axis=1), average="macro")
    assert measures.macro_f1(place, score).value == pytest.approx(expected)
    area = metrics.areas_against_rest(place, [score]).auc[0]
    assert area == pytest.approx(theirs.roc_auc_score(place, score, multi_class="ovr", average="macro"))


def test_a_class_that_is_only_chosen_counts_in_f1_as_scikit_learn_has_it() -> None:
    place, (score, _) = classes(3, 300)
    there = place != 0
    place, score = place[there], score[there]
    assert (score.argmax(axis=1) == 0).any()
    expected = theirs.f1_score(place, score.argmax(axis=1), average="macro", zero_division=0)
    assert measures.macro_f1(place, score).value == pytest.approx(expected)


def test_what_a_row_has_of_a_metric_is_what_it_is_worse_without_it() -> None:
    place, (score, _) = classes(2, 40, width=6)
    assert min(np.bincount(place, minlength=6)) < 3  # rows whose class goes with them
    y, (number, _) = numbers(2, 40)
    cases: list[tuple[Callable[[Any, Floats], Measured], npt.NDArray[Any], Floats]] = [
        (measures.macro_f1, place, score),
        (measures.root_mean_square, y, number),
        (measures.r2, y, number),
        (measures.absolute_error, y, number),
        (measures.log_loss, place, score),
    ]
    for measure, outcome, scores in cases:
        found = measure(outcome, scores)
        expected = 40 * found.value - 39 * without_each(measure, outcome, scores)
        np.testing.assert_allclose(found.each, expected, rtol=1e-6, atol=1e-9)


def test_the_area_of_two_classes_is_delongs() -> None:
    place, scores = classes(5, 500, width=2)
    ours = metrics.areas_against_rest(place, list(scores))
    delong = metrics.delong(place == 1, scores[:, :, 1])
    np.testing.assert_allclose(ours.auc, delong.auc)
    np.testing.assert_allclose(ours.covariance, delong.covariance)


def test_perfect_order_has_an_interval() -> None:
    place = np.repeat([0, 1, 2], [30, 40, 50])
    found = metrics.areas_against_rest(place, [np.eye(3)[place]])
    unseen = [1 - 0.025 ** (1 / rows) for rows in (30, 40, 50)]
    weights = [(1 + 30 / 80 + 30 / 70) / 3, (1 + 40 / 90 + 40 / 70) / 3, (1 + 50 / 90 + 50 / 80) / 3]
    low = 1 - np.linalg.norm(np.multiply(unseen, weights))
    assert found.measured(0).estimate() == Estimate(1.0, pytest.approx(low), 1.0)
    assert low < 0.9


def test_a_class_in_perfect_order_is_not_certain_beside_others_that_are_not() -> None:
    draw = np.random.default_rng(0)
    place = np.r_[np.zeros(5, np.int64), np.repeat([1, 2], 100)]
    score = draw.dirichlet(np.ones(3), 205) * 0.5 + np.eye(3)[place] * 0.2
    score[:, 0] = np.where(place == 0, 0.9, 0.0)
    found = metrics.areas_against_rest(place, [score]).measured(0)
    assert found.value - found.estimate().low > (1 - 0.025 ** (1 / 5)) / 3


def test_metrics_of_numbers_are_scikit_learns() -> None:
    y, (score, _) = numbers(0, 700)
    for ours, reference in (
        (measures.root_mean_square, theirs.root_mean_squared_error),
        (measures.absolute_error, theirs.mean_absolute_error),
        (measures.r2, theirs.r2_score),
    ):
        assert ours(y, score).value == pytest.approx(reference(y, score), rel=1e-9)


def test_several_outputs_are_one_error() -> None:
    y, score = np.zeros((3, 2)), np.array([[3.0, 4.0], [0.0, 0.0], [0.0, 5.0]])
    assert measures.root_mean_square(y, score).value == pytest.approx((50 / 6) ** 0.5)
    assert measures.absolute_error(y, score).value == pytest.approx(12 / 6)


def test_quantiles_are_scikit_learns_and_cover_what_they_should() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=4000)
    score = np.tile([-1.2815515655446004, 0.0, 1.2815515655446004], (4000, 1))
    expected = np.mean(
        [theirs.mean_pinball_loss(y, score[:, place], alpha=level) for place, level in enumerate(QUANTILES)]
    )
    assert measures.pinball(y, score, QUANTILES).value == pytest.approx(expected)
    names = ("q10", "q50", "q90")
    shares = {name: measures.within(y, score, f"coverage_{name}", names).mean() for name in names}
    assert shares == pytest.approx({"q10": 0.1, "q50": 0.5, "q90": 0.9}, abs=0.02)
    inside = measures.within(y, score, "coverage", names).mean()
    assert inside == pytest.approx(shares["q90"] - shares["q10"])
