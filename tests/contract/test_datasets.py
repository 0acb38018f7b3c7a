"""A dataset is the same wherever it is built: in a DuckLake, in another clone of the project, in Snowflake."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.contract import servers
from tests.contract.connections import lake
from tests.unit.datasets.building import build, context, declared, must_share, two_machines
from trunkline.context import Job
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import built, folder
from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.errors import DatasetError, TransientError
from trunkline.graph.step import Step
from trunkline.project import split
from trunkline.project.config import Datasets, read_config
from trunkline.project.split import Split
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import Warehouse
from trunkline.warehouse.snowflake import open_snowflake

TYPES = {
    "id": "bigint",
    "at": "timestamp",
    "a": "integer",
    "b": "varchar",
    "late": "boolean",
    "amount": "decimal(9,2)",
    "share": "double",
    "day": "date",
    "seen": "timestamp with time zone",
    "stratum": "varchar",
}
FEATURES = {"all": ["a", "b", "amount", "share", "day", "seen"]}
SPLITS: list[Split] = [
    split.by_time(validation="2025-01-03", test="2025-01-05", gap="5h"),
    split.by_group("a", validation=0.3, test=0.4, salt="it's \\1"),
    split.stratified(by="stratum", validation=0.2, test=0.2),
    split.rolling(folds=3, horizon="12h", test="2025-01-05"),
]


def _values(i: int, changed: bool = False) -> str:
    at = f"2025-01-{1 + i // 24:02} {i % 24:02}:{i % 60:02}:00.{i:06}"
    b = "null" if i % 9 == 0 else f"'x{'ü' * (i % 40)}'"
    late = "null" if i % 11 == 0 else str(i % 2 == 0).lower()
    share = 99 if changed and i == 3 else i / 8
    stratum = "it''s" if i % 5 else "null"
    return f"({i}, '{at}', {i % 7}, {b}, {late}, {i}.25, {share!r}, '{at[:10]}', '{at}+00:00', '{stratum}')".replace(
        "'null'", "null"
    )


def _fill(warehouse: Warehouse, changed: bool = False) -> None:
    warehouse.execute("create schema if not exists shop")
    columns = ", ".join(f"{warehouse.quote(name)} {type_}" for name, type_ in TYPES.items())
    warehouse.execute(f"create table shop.mart ({columns})")
    listed = ", ".join(f"cast(column{n} as {type_})" for n, type_ in enumerate(TYPES.values(), 1))
    rows = [_values(i, changed) for i in range(144)]
    names = ", ".join(f"column{n}" for n in range(1, len(TYPES) + 1))
    warehouse.execute(f"insert into shop.mart select {listed} from (values {', '.join(rows)}) as v({names})")


def _built(warehouse: Warehouse, root: Path, splits: Sequence[Split]) -> list[Manifest]:
    ctx = context(warehouse, root)
    return [build(ctx, declared(which, groups=FEATURES), str(n) * 64, "shop") for n, which in enumerate(splits)]


def _in_a_lake(root: Path, splits: Sequence[Split], changed: bool = False) -> list[Manifest]:
    root.mkdir()
    settings = lake("ducklake:sqlite:catalog.sqlite", "data", "sqlite_scanner")
    with contextlib.chdir(root), contextlib.closing(open_duckdb(settings, root)) as warehouse:
        _fill(warehouse, changed)
        return _built(warehouse, root, splits)


def test_every_clone_and_warehouse_has_the_same_datasets(tmp_path: Path, snowflake: dict[str, Any]) -> None:
    in_a_lake = _in_a_lake(tmp_path / "lake", SPLITS)
    (clone,) = _in_a_lake(tmp_path / "clone", SPLITS[:1])
    (changed,) = _in_a_lake(tmp_path / "changed", SPLITS[:1], changed=True)
    assert clone.content_id == in_a_lake[0].content_id != changed.content_id
    (root := tmp_path / "snowflake").mkdir()
    with contextlib.closing(open_snowflake(snowflake, root)) as warehouse:
        _fill(warehouse)
        in_snowflake = _built(warehouse, root, SPLITS)
    for here, there in zip(in_a_lake, in_snowflake, strict=True):
        told = [dataclasses.replace(each, snapshot="", sql="", created_at="", dataset_id="") for each in (here, there)]
        sealed = [dataclasses.replace(each.parts["test"], file_digest="", bytes=0) for each in told]
        assert sealed[0] == sealed[1]
        assert told[0] == dataclasses.replace(told[1], parts={**told[1].parts, "test": told[0].parts["test"]})


def test_a_store_that_speaks_s3_shares_a_dataset(tmp_path: Path, store: servers.ObjectStore, fresh: str) -> None:
    (tmp_path / "trunkline.yml").write_text(
        f"datasets:\n  location: s3://{store.bucket}/{fresh}/\n  storage: {{type: s3, key_id: env:KEY, "
        f"secret: env:SECRET, endpoint: '{store.endpoint}', url_style: path, use_ssl: false, region: us-east-1}}\n"
    )
    datasets = read_config(tmp_path).datasets
    with two_machines(tmp_path, datasets) as (one, two):
        must_share(one, two)
        location = read_manifest(folder(two.state, "mart", "f" * 64)).location
        assert location == f"s3://{store.bucket}/{fresh}/mart/{'f' * 16}"
    wrong = Datasets(datasets.location, {**datasets.storage, "secret": "no-such-secret"})
    with (
        two_machines(tmp_path / "wrong", wrong) as (other, _),
        pytest.raises(TransientError, match="refuses") as caught,
    ):
        build(other, declared())
    assert "no-such-secret" not in str(caught.value)


def _step(data: dict[str, Any]) -> Step:
    return dataset_step(data, Upstream("build:mart", ("shop", "mart"), ()), (), "ml/m.py:4")


def _from_a_snapshot(warehouse: Warehouse, root: Path) -> None:
    """What was built once is built again of the table as it was, whatever has become of it."""
    _fill(warehouse)
    ctx = context(warehouse, root)
    (first,) = _built(warehouse, root, SPLITS[:1])
    warehouse.execute("delete from shop.mart where id % 3 = 0")
    warehouse.execute("alter table shop.mart add column later integer")
    (root / "again").mkdir()
    job = Job(_step(declared(SPLITS[0], groups=FEATURES)), "9" * 64, {})
    again = built(job, ctx, root / "again", first.snapshot)
    assert (again.content_id, again.snapshot) == (first.content_id, first.snapshot)
    new = Job(_step(declared(SPLITS[0], groups={"new": ["later"]})), "8" * 64, {})
    with pytest.raises(DatasetError, match="no feature 'later'"):
        built(new, ctx, root / "again", first.snapshot)


def test_an_earlier_snapshot_of_a_lake_is_built_again(tmp_path: Path) -> None:
    settings = lake("ducklake:sqlite:catalog.sqlite", "data", "sqlite_scanner")
    with contextlib.chdir(tmp_path), contextlib.closing(open_duckdb(settings, tmp_path)) as warehouse:
        _from_a_snapshot(warehouse, tmp_path)
        lost = Job(_step(declared(SPLITS[0], groups=FEATURES)), "7" * 64, {})
        with pytest.raises(DatasetError, match="cannot be read as it was at version:999"):
            built(lost, context(warehouse, tmp_path), tmp_path / "again", "version:999")


def test_an_earlier_snapshot_in_snowflake_is_built_again(tmp_path: Path, snowflake: dict[str, Any]) -> None:
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as warehouse:
        _from_a_snapshot(warehouse, tmp_path)
