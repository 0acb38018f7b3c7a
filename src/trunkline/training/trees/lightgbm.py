"""Gradient boosted trees: the LightGBM estimator and its export to ONNX. The home of lightgbm and onnxmltools.

Categories: see `recoding.py`. Quantiles: one ensemble each, grown in step, their scores in order.

Thresholds are float64 in LightGBM and float32 in ONNX. For a float32 `x`, `x <= t` equals `x <= floor32(t)`, so the
model's thresholds are rounded down to float32 and the rounded model is the one that predicts: both runtimes take the
same path through every tree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from trunkline.errors import TrainingError, TransientError
from trunkline.models.task import Task
from trunkline.training.protocol import FitContext, Peers, TrainingData
from trunkline.training.settings import sound
from trunkline.training.trees.boosting import boost
from trunkline.training.trees.graph import floor32, tree_graph
from trunkline.training.trees.peers import total
from trunkline.training.trees.recoding import Recoding
from trunkline.training.weights import class_counts, class_weights, row_weights

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.trees.settings import LightGBM

__all__ = ["FittedLightGBM", "fit_lightgbm"]

_LEG = 200  # rounds
_STRIDE = 1_000_003  # from a leg's seed to that of the next one
_TASKS = ("binary", "multiclass", "regression", "quantile")
_END = "\nend of trees"
_TREE = "\nTree="


def fit_lightgbm(estimator: LightGBM, data: TrainingData, context: FitContext) -> FittedLightGBM:
    """Boost until the validation metric stops improving; see `Estimator.fit`."""
    if data.task.kind not in _TASKS:
        raise TrainingError(
            f"LightGBM cannot learn a {data.task.kind} task", hint="trunkline.estimators.Torch takes a target of lists"
        )
    sound(data)
    recoding = Recoding.fit(data, partial(total, peers=context.peers))
    try:
        grown = _Grown(estimator, data, recoding, context)
        best = boost(grown, data, context, rounds=estimator.rounds, patience=estimator.early_stopping)
        texts = grown.texts(best)
    except lgb.basic.LightGBMError as exc:
        if context.peers is not None:  # it says no more than that: perhaps a peer is gone, and all can begin again
            raise TransientError(f"LightGBM with {context.peers.world} processes: {exc}") from exc
        raise TrainingError(f"LightGBM cannot train on this data: {exc}") from exc
    boosters = tuple(lgb.Booster(model_str=_round_thresholds(text)) for text in texts)
    return FittedLightGBM(boosters, recoding, data.task, data.train.x.shape[1], context.threads)


class _Grown:
    """An `Ensemble`: one booster, or one a quantile, over one binned dataset. A leg begins from the raw scores so far.

    The training part's are those that the boosters hold; a resumed fit predicts them with the saved trees and gets the
    same bits, as both add tree to tree in float64.
    """

    leg = _LEG

    def __init__(self, estimator: LightGBM, data: TrainingData, recoding: Recoding, context: FitContext) -> None:
        self._data, self._context = data, context
        self._params = _params(estimator, data.task, context)
        self._seen = [recoding.apply(part) for part in (data.train.x, data.validation.x)]
        weight = _weights(estimator, data, context.peers)
        self._train = lgb.Dataset(self._seen[0], data.train.y, weight=weight, params=self._params, free_raw_data=False)
        self._validation = self._train.create_valid(self._seen[1], data.validation.y)
        self._alphas = [{"alpha": quantile} for quantile in data.task.quantiles] or [{}]
        self._past: list[list[str]] = [[] for _ in self._alphas]  # the models of ended legs, for each booster
        self._sizes: list[list[int]] = []  # after each round, the trees of each booster
        self._boosters = self._begin([None] * len(self._alphas))
        self._connected = self._boosters[0]  # keeps the connection to peers

    def grow(self) -> bool:
        """Add one round to each booster; True if none found a split."""
        finished = [booster.update() for booster in self._boosters]
        before = [sum(map(_count, legs)) for legs in self._past]
        self._sizes.append([size + booster.num_trees() for size, booster in zip(before, self._boosters, strict=True)])
        return all(finished)

    def scores(self) -> npt.NDArray[np.float64]:
        """Scores of the validation part."""
        return _answer([_told(booster.eval_valid) for booster in self._boosters], self._data.task)

    def turn(self) -> Mapping[str, bytes]:
        """Begin a leg from the raw scores that the boosters hold."""
        self._keep()
        raw = []
        for booster in self._boosters:
            booster.reset_parameter({"objective": "none"})  # the end of it: now it tells its scores as they are
            raw.append(_told(booster.eval_train))
        self._boosters = self._begin(raw)
        files = {f"{place}.{leg}": text for place, legs in enumerate(self._past) for leg, text in enumerate(legs)}
        return {name: text.encode() for name, text in {**files, "sizes": json.dumps(self._sizes)}.items()}

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Begin a leg from the raw scores that the saved models give."""
        self._sizes = json.loads(files["sizes"])
        for place, legs in enumerate(self._past):
            while f"{place}.{len(legs)}" in files:
                legs.append(files[f"{place}.{len(legs)}"].decode())
        self._boosters = self._begin([self._raw(_merged(legs), self._seen[0]) for legs in self._past])

    def texts(self, rounds: int) -> list[str]:
        """The model of the first `rounds` rounds, for each booster."""
        self._keep()
        return [_merged(legs, size) for legs, size in zip(self._past, self._sizes[rounds - 1], strict=True)]

    def _keep(self) -> None:
        for legs, booster in zip(self._past, self._boosters, strict=True):
            legs.append(booster.model_to_string())

    def _raw(self, text: str, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        raw = lgb.Booster(model_str=text).predict(x, raw_score=True, num_threads=self._context.threads)
        return np.asarray(raw, np.float64)

    def _begin(self, raw: Sequence[npt.NDArray[np.float64] | None]) -> list[lgb.Booster]:
        """Boosters of a new leg, from the training part's raw scores, or from nothing."""
        leg, boosters = len(self._past[0]), list[lgb.Booster]()
        for alpha, legs, scores in zip(self._alphas, self._past, raw, strict=True):
            params = {**self._params, **alpha, "seed": (self._params["seed"] + leg * _STRIDE) % 2**31}
            if self._context.peers is not None and not leg and not boosters:
                params.update(self._context.peers.settings)  # connects, once
            if scores is not None:
                so_far = sum(self._raw(text, self._seen[1]) for text in legs)
                self._train.set_init_score(scores.ravel(order="F"))
                self._validation.set_init_score(np.ravel(so_far, order="F"))
            boosters.append(lgb.Booster(params, self._train))
            boosters[-1].add_valid(self._validation, "validation")
        return boosters


def _params(estimator: LightGBM, task: Task, context: FitContext) -> dict[str, Any]:
    params = {
        "objective": task.kind,
        "metric": "None",
        "num_leaves": estimator.leaves,
        "learning_rate": estimator.lr,
        "min_data_in_leaf": estimator.min_leaf,
        "feature_fraction": estimator.feature_fraction,
        "bagging_fraction": estimator.bagging_fraction,
        "bagging_freq": estimator.bagging_every,
        "lambda_l1": estimator.l1,
        "lambda_l2": estimator.l2,
        "seed": context.seed,
        "num_threads": context.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    if task.kind == "multiclass":
        params["num_class"] = len(task.classes)
    if context.peers is not None:
        params |= {"tree_learner": "data", "num_machines": context.peers.world, "pre_partition": True}
    return params


def _weights(estimator: LightGBM, data: TrainingData, peers: Peers | None) -> npt.NDArray[np.float32] | None:
    """The weight of each row; None where all weigh the same."""
    if estimator.class_weights is None:
        return None
    counts = None
    if data.task.kind in ("binary", "multiclass"):
        (summed,) = total([class_counts(data.train.y, data.task).astype(np.float64)], peers)
        counts = summed.astype(np.int64)
    y = data.train.y
    return row_weights(y, class_weights(y, data.task, estimator.class_weights, counts=counts))


def _told(evaluate: Callable[..., Any]) -> npt.NDArray[np.float64]:
    """The scores that a booster holds of a part: LightGBM hands them to metrics only."""
    held: list[npt.NDArray[np.float64]] = []

    def listen(score: npt.NDArray[np.float64], _: lgb.Dataset) -> tuple[str, float, bool]:
        held.append(np.array(score))
        return "", 0.0, True

    evaluate(listen)
    return held[0]


def _answer(scores: Sequence[npt.NDArray[np.float64]], task: Task) -> npt.NDArray[np.float64]:
    """Scores [n] or [n, k] of the boosters' own: of several quantiles, side by side and in order."""
    return np.sort(np.stack(scores, axis=1), axis=1) if task.kind == "quantile" else scores[0]


def _count(text: str) -> int:
    return text.count(_TREE)


def _merged(legs: Sequence[str], size: int | None = None) -> str:
    """The first `size` trees of a model in LightGBM's text that has those of all legs, one after the other."""
    head = legs[0].split(_TREE, 1)[0]
    trees = [tree for leg in legs for tree in leg.split(_END, 1)[0].split(_TREE)[1:]][:size]
    lines = [line for line in head.splitlines() if not line.startswith("tree_sizes=")]
    numbered = [f"Tree={place}\n{tree.split(chr(10), 1)[1]}" for place, tree in enumerate(trees)]
    return "\n".join([*lines, "", *numbered, _END[1:], legs[0].split(_END, 1)[1].lstrip("\n")])


@dataclass(frozen=True, eq=False)
class FittedLightGBM:
    """Boosted trees with float32 thresholds, over recoded columns; a booster for each quantile, else one.

    `width` is the number of features.
    """

    boosters: tuple[lgb.Booster, ...]
    recoding: Recoding
    task: Task
    width: int
    threads: int

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """LightGBM's scores: [n], or [n, k]."""
        seen = self.recoding.apply(x)
        scores = [np.asarray(part.predict(seen, num_threads=self.threads), np.float64) for part in self.boosters]
        return _answer(scores, self.task)

    def to_onnx(self) -> bytes:
        """Recoding, trees and the link as one graph."""
        trees = [_attributes(booster, self.width) for booster in self.boosters]
        return tree_graph("lightgbm", trees, self.recoding, self.task, self.width)


def _round_thresholds(text: str) -> str:
    """LightGBM's model text with every threshold rounded down to a float32."""
    lines = []
    for line in text.splitlines():
        if line.startswith("threshold="):
            exact = np.array(line[len("threshold=") :].split(), np.float64)
            line = "threshold=" + " ".join(map(repr, floor32(exact).astype(np.float64).tolist()))
        lines.append(line)
    return "\n".join(lines) + "\n"


def _attributes(booster: lgb.Booster, width: int) -> dict[str, Any]:
    """The trees as a regressor of the margins. onnxmltools gives a classifier with labels that nobody reads."""
    import onnxmltools
    from onnx import helper
    from onnxmltools.convert.common.data_types import FloatTensorType

    columns = [("features", FloatTensorType([None, width]))]
    model = onnxmltools.convert_lightgbm(booster, name="trees", initial_types=columns, zipmap=False)
    (found,) = (node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in found.attribute}
    attributes: dict[str, Any] = {name: value for name, value in given.items() if name.startswith("nodes_")}
    kind = "class" if found.op_type == "TreeEnsembleClassifier" else "target"
    for part in ("ids", "nodeids", "treeids", "weights"):
        attributes[f"target_{part}"] = given[f"{kind}_{part}"]
    attributes["n_targets"] = booster.num_model_per_iteration()
    return attributes
