"""Any estimator of scikit-learn, fitted on the prepared matrix. Its export is in `graph.py`.

scikit-learn's trees compare a float32 `x` with float64 thresholds; ONNX's have float32 ones. As `lightgbm.py` does, the
thresholds of every fitted tree are rounded down to float32, so that both take the same path. Values beyond ±1e38,
infinity among them, which scikit-learn refuses, are brought there before, and inside the exported graph too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import sklearn
from sklearn.ensemble._forest import BaseForest
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from trunkline.errors import TrainingError, TrunklineError
from trunkline.models.task import Task
from trunkline.project.boundary import told, user_place
from trunkline.training.protocol import FitContext, TrainingData
from trunkline.training.scikit.graph import KNOWN, sklearn_graph, trees_of
from trunkline.training.scikit.preparation import Preparation
from trunkline.training.settings import sound
from trunkline.training.trees.graph import floor32
from trunkline.training.weights import class_weights, row_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.scikit.settings import Sklearn

__all__ = ["FittedSklearn", "fit_sklearn"]

_TASKS = ("binary", "multiclass", "regression", "quantile")


def fit_sklearn(estimator: Sklearn, data: TrainingData, context: FitContext) -> FittedSklearn:
    """Fit once, or once a quantile; see `Estimator.fit`."""
    _check(estimator, data.task, context)
    sound(data)
    takes = _takes_missing(estimator.estimator)
    preparation = Preparation.fit(
        data,
        impute=not takes if estimator.impute is None else estimator.impute,
        scale=not takes if estimator.scale is None else estimator.scale,
        one_hot=(0 if takes else 64) if estimator.one_hot is None else estimator.one_hot,
    )
    seen, y = preparation.apply(data.train.x), data.train.y
    y = y if data.task.kind in ("regression", "quantile") else y.astype(np.int64)
    weight = class_weights(y, data.task, estimator.class_weights)
    rows = None if estimator.class_weights is None else row_weights(y, weight)
    with _limited(context.threads):
        models = tuple(
            _fitted(_ready(estimator.estimator, quantile, context), seen, y, rows, data.task)
            for quantile in data.task.quantiles or (None,)
        )
    fitted = FittedSklearn(models, preparation, data.task, data.train.x.shape[1], context.threads)
    context.report(1, data.metric.of(data.validation.y, fitted.predict(data.validation.x)))
    return fitted


def _check(estimator: Sklearn, task: Task, context: FitContext) -> None:
    """Refuse a task that the estimator is not made for."""
    name, given = estimator.name, estimator.estimator
    if task.kind not in _TASKS:
        raise TrainingError(
            f"scikit-learn's {name} cannot learn a {task.kind} task",
            hint="trunkline.estimators.Torch takes a target of lists",
        )
    if context.peers is not None and context.peers.world > 1:
        raise TrainingError(
            f"scikit-learn's {name} is fitted by one process, not by {context.peers.world}",
            hint="set `workers: 1` under `training: ray:`, or use LightGBM, XGBoost or an estimator of PyTorch",
        )
    wanted = "classifier" if task.kind in ("binary", "multiclass") else "regressor"
    if _tags(given).estimator_type != wanted:
        raise TrainingError(f"the task is {task.kind}, and scikit-learn's {name} is no {wanted}")
    if task.kind == "quantile":
        _quantile_params(given)


def _tags(estimator: Any) -> Any:
    """What it says of itself."""
    with _theirs(estimator, "cannot say what it is", hint="let its class inherit from sklearn.base.BaseEstimator"):
        return sklearn.utils.get_tags(estimator)


@contextmanager
def _theirs(estimator: Any, what: str, hint: str | None = None) -> Iterator[None]:
    """What goes wrong in an estimator, which may be the user's own, is told by its message, and by the user's lines."""
    try:
        yield
    except TrunklineError:
        raise
    except Exception as exc:  # whatever the user's code fails with
        file, line = user_place(exc)
        said = str(exc) if isinstance(exc, ValueError | TypeError) and file is None else told(exc)
        message = f"scikit-learn's {type(estimator).__name__} {what}: {said}"
        raise TrainingError(message, file=file, line=line, hint=hint) from exc


def _takes_missing(estimator: Any) -> bool:
    """Whether it can be given NaN; a pipeline can if every step can, up to one that imputes."""
    for _, step in getattr(estimator, "steps", None) or [("", estimator)]:
        if step in (None, "passthrough"):
            continue
        if not _tags(step).input_tags.allow_nan:
            return False
        if type(step).__module__.startswith("sklearn.impute"):
            return True
    return True


def _quantile_params(estimator: Any) -> dict[str, str]:
    """The parameter that is the quantile, and that of a loss, by their names in `get_params`."""
    known = estimator.get_params(deep=True)
    for name in sorted(known, key=lambda name: name.count("__")):
        prefix = name[: name.rfind("__") + 2] if "__" in name else ""
        loss = f"{prefix}loss"
        if name == f"{prefix}quantile":
            return {"quantile": name} | ({"loss": loss} if loss in known else {})
        if name == f"{prefix}alpha" and loss in known and f"{prefix}n_estimators" in known:
            return {"quantile": name, "loss": loss}  # GradientBoostingRegressor's
    raise TrainingError(
        f"scikit-learn's {type(estimator).__name__} does not estimate quantiles",
        hint="HistGradientBoostingRegressor, GradientBoostingRegressor and QuantileRegressor do",
    )


def _ready(estimator: Any, quantile: float | None, context: FitContext) -> Any:
    """An unfitted copy with the seed, and the quantile it is for."""
    with _theirs(estimator, "cannot be copied"):
        copy = sklearn.clone(estimator)
    params = copy.get_params(deep=True)
    seeds = [name for name in params if name.rpartition("__")[2] == "random_state" and params[name] is None]
    copy.set_params(**dict.fromkeys(seeds, context.seed))
    if quantile is not None:
        names = _quantile_params(copy)
        copy.set_params(**{names["quantile"]: quantile})
        if "loss" in names:
            copy.set_params(**{names["loss"]: "quantile"})
    if isinstance(copy, BaseForest) and copy.n_jobs is None:
        copy.set_params(n_jobs=context.threads)
    return copy


def _fitted(
    model: Any, x: npt.NDArray[np.float32], y: npt.NDArray[Any], weight: npt.NDArray[np.float32] | None, task: Task
) -> Any:
    """The model, fitted. Raises TrainingError for what scikit-learn refuses."""
    name = type(model).__name__
    given = {} if weight is None else {_weight_name(model): weight}
    with _theirs(model, "cannot train on this data"):
        model.fit(x, y, **given)
    classes = {"binary": 2, "multiclass": len(task.classes)}.get(task.kind)
    if classes is not None and len(model.classes_) != classes:
        raise TrainingError(f"the training part has rows of {len(model.classes_)} of the {classes} classes only")
    if classes is not None and not hasattr(model, "predict_proba"):
        raise TrainingError(
            f"scikit-learn's {name} gives no probabilities (it has no predict_proba)",
            hint=f"wrap it: CalibratedClassifierCV({name}(…), ensemble=False); or use one that has them: {KNOWN}",
        )
    _round_thresholds(model)
    return model


def _weight_name(model: Any) -> str:
    last, prefix = model, ""
    while getattr(last, "steps", None):
        step, last = last.steps[-1]
        prefix += f"{step}__"
    if not has_fit_parameter(last, "sample_weight"):
        raise TrainingError(
            f"scikit-learn's {type(last).__name__} takes no weights", hint="leave class_weights out, or set its own"
        )
    return f"{prefix}sample_weight"


def _round_thresholds(model: Any) -> None:
    """Round the thresholds of all its trees, in place."""
    for tree in trees_of(model):
        if hasattr(tree, "nodes"):
            tree.nodes["num_threshold"] = floor32(tree.nodes["num_threshold"])
        else:
            tree.threshold[:] = floor32(tree.threshold)


@contextmanager
def _limited(threads: int) -> Iterator[None]:
    """scikit-learn's threads; its warnings of a fit that has not converged said once, those of wide values never."""
    with threadpool_limits(threads), warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("once", ConvergenceWarning)
        yield


@dataclass(frozen=True, eq=False)
class FittedSklearn:
    """A fitted estimator over prepared columns; of a quantile task, one a quantile. `width` is that of the matrix."""

    models: tuple[Any, ...]
    preparation: Preparation
    task: Task
    width: int
    threads: int

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """scikit-learn's scores: [n], or [n, k]."""
        seen = self.preparation.apply(x)
        with _limited(self.threads), _theirs(self.models[0], "cannot score rows"):
            if self.task.kind in ("binary", "multiclass"):
                shares = np.asarray(self.models[0].predict_proba(seen), np.float64)
                return shares[:, 1] if self.task.kind == "binary" else shares
            told = [np.asarray(model.predict(seen), np.float64).reshape(-1) for model in self.models]
        return np.sort(np.stack(told, axis=1), axis=1) if self.task.kind == "quantile" else told[0]

    def to_onnx(self) -> bytes:
        """Preparation, estimators and their order as one graph."""
        return sklearn_graph(self.models, self.preparation, self.task, self.width)
