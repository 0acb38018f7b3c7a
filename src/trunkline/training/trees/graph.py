"""A boosted model as one ONNX graph: recoding, trees, and the link from their sum to the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.models.task import Task
from trunkline.training.trees.recoding import Recoding

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["bounded", "floor32", "tree_graph"]


def floor32(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The largest float32 that is not above each value, so that `x <= value` keeps its meaning for a float32 `x`."""
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
    return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def tree_graph(
    name: str,
    trees: Sequence[dict[str, Any]],
    recoding: Recoding,
    task: Task,
    width: int,
    *,
    bound: float | None = None,
) -> bytes:
    """The model of `trees`: attributes of one TreeEnsembleRegressor each, whose targets are put side by side.

    `width` is the number of features. Where there is a `bound`, the trees see values within [-bound, bound].
    """
    from onnx import TensorProto, helper

    steps, tensors, seen = recoding.nodes()
    if bound is not None:
        kept, limits = bounded(seen, bound)
        steps, tensors, seen = steps + kept, tensors + limits, "bounded"
    margins = ["margin"] if len(trees) == 1 else [f"margin_{place}" for place in range(len(trees))]
    for attributes, margin in zip(trees, margins, strict=True):
        steps.append(_ensemble(attributes, seen, margin))
    if len(trees) > 1:
        steps.append(helper.make_node("Concat", margins, ["margin"], axis=1))
    linked, more = _link(task)
    score: list[str | int] = ["n"] if task.width is None else ["n", task.width]
    graph = helper.make_graph(
        steps + linked,
        name,
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, score)],
        [*tensors, *more],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="trunkline")
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _ensemble(attributes: dict[str, Any], seen: str, margin: str) -> onnx.NodeProto:
    from onnx import helper

    targets = {"n_targets": 1, **attributes}
    return helper.make_node(
        "TreeEnsembleRegressor", [seen], [margin], domain="ai.onnx.ml", post_transform="NONE", **targets
    )


def _link(task: Task) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """From `margin` [n, 1] or [n, k] to `score`: nodes and constants."""
    from onnx import TensorProto, helper

    if task.kind == "multiclass":
        return [helper.make_node("Softmax", ["margin"], ["score"], axis=1)], []
    if task.kind == "quantile":  # in order, whatever each quantile's own trees say
        count = helper.make_tensor("count", TensorProto.INT64, [1], [len(task.quantiles)])
        return [helper.make_node("TopK", ["margin", "count"], ["score", "order"], axis=1, largest=0, sorted=1)], [count]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    if task.kind == "binary":
        steps = [helper.make_node("Sigmoid", ["margin"], ["probability"])]
        return [*steps, helper.make_node("Squeeze", ["probability", "one"], ["score"])], [one]
    return [helper.make_node("Squeeze", ["margin", "one"], ["score"])], [one]


def bounded(seen: str, bound: float, out: str = "bounded") -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """`out` is `seen` within [-bound, bound], NaN as it is: by Where, as runtimes differ in what Clip makes of NaN."""
    from onnx import TensorProto, helper

    most, least, above, capped, below = (f"{out}_{part}" for part in ("most", "least", "above", "capped", "below"))
    steps = [
        helper.make_node("Greater", [seen, most], [above]),
        helper.make_node("Where", [above, most, seen], [capped]),
        helper.make_node("Less", [capped, least], [below]),
        helper.make_node("Where", [below, least, capped], [out]),
    ]
    limits = {most: bound, least: -bound}
    return steps, [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in limits.items()]
