"""From a dataset's files to Arrow tables. The sealed part is reached by `open_sealed` alone, which records the look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.context import StepContext
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.run import folder
from trunkline.datasets.vault import sealed_file
from trunkline.errors import DatasetError, EngineError
from trunkline.ledger.ids import new_id
from trunkline.project.files import check_content
from trunkline.warehouse.protocol import ParquetWriter

if TYPE_CHECKING:
    import pyarrow as pa


def read_part(state: Path, manifest: Manifest, part: str) -> pa.Table:
    """An open part (train or validation) as one Arrow table. The sealed part is refused.

    Raises `IntegrityError` if the file is not the one the dataset was made with.
    """
    import pyarrow.parquet as pq

    file = manifest.parts[part].file
    if file is None:
        raise DatasetError(
            f"the {part} part of {manifest.name!r} is sealed: only `trunkline gate` reads it, and each look is counted"
        )
    path = folder(state, manifest.name, manifest.dataset_id) / file
    check_content(path, manifest.parts[part].file_digest)
    return pq.read_table(path)


def open_sealed(
    ctx: StepContext, manifest: Manifest, *, deployment: str, candidate: str, sha256: str
) -> tuple[str, pa.Table]:
    """The sealed part, and the id of the look. The look is in the ledger before the first row is read."""
    if not isinstance(ctx.warehouse, ParquetWriter):
        raise EngineError(f"the {ctx.warehouse.name} warehouse cannot read sealed files yet")
    path = sealed_file(ctx.state, manifest.name, manifest.dataset_id)
    if not path.exists():
        raise DatasetError(f"the sealed part of {manifest.name!r} is not at {path}", hint="`trunkline run` builds it")
    check_content(path, manifest.parts["test"].file_digest)
    look_id = new_id("look")
    with ctx.warehouse.transaction():
        ctx.ledger.add(
            "looks",
            [
                {
                    "look_id": look_id,
                    "dataset_id": manifest.dataset_id,
                    "deployment": deployment,
                    "candidate": candidate,
                    "sha256": sha256,
                    "who": ctx.who,
                    "looked_at": ctx.now(),
                }
            ],
        )
    return look_id, ctx.warehouse.read_sealed(path, ctx.vault_key())
