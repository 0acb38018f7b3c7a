"""The metrics against scikit-learn's, ties included, and the intervals and tests against what they promise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

import trunkline as tl
from trunkline.errors import ProjectError, TrainingError
from trunkline.models.task import DEFAULT_METRICS, Task
from trunkline.training.metrics import (
    METRICS,
    Metric,
    average_precision,
    brier,
    interval,
    log_loss,
    measure_all,
    metric_named,
    metrics_of,
    paired_difference,
    roc_auc,
)

Floats = npt.NDArray[np.float64]
Draw = Callable[[int], tuple[Floats, Floats]]

PAIRS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=2).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)
BINARY, THREE, NUMBER = Task(), Task("multiclass", ("a", "b", "c")), Task("regression")
BAND = Task("quantile", quantiles=(0.1, 0.5, 0.9))
PAIR = Task("custom", outputs=2)


def of(name: str, task: Task) -> Metric:
    """The metric `name` of a task."""
    return metric_named(name, task)


@given(PAIRS)
def test_binary_ones_are_as_scikit_learn_has_them(pairs: list[tuple[bool, float]]) -> None:
    y, score = np.array(pairs, dtype=np.float64).T
    assert roc_auc(y, score) == pytest.approx(sk.roc_auc_score(y, score))
    assert average_precision(y, score) == pytest.approx(sk.average_precision_score(y, score))
    assert brier(y, score) == pytest.approx(sk.brier_score_loss(y, score))
    kept = np.clip(score, 1e-15, 1 - 1e-15)
    assert log_loss(y, score) == pytest.approx(sk.log_loss(y, kept))
    assert of("accuracy", BINARY).of(y, score) == sk.accuracy_score(y, score > 0.5)
    assert of("f1", BINARY).of(y, score) == pytest.approx(sk.f1_score(y, score > 0.5, zero_division=0))


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2]), *[st.floats(0.01, 1)] * 3), min_size=4))
def test_those_of_several_classes_are_as_scikit_learn_has_them(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows)
    y, score = table[:, 0], table[:, 1:] / table[:, 1:].sum(axis=1, keepdims=True)
    chosen, labels = score.argmax(axis=1), [0, 1, 2]
    assert of("log_loss", THREE).of(y, score) == pytest.approx(sk.log_loss(y, score, labels=labels))
    assert of("accuracy", THREE).of(y, score) == sk.accuracy_score(y, chosen)
    assert of("macro_f1", THREE).of(y, score) == pytest.approx(sk.f1_score(y, chosen, average="macro", zero_division=0))
    squares = np.square(score - np.eye(3)[y.astype(int)]).sum(axis=1)
    assert of("brier", THREE).of(y, score) == pytest.approx(squares.mean())
    if len(np.unique(y)) == 3:
        expected = sk.roc_auc_score(y, score, multi_class="ovr")
        assert of("roc_auc_ovr", THREE).of(y, score) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2))
def test_those_of_numbers_are_as_scikit_learn_has_them(rows: list[tuple[float, float]]) -> None:
    y, score = np.array(rows).T
    assert of("rmse", NUMBER).of(y, score) == pytest.approx(sk.root_mean_squared_error(y, score))
    assert of("mae", NUMBER).of(y, score) == pytest.approx(sk.mean_absolute_error(y, score))
    assert of("median_ae", NUMBER).of(y, score) == pytest.approx(sk.median_absolute_error(y, score))
    assert of("mape", NUMBER).of(y, score) == pytest.approx(sk.mean_absolute_percentage_error(y, score))
    if np.ptp(y) > 1e-6:
        assert of("r2", NUMBER).of(y, score) == pytest.approx(sk.r2_score(y, score), rel=1e-6)


@given(st.lists(st.tuples(*[st.floats(-1e3, 1e3)] * 4), min_size=1))
def test_those_of_quantiles_are_as_scikit_learn_has_them(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows)
    y, score = table[:, 0], np.sort(table[:, 1:], axis=1)
    losses = [sk.mean_pinball_loss(y, score[:, place], alpha=level) for place, level in enumerate(BAND.quantiles)]
    assert of("pinball_loss", BAND).of(y, score) == pytest.approx(np.mean(losses))
    assert of("coverage", BAND).of(y, score) == np.mean([low <= at <= high for at, low, _, high in
                                                         zip(y, *score.T, strict=True)])  # fmt: skip


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_one_class_has_no_ranking(name: str) -> None:
    with pytest.raises(TrainingError, match="both classes"):
        METRICS[name].function(np.zeros(3), np.array([0.1, 0.2, 0.3]))


# -- uncertainty


def draws(task: Task, seed: int) -> Draw:
    """Outcomes and scores of a task, of a model that is right about the odds but for `task`'s own noise."""
    random = np.random.default_rng(seed)

    def binary(rows: int) -> tuple[Floats, Floats]:
        score = random.beta(2, 5, rows)
        return (random.random(rows) < score).astype(np.float32), score

    def several(rows: int) -> tuple[Floats, Floats]:
        score = random.dirichlet([1, 1, 0.5], rows)
        return (random.random(rows)[:, None] > score.cumsum(axis=1)).sum(axis=1).astype(np.float32), score

    def number(rows: int) -> tuple[Floats, Floats]:
        score = random.normal(20, 2, rows)  # far from 0: a relative error of 0 has no mean
        return score + random.normal(size=rows), score

    def band(rows: int) -> tuple[Floats, Floats]:
        y, score = number(rows)
        return y, score[:, None] + np.array([-1.28, 0, 1.28])

    def pair(rows: int) -> tuple[Floats, Floats]:
        score = random.normal(size=(rows, 2))
        return score + random.normal(size=(rows, 2)), score

    kinds = {"binary": binary, "multiclass": several, "regression": number, "quantile": band, "custom": pair}
    return kinds[task.kind]


