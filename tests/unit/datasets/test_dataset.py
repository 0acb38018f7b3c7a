"""Datasets: parts that do not overlap, a sealed test part, and clear words for what cannot be built."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.unit.datasets.building import ROWS, build, context, declared
from trunkline.context import StepContext
from trunkline.datasets.feed import open_part
from trunkline.datasets.findings import read_findings
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder
from trunkline.datasets.sealed import open_sealed
from trunkline.datasets.vault import sealed_file, vault_key
from trunkline.datasets.verify import verify
from trunkline.errors import DatasetError, IntegrityError, UserError
from trunkline.project.split import by_group, by_time, stratified
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import ParquetWriter

DECLARED = declared()


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StepContext]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    warehouse.execute(f"create table main.mart as {ROWS}")
    yield context(warehouse, tmp_path)
    warehouse.close()


def _build(ctx: StepContext, data: dict[str, Any] = DECLARED, fingerprint: str = "f" * 64) -> Manifest:
    return build(ctx, data, fingerprint)


def test_parts_are_split_by_time_ordered_and_disjoint(ctx: StepContext) -> None:
    manifest = _build(ctx)
    train, validation = (pq.read_table(open_part(ctx.state, manifest, part).path) for part in ("train", "validation"))
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
        open_part(ctx.state, manifest, "test")
    path = sealed_file(ctx.state, "mart", manifest.dataset_id)
    with pytest.raises(Exception, match="encrypted"):
        ctx.warehouse.query(f"from read_parquet('{path}')")
    assert not [f for f in folder(ctx.state, "mart", manifest.dataset_id).iterdir() if "test" in f.name]
    look, _ = open_sealed(ctx, manifest, deployment="d", candidate="models:/m/1", sha256="s")
    (row,) = ctx.ledger.read("looks")
    assert (row["look_id"], row["candidate"], row["who"]) == (look, "models:/m/1", "tester")


def test_the_same_rows_have_the_same_content(ctx: StepContext) -> None:
    first = _build(ctx)
    again = _build(ctx, fingerprint="e" * 64)
    assert first.content_id == again.content_id
    ctx.warehouse.execute("update main.mart set a = 99 where id = 1")
    changed = _build(ctx, fingerprint="d" * 64)
    assert changed.content_id != first.content_id
    assert changed.parts["train"].content != first.parts["train"].content
    assert changed.parts["test"].content == first.parts["test"].content


def test_equal_rows_do_not_cancel_each_other(ctx: StepContext) -> None:
    """The very same files are called another dataset as soon as their roles differ, or rows come in pairs."""
    writer = ctx.warehouse
    assert isinstance(writer, ParquetWriter)
    contents = {
        writer.write_parquet(sql, ctx.root / "x.parquet").content
        for sql in ("select 1 as a where false", *(f"select 1 as a from range({n})" for n in (1, 2, 3)))
    }
    assert len(contents) == 4
    other = _build(ctx, declared(target="a", groups={"one": ["b"], "two": ["late"]}), "c" * 64)
    assert other.content_id != _build(ctx).content_id


def test_the_export_has_canonical_types(ctx: StepContext) -> None:
    types = {"i": "smallint", "d": "decimal(9,0)", "m": "decimal(9,2)", "f": "float", "n": "timestamp_ns", "u": "uuid"}
    for name, type_ in types.items():
        ctx.warehouse.execute(f"alter table main.mart add column {name} {type_}")
    manifest = _build(ctx, declared(groups={"all": list(types)}))
    exported = ["BIGINT", "BIGINT", "DECIMAL(9,2)", "DOUBLE", "TIMESTAMP", "VARCHAR"]
    assert dict(manifest.schema) == {
        "id": "BIGINT",
        "at": "TIMESTAMP",
        "late": "BOOLEAN",
        **dict(zip(types, exported, strict=True)),
    }
    path = folder(ctx.state, "mart", manifest.dataset_id) / "train.parquet"
    written = ctx.warehouse.query(f"select column_name, column_type from (describe from read_parquet('{path}'))")
    assert written == list(manifest.schema)


def test_the_recorded_query_gives_the_parts(ctx: StepContext) -> None:
    manifest = _build(ctx)
    counts = dict(ctx.warehouse.query(f"select _part, count(*) from ({manifest.sql}) group by 1"))
    assert counts == {part.name: part.rows for part in manifest.parts.values()}


def test_a_forced_build_takes_the_place_of_the_dataset(ctx: StepContext) -> None:
    first, second = _build(ctx), _build(ctx)
    assert second.parts["test"].file_digest != first.parts["test"].file_digest  # encrypted anew
    open_sealed(ctx, second, deployment="d", candidate="c", sha256="s")
    (row,) = ctx.ledger.read("datasets")
    assert row["manifest"]["parts"]["test"]["file_digest"] == first.parts["test"].file_digest
    place, sealed = (where(ctx.state, second.name, second.dataset_id) for where in (folder, sealed_file))
    assert all(check.ok for check in verify(ctx.warehouse, place, sealed, row["manifest"]))


TARGETS: list[tuple[str, dict[str, Any], str, dict[str, int]]] = [
    ("late", {}, "binary", {"false": 22, "true": 21}),
    ("cast(late as integer)", {}, "binary", {"0": 22, "1": 21}),
    ("cast(late as double)", {}, "binary", {"0": 22, "1": 21}),
    ("cast(late as double)", {"task": "regression"}, "regression", {}),
    ("case when late then 'yes' else 'no' end", {}, "binary", {"no": 27, "yes": 21}),
    ("a", {}, "multiclass", {"0": 7, "1": 7, "2": 7, "3": 7, "4": 7, "5": 7, "6": 6}),
    ("id * 2", {}, "regression", {}),
    ("a", {"task": "regression"}, "regression", {}),
    ("a + 0.5", {}, "regression", {}),
]


@pytest.mark.parametrize(("sql", "changes", "task", "labels"), TARGETS, ids=[f"{t[0]} {t[1]}" for t in TARGETS])
def test_targets_of_any_kind(
    ctx: StepContext, sql: str, changes: dict[str, Any], task: str, labels: dict[str, int]
) -> None:
    ctx.warehouse.execute(f"create or replace table main.mart as select *, {sql} as y from main.mart")
    manifest = _build(ctx, declared(target="y", **changes))
    assert manifest.task == task
    assert manifest.parts["train"].labels == labels


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"key": "idd"}, "", "has no key column 'idd'. Did you mean 'id'"),
    ({"target": "latte"}, "", "has no target column 'latte'. Did you mean 'late'"),
    ({"time": "att"}, "", "has no time column 'att'. Did you mean 'at'"),
    ({"groups": {"one": ["aa"]}}, "", "has no feature 'aa'. Did you mean 'a'"),
    ({"split": by_group("bb").to_json()}, "", "has no group column 'bb'. Did you mean 'b'"),
    ({"split": stratified(by="c").to_json()}, "", "has no column to stratify by 'c'"),
    ({"time": "a"}, "", 'the time "a" has type BIGINT, which is no time'),
    ({"split": by_group("at").to_json()}, "", "split by 'at' of type TIMESTAMP, whose text differs"),
    ({"split": by_time(validation="2025-01-03", test="2026-01-05").to_json()}, "", "the test part is empty"),
    ({}, "update main.mart set late = null", 'the target "late" is null in every row'),
    ({}, "update main.mart set late = true where late is not null", "has only one value in the train part: true"),
    ({}, "update main.mart set late = true where late is not null and id > 96", "only one value in the test part"),
    ({"target": "a"}, "update main.mart set a = 7", "has only one value in the train part: 7"),
    ({"target": "a", "task": "regression"}, "update main.mart set a = 7", "has only one value in the train part: 7"),
    ({"target": "at"}, "", 'the target "at" has type TIMESTAMP, which nothing predicts'),
    ({"target": "b", "task": "regression"}, "", "task='regression' does not fit the target \"b\" of type VARCHAR"),
    (
        {},
        "update main.mart set id = id - id % 2 where id between 20 and 29",
        'the key "id" is not unique: 5 values are there more than once: 20 (2 rows), 22 (2 rows), 24 (2 rows), …',
    ),
    ({}, "update main.mart set id = null where id < 3", 'the key "id" is null in 3 of 144 rows'),
    ({}, 'update main.mart set "at" = null where id = 8', 'the time "at" is null in 1 of 144 rows'),
    ({}, "delete from main.mart", "has no rows"),
    ({}, "drop table main.mart", "the table main.mart is not there"),
]


@pytest.mark.parametrize(("change", "sql", "message"), BAD, ids=[bad[2][:40] for bad in BAD])
def test_what_cannot_be_built_is_said(ctx: StepContext, change: dict[str, Any], sql: str, message: str) -> None:
    if sql:
        ctx.warehouse.execute(sql)
    with pytest.raises(DatasetError) as caught:
        _build(ctx, {**DECLARED, **change})
    assert message in caught.value.what
    assert caught.value.hint
    assert (str(caught.value.file), caught.value.line) == ("ml/m.py", 4)
    assert not (ctx.state / "datasets" / "mart" / "ffffffffffffffff").exists()


def test_findings_are_kept_and_one_that_fails_leaves_no_dataset(ctx: StepContext) -> None:
    ctx.warehouse.execute(
        "create or replace table main.mart as select *, case when late then 1 else 0 end as c from main.mart"
    )
    leak = {**DECLARED["probes"], "single_feature": "warn"}
    _build(ctx, declared(groups={"one": ["c"]}, probes=leak))
    place = folder(ctx.state, "mart", "f" * 64)
    assert [(found.outcome, found.column) for found in read_findings(place)] == [("warn", "c")]
    with pytest.raises(DatasetError, match="`c`") as caught:
        _build(ctx, declared(groups={"one": ["c"]}, probes={**leak, "single_feature": "fail"}), "e" * 64)
    assert (caught.value.line, "docs/leakage.md" in (caught.value.hint or "")) == (4, True)
    assert [file.name for file in place.parent.iterdir()] == [place.name]
    assert [row["dataset_id"] for row in ctx.ledger.read("datasets")] == ["f" * 64]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_target_that_is_no_number(ctx: StepContext, value: str) -> None:
    ctx.warehouse.execute("alter table main.mart alter a type double")
    ctx.warehouse.execute(f"update main.mart set a = '{value}' where id = 3")
    with pytest.raises(DatasetError, match='the target "a" is NaN or infinite in 1 rows'):
        _build(ctx, declared(target="a", groups={"one": ["b"]}))


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
