"""`trunkline diff`: two targets of one project, equal at first, then with every kind of difference planted."""

from __future__ import annotations

import contextlib
import re
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tests.e2e.conftest import TRUSTING, Project, copy_of
from tests.emulator import running
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.snowflake import open_snowflake

SEED = "code,label,share\nde,Germany,0.5\nfr,France,0.25\n"
SNAPSHOT = """
snapshots:
  - name: countries_history
    relation: ref('countries')
    config: {unique_key: code, strategy: check, check_cols: [label]}
"""


@pytest.fixture(scope="module")
def two_done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The start project with a seed and a snapshot, built on two targets that share nothing."""
    root = tmp_path_factory.mktemp("two") / "shop"
    Project(root.parent).run("init", "shop")
    project = Project(root).trusting()
    (root / "seeds").mkdir()
    (root / "seeds" / "countries.csv").write_text(SEED)
    (root / "snapshots").mkdir()
    (root / "snapshots" / "history.yml").write_text(SNAPSHOT)
    profiles = (root / "profiles.yml").read_text()
    dev = profiles[profiles.index("    dev:\n") :]
    ci = dev.replace("dev:", "ci:", 1).replace("warehouse/", "warehouse_ci/").replace("schema: main", "schema: other")
    (root / "profiles.yml").write_text(profiles.rstrip() + "\n" + ci)
    for target in ("dev", "ci"):
        project.run("run", "ingest", "build", "--target", target)
    return project


@pytest.fixture
def two(two_done: Project, tmp_path: Path) -> Project:
    """A copy of it, to be changed."""
    return copy_of(two_done, tmp_path / "shop")


def _change(project: Project, *statements: str) -> None:
    with duckdb.connect(config=TRUSTING) as connection:
        connection.execute("load icu; load ducklake; load sqlite_scanner; set timezone = 'UTC'")
        lake = f"attach 'ducklake:sqlite:{project.root}/warehouse_ci/catalog.sqlite' as lake"
        connection.execute(f"{lake} (data_path '{project.root}/warehouse_ci/data', override_data_path true)")
        for statement in statements:
            connection.execute(statement)


def _tables(project: Project, *arguments: str, code: int = 1) -> dict[str, Any]:
    done = project.run("diff", "dev", "ci", "--json", *arguments, check=False)
    assert done.code == code, done.out + done.err
    assert done.data["same"] == (code == 0)
    return {table["name"]: table for table in done.data["tables"]}


def test_equal_targets_are_equal(two_done: Project) -> None:
    tables = _tables(two_done, code=0)
    assert {name: (table["kind"], table["verdict"], table["rows"]) for name, table in tables.items()} == {
        "shop.orders": ("source", "equal", [2400, 2400]),
        "countries": ("seed", "equal", [2, 2]),
        "countries_history": ("snapshot", "equal", [2, 2]),
        "order_features": ("model", "equal", [2400, 2400]),
    }
    assert tables["shop.orders"]["left_out"] == ["_load_id", "_loaded_at"]
    assert tables["shop.orders"]["presence"] == ["_extra"]
    assert tables["countries_history"]["presence"] == ["dbt_valid_to"]
    out = two_done.run("diff", "dev", "ci").out
    assert re.search(r"order_features +2,400 +2,400 +equal +9 of 9 +equal", out)
    assert "all 4 tables are equal" in out
    assert "left out, they differ by their nature: _load_id, _loaded_at, dbt_scd_id" in out


def test_every_difference_is_found(two: Project) -> None:
    _change(
        two,
        "update lake.other.order_features set amount = amount + 1 where order_id = 1007",
        "update lake.raw.orders set country = null where order_id = 1003",
        "delete from lake.raw.orders where order_id = 1004",
        "alter table lake.other.countries drop column share",
        "alter table lake.other.countries add column rank integer",
        "drop table lake.other.countries_history",
    )
    tables = _tables(two)
    assert {name: table["verdict"] for name, table in tables.items()} == {
        "shop.orders": "differs: rows",
        "countries": "differs: schema",
        "countries_history": "missing",
        "order_features": "differs: values",
    }
    assert tables["order_features"]["differ"] == ["amount"]
    (row,) = tables["order_features"]["found"]["rows"]
    assert row["key"] == [["order_id", "1007"]]
    ((name, left, right),) = row["values"]
    assert (name, round(right - left, 6)) == ("amount", 1)
    assert tables["shop.orders"]["rows"] == [2400, 2399]
    only = sorted((row["only"], dict(row["key"])["order_id"]) for row in tables["shop.orders"]["found"]["rows"])
    assert only == [("left", "1003"), ("left", "1004"), ("right", "1003")]  # no column of it is known to be a key
    assert tables["countries"]["schema"] == [["share", "DOUBLE", None], ["rank", None, "INTEGER"]]
    assert tables["countries_history"]["rows"] == [2, None]
    out = two.run("diff", "dev", "ci", check=False).out
    assert re.search(r"order_id 1007: amount is [\d.]+ in dev, [\d.]+ in ci", out)
    assert "column share: DOUBLE in dev, absent in ci" in out
    assert "only in dev: " in out
    assert "4 of 4 tables differ" in out


def test_types_and_noise(two: Project) -> None:
    """Another width of integer is no difference, nor is a rounding error; text in place of a number is one."""
    _change(
        two,
        "alter table lake.other.order_features alter column items type bigint",
        "update lake.other.order_features set amount_per_item = amount_per_item * (1 + 3e-10)",
    )
    (features,) = _tables(two, "-s", "order_features", code=0).values()
    assert features["verdict"] == "equal within 1e-09"
    assert features["found"]["close"] > 0
    _change(
        two, "create or replace table lake.other.order_features as select *, 'x' as more from lake.other.order_features"
    )
    assert _tables(two, "-s", "order_features", "--rows", "0")["order_features"]["schema"] == [
        ["more", None, "VARCHAR"]
    ]


def test_selection_and_mistakes(two_done: Project) -> None:
    assert list(_tables(two_done, "-s", "+order_features", code=0)) == ["shop.orders", "order_features"]
    assert list(_tables(two_done, "-s", "countries", "-s", "ingest", code=0)) == ["shop.orders", "countries"]
    for arguments, message in (
        (("dev", "cii"), "no target 'cii'. Did you mean 'ci'"),
        (("dev", "ci", "-s", "ordr_features"), "Did you mean 'order_features'"),
        (("dev", "ci", "-s", "train"), "no table is selected"),
    ):
        done = two_done.run("diff", *arguments, check=False)
        assert (done.code, message in done.err) == (2, True), done.err


def test_nothing_built_is_an_error(two: Project) -> None:
    profiles = (two.root / "profiles.yml").read_text()
    (two.root / "profiles.yml").write_text(profiles.replace("warehouse_ci/", "new/").replace("warehouse/", "fresh/"))
    done = two.run("diff", "dev", "ci", check=False)
    assert (done.code, "neither dev nor ci has any of these tables" in done.err) == (2, True), done.err


def test_duckdb_against_snowflake(emulator: running.Emulator, tmp_path: Path) -> None:
    """The start project on both kinds of warehouse; then one value is changed in Snowflake."""
    Project(tmp_path).run("init", "shop")
    project = Project(tmp_path / "shop")
    profiles = yaml.safe_load((project.root / "profiles.yml").read_text())
    prod = emulator.profile(f"DIFF_{uuid.uuid4().hex[:8].upper()}", schema="analytics")
    profiles["shop"]["outputs"]["prod"] = prod
    (project.root / "profiles.yml").write_text(yaml.safe_dump(profiles))
    for target in ("dev", "prod"):
        project.run("run", "ingest", "build", "--target", target)
    done = project.run("diff", "dev", "prod", "--json")
    assert {table["name"]: table["verdict"] for table in done.data["tables"]} == {
        "shop.orders": "equal",
        "order_features": "equal",
    }
    with contextlib.closing(open_snowflake(prod, project.root)) as warehouse:
        features = warehouse.sql(Relation("analytics", "order_features"))
        assert warehouse.execute(f"update {features} set amount = amount + 0.01 where order_id = 1007") == 1
        assert warehouse.execute(f"update {features} set hour = null, country = 'XX' where order_id = 1008") == 1
    done = project.run("diff", "dev", "prod", "--json", check=False)
    assert done.code == 1
    (orders, features) = done.data["tables"]
    assert (orders["verdict"], features["verdict"]) == ("equal", "differs: values")
    assert features["differ"] == ["country", "amount", "hour"]
    assert sorted((row["key"][0][1], [name for name, *_ in row["values"]]) for row in features["found"]["rows"]) == [
        ("1007", ["amount"]),
        ("1008", ["country", "hour"]),
    ]
