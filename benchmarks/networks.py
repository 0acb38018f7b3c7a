"""A network of random weights, for benchmarks of those who answer with one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def network(sizes: Sequence[int]) -> bytes:
    """A network of layers of these sizes, the inputs first and the one answer last, as ONNX."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    nodes, constants, layer = [], [], "features"
    for index, (rows, columns) in enumerate(pairwise(sizes)):
        weights = random.normal(size=(rows, columns)).astype(np.float32) / rows**0.5
        constants += [
            numpy_helper.from_array(weights, f"w{index}"),
            numpy_helper.from_array(np.zeros(columns, np.float32), f"b{index}"),
        ]
        nodes.append(helper.make_node("Gemm", [layer, f"w{index}", f"b{index}"], [f"g{index}"]))
        layer = f"a{index}"
        nodes.append(helper.make_node("Relu" if columns > 1 else "Sigmoid", [f"g{index}"], [layer]))
    constants.append(numpy_helper.from_array(np.array([-1]), "shape"))
    nodes.append(helper.make_node("Reshape", [layer, "shape"], ["score"]))
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", sizes[0]])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "benchmark", [features], [score], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())
