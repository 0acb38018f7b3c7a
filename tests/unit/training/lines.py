"""A quick estimator for every task, least squares, and data of which it is known what each column is worth."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from trunkline.models.signature import Signature
from trunkline.models.task import Task, TaskKind
from trunkline.project.declare import Metric
from trunkline.training.features import prepare
from trunkline.training.protocol import FitContext, TrainingData

GROUPS = {"strong": ["strong"], "weak": ["weak"], "noise": ["first", "second"]}
COLUMNS = [(name, "DOUBLE") for group in GROUPS.values() for name in group]


@dataclass(frozen=True)
class Line:
    """Least squares, on weights that `jitter` times chance of the seed is added to. Waits `seconds`; each fit leaves a
    file in the folder `count`."""

    jitter: float = 0.0
    seconds: float = 0.0
    count: str = ""
    fails: bool = False

    name: ClassVar[str] = "line"

    def settings(self) -> dict[str, Any]:
        """Every setting."""
        return asdict(self)

    def fit(self, data: TrainingData, context: FitContext) -> FittedLine:
        """As numpy does it."""
        if self.fails:
            raise ArithmeticError("the line does not fit")
        if self.count:
            Path(self.count, f"{time.monotonic_ns()}-{context.seed}").touch()
        time.sleep(self.seconds)
        y = data.train.y
        wanted = np.eye(len(data.task.classes))[y.astype(int)] if data.task.kind == "multiclass" else y
        weights = np.linalg.lstsq(_design(data.train.x), wanted, rcond=None)[0]
        weights = weights + self.jitter * np.random.default_rng(context.seed).normal(size=weights.shape)
        context.report(1, 0.5)
        return FittedLine(weights, data.task)


@dataclass(frozen=True)
class FittedLine:
    """The weights."""

    weights: np.ndarray
    task: Task

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Scores in the task's shape."""
        found = _design(x) @ self.weights
        if self.task.kind == "binary":
            return 1 / (1 + np.exp(-4 * (found - 0.5)))
        if self.task.kind == "multiclass":
            return np.exp(4 * found) / np.exp(4 * found).sum(axis=1, keepdims=True)
        if self.task.kind == "quantile":
            return found[:, None] + np.array([-1.3, 0.0, 1.3])
        return found

    def to_onnx(self) -> bytes:
        """Nobody asks."""
        raise NotImplementedError


def _design(x: np.ndarray) -> np.ndarray:
    return np.column_stack([np.ones(len(x)), x])


def rows(count: int, seed: int, kind: TaskKind = "binary") -> pa.Table:
    """The target hangs on `strong`, a little on `weak`, and not at all on the rest."""
    random = np.random.default_rng(seed)
    columns = {name: random.normal(size=count) for name, _ in COLUMNS}
    number = columns["strong"] + 0.4 * columns["weak"] + random.normal(size=count)
    targets = {
        "binary": number > 0,
        "multiclass": np.array(["low", "middle", "high"])[np.digitize(number, [-1, 1])],
        "regression": number,
        "quantile": number,
    }
    return pa.table({**columns, "target": targets[kind]})


def data_of(kind: TaskKind, metric: str | Metric | None = None) -> TrainingData:
    """800 rows to train on, 2,000 to validate on."""
    task = Task(kind, quantiles=(0.1, 0.5, 0.9) if kind == "quantile" else ())
    type_ = {"binary": "BOOLEAN", "multiclass": "VARCHAR"}.get(kind, "DOUBLE")
    signature = Signature.from_schema([*COLUMNS, ("target", type_)], target="target", task=task)
    return prepare(rows(800, 1, kind), rows(2_000, 2, kind), signature, metric=metric)
