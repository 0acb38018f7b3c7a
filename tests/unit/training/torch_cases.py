"""Small data of every task, made without files, for estimators in PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime as ort

from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.signature import Field, Signature
from trunkline.models.task import Task
from trunkline.training.metrics import METRICS, metric_named
from trunkline.training.protocol import FitContext, Fitted, Matrix, Pruned, TrainingData

MULTICLASS = Task("multiclass", classes=("a", "b", "c"))
QUANTILE = Task("quantile", quantiles=(0.1, 0.5, 0.9))
TASKS = {"binary": Task(), "multiclass": MULTICLASS, "regression": Task("regression"), "quantile": QUANTILE}
_METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse", "custom": "rmse"}


def made(task: Task, rows: int = 600, *, seed: int = 0, scale: float = 500.0) -> TrainingData:
    """Two numbers, one of them missing at times, and a category; the target of numbers has mean 10,000."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 3)).astype(np.float32)
    x[:, 2] = random.integers(0, 4, rows)
    noise = random.normal(size=rows) * 0.3
    signal = x[:, 0] + 0.7 * np.sin(2 * x[:, 2]) + noise
    x[random.random(rows) < 0.1, 1] = np.nan
    columns = [EncodedColumn("up", "number"), EncodedColumn("gap", "number"), EncodedColumn("kind", "category", 4)]
    encoder = Encoder(columns, {"kind": ["x", "y", "z"]})
    y = {
        "binary": lambda: signal > 0.5,
        "multiclass": lambda: np.digitize(signal, [-0.5, 0.5]),
        "custom": lambda: np.stack([signal, -2 * signal], 1),
    }.get(task.kind, lambda: 10_000 + scale * signal)()
    return of(encoder, task, x, y.astype(np.float32))


def of(encoder: Encoder, task: Task, x: np.ndarray, y: np.ndarray) -> TrainingData:
    """The first two thirds to train on, the rest to validate on."""
    cut = 2 * len(x) // 3
    fields = tuple(Field(column.name, column.kind) for column in encoder.columns)
    metric = METRICS[_METRIC[task.kind]] if task.kind in _METRIC else metric_named("pinball_loss", task)
    parts = Matrix(x[:cut], y[:cut]), Matrix(x[cut:], y[cut:])
    return TrainingData(*parts, encoder, Signature(fields, "y", task), metric)


@dataclass
class Kept:
    """Checkpoints in memory."""

    files: dict[str, bytes] | None = None
    steps: list[int] = field(default_factory=list)

    def load(self) -> dict[str, bytes] | None:
        """The last ones."""
        return self.files

    def save(self, step: int, files: Any) -> None:
        """In place of the last ones."""
        self.files = dict(files)
        self.steps.append(step)


def fitted(estimator: Any, data: TrainingData, **context: Any) -> tuple[Fitted, list[tuple[int, float]]]:
    """Fit on one thread; the model and what it reported."""
    heard: list[tuple[int, float]] = []

    def report(step: int, value: float) -> None:
        heard.append((step, value))

    context = {"seed": 3, "report": report, **context}
    return estimator.fit(data, FitContext(**context)), heard


def until(last: int) -> Any:
    """A reporter that ends the fit at a step."""

    def report(step: int, value: float) -> None:
        if step == last:
            raise Pruned

    return report


def served(onnx: bytes, x: np.ndarray) -> np.ndarray:
    """The scores of the exported model."""
    return np.asarray(ort.InferenceSession(onnx).run(["score"], {"features": x})[0], np.float64)
