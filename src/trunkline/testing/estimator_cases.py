"""What the estimators' conformance suite fits: small tables for each task, sound and hard ones; and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.models.signature import Signature
from trunkline.models.task import Task, TaskKind
from trunkline.training.features import prepare
from trunkline.training.metrics import Metric
from trunkline.training.protocol import Matrix, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Checkpointed", "Cut", "beside", "case", "constant_score", "hard", "of_one_kind", "streamed", "with_labels"]

_SCHEMA = [
    ("amount", "DOUBLE"), ("weight", "DOUBLE"), ("shop", "VARCHAR"), ("item", "VARCHAR"), ("open", "BOOLEAN"),
    ("moment", "TIMESTAMP"),
]  # fmt: skip
_HARD = [*_SCHEMA, ("nothing", "DOUBLE"), ("same", "DOUBLE"), ("endless", "DOUBLE"), ("wide", "DOUBLE")]
_CLASSES = np.array(["high", "low", "middle"])
_ROWS = 600


class Cut(Exception):
    """The process died, for a test."""


@dataclass
class Checkpointed:
    """Checkpoints in memory; the `cut`-th save ends the fit. `steps` are those that were saved."""

    cut: int | None = None
    files: Mapping[str, bytes] | None = None
    steps: list[int] = field(default_factory=list)

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the last save."""
        return self.files

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """Keep them, then die if it is time."""
        assert files is not None, "without peers, a save brings files"
        assert all(isinstance(content, bytes) for content in files.values())
        self.files = dict(files)
        self.steps.append(step)
        if len(self.steps) == self.cut:
            raise Cut


@cache
def case(kind: TaskKind) -> TrainingData:
    """600 rows to train on and 300 to validate on, by the task's own metric; columns of four kinds, some missing."""
    return _prepared(kind, _table(kind, _ROWS, 1), _table(kind, _ROWS // 2, 2), _SCHEMA)


@cache
def hard(kind: TaskKind) -> TrainingData:
    """The same with a column without a value, one that never changes, one with infinite and one with very wide values,

    and a validation part in which every tenth row is of a shop that the training part has not.
    """
    import pyarrow as pa

    parts = []
    for seed, rows in ((1, _ROWS), (2, _ROWS // 2)):
        random, made = np.random.default_rng(10 + seed), _table(kind, rows, seed)
        endless = np.where(random.random(rows) < 0.2, np.inf, random.normal(size=rows))
        endless[::11], endless[::13] = -np.inf, 1e300  # the second is infinite as a float32
        made = made.append_column("nothing", pa.nulls(rows, pa.float64()))
        made = made.append_column("same", pa.array(np.full(rows, 7.0)))
        made = made.append_column("endless", pa.array(endless))
        made = made.append_column("wide", pa.array(random.normal(size=rows) * 1e30))
        if seed == 2:
            shop = ["new" if place % 10 == 0 else name for place, name in enumerate(made["shop"].to_pylist())]
            made = made.set_column(made.column_names.index("shop"), "shop", pa.array(shop))
        parts.append(made)
    return _prepared(kind, parts[0], parts[1], _HARD)


def of_one_kind(kind: TaskKind, columns: str) -> TrainingData:
    """The sound rows with `numbers` only, `categories` only, or a single `vector` of up to 4 numbers."""
    picked = {"numbers": ["amount", "weight"], "categories": ["shop", "item"]}
    if columns in picked:
        return case(kind).select(picked[columns])
    import pyarrow as pa

    parts = []
    for seed, rows in ((1, _ROWS), (2, _ROWS // 2)):
        made, random = _table(kind, rows, seed), np.random.default_rng(seed)
        first = made["amount"].fill_null(0.0).to_pylist()
        path = [[value, None, *random.normal(size=random.integers(0, 3)).tolist()] for value in first]
        parts.append(pa.table({"path": pa.array(path, pa.list_(pa.float64())), "target": made["target"]}))
    return _prepared(kind, parts[0], parts[1], [("path", "DOUBLE[]")])


def streamed(kind: TaskKind) -> TrainingData:
    """The sound rows where ten kilobytes may be used: the training part does not fit."""
    return _prepared(kind, _table(kind, _ROWS, 1), _table(kind, _ROWS // 2, 2), _SCHEMA, memory=10_000)


def with_labels(data: TrainingData, y: npt.NDArray[np.float32], rows: int | None = None) -> TrainingData:
    """The training part with other labels, or only its first rows."""
    return replace(data, train=Matrix(data.train.x[:rows], y[:rows]))


def beside(data: TrainingData, *, rising: bool) -> TrainingData:
    """The same data with a metric of the user's own that falls, or rises: a squared error, or what is left of it."""

    def error(y: npt.NDArray[Any], score: npt.NDArray[Any]) -> float:
        wanted = np.eye(score.shape[1])[y.astype(int)] if data.task.kind == "multiclass" else y
        if data.task.kind == "quantile":
            wanted = y[:, None]
        apart = float(np.square(score - wanted).mean())
        return -apart if rising else apart

    return replace(data, metric=Metric("mine", error, rising, (data.task.kind,)))


def constant_score(data: TrainingData) -> npt.NDArray[np.float64]:
    """What a model would answer that knows the target of the training part only, [n] or [n, k]."""
    y, rows = data.train.y.astype(np.float64), len(data.validation)
    if data.task.kind == "multiclass":
        return np.tile(np.bincount(y.astype(int), minlength=len(data.task.classes)) / len(y), (rows, 1))
    if data.task.kind == "quantile":
        return np.tile(np.quantile(y, data.task.quantiles), (rows, 1))
    return np.full(rows, y.mean())


def _prepared(
    kind: TaskKind, train: pa.Table, validation: pa.Table, schema: list[tuple[str, str]], memory: int | None = None
) -> TrainingData:
    task = Task("quantile", quantiles=(0.1, 0.5, 0.9)) if kind == "quantile" else Task(kind)
    signature = Signature.from_schema(schema, target="target", task=task)
    return prepare(train, validation, signature, min_count=5, memory=memory)


def _table(kind: TaskKind, rows: int, seed: int) -> pa.Table:
    """Rows whose target depends on all columns; numbers and categories are null here and there."""
    import pyarrow as pa

    random = np.random.default_rng(seed)
    amount, weight = random.normal(size=rows), random.gamma(2.0, 40.0, rows)
    shop, item, is_open = random.integers(0, 6, rows), random.integers(0, 30, rows), random.random(rows) < 0.4
    signal = 1.5 * amount + np.sin(2.1 * shop) + 0.01 * weight + 0.5 * is_open + 0.4 * random.normal(size=rows)
    start = datetime(2024, 3, 1)
    return pa.table(
        {
            "amount": pa.array(amount, mask=random.random(rows) < 0.1),
            "weight": pa.array(weight),
            "shop": pa.array([f"s{number}" for number in shop], mask=random.random(rows) < 0.05),
            "item": pa.array([f"i{number}" for number in item]),
            "open": pa.array(is_open, mask=random.random(rows) < 0.05),
            "moment": pa.array([start + timedelta(hours=int(hours)) for hours in random.integers(0, 5_000, rows)]),
            "target": pa.array(_target(kind, signal)),
        }
    )


def _target(kind: TaskKind, signal: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    if kind == "binary":
        return signal > 2.2
    if kind == "multiclass":
        return _CLASSES[np.digitize(signal, [0.2, 2.2])]
    if kind == "custom":
        raise ValueError("a custom task has no case of its own: its target is the user's")
    return 200.0 + 30.0 * signal
