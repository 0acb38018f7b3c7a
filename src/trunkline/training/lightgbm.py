"""Gradient boosted trees: the LightGBM estimator and its export to ONNX. The home of lightgbm and onnxmltools.

Categories. LightGBM's native categorical splits have no counterpart in ONNX's tree ensembles, so trees see numbers: a
category of at most 255 codes (LightGBM's bins) is renumbered by its smoothed rate of the target in the training part,
as Fisher's grouping would order it; one with more codes keeps its order by count, because there the rates say more
about single rows than about the category, which measured worse on later data.

Thresholds are float64 in LightGBM and float32 in ONNX. For a float32 `x`, `x <= t` equals `x <= floor32(t)`, so the
model's thresholds are rounded down to float32 and the rounded model is the one that predicts: both runtimes take the
same path through every tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightgbm as lgb
import numpy as np

from trunkline.errors import TrainingError
from trunkline.training.protocol import FitContext, Reporter, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from trunkline.training.estimators import LightGBM

__all__ = ["FittedLightGBM", "Recoding", "fit_lightgbm", "floor32"]

_EVALUATE_EVERY = 5  # rounds
_REPORT_EVERY = 25  # rounds
_MOST_ORDERED = 255  # codes; LightGBM's default number of bins
_SMOOTHING = 100.0  # rows of the average rate that each category's rate is mixed with


@dataclass(frozen=True, eq=False)
class Recoding:
    """Which columns the trees see and how: the `kept` ones as they are, then the `ordered` ones renumbered.

    `table` float32 [sum of cardinalities] holds the new number of code `c` of ordered column `i` at `starts[i] + c`.
    """

    kept: npt.NDArray[np.int64]
    ordered: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    table: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, data: TrainingData) -> Recoding:
        """Order the small categories by their rate in the training part."""
        sizes = [column.cardinality for column in data.encoder.columns]
        ordered = [index for index, size in enumerate(sizes) if 2 < size <= _MOST_ORDERED]
        kept = [index for index in range(len(sizes)) if index not in ordered]
        tables = [_order(data.train.x[:, index], data.train.y, sizes[index]) for index in ordered]
        starts = np.cumsum([0, *(len(table) for table in tables)])[:-1]
        table = np.concatenate([np.empty(0, np.float32), *tables])
        return cls(np.array(kept, np.int64), np.array(ordered, np.int64), starts.astype(np.int64), table)

    def apply(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The matrix the trees see."""
        if not len(self.ordered):
            return x
        seen = np.empty_like(x)
        seen[:, : len(self.kept)] = x[:, self.kept]
        for index, column in enumerate(self.ordered):
            seen[:, len(self.kept) + index] = self.table[self.starts[index] + x[:, column].astype(np.int64)]
        return seen


def fit_lightgbm(estimator: LightGBM, data: TrainingData, context: FitContext) -> FittedLightGBM:
    """Boost until the validation metric stops rising; see `Estimator.fit`."""
    recoding = Recoding.fit(data)
    booster = _booster(estimator, data, recoding, seed=context.seed, threads=context.threads)
    best = _boost(booster, estimator, data, context.report)
    text = _round_thresholds(booster.model_to_string(num_iteration=best))
    return FittedLightGBM(lgb.Booster(model_str=text), recoding, data.train.x.shape[1], context.threads)


def _booster(estimator: LightGBM, data: TrainingData, recoding: Recoding, *, seed: int, threads: int) -> lgb.Booster:
    params = {
        "objective": "binary",
        "metric": "None",
        "num_leaves": estimator.leaves,
        "learning_rate": estimator.lr,
        "min_data_in_leaf": estimator.min_leaf,
        "feature_fraction": estimator.feature_fraction,
        "bagging_fraction": estimator.bagging_fraction,
        "bagging_freq": estimator.bagging_every,
        "lambda_l1": estimator.l1,
        "lambda_l2": estimator.l2,
        "seed": seed,
        "num_threads": threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }
    try:
        train = lgb.Dataset(recoding.apply(data.train.x), data.train.y, params=params)
        booster = lgb.Booster(params, train)
        booster.add_valid(train.create_valid(recoding.apply(data.validation.x), data.validation.y), "validation")
    except lgb.basic.LightGBMError as exc:
        raise TrainingError(f"LightGBM cannot train on this data: {exc}") from exc
    return booster


