"""Datasets for tests, put in place from a query: what the build step leaves behind, without a project."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trunkline.datasets.manifest import Manifest, Part
from trunkline.datasets.run import folder
from trunkline.datasets.vault import sealed_file
from trunkline.project.files import content_digest
from trunkline.warehouse.duckdb import DuckDB

KEY = b"k" * 32


def put(
    warehouse: DuckDB, state: Path, sql: Mapping[str, str], *, fingerprint: str = "a" * 64, **given: Any
) -> Manifest:
    """Write the parts that `sql` selects, and the manifest. A part `test` is sealed."""
    name, target = given.get("name", "mart"), given.get("target", "late")
    place, parts, schema = folder(state, name, fingerprint), {}, ()
    place.mkdir(parents=True)
    for part, query in sql.items():
        sealed = part == "test"
        path = sealed_file(state, name, fingerprint) if sealed else place / f"{part}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        written = warehouse.write_parquet(query, path, key=KEY if sealed else None)
        labels = {str(label).lower(): n for label, n in _labels(warehouse, query, target)}
        file = None if sealed else path.name
        digest, size = content_digest(path), path.stat().st_size
        parts[part] = Part(part, written.rows, labels, written.content, file, digest, size)
        schema = tuple(warehouse.describe(query))
    names = [column for column, _ in schema]
    roles = {"key": "id", "time": "at" if "at" in names else None, "target": target}
    features = [column for column in names if column not in roles.values()]
    record: dict[str, Any] = {
        "dataset_id": fingerprint,
        "content_id": fingerprint[::-1],
        "name": name,
        "relation": "main.mart",
        "snapshot": "version:1",
        "sql": "select 1",
        "task": "binary",
        "groups": {"all": features},
        "split": {"by": "time", "validation": "2025-03-01", "test": "2025-04-01"},
        "schema": schema,
        "parts": parts,
        "load_ids": ("load_1",),
        "unlabelled": 0,
        "left_out": 0,
        "created_at": "2026-01-02T03:04:05+00:00",
    }
    manifest = Manifest(**{**record, **roles, **given})
    manifest.write(place)
    return manifest


def _labels(warehouse: DuckDB, query: str, target: str) -> list[tuple[Any, ...]]:
    return warehouse.query(f"select {warehouse.quote(target)}, count(*) from ({query}) group by 1 order by 1 limit 50")
