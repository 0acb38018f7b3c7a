"""Loads by key on DuckLake: staged, in the order rows come, within little memory, and as if changes came one by one."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.errors import ContractError, EngineError, SourceError
from trunkline.testing import load_cases as cases
from trunkline.testing.load_cases import Model, Table
from trunkline.warehouse import merge_sql
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.load import Column, Contract, FileScan, LoadCounts

_ID, _A, _B = Column("id", "integer"), Column("a", "integer"), Column("b", "varchar")


@pytest.fixture
def table(lake: DuckDB, tmp_path: Path) -> Table:
    folder = tmp_path / "files"
    folder.mkdir()
    return Table(lake, "raw", Contract((_ID, _A, _B), ("id",)), folder)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=cases.changes(40), cuts=st.lists(st.integers(0, 40), max_size=2))
def test_changes_are_as_if_one_by_one_however_they_are_cut(
    table: Table, changes: list[dict[str, Any]], cuts: list[int]
) -> None:
    table.json([{"id": 0}], replace=True)
    model = Model(("id", "a", "b"), "id")
    for change in [{"id": 0}, *changes]:
        model.apply(change)
    places = [0, *sorted(cuts), len(changes)]
    for start, end in itertools.pairwise(places):
        if changes[start:end]:
            table.json(changes[start:end])
    assert table.rows() == model.listed()


def test_updates_come_in_the_order_of_a_column(table: Table) -> None:
    held = table.held_to(_ID, _A, _B, Column("at", "integer"), order="at")
    held.json([{"id": 1, "a": 0, "b": "old", "at": 0}])
    held.json(
        [
            {"id": 1, "$op": "update", "a": 3, "at": 3},
            {"id": 1, "$op": "update", "a": 2, "b": "two", "at": 2},
            {"id": 1, "$op": "update", "a": 1, "at": None},
            {"id": 2, "$op": "update", "a": 2, "at": 2},
            {"id": 2, "$op": "delete", "at": 1},
            {"id": 3, "$op": "delete", "at": 2},
            {"id": 3, "$op": "upsert", "a": 1, "at": 1},
        ]
    )
    assert held.rows() == [(1, 3, "two", 3), (2, 2, None, 2)]


def test_updates_find_room_on_the_disk(tmp_path: Path) -> None:
    """More of them than there is memory, half of them of keys that have several."""
    file, names = str(tmp_path / "rows.parquet"), ("id", "a", "b", "c", "d")
    texts = ", ".join(f"md5(i::varchar) || md5((-i)::varchar) as c{i}" for i in range(1, 5))
    with closing(open_duckdb({"path": str(tmp_path / "t.duckdb")}, tmp_path)) as engine:
        engine.execute(
            f"copy (select if(i % 2 = 0, i, i % 30000) as c0, {texts}, null::varchar as x, 'update' as o, "
            f"'1' || i % 2 || '111' as p from range(500000) t(i)) to '{file}' (row_group_size 20000)"
        )
        olds = ", ".join(f"'old' as {name}" for name in names[1:])
        engine.execute(f"create table t as select 0::bigint as id, {olds}, null::json as _extra")
        engine.execute("set threads = 2")
        engine.execute("set memory_limit = '150MB'")
        rows = f"(select file_row_number as n, * from read_parquet('{file}', file_row_number = true))"
        changes = merge_sql.Changes(rows, names, (0,))
        engine.execute(changes.repeated())
        engine.execute(changes.patched("t", repeated=True))
        assert engine.query(changes.twice()) == []
        counted = f"select count(*), count(c1), count(c2), count_if(c1 = 'old') from {merge_sql.CHANGED}"
        assert engine.query(counted) == [(265000, 15001, 265000, 1)]


def test_rows_come_in_the_order_of_their_files(table: Table) -> None:
    """Also where files have headers of their own: then neighbours alone are read together."""
    files = []
    for number, header in enumerate(["id,a,b", "b,id,a", "id,a,b", "id,a,b"]):
        values = {"id": "1", "a": str(number), "b": "x"}
        files.append(table.folder / f"{number}.csv")
        rows = 3000
        files[-1].write_text(f"{header}\n" + f"{','.join(values[name] for name in header.split(','))}\n" * rows)
    order = [files[i] for i in (2, 0, 1, 3)]
    assert table.scan(FileScan(tuple(map(str, order)), "csv")) == LoadCounts(12000, 12000, 0)
    assert table.rows() == [(1, 3, "x")]
    table.scan(FileScan(tuple(map(str, reversed(order))), "csv"))
    assert table.rows() == [(1, 2, "x")]


def test_a_key_that_is_in_the_table_twice_is_there_once_afterwards(table: Table) -> None:
    table.held_to(key=()).json([{"id": 1, "a": 1, "b": "x"}, {"id": 1, "a": 2, "b": "x"}, {"id": 2, "a": 1}])
    table.json([{"id": 1, "$op": "update", "a": 9}, {"id": 2, "a": 2}])
    assert table.rows() == [(1, 9, "x"), (2, 2, None)]


def test_lines_that_are_no_rows_are_set_aside(table: Table) -> None:
    file = table.folder / "a.csv"
    file.write_text('id,a,b\n1,1,ok\n2,2\n3,3,"x"y\n1,2,ok\n')
    assert table.scan(FileScan((str(file),), "csv")) == LoadCounts(4, 2, 2)
    assert table.rows() == [(1, 2, "ok")]
    with pytest.raises(ContractError, match="2 rows do not fit the contract: .*missing columns"):
        table.held_to(policy="fail").scan(FileScan((str(file),), "csv"))


def test_nothing_is_left_behind(table: Table, lake: DuckDB, tmp_path: Path) -> None:
    before = lake.query("select current_setting('memory_limit'), current_setting('preserve_insertion_order')")
    table.json([{"id": 1, "$op": "update"}, {"id": "x"}])
    with pytest.raises(EngineError):
        table.json([{"id": 1}], fail=EngineError)
    after = lake.query("select current_setting('memory_limit'), current_setting('preserve_insertion_order')")
    assert after[0][1] == before[0][1]
    assert float(after[0][0].split()[0]) == pytest.approx(float(before[0][0].split()[0]), rel=0.02)
    assert list((tmp_path / ".trunkline" / "tmp").iterdir()) == []
    assert lake.query("select table_name from duckdb_tables() where temporary and table_name like '%keys%'") == []


def test_integers_that_a_float_cannot_hold_keep_their_type(table: Table) -> None:
    held = table.held_to(_ID, Column("a", "bigint"), policy="evolve")
    held.json([{"id": 1, "a": 2**53 + 1}])
    assert held.json([{"id": 2, "a": 1.5}, {"id": 3, "a": 2**63}]) == LoadCounts(2, 0, 2)
    assert held.json([{"id": 3, "a": 2**63}]).evolved == (("a", "DECIMAL(38,0)"),)
    assert held.rows() == [(1, 2**53 + 1), (3, 2**63)]


def test_a_row_that_cannot_be_loaded_anyway_widens_nothing(table: Table) -> None:
    held = table.held_to(_ID, _A, Column("b", "varchar", required=True), policy="evolve", key=())
    assert held.json([{"id": 1, "a": "1.5"}, {"id": 2, "a": 1, "b": "x"}]) == LoadCounts(2, 1, 1)
    assert held.type_of("a") == "INTEGER"


def test_a_table_follows_a_contract_that_is_wider(table: Table) -> None:
    table.json([{"id": 1, "a": 1}])
    wider = table.held_to(_ID, Column("a", "bigint"), _B)
    with pytest.raises(ContractError, match="is INTEGER in the table, bigint in the contract"):
        wider.json([{"id": 2, "a": 2**40}])
    assert wider.held_to(policy="evolve").json([{"id": 2, "a": 2**40}]).evolved == (("a", "BIGINT"),)


def test_queries_of_sources_leave_nothing_and_tell_no_password(lake: DuckDB, tmp_path: Path) -> None:
    import sqlite3

    file = tmp_path / "it's.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("create table t (id integer, name text)")
        connection.executemany("insert into t values (?, ?)", [(1, "a"), (2, None)])
    connection.close()
    for dsn in (f"sqlite:///{file}", str(file)):
        with lake.reader().attached("sqlite", dsn) as name:
            assert lake.describe(f"select * from {name}.t") == [("id", "BIGINT"), ("name", "VARCHAR")]
            with lake.transaction():
                assert lake.query(f"select count(*) from {name}.t") == [(2,)]
            with pytest.raises(EngineError):
                lake.query(f"insert into {name}.t values (3, 'c')")
    with pytest.raises(SourceError, match="there is no SQLite database"):
        lake.attached("sqlite", "sqlite:////nowhere.sqlite").__enter__()
    with pytest.raises(SourceError, match="none of mysql"):
        lake.attached("mysql", "postgresql://u:secret@h/d").__enter__()
    assert {name for (name,) in lake.query("select database_name from duckdb_databases()")} == {
        "lake",
        "memory",
        "system",
        "temp",
    }
