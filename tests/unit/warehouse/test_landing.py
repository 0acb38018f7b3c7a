"""Files as Parquet of plain text: what fits in one spelling, what does not as it was, every row exactly once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.landing import land, land_records
from trunkline.warehouse.load import Column, Contract, FileScan, LoadRequest
from trunkline.warehouse.relation import Relation

CONTRACT = (("n", "integer"), ("day", "date"), ("at", "timestamptz"), ("ok", "boolean"), ("name", "varchar"))


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[DuckDB]:
    opened = open_duckdb({"path": ":memory:", "extensions": ["icu"]}, tmp_path)
    yield opened
    opened.close()


def _land(engine: DuckDB, file: Path, **scan: Any) -> list[tuple[Any, ...]]:
    request = LoadRequest(
        name="s.t",
        target=Relation("raw", "t"),
        contract=Contract(tuple(Column(*column) for column in CONTRACT)),
        scan=FileScan((str(file),), scan.pop("format", "csv"), **scan),
        quarantine=Relation("trunkline", "quarantine"),
        load_id="load_1",
        loaded_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    files = land(engine, request, file.parent / "landed")
    assert [path.name for path in files] == [f"{i:06}.parquet" for i in range(len(files))]
    listed = ", ".join(f"'{path}'" for path in files)
    return engine.query(f"select R0, R1, R2, R3, R4, X, L, W, Q from read_parquet([{listed}]) order by R4, L")


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
    refused = [row for row in rows if row[7] is not None]
    assert [(row[6], row[7].split(":")[0]) for row in refused] == [(3, "missing columns"), (4, "unquoted value")]
    assert len(rows) == 3


def test_lines_that_are_no_objects(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_text('{"n": 1, "name": "a", "deep": {"x": [1]}}\nnot json\n[1]\n')
    rows = _land(engine, file, format="ndjson")
    assert [row[0] for row in rows if row[7] is None] == ["1"]
    assert sorted(row[7] for row in rows if row[7]) == ["not a JSON object"] * 2


def test_records_keep_their_types_but_json_and_times_are_text(engine: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "p.ndjson"
    file.write_text('{"id": "a", "n": 1, "row": {"x": 1}, "at": "2026-01-01T10:00:00.5+02:00"}\n')
    columns = (("id", "varchar"), ("n", "bigint"), ("row", "json"), ("at", "timestamptz"))
    (landed,) = land_records(engine, columns, file, tmp_path / "landed")
    (row,) = engine.query(f'select id, n, typeof(n), "row", "at" from \'{landed}\'')
    assert row == ("a", 1, "BIGINT", '{"x":1}', "2026-01-01 08:00:00.500000+00:00")
