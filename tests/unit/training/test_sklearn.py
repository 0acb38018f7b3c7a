"""scikit-learn's estimators beyond the conformance suite: what they are given, what is exported, what is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Perceptron, QuantileRegressor, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC

from trunkline.errors import TrainingError
from trunkline.estimators import Sklearn
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task, TaskKind
from trunkline.testing import estimator_cases
from trunkline.training.parity import verify
from trunkline.training.protocol import FitContext, Peers
from trunkline.training.scikit.graph import trees_of
from trunkline.training.scikit.preparation import Preparation
from trunkline.training.scikit.sklearn import FittedSklearn


def fitted(estimator: Any, kind: TaskKind = "binary", **settings: Any) -> FittedSklearn:
    """Fit on the sound rows."""
    model = Sklearn(estimator, **settings).fit(estimator_cases.case(kind), FitContext(seed=3))
    assert isinstance(model, FittedSklearn)
    return model


@pytest.mark.parametrize(
    ("estimator", "kind", "settings"),
    [
        (KNeighborsClassifier(), "multiclass", {}),
        (AdaBoostClassifier(n_estimators=10), "binary", {}),
        (CalibratedClassifierCV(LinearSVC(), ensemble=False), "binary", {}),
        (make_pipeline(StandardScaler(), CalibratedClassifierCV(SVC(), ensemble=False)), "multiclass", {}),
        (make_pipeline(PolynomialFeatures(interaction_only=True), Ridge()), "regression", {"one_hot": 4}),
        (make_pipeline(SimpleImputer(), RandomForestRegressor(5)), "regression", {}),
        (StackingClassifier([("forest", RandomForestClassifier(5)), ("line", LogisticRegression())]), "binary", {}),
        (RandomForestClassifier(10, class_weight="balanced"), "multiclass", {"impute": True, "scale": True}),
        (GradientBoostingRegressor(n_estimators=10), "quantile", {}),
        (QuantileRegressor(alpha=0.0), "quantile", {"one_hot": 0}),
    ],
    ids=lambda item: type(item).__name__ if hasattr(item, "get_params") else None,
)
def test_the_export_is_the_model_and_the_same_each_time(
    estimator: Any, kind: TaskKind, settings: dict[str, Any]
) -> None:
    data = estimator_cases.case(kind)
    model = fitted(estimator, kind, **settings)
    onnx = model.to_onnx()
    verify(Scorer.of(data.encoder, onnx, task=data.task), model, data.validation.x, data.task)
    assert fitted(estimator, kind, **settings).to_onnx() == onnx  # skl2onnx's own names count on through the process


def test_settings_are_the_estimator_all_the_way_down() -> None:
    pipeline = make_pipeline(SimpleImputer(), CalibratedClassifierCV(LinearSVC(C=0.5), ensemble=False))
    told = json.loads(json.dumps(Sklearn(pipeline, one_hot=8).settings()))
    (_, imputer), (_, wrapped) = told["estimator"]["params"]["steps"]
    assert told["estimator"]["class"] == "sklearn.pipeline:Pipeline"
    assert imputer["params"]["missing_values"] == "nan"
    assert wrapped["params"]["estimator"]["params"]["C"] == 0.5
    assert Sklearn(pipeline).name == "CalibratedClassifierCV"
    with pytest.raises(TrainingError, match="'estimator' is a object|parameter 'class_weight' of scikit-learn's"):
        Sklearn(LogisticRegression(class_weight=object())).settings()


def test_a_function_or_a_class_gives_the_estimator() -> None:
    assert Sklearn(Ridge).settings() == Sklearn(Ridge()).settings() == Sklearn(lambda: Ridge()).settings()
    with pytest.raises(TrainingError, match="this is no estimator of scikit-learn"):
        Sklearn("ridge")


def test_what_takes_missing_values_gets_them_and_what_does_not_gets_none() -> None:
    data = estimator_cases.case("binary")
    assert np.isnan(data.train.x).any()
    seen = fitted(RandomForestClassifier(5)).preparation.apply(data.train.x)
    assert np.isnan(seen).any()
    assert seen.shape[1] == data.encoder.width
    seen = fitted(LogisticRegression()).preparation.apply(data.train.x)
    assert np.isfinite(seen).all()
    numbers, flags, shops, items = (
        4,
        2,
        data.encoder.columns[2].cardinality - 1,
        data.encoder.columns[3].cardinality - 1,
    )
    assert seen.shape[1] == numbers + flags + shops + items
    assert set(np.unique(seen[:, numbers:]).tolist()) == {0.0, 1.0}
    np.testing.assert_allclose(seen[:, 1].mean(), 0, atol=1e-3)
    np.testing.assert_allclose(seen[:, 1].std(), 1, atol=0.05)


def test_a_mean_takes_the_place_of_what_is_missing_where_nothing_is_scaled() -> None:
    data = estimator_cases.case("binary")
    seen = Preparation.fit(data, impute=True, scale=False, one_hot=2).apply(data.train.x)
    amount, missing = data.train.x[:, 0], np.isnan(data.train.x[:, 0])
    np.testing.assert_allclose(seen[missing, 0], np.nanmean(amount), rtol=1e-4)
    np.testing.assert_array_equal(seen[~missing, 0], amount[~missing])
    assert seen[:, 4].tolist() == missing.astype(float).tolist()


def test_thresholds_are_what_a_float32_can_hold() -> None:
    for model in (
        fitted(RandomForestClassifier(5)).models[0],
        fitted(HistGradientBoostingRegressor(), "regression").models[0],
    ):
        trees = trees_of(model)
        assert len(trees) >= 5
        for tree in trees:
            held = tree.nodes["num_threshold"] if hasattr(tree, "nodes") else tree.threshold
            np.testing.assert_array_equal(held, held.astype(np.float32))


def test_each_random_state_that_is_none_gets_the_seed() -> None:
    stacked = StackingClassifier(
        [("forest", RandomForestClassifier(3)), ("fixed", RandomForestClassifier(3, random_state=9))]
    )
    params = fitted(stacked).models[0].get_params()
    assert (params["forest__random_state"], params["fixed__random_state"]) == (3, 9)


@pytest.mark.parametrize(
    ("estimator", "kind", "settings", "message"),
    [
        (Perceptron(), "binary", {}, r"Perceptron gives no probabilities \(it has no predict_proba\)"),
        (Ridge(), "binary", {}, "the task is binary, and scikit-learn's Ridge is no classifier"),
        (LogisticRegression(), "regression", {}, "LogisticRegression is no regressor"),
        (Ridge(), "quantile", {}, "Ridge does not estimate quantiles"),
        (LogisticRegression(C=-1), "binary", {}, "LogisticRegression cannot train on this data: The 'C' parameter"),
        (LogisticRegression(), "binary", {"impute": False}, "cannot train on this data: Input X contains NaN"),
        (KNeighborsClassifier(), "binary", {"class_weights": "balanced"}, "KNeighborsClassifier takes no weights"),
    ],
)
def test_what_cannot_be_fitted_is_told(estimator: Any, kind: TaskKind, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        fitted(estimator, kind, **settings)


def test_what_cannot_be_exported_is_told_by_name() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a kernel's bounds
        model = fitted(GaussianProcessClassifier(), "multiclass")
    with pytest.raises(TrainingError, match="GaussianProcessClassifier cannot be told in ONNX") as caught:
        model.to_onnx()
    assert "RandomForestClassifier" in str(caught.value.hint)


def test_peers_and_lists_are_for_others() -> None:
    data = estimator_cases.case("regression")
    with pytest.raises(TrainingError, match="is fitted by one process, not by 2"):
        Sklearn(Ridge()).fit(data, FitContext(peers=Peers(0, 2, 600)))
    lists = replace(data, signature=replace(data.signature, task=Task("custom", outputs=2)))
    with pytest.raises(TrainingError, match="Ridge cannot learn a custom task"):
        Sklearn(Ridge()).fit(lists, FitContext())


class Tagless:
    """An estimator by its methods alone."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """None."""
        return {}

    def fit(self, x: Any, y: Any) -> Tagless:
        """Nothing."""
        return self


class Own(RegressorMixin, BaseEstimator):
    """Of the user's: fails in one of its methods."""

    def __init__(self, fails: str = "fit") -> None:
        self.fails = fails

    def fit(self, x: Any, y: Any) -> Own:
        """Nothing."""
        if self.fails == "fit":
            raise KeyError("no such column")
        return self

    def predict(self, x: Any) -> Any:
        """Nothing."""
        raise ZeroDivisionError("of the user")

    def __sklearn_clone__(self) -> Own:
        """Itself."""
        if self.fails == "clone":
            raise RuntimeError("only one of it")
        return self


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Tagless(), "Tagless cannot say what it is: AttributeError"),
        (Own("clone"), "Own cannot be copied: RuntimeError: only one of it"),
        (Own("fit"), "Own cannot train on this data: KeyError: 'no such column'"),
        (Own("predict"), "Own cannot score rows: ZeroDivisionError: of the user"),
    ],
    ids=["tags", "clone", "fit", "predict"],
)
def test_what_goes_wrong_in_an_estimator_of_the_users_is_told_by_its_lines(estimator: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message) as caught:
        fitted(estimator, "regression")
    if isinstance(estimator, Own):
        assert str(caught.value.file) == __file__
        assert caught.value.line
    else:
        assert "sklearn.base.BaseEstimator" in str(caught.value.hint)
