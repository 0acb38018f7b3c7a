"""Where a model comes from, as tags and dataset inputs of its run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from trunkline.context import StepContext
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.run import folder
from trunkline.registry.ancestry import git_tags, listed, own_version
from trunkline.registry.protocol import DatasetInput

__all__ = ["ancestors", "inputs"]

_Context = Literal["training", "validation", "test"]


def ancestors(manifest: Manifest, ctx: StepContext, fingerprint: str = "") -> dict[str, str]:
    """Every ancestor of what is made of a dataset in this command; `fingerprint` is that of the step, if there is one.

    `trunkline.dbt_manifest` is a digest of what dbt's manifest says of the project's nodes, without times and ids of
    invocations: equal for equal projects.
    """
    return {
        **git_tags(ctx.git_commit()),
        **own_version(),
        **listed("trunkline.load_ids", manifest.load_ids),
        "trunkline.dbt_manifest": ctx.dbt_manifest(),
        "trunkline.dataset": manifest.name,
        "trunkline.dataset_id": manifest.dataset_id,
        "trunkline.snapshot": manifest.snapshot,
        "trunkline.run_id": ctx.run_id,
        "trunkline.target": ctx.target,
        **({"trunkline.fingerprint": fingerprint} if fingerprint else {}),
    }


def inputs(manifest: Manifest, ctx: StepContext, parts: Mapping[str, _Context]) -> tuple[DatasetInput, ...]:
    """The named parts of the dataset, each with what it was read for; where the dataset is published, that copy."""
    place = manifest.location or str(folder(ctx.state, manifest.name, manifest.dataset_id))
    return tuple(
        DatasetInput(
            name=f"{manifest.name} {name}",
            digest=manifest.parts[name].content,
            source=f"{place.rstrip('/')}/{manifest.parts[name].file or ''}".rstrip("/"),
            context=context,
        )
        for name, context in parts.items()
        if name in manifest.parts
    )
