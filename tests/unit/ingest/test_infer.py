"""A first contract from a sample: types by shape, texts that mean NULL, columns that only some files have."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.ingest.infer import Guess, of_scan
from trunkline.ingest.portable import portable
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.load import FileScan, QueryScan
from trunkline.warehouse.load_sql import literal


@pytest.fixture(scope="module")
def reader() -> Iterator[DuckDB]:
    opened = open_duckdb({"path": ":memory:", "extensions": ["icu"]}, Path("."))
    yield opened
    opened.close()


def _csv(path: Path, columns: dict[str, list[str]], delimiter: str = ",") -> str:
    with path.open("w", newline="") as out:
        writer = csv.writer(out, delimiter=delimiter)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


TEXTS = [
    (["1", "-20", "0"], "bigint"),
    (["1", "9223372036854775808"], "decimal(38,0)"),
    (["007", "12"], "varchar"),  # a post code, an account: the zeros count
    (["+49301234", "1"], "varchar"),
    (["1.50", "2", "-.5", "1e3"], "double"),
    (["0.5", "00.5"], "varchar"),
    (["true", "False"], "boolean"),
    (["yes", "no"], "boolean"),
    (["0", "1"], "bigint"),
    (["2025-01-31", "2024-02-29"], "date"),
    (["2025-01-31", "2025-02-30"], "varchar"),
    (["2025-01-31 10:00", "2025-01-31T10:00:00.123"], "timestamp"),
    (["2025-01-31", "2025-01-31 10:00:00"], "timestamp"),
    (["2025-01-31T10:00:00Z", "2025-01-31 10:00:00+02:00"], "timestamptz"),
    (["2025-01-31T10:00:00Z", "2025-01-31 10:00:00"], "varchar"),  # whose clock?
    (["10:00", "23:59:59"], "time"),
    (['{"a": 1}', "[1, 2]"], "json"),
    (["{a}", "[1, 2]"], "varchar"),
    (["a", "1"], "varchar"),
    (["", ""], "varchar"),
]


@pytest.mark.parametrize(("values", "type_"), TEXTS, ids=lambda value: str(value)[:30])
def test_a_type_is_told_by_the_shape_of_every_value(
    reader: DuckDB, tmp_path: Path, values: list[str], type_: str
) -> None:
    file = _csv(tmp_path / "a.csv", {"n": ["x"] * len(values), "v": values})
    found = of_scan(reader, FileScan((file,), "csv"))
    assert found.columns[1] == Guess("v", type_, filled="" not in values)


@pytest.mark.parametrize("text", ["NA", "null", "-", "n/a", "\\N", " NULL "])
def test_texts_that_mean_null_are_named_where_the_column_is_no_text(reader: DuckDB, tmp_path: Path, text: str) -> None:
    file = _csv(tmp_path / "a.csv", {"n": ["1", text, "3"], "country": ["NA", "DE", "FR"]})
    found = of_scan(reader, FileScan((file,), "csv"))
    assert [(guess.type, guess.filled) for guess in found.columns] == [("bigint", False), ("varchar", True)]
    assert found.null_values == (text,)


def test_namibia_is_no_null(reader: DuckDB, tmp_path: Path) -> None:
    found = of_scan(reader, FileScan((_csv(tmp_path / "a.csv", {"country": ["NA", "DE"]}),), "csv"))
    assert (found.null_values, found.columns[0].filled) == ((), True)


def test_all_files_are_looked_at_and_what_only_some_have_is_left_out(reader: DuckDB, tmp_path: Path) -> None:
    files = [_csv(tmp_path / f"{i:03}.csv", {"a": ["1"], "b": ["2"]}) for i in range(99)]
    files.append(_csv(tmp_path / "last.csv", {"b": ["2.5"], "a": ["1"], "new": ["x"]}))
    found = of_scan(reader, FileScan(tuple(files), "csv"))
    assert [(guess.name, guess.type) for guess in found.columns] == [("a", "bigint"), ("b", "double")]
    assert (found.partial, found.files) == (("new",), 100)


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_delimiter_is_found(reader: DuckDB, tmp_path: Path, delimiter: str) -> None:
    file = _csv(tmp_path / "a.csv", {"a": ["1,5"], "b": ["x"]}, delimiter)
    found = of_scan(reader, FileScan((file,), "csv"))
    assert ([guess.name for guess in found.columns], found.delimiter) == (["a", "b"], delimiter)


def test_declared_types_are_tried(reader: DuckDB, tmp_path: Path) -> None:
    file = _csv(tmp_path / "a.csv", {"a": ["1", "2.5", "x"]})
    found = of_scan(reader, FileScan((file,), "csv"), {"a": "integer"})
    assert found.columns[0].misfits == 1  # 2.5 casts, by rounding; the load itself would not take it


@pytest.mark.parametrize("way", ["ndjson", "query"])
def test_json_keys_in_their_order(reader: DuckDB, tmp_path: Path, way: str) -> None:
    rows: list[dict[str, Any]] = [
        {"id": 1, "zip": "01234", "at": "2025-01-01T10:00:00Z", "price": 1.0, "tags": ["a"], "we'ird \"key": 1},
        {"id": 2, "zip": "98765", "at": None, "price": 2.5, "tags": None, "more": {"x": 1}, "$op": "delete"},
    ]
    file = tmp_path / "a.ndjson"
    file.write_text("\n".join([*map(json.dumps, rows), "no json", "[1]"]))
    scan: FileScan | QueryScan = FileScan((str(file),), "ndjson")
    if way == "query":
        listed = ", ".join(literal(line) for line in file.read_text().splitlines())
        scan = QueryScan(f"select unnest([{listed}]) as line", "json")
    found = of_scan(reader, scan)
    assert [(guess.name, guess.type, guess.filled) for guess in found.columns] == [
        ("id", "bigint", True),
        ("zip", "varchar", True),
        ("at", "timestamptz", False),
        ("price", "double", True),
        ("tags", "json", False),
        ("we'ird \"key", "bigint", False),
        ("more", "json", False),
    ]


def test_typed_rows_bring_their_types(reader: DuckDB, tmp_path: Path) -> None:
    rows = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "price": pa.array(["1.5", None]).cast(pa.decimal128(10, 2)),
            "at": pa.array([0, 1], pa.timestamp("us", tz="UTC")),
            "tags": pa.array([["a"], []], pa.list_(pa.string())),
        }
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    expected = [
        ("id", "bigint", True),
        ("price", "decimal(10,2)", False),
        ("at", "timestamptz", True),
        ("tags", "json", True),
    ]
    file = str(tmp_path / "a.parquet")
    for scan in (FileScan((file,), "parquet"), QueryScan(f"from read_parquet({literal(file)})")):
        found = of_scan(reader, scan)
        assert [(guess.name, guess.type, guess.filled) for guess in found.columns] == expected


def test_every_type_of_duckdb_has_a_portable_one() -> None:
    assert portable("STRUCT(a INTEGER)") == portable("INTEGER[]") == portable("MAP(VARCHAR, INTEGER)") == "json"
    assert portable("ENUM('a')") == portable("UUID") == portable("INTERVAL") == "varchar"
    assert portable("UBIGINT") == "decimal(20,0)"
    assert portable("TIMESTAMP_NS") == "timestamp"


@settings(max_examples=30)
@given(values=st.lists(st.text(alphabet="0123456789.-+:TZ eaNA", max_size=12), min_size=1, max_size=6))
def test_what_is_offered_holds_every_value(
    reader: DuckDB, tmp_path_factory: pytest.TempPathFactory, values: list[str]
) -> None:
    file = _csv(tmp_path_factory.mktemp("h") / "a.csv", {"n": ["x"] * len(values), "v": values})
    found = of_scan(reader, FileScan((file,), "csv"))
    guess = found.columns[1]
    kept = [value for value in values if value and value not in found.null_values]
    for value in kept:
        assert reader.query(f"select try_cast({literal(value)} as {guess.type}) is not null") == [(True,)]
