"""The estimators a model function may return: frozen records, whose frameworks load only when they fit."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, cast

from trunkline.errors import TrainingError
from trunkline.training.protocol import FitContext, Fitted, TrainingData

__all__ = ["LightGBM", "MLP"]

# Where each estimator is implemented, and what to install if its framework is not there.
_IMPLEMENTATIONS = {
    "mlp": ("trunkline.training.torch:fit_mlp", "pip install 'trunkline[torch]'"),
    "lightgbm": ("trunkline.training.lightgbm:fit_lightgbm", "pip install --force-reinstall trunkline"),
}


@dataclass(frozen=True, kw_only=True)
class MLP:
    """A multilayer perceptron (PyTorch): embeddings for categories, numbers standardised, missing ones flagged.

    The learning rate warms up over the first tenth of the steps and then follows a cosine to zero. Fitting stops
    after `patience` epochs without a better validation metric and keeps the best epoch.

    >>> MLP(width=128).settings()["depth"]
    2
    """

    width: int = 256
    depth: int = 2
    lr: float = 1e-3
    dropout: float = 0.1
    epochs: int = 8
    batch_size: int = 4096
    embedding: int = 8
    weight_decay: float = 1e-5
    patience: int = 2

    name: ClassVar[str] = "mlp"

    def __post_init__(self) -> None:
        for field in ("width", "depth", "epochs", "batch_size", "embedding", "patience"):
            _whole(self, field, at_least=1)
        _number(self, "lr", above=0)
        _number(self, "weight_decay", at_least=0)
        _number(self, "dropout", at_least=0, below=1)

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return asdict(self)

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with PyTorch; reports after each epoch."""
        return _implementation(self.name)(self, data, context)


@dataclass(frozen=True, kw_only=True)
class LightGBM:
    """Gradient boosted trees (LightGBM). Categories are ordered by their rate of the target in the training part.

    Boosting stops after `early_stopping` rounds without a better validation metric and keeps the best round.
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

    name: ClassVar[str] = "lightgbm"

    def __post_init__(self) -> None:
        _whole(self, "leaves", at_least=2)
        for field in ("rounds", "min_leaf", "early_stopping"):
            _whole(self, field, at_least=1)
        _whole(self, "bagging_every", at_least=0)
        for field in ("feature_fraction", "bagging_fraction"):
            _number(self, field, above=0, at_most=1)
        _number(self, "lr", above=0)
        for field in ("l1", "l2"):
            _number(self, field, at_least=0)

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data."""
        return asdict(self)

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with LightGBM; reports every 25 rounds."""
        return _implementation(self.name)(self, data, context)


def _implementation(name: str) -> Callable[..., Fitted]:
    path, install = _IMPLEMENTATIONS[name]
    module, _, function = path.partition(":")
    try:
        return cast("Callable[..., Fitted]", getattr(importlib.import_module(module), function))
    except ModuleNotFoundError as exc:
        raise TrainingError(f"the estimator {name!r} needs {exc.name}, which is not installed", hint=install) from exc


def _whole(record: object, field: str, *, at_least: int) -> None:
    value = getattr(record, field)
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise TrainingError(f"{type(record).__name__}({field}={value!r}): {field} must be an integer >= {at_least}")


def _number(
    record: object,
    field: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> None:
    value = getattr(record, field)
    bounds = {">=": at_least, ">": above, "<": below, "<=": at_most}
    wanted = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None)
    fits = (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and (at_least is None or value >= at_least)
        and (above is None or value > above)
        and (below is None or value < below)
        and (at_most is None or value <= at_most)
        and abs(value) < float("inf")
    )
    if not fits:
        raise TrainingError(f"{type(record).__name__}({field}={value!r}): {field} must be a number {wanted}")
