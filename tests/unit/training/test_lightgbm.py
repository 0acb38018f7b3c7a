"""LightGBM beyond the conformance suite: models of several legs, and the order of categories."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trunkline.errors import TrainingError
from trunkline.estimators import LightGBM, XGBoost
from trunkline.models.task import Task
from trunkline.testing import estimator_cases
from trunkline.training.metrics import Metric
from trunkline.training.protocol import FitContext
from trunkline.training.trees import lightgbm
from trunkline.training.trees.lightgbm import FittedLightGBM
from trunkline.training.trees.recoding import Recoding, _ranks


def test_a_model_of_several_legs_is_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lightgbm._Grown, "leg", 25)
    for kind in ("binary", "multiclass", "quantile"):
        data = estimator_cases.case(kind)  # type: ignore[arg-type]  # one of the tasks
        told: list[float] = []
        estimator = LightGBM(rounds=110, lr=0.02, leaves=5, min_leaf=10, early_stopping=200)
        fitted = estimator.fit(data, FitContext(report=lambda _, value, told=told: told.append(value)))  # type: ignore[misc]
        assert isinstance(fitted, FittedLightGBM)
        best = max(data.metric.signed(value) for value in told)
        score = fitted.predict(data.validation.x)
        assert data.metric.signed(data.metric.of(data.validation.y, score)) >= best - 1e-6
        rounds = {booster.current_iteration() for booster in fitted.boosters}
        assert all(25 < count <= 110 for count in rounds)


def test_codes_of_several_classes_lie_along_what_sets_them_apart() -> None:
    """Two groups of codes that prefer different classes end up at the two ends."""
    rates = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.75, 0.15, 0.1], [0.1, 0.15, 0.75], [0.4, 0.2, 0.4]])
    ranks = _ranks(np.column_stack([np.full(5, 10_000.0), rates * 10_000.0]))
    assert ranks[4] == 2
    assert {int(ranks[0]), int(ranks[2])} in ({0, 1}, {3, 4})
    assert sorted(ranks.tolist()) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["regression", "quantile"])
def test_codes_of_numbers_go_by_their_mean(kind: str) -> None:
    data = estimator_cases.case(kind)  # type: ignore[arg-type]  # one of the tasks
    recoding = Recoding.fit(data)
    shop = data.encoder.names.index("shop")
    start = recoding.starts[recoding.ordered.tolist().index(shop)]
    size = data.encoder.columns[shop].cardinality
    codes = data.train.x[:, shop].astype(int)
    means = [data.train.y[codes == code].mean() for code in range(1, size)]
    ranks = recoding.table[start + 1 : start + size]
    often = [code for code in range(1, size) if (codes == code).sum() > 80]
    order = sorted(often, key=lambda code: means[code - 1])
    assert [ranks[code - 1] for code in order] == sorted(ranks[code - 1] for code in order)


@pytest.mark.parametrize("estimator", [LightGBM(rounds=10), XGBoost(rounds=10)], ids=lambda record: record.name)
def test_a_metric_that_is_no_number_is_refused(estimator: LightGBM | XGBoost) -> None:
    data = replace(
        estimator_cases.case("binary"), metric=Metric("odd", lambda y, score: float("nan"), True, ("binary",))
    )
    with pytest.raises(TrainingError, match="the metric 'odd' is not a number after round 5"):
        estimator.fit(data, FitContext())


@pytest.mark.parametrize("estimator", [LightGBM(), XGBoost()], ids=lambda record: record.name)
def test_a_target_of_lists_is_for_torch(estimator: LightGBM | XGBoost) -> None:
    data = estimator_cases.case("regression")
    lists = replace(data, signature=replace(data.signature, task=Task("custom", outputs=2)))
    with pytest.raises(TrainingError, match="cannot learn a custom task") as caught:
        estimator.fit(lists, FitContext())
    assert "Torch" in str(caught.value.hint)
