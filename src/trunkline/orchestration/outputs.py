"""Whether what a step left behind is still there."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path

from trunkline.datasets.manifest import FILE
from trunkline.datasets.vault import sealed_file
from trunkline.graph.plan import Past
from trunkline.graph.step import Step
from trunkline.models.place import bundle_folder


def existence(relations: Set[tuple[str, str]], state: Path) -> Callable[[Step, Past], bool]:
    """The check a plan asks: tables by the warehouse's catalog, files by a look at the disk."""

    def exists(step: Step, past: Past) -> bool:
        output = past.output
        if step.kind in ("ingest", "build"):
            made = output.get("relations") or [output["relation"]] if output.get("relation") else []
            return all((schema.lower(), name.lower()) in relations for schema, name in made)
        if step.kind == "dataset":
            from trunkline.datasets.run import folder  # with all that makes one: for projects that have some

            dataset_id, name = output["dataset_id"], output["name"]
            manifest = folder(state, name, dataset_id) / FILE
            return manifest.exists() and sealed_file(state, name, dataset_id).exists()
        if step.kind == "train":
            return bundle_folder(state, output["sha256"]).exists()
        return True

    return exists
