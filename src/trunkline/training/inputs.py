"""What a training needs, fetched: the live model function and its dataset, encoded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.datasets.feed import OpenPart, open_part
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.errors import DatasetError, TrainingError
from trunkline.models.signature import Signature
from trunkline.models.task import Task
from trunkline.project.declare import Model
from trunkline.project.ml import Declared, load_model
from trunkline.training.features import Learned, learn, prepare, rows_of
from trunkline.training.metrics import metric_named
from trunkline.training.subject import dataset_folder

if TYPE_CHECKING:
    from trunkline.training.protocol import TrainingData


@dataclass(frozen=True)
class Inputs:
    """A live model and the open parts of its dataset, encoded once for all trials."""

    declared: Declared
    model: Model
    manifest: Manifest
    data: TrainingData


def load_inputs(
    root: Path,
    declared: Declared,
    dataset_id: str,
    *,
    shard: tuple[int, int] = (0, 1),
    learned: Learned | None = None,
) -> Inputs:
    """Run the model's file and encode its data: for the process apart. Raises `UserError`s with file and line.

    `shard` is (rank, world): of the training part only this rank's stretch of rows is read, of the validation part all.
    Then `learned` must be what one process has learned from all rows.
    """
    if shard != (0, 1) and learned is None:
        raise ValueError("a rank's rows are encoded by what was learned from all rows")
    manifest = read_manifest(dataset_folder(root, declared, dataset_id))
    model = load_model(root, declared)
    with _at(root, declared):
        train, validation, signature = _opened(root, manifest, model)
        part = rows_of(train, *shard) if shard != (0, 1) else train
        data = prepare(part, validation, signature, metric=model.metric, learned=learned)
    return Inputs(declared, model, manifest, data)


def learn_inputs(root: Path, declared: Declared, dataset_id: str) -> Learned:
    """What all processes that fit one model together have to know: one pass over the data, of which nothing is kept."""
    manifest = read_manifest(dataset_folder(root, declared, dataset_id))
    model = load_model(root, declared)
    with _at(root, declared):
        train, validation, signature = _opened(root, manifest, model)
        metric_named(model.metric, signature.task)
        return learn(train, validation, signature)


@contextlib.contextmanager
def _at(root: Path, declared: Declared) -> Iterator[None]:
    """Data and names that do not fit are told at the model's declaration."""
    try:
        yield
    except (DatasetError, TrainingError) as exc:
        if exc.file is not None:
            raise
        raise type(exc)(exc.what, file=root / declared.file, line=declared.line, hint=exc.hint) from exc


def _opened(root: Path, manifest: Manifest, model: Model) -> tuple[OpenPart, OpenPart, Signature]:
    types, state = dict(manifest.schema), root / ".trunkline"
    columns = [(feature, types[feature]) for feature in manifest.features]
    signature = Signature.from_schema(columns, target=manifest.target, task=_task(manifest, model))
    return open_part(state, manifest, "train"), open_part(state, manifest, "validation"), signature


def _task(manifest: Manifest, model: Model) -> Task:
    if not model.quantiles:
        return Task(manifest.task)
    if manifest.task != "regression":
        raise DatasetError(
            f"quantiles are learned of a number, but the task of dataset {manifest.name!r} is {manifest.task}",
            hint='leave `quantiles` out; or, if its target is a number, task="regression" in the tl.Dataset',
        )
    return Task("quantile", quantiles=model.quantiles)
