"""Intervals and rules hold what they say: against published numbers, by simulation, and where little is to be seen.

A quick run of benchmarks/gate_statistics.py that can fail; docs/gate.md has the figures of the whole.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, norm

from benchmarks.gate_statistics import FEW, SETTINGS, Few, Setting, calibration, decided, power, simulate, truths
from trunkline.errors import DatasetError
from trunkline.gate.evidence import Estimate, Loss
from trunkline.gate.intervals import Measured, Spread
from trunkline.gate.measures import average_precision, macro_f1
from trunkline.gate.metrics import areas_against_rest, delong
from trunkline.gate.quality import Standard, measure_quality
from trunkline.gate.shares import paired_share, share_loss, wilson
from trunkline.models.task import Task

Floats = npt.NDArray[np.float64]

OUTCOME = (
    "00001101001011001011101000000000100110110000000001100010001010011101101111000110100000010000000000001111110001000"
)
WFNS = (
    "11113254125255125225211112121134214541425511241125521251222151125214524414121421232421451154221113125225552445111"
)
S100B = """13 14 10 4 13 10 47 16 18 10 12 10 44 71 4 8 49 4 7 33 9 9 7 11 7 17 7 11 13 19 5 16 41 14 34 35 48 9 96 25
50 46 16 7 43 45 11 8 9 86 52 8 6 13 207 10 14 15 7 6 77 5 9 30 3 9 4 23 70 9 27 71 8 26 8 16 9 13 10 8 11 33 11 28 7
10 32 22 7 5 24 38 10 15 8 14 10 7 4 19 56 14 58 32 82 74 15 47 17 44 15 50 48"""
NDKA = """301 854 809 1042 1740 1275 600 1320 1554 601 1596 1786 518 890 1341 2075 1160 1611 3237 5482 3241 4994 4034
947 629 1253 654 630 8030 1280 980 981 985 1821 503 1404 2193 802 742 838 659 963 1312 796 1434 4143 763 706 1259 1356
387 944 766 1298 41919 2719 2227 995 2122 1173 1040 5883 639 1109 1222 1367 1721 2263 1290 970 2157 823 7257 1554 1051
1060 1457 519 963 461 2148 1730 1271 944 1107 1946 1083 537 1197 775 983 1055 2849 853 1257 1290 4683 1168 1267
901 957 3406 1172 1426 4761 1167 2458 1033 1387 1589 2243 679 1345"""


def test_delong_is_procs_on_the_patients_of_turck() -> None:
    """113 patients with a haemorrhage: Turck et al., Intensive Care Medicine 36(1), 2010, the data set `aSAH` of the R

    package pROC (Robin et al., BMC Bioinformatics 12:77, 2011). Expected are the values of pROC's own tests
    (github.com/xrobin/pROC at ee2877e, tests/testthat/test-roc.test.R, test-cov.R, test-ci.auc.R).
    """
    outcome = np.array(list(OUTCOME)) == "1"
    scores = np.array([list(map(float, text)) for text in (WFNS, S100B.split(), NDKA.split())])
    found = delong(outcome, scores)
    np.testing.assert_allclose(found.auc[2], 0.611957994579946, rtol=1e-12)
    pairs = [(0, 2, -0.000532967856762438), (2, 1, -0.000756164938056579), (1, 0, 0.00119615567376754)]
    for one, other, expected in pairs:
        assert found.covariance[one, other] == pytest.approx(expected, rel=1e-12)
    tests = [
        (0, 1, 2.20898359144091, 0.0104061769564846, 0.174214419249478),
        (0, 2, 2.79777591868904, 0.0634011709339876, 0.3600405634833566),
        (2, 1, -1.39077002573558, -0.2876917446341914, 0.0488706064228094),
    ]
    for one, other, z, low, high in tests:
        more = found.auc[one] - found.auc[other]
        c = found.covariance
        error = np.sqrt(c[one, one] + c[other, other] - 2 * c[one, other])
        assert more / error == pytest.approx(z, rel=1e-12)
        half = norm.ppf(0.975) * error
        assert (more - half, more + half) == pytest.approx((low, high), rel=1e-9)
        # Ours is a little wider, as it makes up for few rows.
        ours = found.measured(other).loss(found.measured(one), "higher")
        assert ours.low < low < high < ours.high
        assert ours.high - ours.low < 1.15 * (high - low)
    alone = 0.5 * (0.722670989888189 - 0.501244999271703) / norm.ppf(0.975)
    assert np.sqrt(found.covariance[2, 2]) == pytest.approx(alone, rel=1e-9)


def most(trials: int, level: float = 0.05) -> int:
    """What a rate of `level` stays within, but for once in 20,000 series."""
    return int(binom.ppf(1 - 0.5e-4, trials, level))


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name.replace(" ", "-"))
def test_a_true_loss_of_just_the_bound_passes_in_5_percent_and_intervals_cover(setting: Setting) -> None:
    truth = truths(setting, 1, 400_000)
    for rows, trials in ((200, 300), (500, 200)):
        for name, found in simulate(setting, truth, rows, trials).items():
            assert found.trials == trials
            assert found.passed <= most(trials), (name, rows)
            assert found.failed <= most(trials), (name, rows)
            assert trials - found.covered <= most(trials), (name, rows)
            assert trials - found.covered_loss <= most(trials), (name, rows)


@pytest.mark.parametrize("setting", [SETTINGS[3], SETTINGS[6]], ids=["binary", "numbers"])
def test_so_it_is_with_many_rows(setting: Setting) -> None:
    truth = truths(setting, 1)
    for name, found in simulate(setting, truth, 5_000, 100).items():
        assert found.passed <= most(100), name
        assert 100 - found.covered <= most(100), name
        assert found.passed + found.failed > 0  # the limits are no wider than they must be


def test_equally_good_models_pass_once_there_are_rows_enough() -> None:
    few, many = power(1_000, (0.003, 0.01, 0.02), 60), power(20_000, (0.003, 0.01, 0.02), 20)
    assert few[0.003] < 0.4 * 60 < few[0.02]
    assert (many[0.01], many[0.02]) == (20, 20)


@pytest.mark.parametrize("bound", [0.03, 0.1])
def test_with_the_rows_that_are_named_about_half_decide(bound: float) -> None:
    needed, count = decided(200, bound, 200)
    assert needed > 50
    assert 0.35 <= count / 200 <= 0.75


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_the_limits_of_the_calibration_error_hold(off: float) -> None:
    high, low, plain, beyond_chance = calibration(1_000, 400, off)
    assert high <= most(400)
    assert low <= most(400)
    assert plain > off / 4 + 0.008  # chance adds to it
    assert off / 8 < beyond_chance + 1e-9 < off / 4 + 0.008


# -- shares


def test_wilson_stays_within_zero_and_one() -> None:
    # Wilson (1927); numbers as in Newcombe (1998), table I: 81 of 263, and 0 of 20.
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)


def test_the_paired_share_is_tangos_score_test() -> None:
    """At each limit the score statistic, with the likeliest shares found by brute force, is the normal quantile."""
    first, second, rows = 12, 5, 60
    for limit, sign in zip(paired_share((first, second), rows, 0.025), (1, -1), strict=True):
        shares = np.linspace(1e-6, 1 - 1e-6, 400_001)
        shares = shares[(shares + limit > 0) & (2 * shares + limit < 1)]
        with np.errstate(divide="ignore"):
            both = np.log1p(-2 * shares - limit)
        likely = first * np.log(shares + limit) + second * np.log(shares) + (rows - first - second) * both
        best = shares[likely.argmax()]
        z = (first - second - rows * limit) / np.sqrt(rows * (2 * best + limit * (1 - limit)))
        assert z == pytest.approx(sign * norm.ppf(0.975), abs=1e-3)


def test_farther_from_a_number_is_worse_on_either_side() -> None:
    draw = np.random.default_rng(0)
    low, high, right = (draw.random(4_000) < share for share in (0.80, 0.97, 0.90))
    for bad in (low, high):
        lost = share_loss(bad.astype(float), right.astype(float), 0.9)
        assert lost.low < lost.at_least < lost.value < lost.at_most < lost.high
        assert lost.at_least > 0.03
        won = share_loss(right.astype(float), bad.astype(float), 0.9)
        assert won.at_most == pytest.approx(-lost.at_least)


# -- where little is to be seen


def quality(task: Task, outcome: npt.NDArray[np.generic], *scores: Floats) -> dict[str, tuple[Estimate, Loss | None]]:
    found = measure_quality(outcome, scores[0], scores[1] if len(scores) > 1 else None, {}, by=Standard(task))
    return {metric.name: (metric.candidate, metric.loss) for metric in found.metrics}


def test_perfect_scores_are_not_certain() -> None:
    outcome = np.arange(100) < 30
    sure, other = np.where(outcome, 0.9, 0.1), np.where(outcome, 0.8, 0.2)
    for name, (estimate, loss) in quality(Task(), outcome, sure, other).items():
        assert estimate.low < estimate.high, name
        assert loss is not None
        assert loss.low < loss.value < loss.high, name
    areas = quality(Task(), outcome, sure, other)
    assert areas["roc_auc"][0] == Estimate(1.0, pytest.approx(0.025 ** (1 / 30)), 1.0)
    number = np.arange(50.0)
    assert quality(Task("regression"), number, number, number + 1)["rmse"][0].high > 1.0
    place = np.arange(90) % 3
    sure, three = np.eye(3)[place], Task("multiclass", classes=("a", "b", "c"))
    right = quality(three, place, sure, sure * 0.85 + 0.05)
    assert all(estimate.low < estimate.high for estimate, _ in right.values())
    assert right["accuracy"][1] is not None
    assert right["accuracy"][1].at_most > 0.02  # no row differs, and a hundred more might


def test_constant_scores_tell_nothing() -> None:
    outcome = np.arange(60) < 20
    found = quality(Task(), outcome, np.full(60, 0.3), np.full(60, 0.4))
    area, loss = found["roc_auc"]
    assert area.value == 0.5
    assert area.low < 0.5 < area.high
    assert loss is not None
    assert loss.at_least < 0 < loss.at_most


def test_the_same_scores_lose_nothing() -> None:
    draw = np.random.default_rng(0)
    outcome, score = draw.random(200) < 0.4, draw.random(200)
    for _, loss in quality(Task(), outcome, score, score.copy()).values():
        assert loss == Loss(0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize("few", FEW, ids=lambda few: f"{few.name}-{few.rows}".replace(" ", "-"))
def test_intervals_hold_with_few_rows_of_a_class(few: Few) -> None:
    covered, covered_loss = few.covered(200)
    assert covered / 200 >= 0.92
    assert covered_loss / 200 >= 0.92


def test_five_positives_on_top_show_little() -> None:
    outcome = np.arange(10_000) < 5
    scores = np.where(outcome, 0.9, 0.1) - np.linspace(0, 0.01, 10_000) * [[1], [2]]
    one, two = (average_precision(outcome, score) for score in scores)
    area = delong(outcome, scores).measured(0).estimate()
    assert (one.estimate().low, one.estimate().high) == (pytest.approx(area.low), 1.0)
    assert area.low == pytest.approx(0.025 ** (1 / 5))
    loss = one.loss(two, "higher")
    assert loss.at_most == pytest.approx(1 - 0.05 ** (1 / 5))
    assert loss.unseen > loss.at_most


def test_a_class_without_a_mistake_is_not_certain() -> None:
    place = np.r_[np.zeros(5, np.int64), np.repeat([1, 2], 100)]
    score = np.eye(3)[np.where(np.arange(205) % 9 == 8, (place + 1) % 3, place)]
    whole = macro_f1(place, score)
    assert (score[:5].argmax(axis=1) == 0).all()
    assert whole.value - whole.estimate().low > (1 - 0.025 ** (1 / 5)) / 3
    loss = whole.loss(macro_f1(place, score[:, [0, 2, 1]]), "higher")
    assert loss.at_most - loss.value > (1 - 0.05 ** (1 / 5)) / 3


def test_a_class_of_one_row_widens_the_interval() -> None:
    draw = np.random.default_rng(0)
    place = np.r_[np.repeat([0, 1], 60), 2]
    score = draw.dirichlet(np.ones(3), 121)
    score[-1] = [0.0, 0.0, 1.0]
    with_one, without = (areas_against_rest(place[:rows], [score[:rows]]).measured(0).estimate() for rows in (121, 120))
    assert with_one.high - with_one.low > 1.5 * (without.high - without.low)
    found = quality(Task("multiclass", classes=("a", "b", "c")), place, score, score[:, ::-1].copy())
    assert all(np.isfinite([estimate.low, estimate.high]).all() for estimate, _ in found.values())
    lone = delong(np.arange(50) == 0, draw.random((2, 50)))
    assert lone.measured(0).estimate().high - lone.measured(0).estimate().low > 0.9


@pytest.mark.parametrize("task", [Task(), Task("regression"), Task("multiclass", classes=("a", "b"))])
def test_one_row_is_too_few(task: Task) -> None:
    score = np.full((1, 2) if task.width else 1, 0.5)
    with pytest.raises(DatasetError, match="too (few|little) to judge by"):
        measure_quality(np.ones(1, np.int64) if task.kind != "binary" else np.ones(1, np.bool_), score, None, {})


def test_p_is_the_level_at_which_the_limit_is_the_bound() -> None:
    each = np.random.default_rng(0).exponential(size=80)
    candidate, champion = Measured(float(each.mean()), each), Measured(0.0, np.zeros(80))
    loss = candidate.loss(champion, "lower")
    assert candidate.chance(champion, "lower", loss.at_least) == pytest.approx(0.05, rel=1e-6)
    assert candidate.chance(champion, "lower", loss.low) == pytest.approx(0.025, rel=1e-6)


def test_where_no_row_can_differ_the_chance_is_none_or_all() -> None:
    three, five = (Measured(value, np.full(40, value), most=np.inf, span=0.0) for value in (3.0, 5.0))
    assert five.chance(three, "lower", 1.0) == 0.0
    assert five.chance(three, "lower", 3.0) == 1.0


def test_few_rows_that_carry_all_leave_few_degrees_of_freedom() -> None:
    normal = np.random.default_rng(0).normal(size=1_000)
    assert Spread.of(normal).degrees > 800
    assert Spread.of(np.r_[np.zeros(990), np.full(10, 5.0)]).degrees < 20
    assert Spread.of(np.full(10, 0.3)).error == 0.0
    assert Spread.of(1e200 * normal).error == pytest.approx(1e200 * Spread.of(normal).error)
