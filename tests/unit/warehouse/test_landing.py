"""Files as Parquet of plain text: what fits in one spelling, what does not as it was, every row exactly once."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.landing import land, land_records, misfits, widened
from trunkline.warehouse.load import Column, Contract, FileScan, LoadRequest, QueryScan
from trunkline.warehouse.relation import Relation

CONTRACT = (("n", "integer"), ("day", "date"), ("at", "timestamptz"), ("ok", "boolean"), ("name", "varchar"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDB]:
    opened = open_duckdb({"path": ":memory:", "extensions": ["icu"]}, tmp_path)
    yield opened
    opened.close()


def _land(engine: DuckDB, file: Path, **scan: Any) -> list[tuple[Any, ...]]:
    request = _request(
        Contract(tuple(Column(*column) for column in CONTRACT)),
        FileScan((str(file),), scan.pop("format", "csv"), **scan),
    )
    files = land(engine, request, request.contract, file.parent / "landed").files
    assert [path.name for path in files] == [f"{i:06}.parquet" for i in range(len(files))]
    listed = ", ".join(f"'{path}'" for path in files)
    return engine.query(f"select R0, R1, R2, R3, R4, X, L, E, Q from read_parquet([{listed}]) order by R4, L")


def test_what_fits_is_spelt_in_one_way(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("n,day,at,ok,name,more\n +7 ,2020/1/5,2020-01-01 10:00:00+02:30,YES,a,x\n1_000,,,f,b,\n")
    first, second = _land(engine, file)
    assert first[:6] == ("7", "2020-01-05", "2020-01-01 07:30:00.000000+00:00", "true", "a", '{"more":"x"}')
    assert first[6:] == (None, None, None)
    assert second[:6] == ("1000", None, None, "false", "b", None)


def test_what_does_not_fit_stays_as_it_was_with_its_row(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('n,day,at,ok,name,more\n1.5,2020/1/5,soon,maybe,a,x\n2,2020-01-05\n3,,,,"b')
    rows = _land(engine, file)
    (bad,) = [row for row in rows if row[4] == "a"]
    assert bad[:5] == ("1.5", "2020-01-05", "soon", "maybe", "a")
    assert bad[8] == '{"n":"1.5","day":"2020/1/5","at":"soon","ok":"maybe","name":"a","more":"x"}'
    assert [(e["column"], e["value"], e["reason"]) for e in json.loads(bad[7])] == [
        ("n", "1.5", "does not cast to integer"),
        ("at", "soon", "does not cast to timestamptz"),
        ("ok", "maybe", "does not cast to boolean"),
    ]
    refused = [(row[6], json.loads(row[7])[0]["reason"].split(":")[0]) for row in rows if row[6] is not None]
    assert refused == [(3, "missing columns"), (4, "unquoted value")]
    assert len(rows) == 3


def test_lines_that_are_no_objects(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text('{"n": 1, "name": "a", "deep": {"x": [1]}}\nnot json\n[1]\n')
    rows = _land(engine, file, format="ndjson")
    assert [row[0] for row in rows if row[7] is None] == ["1"]
    assert sorted(json.loads(row[7])[0]["reason"] for row in rows if row[7]) == ["not a JSON object"] * 2


def test_records_keep_their_types_but_json_and_times_are_text(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "p.ndjson"
    file.write_text('{"id": "a", "n": 1, "row": {"x": 1}, "at": "2026-01-01T10:00:00.5+02:00"}\n')
    columns = (("id", "varchar"), ("n", "bigint"), ("row", "json"), ("at", "timestamptz"))
    (landed,) = land_records(engine, columns, file, tmp_path / "landed")
    (row,) = engine.query(f'select id, n, typeof(n), "row", "at" from \'{landed}\'')
    assert row == ("a", 1, "BIGINT", '{"x":1}', "2026-01-01 08:00:00.500000+00:00")


COLUMNS = (Column("id", "integer"), Column("v", "varchar"), Column("tags", "varchar[]"), Column("photo", "blob"))


def _request(contract: Contract, scan: FileScan | QueryScan) -> LoadRequest:
    at = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    return LoadRequest("s.t", Relation("raw", "t"), contract, scan, Relation("trunkline", "quarantine"), "load_1", at)


def test_values_that_have_no_text_of_their_own(engine: DuckDB, tmp_path: Path) -> None:
    """Lists as JSON, bytes as hexadecimal digits: what Snowflake reads back."""
    scan = QueryScan("select 1 as id, 'a' as v, ['x', 'it''s \"y\"', null] as tags, 'a\\x00b'::blob as photo")
    request = _request(Contract(COLUMNS), scan)
    brought = land(engine, request, request.contract, tmp_path / "landed")
    row = engine.query(f"select R2, R3, E, N, P from {brought.rows}")[0]
    assert row == ('["x","it\'s \\"y\\"",null]', "610062", None, None, None)


def test_what_rows_do_and_when_they_came(engine: DuckDB, tmp_path: Path) -> None:
    """In a folder whose name DuckDB would take for a pattern, too."""
    lines = ["""{"id": 2, "$op": "update", "v": null}""", """{"id": 1}""", """{"id": 2, "$op": "delete"}"""]
    values = ", ".join(f"('{line}')" for line in lines)
    request = _request(Contract(COLUMNS[:2], key=("id",)), QueryScan(f"from (values {values}) t(line)", "json"))
    brought = land(engine, request, request.contract, tmp_path / "it's [1] *")
    rows = engine.query(f"select R0, P, A from {brought.rows} order by N")
    assert [(id_, what) for id_, what, _ in rows] == [("2", "update"), ("1", None), ("2", "delete")]
    assert rows[0][2] == "11"


def test_files_of_several_layouts_come_one_after_the_other(engine: DuckDB, tmp_path: Path) -> None:
    files = []
    for number, header in enumerate(("id,v", "v,id", "id,v")):
        files.append(tmp_path / f"{number}.csv")
        cells = {"id": "1", "v": f"of {number}"}
        files[-1].write_text(f"{header}\n{','.join(cells[name] for name in header.split(','))}\n")
    scan = FileScan(tuple(map(str, files)), "csv")
    request = _request(Contract(COLUMNS[:2], key=("id",)), scan)
    brought = land(engine, request, request.contract, tmp_path / "landed")
    assert [row[0] for row in engine.query(f"select R1 from {brought.rows} order by N")] == ["of 0", "of 1", "of 2"]


def test_rows_are_judged_again_by_a_wider_type(engine: DuckDB, tmp_path: Path) -> None:
    """Only rows with values that did not fit; what fits nowhere keeps its errors, and the row it was."""
    file = tmp_path / "a.csv"
    file.write_text("id,v,more\n1,a,\n3000000000,b,kept\nx,c,\n4\n")
    contract = Contract((*COLUMNS[:1], Column("v", "varchar", accepted=("a", "b"))), policy="evolve")
    request = _request(contract, FileScan((str(file),), "csv"))
    brought = land(engine, request, contract, tmp_path / "landed")
    assert misfits(engine, brought)[0] == 3
    wider = widened(engine, brought, "load_1", lambda place, type_, wide: False)
    assert wider.evolved == (("id", "BIGINT"),)
    assert wider.contract.types == (("id", "BIGINT"), ("v", "varchar"))
    rows = engine.query(f"select R0, R1, X, L, E, Q from {wider.rows} order by R0 nulls last")
    assert [row[:3] for row in rows[:2]] == [("1", "a", None), ("3000000000", "b", '{"more":"kept"}')]
    assert [row[4] for row in rows[:2]] == [None, None]
    assert [e["column"] for e in json.loads(rows[2][4])] == ["id", "v"]
    assert json.loads(rows[2][5]) == {"id": "x", "v": "c"}
    assert rows[3][3] == 5
    assert len(rows) == 4


def test_a_wider_type_that_would_change_values_is_not_taken(engine: DuckDB, tmp_path: Path) -> None:
    """A double does not hold every whole number, neither in the target nor among the rows that come."""
    file = tmp_path / "a.csv"
    file.write_text("id,v\n1,a\n1.5,b\n")
    contract = Contract((Column("id", "bigint"), COLUMNS[1]), policy="evolve")
    request = _request(contract, FileScan((str(file),), "csv"))
    brought = land(engine, request, contract, tmp_path / "landed")
    assert widened(engine, brought, "load_1", lambda place, type_, wide: wide == "DOUBLE").evolved == ()
    file.write_text("id,v\n9007199254740993,a\n1.5,b\n")
    brought = land(engine, request, contract, tmp_path / "again")
    assert widened(engine, brought, "load_1", lambda place, type_, wide: False).evolved == ()
