"""A real bundle, as small as one gets: the sum of its encoded columns through a sigmoid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from onnx import TensorProto, helper

from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.signature import Field, Signature

SIGNATURE = Signature(
    inputs=(
        Field("distance", "number", example=733),
        Field("carrier", "category", example="UA"),
        Field("holiday", "boolean", nullable=False, example=False),
    ),
    target="late",
)
TABLE = pa.table(
    {
        "distance": [100.0, 250.0, None, 4000.0] * 10,
        "carrier": ["UA", "AA", "UA", None] * 10,
        "holiday": [True, False, False, True] * 10,
    }
)


def write_tiny(directory: Path) -> Bundle:
    """The bundle, written to `directory`."""
    return Bundle.write(
        directory,
        signature=SIGNATURE,
        encoder=Encoder.fit(TABLE, SIGNATURE, min_count=1),
        onnx=_graph(len(SIGNATURE.inputs)),
        metadata={"estimator": "tiny"},
    )


def _graph(width: int) -> bytes:
    graph = helper.make_graph(
        [
            helper.make_node("IsNaN", ["features"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "features"], ["filled"]),
            helper.make_node("Mul", ["filled", "small"], ["scaled"]),
            helper.make_node("ReduceSum", ["scaled", "axis"], ["logit"], keepdims=0),
            helper.make_node("Sigmoid", ["logit"], ["score"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("small", TensorProto.FLOAT, [], [0.001]),
            helper.make_tensor("axis", TensorProto.INT64, [1], np.array([1])),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data