CASES = [
    pytest.param(task, metric.name, id=f"{task.kind}-{metric.name}")
    for task in (BINARY, THREE, NUMBER, BAND, PAIR)
    for metric in metrics_of(task)
]


@pytest.mark.parametrize(("task", "name"), CASES)
def test_intervals_hold_the_truth_about_as_often_as_they_say(task: Task, name: str) -> None:
    metric, draw = of(name, task), draws(task, 0)
    truth = metric.of(*draw(200_000))
    held = 0
    for _ in range(100):
        low, high = interval(metric, *draw(400))
        held += low <= truth <= high
    assert 88 <= held <= 100


@pytest.mark.parametrize(("task", "name"), CASES)
def test_a_difference_that_is_not_there_is_seldom_found_and_one_that_is_there_is(task: Task, name: str) -> None:
    metric, draw, random = of(name, task), draws(task, 1), np.random.default_rng(2)
    found = []
    for _ in range(60):
        y, score = draw(400)
        a, b = (_blurred(task, score, random, 0.5) for _ in range(2))  # equally good
        found.append(paired_difference(metric, y, a, b))
    assert sum(each.p < 0.05 for each in found) <= 9
    assert all((each.low <= 0 <= each.high) == (each.p >= 0.0499) for each in found)
    y, score = draw(4_000)
    told = paired_difference(metric, y, score, random.permutation(score))
    assert metric.signed(told.value) > 0
    assert told.p < 0.01


def _blurred(task: Task, score: Floats, random: np.random.Generator, by: float) -> Floats:
    noise = random.normal(0, by, score.shape[:1] if task.kind == "quantile" else score.shape)
    if task.kind == "multiclass":
        p = score * np.exp(noise)
        return np.asarray(p / p.sum(axis=1, keepdims=True))
    if task.kind == "binary":
        return np.asarray(1 / (1 + np.exp(-(np.log(score / (1 - score)) + noise))))
    return score + (noise[:, None] if task.kind == "quantile" else noise)


def test_an_interval_of_a_perfect_ranking_stays_in_bounds() -> None:
    assert interval(METRICS["roc_auc"], np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == (1.0, 1.0)


def test_one_model_does_not_differ_from_itself() -> None:
    y, score = draws(BINARY, 3)(200)
    for metric in metrics_of(BINARY):
        assert paired_difference(metric, y, score, score) == (0.0, 0.0, 0.0, 1.0)


def test_draws_without_a_positive_are_left_out() -> None:
    y = np.zeros(300)
    y[:2] = 1  # one draw in seven has neither
    low, high = interval(METRICS["average_precision"], y, np.linspace(1, 0, 300))
    assert 0 < low <= high <= 1


def test_a_few_draws_of_many_rows_are_scaled_to_all_of_them() -> None:
    y, score = draws(NUMBER, 4)(250_000)
    low, high = interval(of("median_ae", NUMBER), y, score)
    # The density of |N(0, 1)| at its median is 0.636: the median's error is 0.5 / (0.636 * 500).
    assert low < 0.6745 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 / (0.636 * 500), rel=0.25)


