"""The statistics: against definitions written out, against scikit-learn, and by simulation."""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm, rankdata
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from trunkline.gate import metrics
from trunkline.gate.evidence import Estimate

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
    weights = np.random.default_rng(seed).integers(0, 4, 500).astype(float)
    counted = {"sample_weight": weights}
    assert metrics.delong(outcome, score[None]).auc[0] == pytest.approx(roc_auc_score(outcome, score), rel=1e-12)
    found = [make(outcome, score)(weights) for make in (metrics.average_precision, metrics.log_loss, metrics.brier)]
    assert found == pytest.approx(
        [
            average_precision_score(outcome, score, **counted),
            log_loss(outcome, score, **counted),
            brier_score_loss(outcome, score, **counted),
        ],
        rel=1e-10,
    )


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    outcome, score = np.array([True, False]), np.array([0.0, 0.0])
    assert metrics.log_loss(outcome, score)(np.ones(2)) == pytest.approx(log_loss(outcome, score))


@pytest.mark.parametrize("seed", range(3))
def test_midranks_share_ties(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 20, 100).astype(float)
    np.testing.assert_array_equal(metrics.midranks(values), rankdata(values))


def within_binomial_band(hits: int, trials: int, level: float) -> bool:
    """Whether `hits` is what `level` gives in all but one of ten thousand series of `trials`."""
    return bool(abs(hits - level * trials) <= norm.ppf(1 - 0.5e-4) * np.sqrt(trials * level * (1 - level)))


def test_delong_intervals_cover() -> None:
    # Two normals one standard deviation apart have the area Phi(1/sqrt 2).
    truth, trials = float(norm.cdf(1 / np.sqrt(2))), 400
    hits = 0
    for seed in range(trials):
        draw = np.random.default_rng([1, seed])
        outcome = np.arange(400) < 100
        found = metrics.delong(outcome, (outcome + draw.normal(size=400))[None]).estimate(0)
        hits += found.low <= truth <= found.high
    assert within_binomial_band(hits, trials, 0.95)


def test_the_limits_of_a_paired_loss_cover() -> None:
    # Model 0 sees the outcome through more noise than model 1; both share the noise of the row.
    trials, below, above, inside = 400, 0, 0, 0
    truth = float(norm.cdf(1 / np.sqrt(2 * 1.25)) - norm.cdf(1 / np.sqrt(2 * 1.5)))
    for seed in range(trials):
        draw = np.random.default_rng([2, seed])
        outcome = np.arange(400) < 100
        seen = outcome + draw.normal(size=400)
        scores = seen + draw.normal(size=(2, 400)) * np.sqrt([[0.5], [0.25]])
        loss = metrics.delong(outcome, scores).loss()
        inside += loss.low <= truth <= loss.high
        below += truth <= loss.at_most
        above += truth >= loss.at_least
    assert within_binomial_band(inside, trials, 0.95)
    assert within_binomial_band(below, trials, 0.95)
    assert within_binomial_band(above, trials, 0.95)


def test_bootstrap_intervals_cover() -> None:
    # Scores are Beta(4, 2) where the outcome is 1 and Beta(2, 4) where it is 0: E (s - y)^2 is known for both.
    beta_mean, beta_square = 4 / 6, 4 * 5 / (6 * 7)
    truth = 1 - 2 * beta_mean + beta_square  # the same for both classes, by symmetry
    trials, hits = 300, 0
    for seed in range(trials):
        draw = np.random.default_rng([3, seed])
        outcome = np.arange(400) < 100
        score = np.where(outcome, draw.beta(4, 2, 400), draw.beta(2, 4, 400))
        (found,) = metrics.bootstrap(outcome, [[metrics.brier(outcome, score)]], resamples=200, seed=seed)
        hits += found.estimate(0).low <= truth <= found.estimate(0).high
    assert within_binomial_band(hits, trials, 0.95)


def test_bootstrap_is_stratified_paired_and_repeatable() -> None:
    outcome, (one, _) = simulate(5, 400, share=0.02)
    both = [[metrics.brier(outcome, one), metrics.brier(outcome, one)]]
    first, again = (metrics.bootstrap(outcome, both, resamples=50, seed=7)[0] for _ in range(2))
    np.testing.assert_array_equal(first.resampled, again.resampled)
    loss = first.loss("lower")
    assert (loss.value, loss.low, loss.high) == (0.0, 0.0, 0.0)
    assert np.ptp(first.resampled[:, 0]) > 0
    counted = metrics.bootstrap(outcome, [[lambda w: float(w[outcome].sum())]], resamples=50, seed=7)[0]
    assert set(counted.resampled[:, 0]) == {float(outcome.sum())}


def test_loss_counts_the_worse_as_positive() -> None:
    outcome, scores = simulate(6, 4000)  # model 0 is the less noisy one
    found = metrics.delong(outcome, scores).loss()
    assert found.low < found.at_least < found.value < found.at_most < found.high < 0
    swapped = metrics.delong(outcome, scores[::-1]).loss()
    assert swapped.value == pytest.approx(-found.value)
    assert swapped.low == pytest.approx(-found.high)
    briers = [[metrics.brier(outcome, score) for score in scores]]
    assert metrics.bootstrap(outcome, briers, resamples=100, seed=0)[0].loss("lower").value < 0


def test_perfect_order_is_not_certainty() -> None:
    outcome = np.arange(50) >= 40
    best = metrics.delong(outcome, np.linspace(0, 1, 50)[None]).estimate(0)
    worst = metrics.delong(outcome, np.linspace(1, 0, 50)[None]).estimate(0)
    assert (best.value, best.high) == (1.0, 1.0)
    assert best.low == pytest.approx(0.025 ** (1 / 10))
    assert worst == Estimate(0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 10)))


def test_wilson_stays_within_zero_and_one() -> None:
    # Wilson (1927); numbers as in Newcombe (1998), table I: 81 of 263, and 0 of 20.
    found = metrics.wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = metrics.wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)
