"""XGBoost beyond the conformance suite: an export that is exact value by value, legs, and settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from trunkline.errors import TrainingError
from trunkline.estimators import XGBoost
from trunkline.models.runtime import Scorer
from trunkline.models.task import TaskKind
from trunkline.testing import estimator_cases
from trunkline.training.protocol import FitContext
from trunkline.training.trees import xgboost
from trunkline.training.trees.xgboost import FittedXGBoost

KINDS: tuple[TaskKind, ...] = ("binary", "multiclass", "regression", "quantile")


def fitted(kind: TaskKind, **settings: Any) -> tuple[FittedXGBoost, Any]:
    """A model of noisy rows with many splits, and its data."""
    data = estimator_cases.case(kind)
    given = {"rounds": 60, "lr": 0.3, "depth": 7, "min_child": 0.1, "early_stopping": 60, **settings}
    model = XGBoost(**given).fit(data, FitContext(seed=2))
    assert isinstance(model, FittedXGBoost)
    return model, data


@pytest.mark.parametrize("kind", KINDS)
def test_the_export_is_exact_at_every_threshold(kind: TaskKind) -> None:
    model, data = fitted(kind)
    graph = onnx.load_model_from_string(model.to_onnx()).graph
    (trees,) = (node for node in graph.node if node.op_type == "TreeEnsembleRegressor")
    held = {attribute.name: attribute for attribute in trees.attribute}
    at = np.array(held["nodes_values"].floats, np.float32)
    whose = np.array(held["nodes_featureids"].ints)
    recoded = [*model.recoding.kept.tolist(), *model.recoding.ordered.tolist()]
    random, rows = np.random.default_rng(4), []
    for column in range(len(recoded)):
        if data.encoder.columns[recoded[column]].cardinality:
            continue
        seen = np.unique(at[whose == column])
        values = np.concatenate(
            [seen, np.nextafter(seen, -np.inf), np.nextafter(seen, np.inf), [np.nan, np.inf, -np.inf]]
        )
        base = data.validation.x[random.integers(0, len(data.validation), len(values))].copy()
        base[:, recoded[column]] = values
        rows.append(base)
    x = np.concatenate(rows).astype(np.float32)
    assert len(x) > 400
    served = Scorer.of(data.encoder, model.to_onnx()).score_matrix(x)
    told = model.predict(x)
    np.testing.assert_allclose(served, told, rtol=1e-5, atol=2e-6)  # one wrong turn would be far beyond


def test_a_model_of_several_legs_is_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, data = fitted("multiclass", bagging_fraction=1.0, feature_fraction=1.0)
    monkeypatch.setattr(xgboost._Grown, "leg", 25)
    legs, _ = fitted("multiclass", bagging_fraction=1.0, feature_fraction=1.0)
    assert legs.booster.num_boosted_rounds() == whole.booster.num_boosted_rounds()
    x = data.validation.x
    np.testing.assert_allclose(legs.predict(x), whole.predict(x), atol=1e-5)  # nothing random: legs change nothing


def test_leaves_grow_split_by_split() -> None:
    model, _ = fitted("binary", leaves=4, depth=12)
    assert max(tree.count("leaf=") for tree in model.booster.get_dump()) == 4


def test_what_xgboost_refuses_is_told_without_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xgboost, "sound", lambda data: None)
    data = estimator_cases.case("regression")
    y = data.train.y.copy()
    y[0] = np.nan
    with pytest.raises(TrainingError, match="XGBoost cannot train on this data: Label contains NaN") as caught:
        XGBoost(rounds=5).fit(estimator_cases.with_labels(data, y), FitContext())
    assert ".cc" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 0}, r"XGBoost\(depth=0\): depth must be an integer >= 1"),
        ({"leaves": 1}, "leaves must be an integer >= 2"),
        ({"bins": 1.5}, "bins must be an integer"),
        ({"min_child": -1}, "min_child must be a number >= 0"),
        ({"feature_fraction": 0}, "feature_fraction must be a number > 0 and <= 1"),
        ({"class_weights": "equal"}, "class_weights must be 'balanced', or a mapping"),
        ({"calibrate": "platt"}, "calibrate must be one of"),
    ],
)
def test_a_setting_out_of_range_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        XGBoost(**settings)
