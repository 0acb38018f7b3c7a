"""A fitted estimator of scikit-learn as one ONNX graph. The home of skl2onnx.

What skl2onnx gives is made the same for the same model (its names count up through the process), and complete: it does
not say where a forest's trees send a missing value.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.errors import TrainingError
from trunkline.models.task import Task
from trunkline.training.scikit.preparation import Preparation

if TYPE_CHECKING:
    import onnx

__all__ = ["KNOWN", "sklearn_graph", "trees_of"]

KNOWN = "LogisticRegression, RandomForestClassifier, HistGradientBoostingClassifier"
"""Estimators that have probabilities and an export, for hints."""

_OPSETS = {"": 17, "ai.onnx.ml": 3}


def sklearn_graph(models: Sequence[Any], preparation: Preparation, task: Task, width: int) -> bytes:
    """Preparation, estimators (one, or one a quantile) and the order of quantiles as a model of `features` [n, width].

    Raises TrainingError for an estimator that cannot be told in ONNX.
    """
    from onnx import TensorProto, helper

    steps, constants = preparation.nodes()
    for place, model in enumerate(models):
        nodes, tensors = _converted(model, preparation.width, f"model_{place}", missing=preparation.fill is None)
        steps, constants = steps + nodes, constants + tensors
    linked, more = _link(task, len(models))
    score: list[str | int] = ["n"] if task.width is None else ["n", task.width]
    graph = helper.make_graph(
        steps + linked,
        "sklearn",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, score)],
        constants + more,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    whole = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="trunkline")
    content: bytes = whole.SerializeToString(deterministic=True)
    return content


def trees_of(held: Any, seen: set[int] | None = None) -> list[Any]:
    """The fitted trees that an estimator is made of: `Tree`, or the `TreePredictor` of histogram boosting."""
    seen = set() if seen is None else seen
    if id(held) in seen:
        return []
    seen.add(id(held))
    module = type(held).__module__
    if (module == "sklearn.tree._tree" and hasattr(held, "threshold")) or module.endswith("boosting.predictor"):
        return [held]
    if isinstance(held, list | tuple) or (isinstance(held, np.ndarray) and held.dtype == object):
        return [tree for item in np.ravel(np.array([*held], object)) for tree in trees_of(item, seen)]
    if hasattr(held, "__dict__") and (hasattr(held, "get_params") or module.startswith("sklearn.")):
        return [tree for item in vars(held).values() for tree in trees_of(item, seen)]
    return []


def _converted(
    model: Any, width: int, prefix: str, *, missing: bool
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The estimator from `seen` [n, width] to `prefix` + "_out" [n, k]: skl2onnx's nodes under names of their own.

    With `missing`, the estimator sees missing values.
    """
    import skl2onnx
    from onnx import TensorProto, helper
    from skl2onnx.common.data_types import FloatTensorType

    classifier = hasattr(model, "classes_")
    options = {id(model): {"zipmap": False}} if classifier else None
    columns = [("seen", FloatTensorType([None, width]))]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of attributes that skl2onnx reads, and of how it writes ONNX's
            found = skl2onnx.to_onnx(model, initial_types=columns, options=options, target_opset=_OPSETS)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError, NameError, KeyError) as exc:
        raise TrainingError(
            f"scikit-learn's {_culprit(model, exc)} cannot be told in ONNX, and a bundle holds nothing else"
            f" ({str(exc).splitlines()[0] if str(exc) else type(exc).__name__})",
            hint=f"estimators that can: {KNOWN}, ExtraTreesClassifier, Ridge, SVC, and most of scikit-learn's",
        ) from exc
    if missing:
        _steer_missing(found.graph, model)
    strange = {opset.domain for opset in found.opset_import} - set(_OPSETS)
    if strange or found.functions:
        raise TrainingError(
            f"scikit-learn's {type(model).__name__} needs operators that are not of ONNX ({', '.join(strange)})",
            hint=f"estimators that do not: {KNOWN}",
        )
    out = found.graph.output[1 if classifier else 0].name
    names = {"": "", "seen": "seen", out: f"{prefix}_raw"}
    _rename(found.graph, names, prefix)
    end = helper.make_node("Cast", [names[out]], [f"{prefix}_out"], to=TensorProto.FLOAT)
    return [*found.graph.node, end], list(found.graph.initializer)


def _culprit(model: Any, exc: Exception) -> str:
    """The class of the step that skl2onnx names, or of the whole."""
    for _, step in getattr(model, "steps", []):
        if type(step).__name__ in str(exc):
            return type(step).__name__
    return type(model).__name__


def _steer_missing(graph: onnx.GraphProto, model: Any) -> None:
    """Say for each node of a forest's trees where a missing value goes; boosting's are told already.

    Raises TrainingError where the trees of the graph are not those of the model, one by one.
    """
    trees = [tree for tree in trees_of(model) if hasattr(tree, "missing_go_to_left")]
    if not any(tree.missing_go_to_left.any() for tree in trees):
        return
    nodes = [node for node in graph.node if node.op_type.startswith("TreeEnsemble")]
    for node in nodes:
        held = {attribute.name: attribute for attribute in node.attribute}
        whose, tracks = np.array(held["nodes_treeids"].ints), []
        for place in range(int(whose.max()) + 1):
            features = np.array(held["nodes_featureids"].ints)[whose == place]
            tree = trees.pop(0) if trees else None
            if tree is None or not np.array_equal(np.maximum(tree.feature, 0), features):
                raise _unsteered(model)
            tracks += tree.missing_go_to_left.tolist()
        held["nodes_missing_value_tracks_true"].ints[:] = tracks
    if trees:
        raise _unsteered(model)


def _unsteered(model: Any) -> TrainingError:
    return TrainingError(
        f"skl2onnx does not tell where the trees of {type(model).__name__} send a missing value",
        hint="Sklearn(…, impute=True): missing values become the mean, and a column says where they were",
    )


def _rename(graph: onnx.GraphProto, names: dict[str, str], prefix: str) -> None:
    """Give every value a name by its place, in graphs within it too."""

    def new(name: str) -> str:
        return names.setdefault(name, f"{prefix}_{len(names)}")

    for value in (*graph.initializer, *graph.input, *graph.output, *graph.value_info):
        value.name = new(value.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        node.input[:] = [new(name) for name in node.input]
        node.output[:] = [new(name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                attribute.g.name = prefix
                _rename(attribute.g, names, prefix)


def _link(task: Task, models: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From the models' answers to `score`."""
    from onnx import TensorProto, helper

    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    if task.kind == "multiclass":
        return [helper.make_node("Identity", ["model_0_out"], ["score"])], []
    if task.kind == "binary":
        return [
            helper.make_node("Gather", ["model_0_out", "one"], ["positive"], axis=1),
            helper.make_node("Squeeze", ["positive", "one"], ["score"]),
        ], [one]
    shape = helper.make_tensor("column", TensorProto.INT64, [2], [-1, 1])
    outs = [f"model_{place}_column" for place in range(models)]
    steps = [helper.make_node("Reshape", [f"model_{at}_out", "column"], [out]) for at, out in enumerate(outs)]
    if task.kind == "regression":
        return [*steps, helper.make_node("Squeeze", [outs[0], "one"], ["score"])], [one, shape]
    count = helper.make_tensor("count", TensorProto.INT64, [1], [models])
    steps.append(helper.make_node("Concat", outs, ["quantiles"], axis=1))
    steps.append(
        helper.make_node("TopK", ["quantiles", "count"], ["score", "order"], axis=1, largest=0, sorted=1)
    )  # fmt: skip
    return steps, [shape, count]
