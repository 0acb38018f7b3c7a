"""What a training needs, fetched: the live model function and its dataset, encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.datasets.feed import open_part
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.errors import DatasetError
from trunkline.models.signature import Signature
from trunkline.project.declare import Model
from trunkline.project.ml import Declared, load_model
from trunkline.training.features import prepare
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


def load_inputs(root: Path, declared: Declared, dataset_id: str) -> Inputs:
    """Run the model's file and encode its data: for the process apart. Raises `UserError`s with file and line."""
    manifest = read_manifest(dataset_folder(root, declared, dataset_id))
    try:
        data = _data(root / ".trunkline", manifest, str(declared.data["metric"]))
    except DatasetError as exc:
        raise DatasetError(exc.what, file=root / declared.file, line=declared.line, hint=exc.hint) from exc
    return Inputs(declared, load_model(root, declared), manifest, data)


def _data(state: Path, manifest: Manifest, metric: str) -> TrainingData:
    types = dict(manifest.schema)
    signature = Signature.from_schema([(f, types[f]) for f in manifest.features], target=manifest.target)
    return prepare(
        open_part(state, manifest, "train"), open_part(state, manifest, "validation"), signature, metric=metric
    )
