"""What a training step needs, fetched: the live model function and its dataset, encoded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.datasets.feed import read_part
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.errors import DatasetError
from trunkline.models.signature import Signature
from trunkline.project.declare import Model
from trunkline.project.ml import Declared, declarations, find_model, load_model
from trunkline.training.features import prepare

if TYPE_CHECKING:
    from trunkline.training.protocol import TrainingData


@dataclass(frozen=True)
class Inputs:
    """A model and the open parts of its dataset, encoded once for all trials."""

    declared: Declared
    model: Model
    manifest: Manifest
    data: TrainingData


def load_inputs(root: Path, model: str, dataset_id: str) -> Inputs:
    """Load everything for `model` on the dataset of that id. Raises `UserError`s with file and line."""
    declared = find_model(declarations(root), model)
    manifest = read_manifest(folder(root / ".trunkline", str(declared.data["dataset"]), dataset_id))
    try:
        data = _data(root, manifest.name, dataset_id, str(declared.data["metric"]))
    except DatasetError as exc:
        raise DatasetError(exc.what, file=root / declared.file, line=declared.line, hint=exc.hint) from exc
    return Inputs(declared, load_model(root, declared), manifest, data)


@lru_cache(maxsize=1)
def _data(root: Path, name: str, dataset_id: str, metric: str) -> TrainingData:
    """Encoded parts; kept for the next step of the same command (datasets never change)."""
    state = root / ".trunkline"
    manifest = read_manifest(folder(state, name, dataset_id))
    types = dict(manifest.schema)
    signature = Signature.from_schema([(f, types[f]) for f in manifest.features], target=manifest.target)
    return prepare(
        read_part(state, manifest, "train"), read_part(state, manifest, "validation"), signature, metric=metric
    )
