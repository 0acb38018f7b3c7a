"""Metrics of a binary target: against definitions written out, against scikit-learn; and the bootstrap."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from trunkline.gate import measures, metrics
from trunkline.gate.evidence import Estimate
from trunkline.gate.intervals import Measured
from trunkline.models.measures import midranks

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def simulate(seed: int, n: int, *, share: float = 0.3, digits: int | None = None) -> tuple[Bools, Floats]:
    """Outcomes and the probabilities of two models that see them through different noise, [2, n]."""
    draw = np.random.default_rng(seed)
    outcome = draw.random(n) < share
    seen = outcome + draw.normal(0, 1.0, n)
    scores = 1 / (1 + np.exp(-(seen + draw.normal(0, [[0.3], [0.6]], (2, n)))))
    return outcome, scores if digits is None else scores.round(digits)


def slow_delong(outcome: Bools, scores: Floats) -> tuple[Floats, Floats]:
    """DeLong, DeLong & Clarke-Pearson (1988), as written there: every positive against every negative."""
    above, below = scores[:, outcome], scores[:, ~outcome]
    wins = (above[:, :, None] > below[:, None, :]) + 0.5 * (above[:, :, None] == below[:, None, :])
    m, n = above.shape[1], below.shape[1]
    v10, v01 = wins.mean(axis=2), wins.mean(axis=1)
    return wins.mean(axis=(1, 2)), np.cov(v10) / m + np.cov(v01) / n


@pytest.mark.parametrize(("seed", "digits"), list(product(range(4), [None, 2, 1])))
def test_delong_is_its_definition(seed: int, digits: int | None) -> None:
    outcome, scores = simulate(seed, 300, digits=digits)
    found = metrics.delong(outcome, scores)
    auc, covariance = slow_delong(outcome, scores)
    np.testing.assert_allclose(found.auc, auc, rtol=1e-12)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(("seed", "digits"), list(product(range(4), [None, 1])))
def test_metrics_are_scikit_learns(seed: int, digits: int | None) -> None:
    outcome, (score, _) = simulate(seed, 500, digits=digits)
    score = np.clip(score, 1e-15, 1 - 1e-15)  # as a log loss is
    assert metrics.delong(outcome, score[None]).auc[0] == pytest.approx(roc_auc_score(outcome, score), rel=1e-12)
    found = [make(outcome, score).value for make in (measures.average_precision, measures.log_loss, measures.brier)]
    expected = [make(outcome, score) for make in (average_precision_score, log_loss, brier_score_loss)]
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("digits", [None, 1])
def test_what_a_row_has_of_average_precision_is_what_it_is_worse_without_it(digits: int | None) -> None:
    outcome, (score, _) = simulate(3, 80, digits=digits)
    found = measures.average_precision(outcome, score)
    without = [average_precision_score(np.delete(outcome, row), np.delete(score, row)) for row in range(80)]
    np.testing.assert_allclose(found.each, 80 * found.value - 79 * np.array(without), rtol=1e-9)


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    outcome, score = np.array([True, False]), np.array([0.0, 0.0])
    expected = log_loss(outcome, np.maximum(score, 1e-15))
    assert measures.log_loss(outcome, score).value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_midranks_share_ties(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 20, 100).astype(float)
    np.testing.assert_array_equal(midranks(values), rankdata(values))


def test_what_each_row_has_of_an_area_makes_delongs_covariance() -> None:
    outcome, scores = simulate(8, 200, digits=1)
    found = metrics.delong(outcome, scores)
    np.testing.assert_allclose(found.each.mean(axis=1), found.auc, rtol=1e-12)
    np.testing.assert_allclose(np.cov(found.each) / 200, found.covariance, rtol=1e-9)


def areas(outcome: Bools, scores: Floats) -> tuple[Measured, Measured]:
    found = metrics.delong(outcome, scores)
    return found.measured(0), found.measured(1)


def test_loss_counts_the_worse_as_positive() -> None:
    outcome, scores = simulate(6, 4000)  # model 0 is the less noisy one
    one, two = areas(outcome, scores)
    found, swapped = one.loss(two, "higher"), two.loss(one, "higher")
    assert found.low < found.at_least < found.value < found.at_most < found.high < 0
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.low == pytest.approx(-found.high)
    better, worse = (measures.brier(outcome, score) for score in scores)
    assert better.loss(worse, "lower").value < 0


def test_perfect_order_is_not_certainty() -> None:
    outcome = np.arange(50) >= 40
    best, worst = (one.estimate() for one in areas(outcome, np.array([np.linspace(0, 1, 50), np.linspace(1, 0, 50)])))
    assert (best.value, best.high) == (1.0, 1.0)
    assert best.low == pytest.approx(0.025 ** (1 / 10))
    assert worst == Estimate(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 10)))


def test_resamples_keep_a_row_of_each_class_and_are_repeatable() -> None:
    outcome = np.arange(60) < 2
    first, again = (np.array(list(metrics.resampled(outcome, 100, 7))) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert first[:, outcome].sum(axis=1).min() == 1
    assert len(set(first[:, outcome].sum(axis=1))) > 2  # how many there are is chance too
    assert first.sum(axis=1).mean() == pytest.approx(60, abs=0.5)


def test_a_bootstrap_has_the_limits_of_its_resamples() -> None:
    drawn = np.random.default_rng(0).normal([0.8, 0.9], 0.01, (400, 2))
    found = metrics.Bootstrap(np.array([0.8, 0.9]), drawn)
    assert found.estimate(0).low == pytest.approx(0.78, abs=0.003)
    loss = found.loss("higher")
    assert loss.value == pytest.approx(0.1)
    assert loss.low < loss.at_least < loss.value < loss.at_most < loss.high
    assert loss.at_most == pytest.approx(0.1 + 1.645 * 0.01 * 2**0.5, abs=0.004)
