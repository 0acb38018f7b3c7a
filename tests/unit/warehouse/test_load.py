"""Loads: every row is in the table or in the quarantine with a reason, whatever the file looks like."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trunkline.errors import ContractError, SourceError
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import Ledger
from trunkline.warehouse.duckdb import DuckDB
from trunkline.warehouse.load import Column, Contract, FileScan, LoadCounts, LoadRequest
from trunkline.warehouse.relation import Relation

CONTRACT = (("id", "integer"), ("amount", "double"), ("day", "date"), ("name", "varchar"))
RAW = Relation("raw", "t")


def _load(
    lake: DuckDB,
    path: Path | str,
    format_: Literal["csv", "ndjson", "parquet"] = "csv",
    contract: tuple[tuple[str, str], ...] = CONTRACT,
    **scan: Any,
) -> LoadCounts:
    ledger = Ledger(lake)
    ledger.prepare()
    request = LoadRequest(
        name="s.t",
        target=RAW,
        contract=Contract(tuple(Column(*column) for column in contract)),
        scan=FileScan((str(path),), format_, **scan),
        quarantine=ledger.relation("quarantine"),
        load_id=new_id("load"),
        loaded_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    )
    with lake.staged(request, lambda text, done=None: None) as load, lake.transaction():
        return load()


def _rows(lake: DuckDB) -> list[tuple[Any, ...]]:
    return lake.query("select id, amount, cast(day as varchar), name, cast(_extra as varchar) from raw.t order by id")


def _quarantine(lake: DuckDB) -> list[tuple[Any, Any]]:
    return [
        (row["errors"][0]["column"], row["errors"][0]["reason"])
        for row in Ledger(lake).read("quarantine", "order by line")
    ]


def test_good_rows_bad_rows_and_columns_outside(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "id,amount,day,name,extra\n"
        "1,2.5,2024-01-31,ann,x\n"
        "2,NA,NA,NA,\n"
        "3.5,1,2024-01-01,ben,\n"
        "x,1,2024-13-01,cid,\n"
        '4,1e3,2024-01-01,"dee, the\nfourth",\n'
    )
    assert _load(lake, path, null_values=("NA",)) == LoadCounts(read=5, loaded=3, quarantined=2)
    assert _rows(lake) == [
        (1, 2.5, "2024-01-31", "ann", '{"extra":"x"}'),
        (2, None, None, None, None),
        (4, 1000.0, "2024-01-01", "dee, the\nfourth", None),
    ]
    rows = Ledger(lake).read("quarantine", "order by raw")
    assert [[e["column"] for e in row["errors"]] for row in rows] == [["id"], ["id", "day"]]
    assert rows[0]["errors"][0] == {"column": "id", "value": "3.5", "reason": "does not cast to integer"}
    assert rows[0]["raw"] == {"id": "3.5", "amount": "1", "day": "2024-01-01", "name": "ben"}
    assert rows[0]["file"] == str(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1,2", "missing columns"),
        ("1,2,2024-01-01,x,y,z", "too many columns"),
        ('1,2,2024-01-01,"x"y', "unquoted value"),
    ],
)
def test_lines_that_are_no_rows_are_kept_with_their_number(
    lake: DuckDB, tmp_path: Path, line: str, reason: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,amount,day,name\n7,1,2024-01-01,ok\n{line}\n8,1,2024-01-01,ok\n")
    assert _load(lake, path) == LoadCounts(read=3, loaded=2, quarantined=1)
    (row,) = Ledger(lake).read("quarantine")
    assert row["line"] == 3
    assert row["errors"][0]["reason"].startswith(reason)
    assert row["raw"] == {"line": line}


def test_bytes_that_are_no_text_are_kept(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,amount,day,name\n1,1,2024-01-01,\xff\xfe\n2,1,2024-01-01,ok\n")
    assert _load(lake, path) == LoadCounts(read=2, loaded=1, quarantined=1)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_dialects_are_told_by_the_contract(
    lake: DuckDB, tmp_path: Path, newline: str, delimiter: str, bom: str
) -> None:
    rows = [["name", "ID", "day", "amount"], ["a", "1", "2024-01-01", "2"], ["b", "2", "2024-01-02", "3"]]
    text = newline.join(delimiter.join(row) for row in rows) + newline
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress((bom + text).encode()))
    assert _load(lake, path) == LoadCounts(read=2, loaded=2, quarantined=0)
    assert _rows(lake)[0] == (1, 2.0, "2024-01-01", "a", None)


def test_ndjson(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    lines = ['{"id": 1, "amount": 2.5, "day": "2024-01-01", "name": "a", "more": {"k": [1]}}', '{"id": 2}']
    path.write_text("\n".join([*lines, "broken", "[1]", "", '{"id": "x"}', '{"id": 3, "name": "NA"}']))
    assert _load(lake, path, "ndjson", null_values=("NA",)) == LoadCounts(read=6, loaded=3, quarantined=3)
    assert _rows(lake) == [
        (1, 2.5, "2024-01-01", "a", '{"more":{"k":[1]}}'),
        (2, None, None, None, None),
        (3, None, None, None, None),
    ]
    assert sorted(json.dumps(row["raw"].get("line")) for row in Ledger(lake).read("quarantine")) == [
        '"[1]"',
        '"broken"',
        "null",
    ]


def test_parquet_casts_and_keeps_fractions_out_of_integers(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    lake.execute(
        f"copy (select * from (values (1.0, '2.5', date '2024-01-01', 'a', 9), (1.5, '1', null, 'b', null), "
        f"(2.0, 'x', null, 'c', null)) v(id, amount, day, name, more)) to '{path}'"
    )
    assert _load(lake, path, "parquet") == LoadCounts(read=3, loaded=1, quarantined=2)
    assert _rows(lake) == [(1, 2.5, "2024-01-01", "a", '{"more":9}')]


def test_data_cannot_pass_for_a_reject(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    path.write_text('{"id": 1, "$reject-": 1}\n{"id": 2, "$reject-load_0": {"row": {}}}\n')
    assert _load(lake, path, "ndjson") == LoadCounts(read=2, loaded=2, quarantined=0)
    assert len(_rows(lake)) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("idd,amonut,dya,nmae\n1,1,1,1\n", "has none of the contract's columns. Did you mean 'idd'"),
        ("", "is empty"),
        ("id,amount,day,name,id\n", "has the column 'id' twice"),
    ],
)
def test_files_that_do_not_fit_change_nothing(lake: DuckDB, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(SourceError, match=message):
        _load(lake, path)
    assert lake.columns(RAW) == []


def test_hostile_names(lake: DuckDB, tmp_path: Path) -> None:
    name = "a\"; drop table x; --'{$1}"
    path = tmp_path / 'it\'s "here".csv'
    path.write_text('id,"' + name.replace('"', '""') + '"\n1,z\n')
    assert _load(lake, path, contract=(("id", "integer"), (name, "varchar"))).loaded == 1
    assert lake.columns(RAW)[1] == (name, "VARCHAR")
    with pytest.raises(ContractError, match="is not a SQL type"):
        _load(lake, path, contract=(("id", "integer); drop table raw.t; --"),))


def test_a_changed_contract(lake: DuckDB, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,amount,day,name\n1,2,2024-01-01,a\n")
    _load(lake, path, contract=CONTRACT[:2])
    assert _load(lake, path).loaded == 1  # a new column is added, null in the rows before
    assert [row[3] for row in _rows(lake)] in ([None, "a"], ["a", None])
    with pytest.raises(ContractError, match="column 'id' is INTEGER in the table, varchar in the contract"):
        _load(lake, path, contract=(("id", "varchar"),))


_cell = st.one_of(
    st.integers(-(10**11), 10**11).map(str),
    st.floats(allow_nan=False, allow_infinity=False, width=32).map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x00"), max_size=8),
    st.sampled_from(["", "NA", "2024-02-29", "2023-02-29", '"', '""', ",", "1.0", "1.5", " 7 "]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(_cell, min_size=4, max_size=4), min_size=1, max_size=12), raw=st.data())
def test_no_row_is_lost_whatever_is_in_it(
    lake: DuckDB, tmp_path: Path, rows: list[list[str]], raw: st.DataObject
) -> None:
    lake.execute("drop table if exists raw.t")
    quoted = raw.draw(st.booleans())
    path = tmp_path / f"{new_id('f')}.csv"
    lines = [",".join('"' + cell.replace('"', '""') + '"' if quoted else cell for cell in row) for row in rows]
    path.write_text("\n".join(["id,amount,day,name", *lines]) + "\n", "utf-8", newline="\n")
    counts = _load(lake, path, null_values=("NA",))
    assert counts.read == counts.loaded + counts.quarantined
    assert counts.loaded == len(_rows(lake))
    if quoted:
        assert counts.read == len(rows)
        good = [r for r in rows if r[0].strip().lstrip("-").isascii() and r[0].strip().lstrip("-").isdigit()]
        assert all(row[0] is None or isinstance(row[0], int) for row in _rows(lake))
        assert counts.loaded <= len(rows)
        assert sum(row[0] is not None for row in _rows(lake)) <= len(good) + sum(
            r[0].endswith(".0") for r in rows
        ) + sum("e" in r[0].lower() for r in rows)
