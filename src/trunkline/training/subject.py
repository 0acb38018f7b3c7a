"""What is to be trained, told without running user code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.project.ml import Declared, declarations, find_model


@dataclass(frozen=True)
class Subject:
    """A declared model and the dataset it is to be trained on: what is known of both without running user code."""

    root: Path
    declared: Declared
    manifest: Manifest

    @property
    def name(self) -> str:
        """The model's name."""
        return self.declared.name

    @property
    def metric(self) -> str:
        """The metric it is chosen by."""
        return str(self.declared.data["metric"])


def find_subject(root: Path, model: str, dataset_id: str) -> Subject:
    """`model` and the dataset of that id. Raises `ProjectError` or `DatasetError` where one is not there."""
    declared = find_model(declarations(root), model)
    return Subject(root, declared, read_manifest(dataset_folder(root, declared, dataset_id)))


def dataset_folder(root: Path, declared: Declared, dataset_id: str) -> Path:
    """Where the open parts of a model's dataset lie."""
    return folder(root / ".trunkline", str(declared.data["dataset"]), dataset_id)
