"""An estimator without a framework: one column through a sigmoid, of which trials can be had by the hundred."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from onnx import TensorProto, helper

from trunkline.training.protocol import FitContext, TrainingData


@dataclass(frozen=True)
class Fake:
    """Scores by column 1 of the data plus `noise` times chance; `lie` is added to the export's scores."""

    noise: float = 0.0
    lie: float = 0.0
    steps: int = 3
    seconds: float = 0.0

    name: ClassVar[str] = "fake"

    def settings(self) -> dict[str, Any]:
        """Every setting; JSON has no NaN."""
        return {**asdict(self), "lie": str(self.lie)}

    def fit(self, data: TrainingData, context: FitContext) -> FittedFake:
        """Report the same value at every step."""
        model = FittedFake(self, data.train.x.shape[1])
        value = data.metric.of(data.validation.y, model.predict(data.validation.x))
        for step in range(1, self.steps + 1):
            time.sleep(self.seconds)
            context.report(step, value)
        return model


@dataclass(frozen=True)
class FittedFake:
    """The one column through a sigmoid."""

    settings: Fake
    width: int

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Probabilities; chance is drawn the same way every time."""
        chance = np.random.default_rng(0).normal(size=len(x))
        column = min(1, self.width - 1)
        return 1 / (1 + np.exp(-np.nan_to_num(x[:, column].astype(np.float64)) - self.settings.noise * chance))

    def to_onnx(self) -> bytes:
        """The same without chance."""
        nodes = [
            helper.make_node("Gather", ["features", "column"], ["picked"], axis=1),
            helper.make_node("IsNaN", ["picked"], ["missing"]),
            helper.make_node("Where", ["missing", "zero", "picked"], ["filled"]),
            helper.make_node("Sigmoid", ["filled"], ["probability"]),
            helper.make_node("Add", ["probability", "lie"], ["score"]),
        ]
        constants = [
            helper.make_tensor("column", TensorProto.INT64, [], [min(1, self.width - 1)]),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
            helper.make_tensor("lie", TensorProto.FLOAT, [], [self.settings.lie]),
        ]
        given = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", self.width])
        answered = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
        graph = helper.make_graph(nodes, "fake", [given], [answered], constants)
        content: bytes = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        ).SerializeToString()
        return content
