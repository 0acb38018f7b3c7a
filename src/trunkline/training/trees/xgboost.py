"""Gradient boosted trees: the XGBoost estimator and its export to ONNX. The home of xgboost.

Categories: see `recoding.py`. Quantiles are the targets of one booster (`reg:quantileerror`), their scores in order.

XGBoost compares in float32, `x < t`, and sums leaves in float32, as ONNX's tree ensembles do (`BRANCH_LT`), so the
trees are written as they are: node by node from the booster's own JSON (XGBoost, doc/model.schema). Infinite values,
which it refuses, are brought to ±1e38 before, and inside the exported graph too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xgboost as xgb

from trunkline.errors import TrainingError, TransientError
from trunkline.models.task import Task
from trunkline.training.protocol import FitContext, Peers, TrainingData
from trunkline.training.settings import sound
from trunkline.training.trees.boosting import boost
from trunkline.training.trees.graph import tree_graph
from trunkline.training.trees.recoding import Recoding
from trunkline.training.weights import class_counts, class_weights, row_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.trees.settings import XGBoost

__all__ = ["FittedXGBoost", "fit_xgboost"]

_BOUND = 1e38
_LEG = 50  # rounds
_STRIDE = 1_000_003  # from a leg's seed to that of the next one
_OBJECTIVES = {
    "binary": "binary:logistic",
    "multiclass": "multi:softprob",
    "regression": "reg:squarederror",
    "quantile": "reg:quantileerror",
}
_LEAF = -1
_NODES = (
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values", "nodes_truenodeids",
    "nodes_falsenodeids", "nodes_missing_value_tracks_true",
)  # fmt: skip
_TARGETS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")


def fit_xgboost(estimator: XGBoost, data: TrainingData, context: FitContext) -> FittedXGBoost:
    """Boost until the validation metric stops improving; see `Estimator.fit`."""
    if data.task.kind not in _OBJECTIVES:
        raise TrainingError(
            f"XGBoost cannot learn a {data.task.kind} task", hint="trunkline.estimators.Torch takes a target of lists"
        )
    sound(data)
    with _peers(context.peers), _refusals(context.peers):
        recoding = Recoding.fit(data, _add if context.peers is not None else list)
        grown = _Grown(estimator, data, recoding, context)
        best = boost(grown, data, context, rounds=estimator.rounds, patience=estimator.early_stopping)
        booster = _booster(grown.model(best), grown.params)
    return FittedXGBoost(booster, recoding, data.task, data.train.x.shape[1])


class _Grown:
    """An `Ensemble`: one booster. A leg begins from the margins so far, which the booster remembers.

    A resumed fit predicts them with the saved trees and gets the same bits: both add tree to tree in float32.
    """

    leg = _LEG

    def __init__(self, estimator: XGBoost, data: TrainingData, recoding: Recoding, context: FitContext) -> None:
        self.params = _params(estimator, data.task, context)
        self._task, self._step, self._past = data.task, 0, list[dict[str, Any]]()
        self._seen = [_seen(recoding, part) for part in (data.train.x, data.validation.x)]
        weight, threads = _weights(estimator, data, context.peers), context.threads
        self._train = xgb.QuantileDMatrix(
            self._seen[0], data.train.y, weight=weight, max_bin=estimator.bins, nthread=threads
        )
        self._validation = xgb.DMatrix(self._seen[1], data.validation.y, nthread=threads)
        self._booster = self._begin()

    def grow(self) -> bool:
        """Add one round; XGBoost does not tell whether a split is left to make."""
        self._booster.update(self._train, self._step)
        self._step += 1
        return False

    def scores(self) -> npt.NDArray[np.float64]:
        """Scores of the validation part."""
        return _answer(self._booster.predict(self._validation), self._task)

    def turn(self) -> Mapping[str, bytes]:
        """Begin a leg from the margins that the booster remembers."""
        parts = (self._train, self._validation)
        margins = [self._booster.predict(part, output_margin=True) for part in parts]
        self._past.append(_told(self._booster))
        self._leap(margins)
        return {"model.json": _text(_joined(self._past))}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Begin a leg from the margins that the saved model gives."""
        self._past.append(json.loads(files["model.json"]))
        whole = _booster(self._past[0], self.params)
        self._step = whole.num_boosted_rounds()
        self._leap([whole.inplace_predict(part, predict_type="margin") for part in self._seen])

    def model(self, rounds: int) -> dict[str, Any]:
        """The trees of the first `rounds` rounds as one model."""
        return _joined([*self._past, _told(self._booster)], rounds)

    def _leap(self, margins: list[npt.NDArray[np.float32]]) -> None:
        for part, margin in zip((self._train, self._validation), margins, strict=True):
            part.set_base_margin(margin)
        self._booster = self._begin()

    def _begin(self) -> xgb.Booster:
        seed = (self.params["seed"] + self._step // _LEG * _STRIDE) % 2**31
        return xgb.Booster({**self.params, "seed": seed}, [self._train, self._validation])


def _params(estimator: XGBoost, task: Task, context: FitContext) -> dict[str, Any]:
    cuda = context.device.startswith("cuda") and xgb.build_info()["USE_CUDA"]
    params: dict[str, Any] = {
        "objective": _OBJECTIVES[task.kind],
        "disable_default_eval_metric": True,
        "tree_method": "hist",
        "device": context.device if cuda else "cpu",
        "max_depth": estimator.depth,
        "learning_rate": estimator.lr,
        "min_child_weight": estimator.min_child,
        "min_split_loss": estimator.min_gain,
        "colsample_bytree": estimator.feature_fraction,
        "subsample": estimator.bagging_fraction,
        "reg_alpha": estimator.l1,
        "reg_lambda": estimator.l2,
        "max_bin": estimator.bins,
        "seed": context.seed,
        "nthread": context.threads,
        "verbosity": 0,
    }
    if estimator.leaves is not None:
        params |= {"grow_policy": "lossguide", "max_leaves": estimator.leaves}
    if task.kind == "multiclass":
        params["num_class"] = len(task.classes)
    if task.kind == "quantile":
        params["quantile_alpha"] = list(task.quantiles)
    return params


def _weights(estimator: XGBoost, data: TrainingData, peers: Peers | None) -> npt.NDArray[np.float32] | None:
    """The weight of each row; None where all weigh the same."""
    if estimator.class_weights is None:
        return None
    y, counts = data.train.y, None
    if data.task.kind in ("binary", "multiclass"):
        counts = class_counts(y, data.task)
        counts = xgb.collective.allreduce(counts, xgb.collective.Op.SUM) if peers is not None else counts
    return row_weights(y, class_weights(y, data.task, estimator.class_weights, counts=counts))


def _seen(recoding: Recoding, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The matrix the trees see: recoded, and without infinite values."""
    seen = recoding.apply(x)
    return np.clip(seen, -_BOUND, _BOUND, out=None if seen is x else seen)


def _answer(scores: npt.NDArray[np.float32], task: Task) -> npt.NDArray[np.float64]:
    """Scores [n] or [n, k]; quantiles in order."""
    told = np.asarray(scores, np.float64)
    if task.width is not None:
        told = told.reshape(-1, task.width)
    return np.sort(told, axis=1) if task.kind == "quantile" else told


@contextmanager
def _peers(peers: Peers | None) -> Iterator[None]:
    """Connected to those who fit the same model."""
    if peers is None:
        yield
        return
    with xgb.collective.CommunicatorContext(**peers.settings):
        yield


def _add(values: Sequence[npt.NDArray[np.float64]]) -> list[npt.NDArray[np.float64]]:
    """The arrays, each the sum over the peers."""
    summed = [xgb.collective.allreduce(np.ravel(array), xgb.collective.Op.SUM) for array in values]
    return [found.reshape(np.shape(array)) for found, array in zip(summed, values, strict=True)]


@contextmanager
def _refusals(peers: Peers | None) -> Iterator[None]:
    """XGBoost's own errors, without the places in its source. With peers, one of them may be gone: TransientError."""
    try:
        yield
    except xgb.core.XGBoostError as exc:
        if peers is not None:
            lines = [line.strip(" -") for line in str(exc).partition("Stack trace")[0].splitlines()]
            raise TransientError(f"XGBoost with {peers.world} processes: {[*filter(None, lines)][-1]}") from exc
        said = re.sub(r"^\[[^]]*\] \S+:\d+: (Check failed: [^:]*: )?", "", str(exc).splitlines()[0])
        raise TrainingError(f"XGBoost cannot train on this data: {said}") from exc


@dataclass(frozen=True, eq=False)
class FittedXGBoost:
    """Boosted trees over recoded columns. `width` is the number of features."""

    booster: xgb.Booster
    recoding: Recoding
    task: Task
    width: int

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """XGBoost's scores: [n], or [n, k]."""
        return _answer(self.booster.inplace_predict(_seen(self.recoding, x)), self.task)

    def to_onnx(self) -> bytes:
        """Recoding, trees and the link as one graph."""
        trees = _attributes(_told(self.booster), self.task)
        return tree_graph("xgboost", [trees], self.recoding, self.task, self.width, bound=_BOUND)


def _told(booster: xgb.Booster) -> dict[str, Any]:
    """The model as XGBoost writes it in JSON."""
    told: dict[str, Any] = json.loads(booster.save_raw("json"))
    return told


def _text(model: dict[str, Any]) -> bytes:
    return json.dumps(model).encode()


def _booster(model: dict[str, Any], params: Mapping[str, Any]) -> xgb.Booster:
    booster = xgb.Booster({name: params[name] for name in ("nthread", "device", "verbosity")})
    booster.load_model(bytearray(_text(model)))
    return booster


def _joined(legs: Sequence[dict[str, Any]], rounds: int | None = None) -> dict[str, Any]:
    """The first `rounds` rounds of a model that has the trees of all legs, one after the other."""
    parts = [leg["learner"]["gradient_booster"]["model"] for leg in legs]
    trees = [tree for part in parts for tree in part["trees"]]
    ends = np.cumsum([0, *(size for part in parts for size in np.diff(part["iteration_indptr"]))]).tolist()
    ends = ends if rounds is None else ends[: rounds + 1]
    trees = [{**tree, "id": place} for place, tree in enumerate(trees[: ends[-1]])]
    learner, booster = legs[0]["learner"], legs[0]["learner"]["gradient_booster"]
    model = {
        **booster["model"],
        "trees": trees,
        "tree_info": [target for part in parts for target in part["tree_info"]][: ends[-1]],
        "iteration_indptr": ends,
        "gbtree_model_param": {**booster["model"]["gbtree_model_param"], "num_trees": str(len(trees))},
    }
    return {**legs[0], "learner": {**learner, "gradient_booster": {**booster, "model": model}}}


def _attributes(model: dict[str, Any], task: Task) -> dict[str, Any]:
    """The trees as attributes of ONNX's TreeEnsembleRegressor (ai.onnx.ml 1), a target for each of the margins."""
    learner = model["learner"]
    held, base = learner["gradient_booster"]["model"], json.loads(learner["learner_model_param"]["base_score"])
    found: dict[str, list[Any]] = {name: [] for name in (*_NODES, *_TARGETS)}
    for place, (tree, target) in enumerate(zip(held["trees"], held["tree_info"], strict=True)):
        lefts = tree["left_children"]
        leaf = [left == _LEAF for left in lefts]
        found["nodes_treeids"] += [place] * len(lefts)
        found["nodes_nodeids"] += range(len(lefts))
        found["nodes_featureids"] += tree["split_indices"]
        found["nodes_modes"] += ["LEAF" if ends else "BRANCH_LT" for ends in leaf]
        found["nodes_values"] += [0.0 if ends else at for ends, at in zip(leaf, tree["split_conditions"], strict=True)]
        found["nodes_truenodeids"] += [max(left, 0) for left in lefts]
        found["nodes_falsenodeids"] += [max(right, 0) for right in tree["right_children"]]
        found["nodes_missing_value_tracks_true"] += map(int, tree["default_left"])
        ends = [node for node, is_leaf in enumerate(leaf) if is_leaf]
        found["target_treeids"] += [place] * len(ends)
        found["target_nodeids"] += ends
        found["target_ids"] += [target] * len(ends)
        found["target_weights"] += [tree["split_conditions"][node] for node in ends]
    if task.kind == "binary":  # the base score is a probability, what is added up are log-odds
        base = [math.log(p / (1 - p)) for p in base]
    return {**found, "n_targets": task.width or 1, "base_values": base}
