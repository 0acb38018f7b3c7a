"""Datasets: parts that do not overlap, a sealed test part, and clear words for what cannot be built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.context import Job, StepContext
from trunkline.datasets.feed import open_sealed, read_part
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder, run
from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.datasets.vault import sealed_file, vault_key
from trunkline.errors import DatasetError, IntegrityError, UserError
from trunkline.ledger.ledger import Ledger
from trunkline.project.secrets import Secrets
from trunkline.registry.memory import MemoryRegistry
from trunkline.warehouse.duckdb import open_duckdb

DECLARED: dict[str, Any] = {
    "name": "mart",
    "relation": "mart",
    "key": "id",
    "time": "at",
    "target": "late",
    "groups": {"one": ["a"], "two": ["b"]},
    "split": {"by": "time", "validation": "2025-01-03", "test": "2025-01-05"},
}
ROWS = (
    "select i as id, timestamp '2025-01-01' + interval (i) hour as at, i % 7 as a, 'x' || (i % 3) as b, "
    "case when i % 11 = 0 then null else i % 2 = 0 end as late from range(144) t(i)"
)


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StepContext]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    warehouse.execute(f"create table main.mart as {ROWS}")
    yield StepContext(
        root=tmp_path,
        run_id="run_1",
        target="dev",
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=MemoryRegistry,
        progress=lambda text, done=None: None,
        vault_key=lambda: b"k" * 32,
        secrets=Secrets(tmp_path),
        who="tester",
        git_commit=lambda: None,
    )
    warehouse.close()


def _build(ctx: StepContext, declared: dict[str, Any] = DECLARED, fingerprint: str = "f" * 64) -> Manifest:
    step = dataset_step(declared, Upstream("build:mart", ("main", "mart"), ()), (), "ml/m.py:4")
    run(Job(step, fingerprint, {}), ctx)
    return read_manifest(folder(ctx.state, "mart", fingerprint))


def test_parts_are_split_by_time_ordered_and_disjoint(ctx: StepContext) -> None:
    manifest = _build(ctx)
    train, validation = (read_part(ctx.state, manifest, part) for part in ("train", "validation"))
    _, test = open_sealed(ctx, manifest, deployment="d", candidate="c", sha256="s")
    ids = [table.column("id").to_pylist() for table in (train, validation, test)]
    assert ids == [sorted(part) for part in ids]
    assert [i for part in ids for i in part] == [i for i in range(144) if i % 11]
    assert [len(part) for part in ids] == [manifest.parts[p].rows for p in ("train", "validation", "test")]
    assert train.column_names == ["id", "at", "a", "b", "late"]
    assert manifest.unlabelled == 14


def test_the_sealed_part_is_out_of_reach_and_each_look_is_counted(ctx: StepContext) -> None:
    manifest = _build(ctx)
    with pytest.raises(DatasetError, match="is sealed"):
        read_part(ctx.state, manifest, "test")
    path = sealed_file(ctx.state, "mart", manifest.dataset_id)
    with pytest.raises(Exception, match="encrypted"):
        ctx.warehouse.query(f"from read_parquet('{path}')")
    assert not [f for f in folder(ctx.state, "mart", manifest.dataset_id).iterdir() if "test" in f.name]
    look, _ = open_sealed(ctx, manifest, deployment="d", candidate="models:/m/1", sha256="s")
    (row,) = ctx.ledger.read("looks")
    assert (row["look_id"], row["candidate"], row["who"]) == (look, "models:/m/1", "tester")


def test_the_same_rows_have_the_same_content_hash(ctx: StepContext) -> None:
    first = _build(ctx)
    again = _build(ctx, fingerprint="e" * 64)
    assert [p.content for p in first.parts.values()] == [p.content for p in again.parts.values()]
    ctx.warehouse.execute("update main.mart set a = 99 where id = 1")
    changed = _build(ctx, fingerprint="d" * 64)
    assert changed.parts["train"].content != first.parts["train"].content
    assert changed.parts["test"].content == first.parts["test"].content


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"key": "idd"}, "", "has no key column 'idd'. Did you mean 'id'"),
    ({"target": "latte"}, "", "has no target column 'latte'. Did you mean 'late'"),
    ({"groups": {"one": ["aa"]}}, "", "has no feature 'aa'. Did you mean 'a'"),
    ({"split": {**DECLARED["split"], "test": "2026-01-05"}}, "", "the test part is empty"),
    ({}, "update main.mart set late = null", 'the target "late" is null in every row'),
    ({}, "update main.mart set late = true where late is not null", "has only one value in the train part"),
    ({}, "update main.mart set id = 7 where id = 8", 'the key "id" is not unique: 144 rows, 143 keys'),
    ({}, 'update main.mart set "at" = null where id = 8', 'the time "at" is null in 1 rows'),
    ({}, "delete from main.mart", "has no rows"),
    ({}, "drop table main.mart", "the table main.mart is not there"),
]


@pytest.mark.parametrize(("change", "sql", "message"), BAD, ids=[bad[2][:30] for bad in BAD])
def test_what_cannot_be_built_is_said(ctx: StepContext, change: dict[str, Any], sql: str, message: str) -> None:
    if sql:
        ctx.warehouse.execute(sql)
    with pytest.raises(DatasetError) as caught:
        _build(ctx, {**DECLARED, **change})
    assert message in caught.value.what
    assert (str(caught.value.file), caught.value.line) == ("ml/m.py", 4)
    assert not (ctx.state / "datasets" / "mart" / "ffffffffffffffff").exists()


def test_a_damaged_manifest_is_told(ctx: StepContext) -> None:
    manifest = _build(ctx)
    path = folder(ctx.state, "mart", manifest.dataset_id)
    (path / "manifest.json").write_text("{")
    with pytest.raises(IntegrityError, match="is damaged"):
        read_manifest(path)


def test_the_vaults_key(tmp_path: Path) -> None:
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    key = vault_key(home)
    assert (len(key), vault_key(home)) == (32, key)
    file = tmp_path / "trunkline" / "vault.key"
    assert file.stat().st_mode & 0o777 == 0o600
    os.chmod(file, 0o644)
    with pytest.raises(UserError, match="can be read by others"):
        vault_key(home)
    with pytest.raises(UserError, match="is not base64"):
        vault_key({"TRUNKLINE_VAULT_KEY": "not base64!"})
    with pytest.raises(UserError, match="holds 3 bytes, not 32"):
        vault_key({"TRUNKLINE_VAULT_KEY": "YWJj"})
