"""Any estimator of scikit-learn as a record: `Sklearn`. Light: scikit-learn comes with the user's estimator."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from trunkline.errors import TrainingError
from trunkline.training.protocol import FitContext, Fitted, TrainingData
from trunkline.training.settings import calibrated, implementation, weighted, whole

__all__ = ["Sklearn"]


@dataclass(frozen=True)
class Sklearn:
    """A classifier, regressor or pipeline of scikit-learn, unfitted; or a function, or a class, that gives one.

    It gets the encoded matrix, prepared as `impute` (a missing number becomes the mean, and a column says where that
    was), `scale` (numbers to mean 0 and deviation 1, at most 8 away) and `one_hot` (up to so many of a category's
    values, by count, get a column each; 0 leaves it one number, ordered by the target) say. Left out, an estimator that
    takes missing values, as forests and boosting do, gets the matrix without any of these, and any other gets all three
    with up to 64 columns a category.

    Wherever the estimator, or a part of it, has a `random_state` that is None, it gets the training's seed. Of a
    quantile model each quantile is an estimator of its own. `class_weights` and `calibrate` are as those of `LightGBM`.

    >>> from sklearn.linear_model import LogisticRegression
    >>> Sklearn(LogisticRegression(C=0.1)).name
    'LogisticRegression'
    """

    estimator: Any
    _: KW_ONLY
    impute: bool | None = None
    scale: bool | None = None
    one_hot: int | None = None
    class_weights: Literal["balanced"] | Mapping[str, float] | None = None
    calibrate: Literal["sigmoid", "isotonic", "temperature"] | None = None

    def __post_init__(self) -> None:
        given = self.estimator
        if isinstance(given, type) or (callable(given) and not hasattr(given, "get_params")):
            object.__setattr__(self, "estimator", given())
        if not (hasattr(self.estimator, "get_params") and hasattr(self.estimator, "fit")):
            raise TrainingError(
                f"Sklearn({given!r}): this is no estimator of scikit-learn",
                hint="Sklearn(LogisticRegression(C=0.1)), or a function that returns such an estimator",
            )
        for field in ("impute", "scale"):
            if getattr(self, field) not in (None, True, False):
                raise TrainingError(f"Sklearn({field}={getattr(self, field)!r}): {field} must be True, False or None")
        if self.one_hot is not None:
            whole(self, "one_hot", at_least=0)
        weighted(self)

    @property
    def name(self) -> str:
        """The estimator's class; of a pipeline, that of its last step."""
        last = self.estimator
        while getattr(last, "steps", None):
            last = last.steps[-1][1]
        return type(last).__name__

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data: the estimator by its class and parameters, all the way down."""
        return {
            "estimator": _plain(self.estimator, self.name),
            "impute": self.impute,
            "scale": self.scale,
            "one_hot": self.one_hot,
            "class_weights": _plain(self.class_weights, "class_weights"),
            "calibrate": self.calibrate,
        }

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit with scikit-learn; reports once."""
        return calibrated(implementation("sklearn")(self, data, context), data, self.calibrate)


def _plain(value: Any, where: str) -> Any:
    """A parameter as plain data. Raises TrainingError for one that has no such form."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return _dotted(value)
    if hasattr(value, "get_params"):
        params = value.get_params(deep=False)
        return {"class": _dotted(type(value)), "params": {name: _plain(item, name) for name, item in params.items()}}
    if hasattr(value, "tolist"):  # an array, or one number of one
        return _plain(value.tolist(), where)
    raise TrainingError(
        f"the parameter {where!r} of scikit-learn's estimator is a {type(value).__name__}: it cannot be written down",
        hint="use numbers, text, lists, estimators, or functions by their name",
    )


def _dotted(item: Callable[..., Any]) -> str:
    return f"{item.__module__}:{item.__qualname__}"