def _boost(booster: lgb.Booster, estimator: LightGBM, data: TrainingData, report: Reporter) -> int:
    """Add trees; the number of rounds with the best validation metric."""
    metric = data.metric

    def evaluate(score: npt.NDArray[np.float64], _: lgb.Dataset) -> tuple[str, float, bool]:
        return metric.name, metric.of(data.validation.y, score), metric.higher_is_better

    best_round, best = 0, -np.inf
    for step in range(1, estimator.rounds + 1):
        finished = booster.update()  # no split left to make
        if not finished and step % _EVALUATE_EVERY and step < estimator.rounds:
            continue
        value = booster.eval_valid(evaluate)[0][2]
        signed = metric.signed(value)
        if signed > best:
            best_round, best = step, signed
        if step % _REPORT_EVERY == 0 or finished or step == estimator.rounds:
            report(step, value)
        if finished or step - best_round >= estimator.early_stopping:
            break
    return best_round


@dataclass(frozen=True, eq=False)
class FittedLightGBM:
    """Boosted trees with float32 thresholds, over recoded columns. `width` is the number of features."""

    booster: lgb.Booster
    recoding: Recoding
    width: int
    threads: int

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """LightGBM's probabilities [n]."""
        return np.asarray(self.booster.predict(self.recoding.apply(x), num_threads=self.threads), np.float64)

    def to_onnx(self) -> bytes:
        """Recoding, trees and the logistic function as one graph."""
        from onnx import TensorProto, helper

        steps, constants, seen = _recoding_nodes(self.recoding)
        steps.append(_tree_node(self.booster, self.width, seen))
        steps.append(helper.make_node("Sigmoid", ["margin"], ["probability"]))
        steps.append(helper.make_node("Squeeze", ["probability", "one"], ["score"]))
        constants.append(helper.make_tensor("one", TensorProto.INT64, [1], [1]))
        graph = helper.make_graph(
            steps,
            "lightgbm",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", self.width])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
            constants,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="trunkline")
        content: bytes = model.SerializeToString(deterministic=True)
        return content


def _order(codes: npt.NDArray[np.float32], y: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    """The rank of each code by its smoothed rate, float32 [size]."""
    index = codes.astype(np.int64)
    count = np.bincount(index, minlength=size)
    hits = np.bincount(index, weights=y, minlength=size)
    rate = (hits + _SMOOTHING * y.mean()) / (count + _SMOOTHING)
    ranks = np.empty(size, np.float32)
    ranks[np.argsort(rate, kind="stable")] = np.arange(size, dtype=np.float32)
    return ranks


def _round_thresholds(text: str) -> str:
    """LightGBM's model text with every threshold rounded down to a float32."""
    lines = []
    for line in text.splitlines():
        if line.startswith("threshold="):
            exact = np.array(line[len("threshold=") :].split(), np.float64)
            line = "threshold=" + " ".join(map(repr, floor32(exact).astype(np.float64).tolist()))
        if not line.startswith("tree_sizes="):  # lengths in bytes, which changed; LightGBM does without
            lines.append(line)
    return "\n".join(lines) + "\n"


def floor32(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each value, so that `x <= value` keeps its meaning for a float32 `x`."""
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def _tree_node(booster: lgb.Booster, width: int, seen: str) -> onnx.NodeProto:
    """The trees as a regressor of the margin. onnxmltools gives a classifier with labels that nobody reads."""
    import onnxmltools
    from onnx import helper
    from onnxmltools.convert.common.data_types import FloatTensorType

    columns = [("features", FloatTensorType([None, width]))]
    model = onnxmltools.convert_lightgbm(booster, name="trees", initial_types=columns, zipmap=False)
    (classifier,) = (node for node in model.graph.node if node.op_type == "TreeEnsembleClassifier")
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in classifier.attribute}
    attributes: dict[str, Any] = {name: value for name, value in given.items() if name.startswith("nodes_")}
    for part in ("ids", "nodeids", "treeids", "weights"):
        attributes[f"target_{part}"] = given[f"class_{part}"]
    return helper.make_node(
        "TreeEnsembleRegressor",
        [seen],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        post_transform="NONE",
        **attributes,
    )


def _recoding_nodes(recoding: Recoding) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    """`Recoding.apply` as ONNX: its nodes, its constants, and the name of the matrix the trees see."""
    from onnx import TensorProto, helper, numpy_helper

    if not len(recoding.ordered):
        return [], [], "features"
    nodes = [
        helper.make_node("Gather", ["features", "kept"], ["numbers"], axis=1),
        helper.make_node("Gather", ["features", "ordered"], ["codes"], axis=1),
        helper.make_node("Cast", ["codes"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["whole", "starts"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["ranks"]),
        helper.make_node("Concat", ["numbers", "ranks"], ["seen"], axis=1),
    ]
    arrays: dict[str, npt.NDArray[Any]] = {
        "kept": recoding.kept,
        "ordered": recoding.ordered,
        "starts": recoding.starts,
        "table": recoding.table,
    }
    return nodes, [numpy_helper.from_array(values, name) for name, values in arrays.items()], "seen"
