"""What the gate proves of a candidate besides its quality: its origin, signs of leakage, the warehouse's own scores."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.datasets.findings import read_findings
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.gate.evidence import Leakage, Provenance, Sign
from trunkline.gate.metrics import Floats
from trunkline.gate.opened import OpenPart, seen
from trunkline.models.bundle import Bundle
from trunkline.models.packed import unpackable
from trunkline.orchestration.publishing import tried
from trunkline.orchestration.session import Session
from trunkline.registry.reference import FILES_TAG
from trunkline.warehouse.protocol import FunctionHost

if TYPE_CHECKING:
    import pyarrow as pa

    from trunkline.registry.protocol import ModelVersion

__all__ = ["WarehouseScorer", "leakage", "left_out", "opened", "provenance"]


def opened(session: Session, name: str, dataset_id: str) -> OpenPart | None:
    """The open parts of a dataset, or None if it is not in this checkout."""
    if not re.fullmatch(r"\w[\w.-]*", name) or not re.fullmatch(r"[0-9a-f]{16,}", dataset_id):  # a bundle says them
        return None
    place = folder(session.context.state, name, dataset_id)
    if not place.is_dir():
        return None
    manifest = read_manifest(place)
    return OpenPart(place, manifest) if (manifest.name, manifest.dataset_id) == (name, dataset_id) else None


# -- the warehouse's own scores


@dataclass(frozen=True)
class WarehouseScorer:
    """Scores by the target's warehouse: the bundle as the SQL function that `trunkline functions publish` makes."""

    session: Session
    bundle: Bundle
    reference: str

    def score(self, table: pa.Table) -> Floats:
        """Scores [n] or [n, k]; NaN where the function gave nothing. Raises EngineError where the warehouse refuses."""
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch:
            rows = Path(scratch) / "rows.parquet"
            pq.write_table(table.select(list(self.bundle.signature.names)), rows)
            told = tried(self.session.project, self.session.context, self.bundle, self.reference, rows)
        width = self.bundle.signature.task.width
        if width is None:
            return np.array([_number(value) for value in told])
        several = [json.loads(value) if isinstance(value, str) else value or [None] * width for value in told]
        return np.array([[_number(value) for value in row] for row in several]).reshape(len(told), width)


def left_out(session: Session, bundle: Bundle) -> str:
    """Why the warehouse's scores cannot be compared; empty if they can."""
    warehouse = session.context.warehouse
    if not isinstance(warehouse, FunctionHost):
        return f"the {warehouse.name} warehouse runs no Python functions"
    return unpackable(bundle)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


# -- leakage


def leakage(sealed: pa.Table, candidate: OpenPart, champion: OpenPart | None) -> Leakage:
    """The answers of the dataset's probes, and how many sealed rows a training has seen."""
    signs = (
        Sign(found.probe, found.outcome, found.text, found.column, found.value, found.bound)
        for found in read_findings(candidate.folder)
    )
    return Leakage(
        signs=tuple(signs),
        keys=sealed.num_rows,
        seen=seen(sealed, candidate),
        seen_by_champion=None if champion is None or not _comparable(champion, candidate) else seen(sealed, champion),
    )


def _comparable(champion: OpenPart, candidate: OpenPart) -> bool:
    """Whether one's keys mean the other's rows."""
    one, other = champion.manifest, candidate.manifest
    return (one.relation, one.key) == (other.relation, other.key)


# -- provenance


def provenance(version: ModelVersion, bundle: Bundle, manifest: Manifest) -> Provenance:
    """What the registry, the dataset and the bundle say of where the version comes from."""
    tags = version.tags
    commit, changed = tags.get("trunkline.git_commit", ""), tags.get("trunkline.git_dirty") == "true"
    said = {
        "git commit": "" if changed else commit,
        "dbt manifest": tags.get("trunkline.dbt_manifest", ""),
        "dataset": manifest.dataset_id,
        "rows of the dataset": manifest.content_id,
        "snapshot": manifest.snapshot,
        "loads": " ".join(manifest.load_ids),
        "run": version.run_id,
        "bundle": bundle.sha256,
        **_files(tags, bundle),
    }
    known = {name: value for name, value in said.items() if value}
    if changed:
        known["git commit before changes"] = commit
    size = sum(file.stat().st_size for file in bundle.path.iterdir())
    return Provenance(known, tuple(name for name in said if name not in known), size)


def _files(tags: Mapping[str, str], bundle: Bundle) -> dict[str, str]:
    """The sha256 of each file as the registry has it; empty where it has none, or another."""
    try:
        recorded = json.loads(tags.get(FILES_TAG, "{}"))
    except ValueError:
        recorded = {}
    told = {name: str(recorded.get(name, "")) for name in sorted(bundle.digests)}
    return {f"sha256 of {name}": said if said == bundle.digests[name] else "" for name, said in told.items()}
