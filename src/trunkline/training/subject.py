"""What is to be trained, told without running user code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.models.task import DEFAULT_METRICS, TaskKind
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
        """The metric it is chosen by: its own, or that of its task."""
        given = self.declared.data["metric"]
        if given is None:
            return DEFAULT_METRICS.get(self.task, "")
        return str(given["name"] if isinstance(given, Mapping) else given)

    @property
    def higher_is_better(self) -> bool:
        """The direction of the metric."""
        from trunkline.training.metrics import METRICS  # brings NumPy

        given = self.declared.data["metric"]
        return bool(given["higher_is_better"] if isinstance(given, Mapping) else METRICS[self.metric].higher_is_better)

    @property
    def task(self) -> TaskKind:
        """What is learned: as the dataset has it, or its quantiles."""
        return "quantile" if self.declared.data["quantiles"] else self.manifest.task


def find_subject(root: Path, model: str, dataset_id: str) -> Subject:
    """`model` and the dataset of that id. Raises `ProjectError` or `DatasetError` where one is not there."""
    declared = find_model(declarations(root), model)
    return Subject(root, declared, read_manifest(dataset_folder(root, declared, dataset_id)))


def dataset_folder(root: Path, declared: Declared, dataset_id: str) -> Path:
    """Where the open parts of a model's dataset lie."""
    return folder(root / ".trunkline", str(declared.data["dataset"]), dataset_id)