# -- names, and metrics of the user's own


@pytest.mark.parametrize("task", [BINARY, THREE, NUMBER, BAND])
def test_each_task_has_a_metric_of_its_own(task: Task) -> None:
    assert metric_named(None, task).name == DEFAULT_METRICS[task.kind]


def test_a_metric_of_another_task_names_those_of_this_one() -> None:
    with pytest.raises(TrainingError, match=r"no metric 'rmse' of a binary target") as told:
        metric_named("rmse", BINARY)
    assert "roc_auc, average_precision, log_loss, brier, accuracy, f1" in (told.value.hint or "")
    with pytest.raises(TrainingError, match=r"no metric 'los_loss'\. Did you mean 'log_loss'"):
        metric_named("los_loss", THREE)
    with pytest.raises(TrainingError, match="needs a metric"):
        metric_named(None, PAIR)


def largest(y: Floats, score: Floats) -> float:
    """A metric of the user's: the largest error."""
    return float(np.abs(y - score).max())


def test_a_metric_of_the_users_own_is_measured_and_resampled() -> None:
    y, score = draws(PAIR, 5)(300)
    metric = metric_named(tl.Metric("largest", largest, higher_is_better=False), PAIR)
    assert metric.signed(metric.of(y, score)) == -np.abs(y - score).max()
    low, high = interval(metric, y, score)
    assert low < high <= metric.of(y, score)
    assert list(measure_all(metric, PAIR, y, score)) == ["largest", "rmse", "mae"]
    assert list(measure_all(metric_named(tl.Metric("first", lambda y, score: 1, higher_is_better=True), PAIR),
                            PAIR, y, score[:, :1])) == ["first"]  # fmt: skip
    with pytest.raises(TrainingError, match=r"shape \[300, 2\] cannot be compared with scores of shape \[300, 1\]"):
        metric_named("rmse", PAIR).of(y, score[:, :1])


def writes(y: Floats, score: Floats) -> float:
    """A metric that would change what other trials see."""
    score[:] = 0
    return 0.0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (writes, "(?s)the metric 'mine' failed with ValueError: .*test_metrics.py"),
        (lambda y, score: None, "gave NoneType None, which is no finite number"),
        (lambda y, score: [1, 2], r"gave list \[1, 2\], which is no finite number"),
        (lambda y, score: float("nan"), "gave float nan, which is no finite number"),
    ],
    ids=["writes", "nothing", "several", "nan"],
)
def test_a_metric_that_fails_is_shown_in_the_users_lines(function: Callable[..., float], message: str) -> None:
    metric = metric_named(tl.Metric("mine", function, higher_is_better=True), BINARY)
    with pytest.raises(TrainingError, match=message) as told:
        metric.of(*draws(BINARY, 6)(20))
    assert Path(str(told.value.file)).name == "test_metrics.py"
    assert told.value.line


def test_a_metric_of_ones_own_has_a_name_of_its_own() -> None:
    with pytest.raises(TrainingError, match="'rmse' is the name of a metric that Trunkline has"):
        metric_named(tl.Metric("rmse", largest, higher_is_better=False), NUMBER)


@pytest.mark.parametrize(
    ("name", "function", "up", "message"),
    [
        ("my cost", largest, True, r"tl.Metric\(name='my cost'\)"),
        ("cost", "largest", True, r"tl.Metric\(function='largest'\)"),
        ("cost", largest, "max", r"tl.Metric\(higher_is_better='max'\)"),
    ],
)
def test_a_metric_that_is_declared_wrongly_is_refused(name: str, function: object, up: object, message: str) -> None:
    with pytest.raises(ProjectError, match=message) as told:
        tl.Metric(name, function, higher_is_better=up)  # type: ignore[arg-type]
    assert Path(str(told.value.file)).name == "test_metrics.py"
