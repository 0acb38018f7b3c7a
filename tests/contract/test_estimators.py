"""The estimators' conformance suite times our estimators, for every task that each of them claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from torch import nn

from trunkline.estimators import MLP, LightGBM, Sklearn, TabM, Torch, XGBoost
from trunkline.models.task import TaskKind
from trunkline.testing.estimator_suite import EstimatorSuite
from trunkline.training.protocol import Estimator

ALL: tuple[TaskKind, ...] = ("binary", "multiclass", "regression", "quantile")


class Weighted(EstimatorSuite):
    """One of ours: a dataclass with `class_weights`."""

    tasks: ClassVar[tuple[TaskKind, ...]] = ALL

    def weighted(self, kind: TaskKind) -> Estimator | None:
        """The same with balanced class weights."""
        estimator: Any = self.estimator(kind)
        balanced: Estimator = replace(estimator, class_weights="balanced")
        return balanced


class TestLightGBM(Weighted):
    """Legs of rounds."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """Small trees."""
        return LightGBM(rounds=205, lr=0.05, leaves=4, min_leaf=20, early_stopping=500)


class TestXGBoost(Weighted):
    """Legs of rounds."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """Small trees."""
        return XGBoost(rounds=110, lr=0.05, depth=3, early_stopping=500)


class TestMLP(Weighted):
    """A small network."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """A few epochs."""
        return MLP(width=16, depth=1, epochs=4, batch_size=64, lr=2e-2, patience=5, dropout=0.0)


class TestTabM(Weighted):
    """A small ensemble."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """A few epochs."""
        return TabM(k=4, width=16, number_embedding=4, bins=8, epochs=4, batch_size=64, lr=2e-2, patience=5)


def build(columns: Any, width: int = 8) -> nn.Module:
    """A user's network."""
    return nn.Sequential(
        columns.standardised(), nn.Linear(columns.width, width), nn.ReLU(), nn.Linear(width, columns.outputs or 1)
    )


class TestTorch(Weighted):
    """A network of the user's."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """A few epochs."""
        return Torch(module=build, arguments={"width": 16}, epochs=4, batch_size=64, lr=2e-2, patience=5)


class TestSklearnBoosting(Weighted):
    """It takes the matrix as it is."""

    def estimator(self, kind: TaskKind) -> Estimator:
        """Histogram boosting."""
        classes = kind in ("binary", "multiclass")
        return Sklearn((HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(max_iter=20))


class TestSklearnForest(Weighted):
    """It takes missing values, which skl2onnx forgets."""

    tasks = ("binary", "multiclass", "regression")

    def estimator(self, kind: TaskKind) -> Estimator:
        """Extremely random trees."""
        return Sklearn((ExtraTreesRegressor if kind == "regression" else ExtraTreesClassifier)(20, min_samples_leaf=5))


class TestSklearnLinear(Weighted):
    """It takes complete numbers only."""

    tasks = ("binary", "multiclass", "regression")

    def estimator(self, kind: TaskKind) -> Estimator:
        """Regularised."""
        return Sklearn(Ridge() if kind == "regression" else LogisticRegression())
