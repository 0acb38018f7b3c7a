"""Verification: each kind of damage is found, and the file that has it is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.datasets.putting import put
from trunkline.datasets.findings import Finding, write_findings
from trunkline.datasets.run import folder
from trunkline.datasets.vault import sealed_file
from trunkline.datasets.verify import verify
from trunkline.warehouse.duckdb import DuckDB

ROWS = "select i as id, i % 5 as a, i % 2 = 0 as late from range({}, {}) t(i)"
PARTS = {"train": ROWS.format(0, 100), "validation": ROWS.format(100, 150), "test": ROWS.format(150, 200)}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(bytes(data))


def _lie(path: Path) -> None:
    data = json.loads(path.read_text())
    data["parts"]["train"]["rows"] = 99
    path.write_text(json.dumps(data))


DAMAGE: list[tuple[str, Callable[[Path], None], set[tuple[str, str]]]] = [
    ("train.parquet", _flip, {("train.parquet", "its bytes are not those that were written")}),
    ("validation.parquet", Path.unlink, {("validation.parquet", "the file is gone")}),
    ("sealed", _flip, {("sealed", "its bytes are not those that were written")}),
    ("sealed", Path.unlink, {("sealed", "the file is gone")}),
    ("manifest.json", _lie, {("manifest.json", "it is not the manifest that the ledger has")}),
    ("manifest.json", lambda path: path.write_text("{"), {("manifest.json", "is damaged")}),
    ("findings.json", lambda path: path.write_text("["), {("findings.json", "is damaged")}),
]


@pytest.mark.parametrize(("file", "damage", "wrong"), DAMAGE)
def test_the_damaged_file_is_named(
    engine: DuckDB, tmp_path: Path, file: str, damage: Callable[[Path], None], wrong: set[tuple[str, str]]
) -> None:
    manifest = put(engine, tmp_path, PARTS)
    place, sealed = folder(tmp_path, "mart", "a" * 64), sealed_file(tmp_path, "mart", "a" * 64)
    write_findings(place, [Finding("keys", "ok", "fine")])
    before = list(verify(engine, place, sealed, manifest.to_json()))
    assert all(check.ok for check in before)
    assert [check.what for check in before] == ["manifest", "bytes", "rows", "bytes", "rows", "bytes", "findings"]
    damage(sealed if file == "sealed" else place / file)
    found = [check for check in verify(engine, place, sealed, manifest.to_json()) if not check.ok]
    names = {(("sealed" if check.file == sealed else check.file.name), check.what) for check in found}
    assert {name for name, _ in names} == {name for name, _ in wrong}
    assert any(text in check.wrong for check in found for _, text in wrong)


def test_other_rows_in_a_file_of_the_same_manifest(engine: DuckDB, tmp_path: Path) -> None:
    put(engine, tmp_path, PARTS)
    place = folder(tmp_path, "mart", "a" * 64)
    engine.write_parquet(ROWS.format(0, 99), place / "train.parquet")
    found = [c for c in verify(engine, place, sealed_file(tmp_path, "mart", "a" * 64), None) if not c.ok]
    assert [(check.file.name, check.what) for check in found] == [("train.parquet", "bytes"), ("train.parquet", "rows")]
