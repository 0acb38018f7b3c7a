"""A fitted model as the files of a bundle, and what scores with them."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.errors import TrainingError
from trunkline.models.runtime import Scorer
from trunkline.training.parity import MatrixScorer
from trunkline.training.protocol import Exports, Fitted, TrainingData

__all__ = ["exported"]


def exported(fitted: Fitted, data: TrainingData) -> tuple[Mapping[str, bytes], MatrixScorer]:
    """The model's files by name: ONNX, or where ONNX cannot tell the model, what it has instead."""
    try:
        onnx = fitted.to_onnx()
    except TrainingError:
        if not isinstance(fitted, Exports):
            raise
        from trunkline.models.torch import open_module

        files = fitted.files()
        weights, record = files["model.safetensors"], files["module.json"]
        return files, open_module(weights, record, data.encoder, data.task, root=fitted.root)
    return {"model.onnx": onnx}, Scorer.of(data.encoder, onnx, task=data.task)
