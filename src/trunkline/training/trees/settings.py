"""The estimators of boosted trees as records: `LightGBM` and `XGBoost`. The frameworks are loaded when they fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

from trunkline.training.protocol import FitContext, Fitted, TrainingData
from trunkline.training.settings import calibrated, implementation, number, weighted, whole

__all__ = ["LightGBM", "XGBoost"]


@dataclass(frozen=True, kw_only=True)
class LightGBM:
    """Gradient boosted trees (LightGBM). Categories are ordered by the target in the training part.

    Boosting stops after `early_stopping` rounds without a better validation metric and keeps the best round. Of a
    quantile model, each quantile has trees of its own, and its numbers are put in order.

    `class_weights` is "balanced", or a weight for each class; `calibrate` is one of "sigmoid", "isotonic" and
    "temperature": the probabilities are then corrected by what validation rows showed.

    >>> LightGBM(leaves=31).settings()["lr"]
    0.05
    """

    leaves: int = 63
    lr: float = 0.05
    rounds: int = 600
    min_leaf: int = 100
    feature_fraction: float = 0.8
    bagging_fraction: float = 0.8
    bagging_every: int = 1
    l1: float = 0.0
    l2: float = 1.0
    early_stopping: int = 30
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    calibrate: Literal["sigmoid", "isotonic", "temperature"] | None = None

    name: ClassVar[str] = "lightgbm"
    takes_peers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole(self, "leaves", at_least=2)
        for field in ("rounds", "min_leaf", "early_stopping"):
            whole(self, field, at_least=1)
        whole(self, "bagging_every", at_least=0)
        for field in ("feature_fraction", "bagging_fraction"):
            number(self, field, above=0, at_most=1)
        number(self, "lr", above=0)
        for field in ("l1", "l2"):
            number(self, field, at_least=0)
        weighted(self)

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return asdict(self)

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with LightGBM; reports every 25 rounds."""
        return calibrated(implementation(self.name)(self, data, context), data, self.calibrate)


@dataclass(frozen=True, kw_only=True)
class XGBoost:
    """Gradient boosted trees (XGBoost, histograms). Categories are ordered by the target in the training part.

    Trees are grown level by level to `depth`, or, where `leaves` is given, split by split to that many leaves.
    `min_child` is the least sum of second derivatives in a leaf, `min_gain` the least gain of a split, `bins` those of
    a number. Boosting stops after `early_stopping` rounds without a better validation metric and keeps the best round.
    A GPU is used where the context has one and XGBoost was built for it.

    `class_weights` and `calibrate` are as those of `LightGBM`.

    >>> XGBoost(depth=8).settings()["rounds"]
    600
    """

    depth: int = 6
    leaves: int | None = None
    lr: float = 0.05
    rounds: int = 600
    min_child: float = 1.0
    min_gain: float = 0.0
    feature_fraction: float = 0.8
    bagging_fraction: float = 0.8
    l1: float = 0.0
    l2: float = 1.0
    bins: int = 256
    early_stopping: int = 30
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    calibrate: Literal["sigmoid", "isotonic", "temperature"] | None = None

    name: ClassVar[str] = "xgboost"
    takes_peers: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for field in ("depth", "rounds", "early_stopping"):
            whole(self, field, at_least=1)
        for field in ("leaves",) if self.leaves is not None else ():
            whole(self, field, at_least=2)
        whole(self, "bins", at_least=2)
        for field in ("feature_fraction", "bagging_fraction"):
            number(self, field, above=0, at_most=1)
        number(self, "lr", above=0)
        for field in ("l1", "l2", "min_child", "min_gain"):
            number(self, field, at_least=0)
        weighted(self)

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return asdict(self)

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with XGBoost; reports every 25 rounds."""
        return calibrated(implementation(self.name)(self, data, context), data, self.calibrate)
