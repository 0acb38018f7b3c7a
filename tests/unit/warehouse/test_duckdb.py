"""The DuckDB adapter: transactions, snapshots, sealed files, appends, writers that take turns."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.warehouse.conftest import SETTINGS
from trunkline.errors import EngineError, ProjectError
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.load_sql import inline
from trunkline.warehouse.protocol import open_warehouse
from trunkline.warehouse.relation import Relation


def test_a_failed_transaction_leaves_nothing(lake: DuckDB) -> None:
    def interrupted() -> None:
        with lake.transaction():
            lake.execute("create table main.t as select 1 as a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert lake.relations() == set()
    with lake.transaction():
        lake.execute("create table main.t as select 1 as a")
    assert lake.relations() == {("main", "t")}


def test_relations_are_those_there_now_also_within_a_transaction(lake: DuckDB) -> None:
    for statement in (
        'create schema "Shop"',
        'create table "Shop"."Orders" (a int)',
        'create view "Shop".recent as from "Shop"."Orders"',
        "create table main.gone (a int)",
        "create table main.old (a int)",
        "alter table main.old rename to renamed",
        "create schema empty",
        "create table empty.t (a int)",
    ):
        lake.execute(statement)
    lake.execute("drop table main.gone")
    lake.execute("drop schema empty cascade")
    there = {("shop", "orders"), ("shop", "recent"), ("main", "renamed")}
    assert lake.relations() == there
    with lake.transaction():
        lake.execute("drop table main.renamed")
        lake.execute("create table main.new (a int)")
        assert lake.relations() == there - {("main", "renamed")} | {("main", "new")}
    assert lake.relations() == there - {("main", "renamed")} | {("main", "new")}


def test_relations_of_a_lake_whose_metadata_is_in_a_schema_of_its_own(tmp_path: Path) -> None:
    def made(schema: str, table: str) -> set[tuple[str, str]]:
        options = {"data_path": str(tmp_path / schema), "metadata_schema": schema}
        attach = [{"path": f"ducklake:{tmp_path}/two.duckdb", "alias": "lake", "options": options}]
        warehouse = open_duckdb({**SETTINGS, "attach": attach}, tmp_path)
        warehouse.execute(f"create table main.{table} (a int)")
        found = warehouse.relations()
        warehouse.close()
        return found

    assert made("main", "a") == {("main", "a")}
    assert made("other", "b") == {("main", "b")}


def test_a_snapshot_is_read_as_it_was(lake: DuckDB) -> None:
    lake.execute("create table main.t as select 1 as a")
    table = Relation("main", "t")
    snapshot = lake.snapshot(table)
    lake.execute("insert into main.t values (2)")
    assert lake.query(f"select count(*) from {lake.at(table, snapshot)}") == [(1,)]
    assert lake.query(f"select count(*) from {lake.sql(table)}") == [(2,)]


def test_sealed_files_open_with_their_key_alone(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    assert lake.write_parquet("select range as a, 'secret' as b from range(10)", path, key=b"k" * 32).rows == 10
    assert lake.read_sealed(path, b"k" * 32).column("a").to_pylist() == list(range(10))
    with pytest.raises(EngineError, match="cannot open the sealed file"):
        lake.read_sealed(path, b"x" * 32)
    with pytest.raises(EngineError, match="encrypted"):
        lake.query(f"from read_parquet('{path}')")
    assert b"secret" not in path.read_bytes()


def _append(lake: DuckDB, table: Relation, columns: tuple[tuple[str, str], ...], path: Path) -> int:
    with lake.appending(table, columns, path, key="id") as append:
        return append()


def test_appending_a_file_twice_adds_its_rows_once(lake: DuckDB, tmp_path: Path) -> None:
    columns = (("id", "varchar"), ("n", "bigint"))
    lake.execute("create table main.p (id varchar, n bigint)")
    path = tmp_path / "p.ndjson"
    path.write_text('{"id": "a", "n": 1}\n{"id": "b", "n": 2}\n{"id": "a", "n": 1}\n')
    table = Relation("main", "p")
    assert _append(lake, table, columns, path) == 2
    path.write_text('{"id": "b", "n": 2}\n{"id": "c", "n": 3}\n')
    assert _append(lake, table, columns, path) == 1
    assert _append(lake, table, columns, path) == 0
    assert lake.query("select id, n from main.p order by id") == [("a", 1), ("b", 2), ("c", 3)]


def test_writers_in_several_processes_take_turns(lake: DuckDB, tmp_path: Path) -> None:
    lake.execute("create table main.t (who integer, n integer)")
    code = (
        "import sys; from pathlib import Path; from trunkline.warehouse.duckdb import open_duckdb\n"
        f"w = open_duckdb({SETTINGS!r}, Path('.'))\n"
        "for n in range(10):\n"
        "    with w.transaction(): w.execute(f'insert into main.t values ({sys.argv[1]}, {n})')\n"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, str(who)], cwd=tmp_path) for who in range(3)]
    assert [child.wait(120) for child in children] == [0, 0, 0]
    assert lake.query("select count(*), count(distinct (who, n)) from main.t") == [(30, 30)]


@given(
    text=st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    number=st.floats(allow_nan=False),
    whole=st.integers(-(2**63), 2**63 - 1),
)
def test_values_come_back_as_they_were(text: str, number: float, whole: int) -> None:
    with duckdb.connect() as connection:
        at = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)
        sql = inline(
            'select ?, \'?\', ?, ?, ?, "?", ?, ? from (select 1 as "?")', [text, number, whole, None, True, at]
        )
        (row,) = connection.execute(sql).fetchall()
    assert row == (text, "?", number, whole, None, 1, True, at)


def test_values_and_places_must_match() -> None:
    with pytest.raises(ValueError, match="more values"):
        inline("select 1", [1])
    with pytest.raises(ValueError, match="more places"):
        inline("select ?, ?", [1])
    with pytest.raises(TypeError, match="list is no SQL scalar"):
        inline("select ?", [[1]])


def test_a_database_file_works_as_well(tmp_path: Path) -> None:
    settings = {"path": "local.duckdb"}
    warehouse = open_duckdb(settings, tmp_path)
    with warehouse.transaction():
        warehouse.execute("create table main.t as select 42 as a")
    assert warehouse.snapshot(Relation("main", "t")) == ""
    assert warehouse.query(f"from {warehouse.at(Relation('main', 't'), '')}") == [(42,)]
    warehouse.close()


def test_what_the_profile_gets_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="database 'lke' is not attached"):
        open_duckdb({"path": ":memory:", "database": "lke"}, tmp_path)
    with pytest.raises(ProjectError, match="no warehouse adapter for dbt type 'postgres'"):
        open_warehouse("postgres", {}, tmp_path)
    with pytest.raises(EngineError, match="'nosuch' cannot be loaded"):
        open_duckdb({"extensions": ["nosuch"]}, tmp_path)
