"""The rows, types, names and files of the warehouse suite, and what brings them in."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from trunkline.ledger import schema as ledger_schema
from trunkline.warehouse.load import Column, Contract, FileScan, LoadCounts, LoadRequest
from trunkline.warehouse.protocol import Batch, Loader, Records, Warehouse
from trunkline.warehouse.relation import Relation

Columns = Sequence[tuple[str, str]]

VALUES: Mapping[str, tuple[Any, Any]] = {  # canonical type: (as it is inserted, as it comes back)
    "BOOLEAN": (True, True),
    "INTEGER": (-7, -7),
    "BIGINT": (2**63 - 1, 2**63 - 1),
    "DOUBLE": (0.1, 0.1),
    "DECIMAL(12,2)": ("1234567890.05", Decimal("1234567890.05")),
    "VARCHAR": ('it\'s \\ "é☃" ?\n', 'it\'s \\ "é☃" ?\n'),
    "DATE": ("2024-02-29", dt.date(2024, 2, 29)),
    "TIME": ("23:59:58.999999", dt.time(23, 59, 58, 999999)),
    "TIMESTAMP": ("2024-02-29 12:34:56.123456", dt.datetime(2024, 2, 29, 12, 34, 56, 123456)),
    "TIMESTAMP WITH TIME ZONE": (
        dt.datetime(2024, 2, 29, 12, 34, 56, 123456, tzinfo=dt.timezone(dt.timedelta(hours=9))),
        dt.datetime(2024, 2, 29, 3, 34, 56, 123456, tzinfo=dt.UTC),
    ),
    "JSON": ('{"a": [1, null, "x\'\\\\y"]}', {"a": [1, None, "x'\\y"]}),
}
HOSTILE = ("Mixed Case", 'quo"te', "semi;colon --", "sch.ema", "ünïcode", "per%cent", "que?stion", "$dollar", "it's")
CONTRACT = (("id", "integer"), ("amount", "double"), ("day", "date"), ("name", "varchar"))
PARAMETERS = ("", "'", "\\", "\\'", "a?b", "--", "é☃\n\t", -1, 2**62, 1e300, 5e-324, True, None)
ARGUMENTS = (("a", "DOUBLE"), ("n", "BIGINT"))
TWICE_AND = """
import pandas

def run(df):
    return df[0] * 2 + df[1]

run._sf_vectorized_input = pandas.DataFrame
"""
BOTH = TWICE_AND.replace("df[0] * 2 + df[1]", "pandas.Series([[float(a), float(n)] for a, n in zip(df[0], df[1])])")
AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

CASTS: Mapping[str, tuple[Mapping[str, Any], Sequence[str]]] = {  # by type: texts and their values, texts that are none
    "BOOLEAN": ({"true": True, "FALSE": False, "t": True, "0": False}, ["maybe", "2"]),
    "INTEGER": ({"7": 7, " -7 ": -7, "7.0": 7, "2147483647": 2147483647}, ["2147483648", "1.5", "x"]),
    "BIGINT": ({"9223372036854775807": 2**63 - 1}, ["9223372036854775808", "1.5"]),
    "DOUBLE": ({"1e3": 1000.0, "-.5": -0.5, "0.1": 0.1}, ["1,5", "x"]),
    "DECIMAL(12,2)": ({"1.5": Decimal("1.50"), "-0.05": Decimal("-0.05")}, ["12345678901.5", "x"]),
    "VARCHAR": ({"a": "a", " x ": " x ", "\\n": "\\n"}, []),
    "DATE": ({"2024-02-29": dt.date(2024, 2, 29)}, ["2023-02-29", "29.02.2024", "yesterday"]),
    "TIME": ({"23:59:58": dt.time(23, 59, 58)}, ["25:00:00", "noon"]),
    "TIMESTAMP": (
        {
            "2024-02-29 01:02:03": dt.datetime(2024, 2, 29, 1, 2, 3),
            "2024-02-29T01:02:03.5": dt.datetime(2024, 2, 29, 1, 2, 3, 500000),
            "2024-02-29": dt.datetime(2024, 2, 29),
        },
        ["2023-02-29 00:00:00", "x"],
    ),
    "TIMESTAMP WITH TIME ZONE": (
        {
            "2024-02-29 01:02:03+02": dt.datetime(2024, 2, 28, 23, 2, 3, tzinfo=dt.UTC),
            "2024-02-29T01:02:03Z": dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC),
            "2024-02-29 01:02:03": dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC),
        },
        ["2023-02-29 00:00:00", "x"],
    ),
}

# What `Hashed.summary` and `Hashed.rows` say of a row of VALUES and a row of nulls. On every warehouse.
HASHES: tuple[Any, ...] = (
    2,
    "19562940185408713",
    "1790876877991946208",
    "1205392900904514402",
    "1489012256441467934",
    "1551053074051882740",
    "1631625561693330689",
    "919904221572749915",
    "1760311929887843075",
    "914498507115061036",
    "969423379636657163",
    "1481291809924921243",
    "1449764422631009387",
)
SHOWN: tuple[Any, ...] = (
    "true",
    "-7",
    "9223372036854775807",
    0.1,
    "1234567890.05",
    'it\'s \\ "é☃" ?\n',
    "1709164800000000",
    "86398999999",
    "1709210096123456",
    "1709177696123456",
    "not null",
)


def silent(text: str, done: float | None = None) -> None:
    """A `Tell` that tells nobody."""


def made(warehouse: Warehouse, relation: Relation, columns: Columns) -> Relation:
    """A new table."""
    assert isinstance(warehouse, Records)
    warehouse.create(relation, columns)
    return relation


def insert(warehouse: Warehouse, relation: Relation, columns: Columns, rows: Sequence[Sequence[Any]]) -> None:
    """Rows into a table."""
    assert isinstance(warehouse, Records)
    warehouse.insert(relation, columns, rows)


def insert_one(warehouse: Warehouse, relation: Relation) -> None:
    """The row (1, 'a')."""
    insert(warehouse, relation, (("id", "BIGINT"), ("name", "VARCHAR")), [[1, "a"]])


def insert_and_fail(warehouse: Warehouse, relation: Relation, error: type[BaseException]) -> None:
    """A transaction that ends in an exception."""
    with warehouse.transaction():
        insert_one(warehouse, relation)
        raise error("in the middle")


def records_file(folder: Path, suffix: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """An NDJSON or Parquet file of (id BIGINT, name VARCHAR)."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    folder.mkdir(exist_ok=True)
    file = folder / f"records.{suffix}"
    if suffix == "parquet":
        parquet.write_table(
            pa.Table.from_pylist(list(rows), pa.schema([("id", pa.int64()), ("name", pa.string())])), file
        )
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def append(warehouse: Warehouse, relation: Relation, file: Path, *, key: str | None) -> int:
    """Append a file of records in a transaction of its own."""
    assert isinstance(warehouse, Records)
    columns = (("id", "BIGINT"), ("name", "VARCHAR"))
    with warehouse.appending(relation, columns, file, key=key) as rows, warehouse.transaction():
        return rows()


def csv_file(folder: Path, text: str) -> Path:
    """A CSV file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "flights.csv"
    file.write_text(text)
    return file


def flights_file(folder: Path, format_: Literal["csv", "ndjson", "parquet"]) -> Path:
    """Two rows that fit `CONTRACT` and two that do not."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    names = ("id", "amount", "day", "name", "more")
    rows = [
        ("1", "2.5", "2024-02-29", "ann", "x"),
        ("2", None, None, None, None),
        ("3.5", "1", "2024-01-01", "cid", None),
        ("x", "1", "2023-02-29", "dee", None),
    ]
    if format_ == "csv":
        return csv_file(folder, "\n".join(",".join(cell or "NA" for cell in row) for row in (names, *rows)) + "\n")
    file = folder / f"flights.{format_}"
    if format_ == "ndjson":
        known = [{name: cell for name, cell in zip(names, row, strict=True) if cell} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in known))
    else:
        parquet.write_table(pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)}), file)
    return file


def load(
    warehouse: Warehouse,
    schema: str,
    file: Path,
    format_: Literal["csv", "ndjson", "parquet"] = "csv",
    contract: Columns = CONTRACT,
    **changes: Any,
) -> LoadCounts:
    """Load a file into the table `flights`; `interrupted` ends the transaction with Ctrl-C."""
    assert isinstance(warehouse, Loader)
    interrupted = changes.pop("interrupted", False)
    kept = made(warehouse, Relation(schema, "quarantine"), ledger_schema.TABLES["quarantine"])
    request = LoadRequest(
        name="s.flights",
        target=Relation(schema, "flights"),
        contract=Contract(tuple(Column(*column) for column in contract)),
        scan=FileScan((str(file),), format_, null_values=("NA",)),
        quarantine=kept,
        **{"load_id": "load_1", "loaded_at": AT, **changes},
    )
    with warehouse.staged(request, silent) as rows, warehouse.transaction():
        counts = rows()
        if interrupted:
            raise KeyboardInterrupt
    return counts


def quarantine(warehouse: Warehouse, schema: str) -> str:
    """The quarantine of `load`, as SQL."""
    return warehouse.sql(Relation(schema, "quarantine"))


def arrow_types() -> list[Any]:
    """Arrow's types of `VALUES`, the INTEGER left out: its width is the warehouse's own."""
    import pyarrow as pa

    stamp = pa.timestamp("us")
    types = [pa.bool_(), pa.int64(), pa.float64(), pa.decimal128(12, 2), pa.string(), pa.date32(), pa.time64("us")]
    return [*types, stamp, pa.timestamp("us", "UTC"), pa.string()]


def twice_and(a: Any, n: Any) -> Any:
    """The Arrow side of the function `twice_and`."""
    import pyarrow.compute as pc

    return pc.add(pc.multiply(a, 2.0), pc.cast(n, "double"))


def argument_rows(folder: Path) -> Path:
    """Three rows of `ARGUMENTS` in a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = folder / "arguments.parquet"
    pq.write_table(pa.table({"a": [1.5, None, 5.0], "n": [3, 3, 3]}), file)
    return file


def both(a: Any, n: Any) -> Any:
    """The Arrow side of the function `both`."""
    import pyarrow as pa

    return pa.array([[x, float(y)] for x, y in zip(a.to_pylist(), n.to_pylist(), strict=True)], pa.list_(pa.float64()))


def ids_of(batch: Batch) -> list[int]:
    """The column `id` of a batch: run in another process."""
    ids: list[int] = batch.read()["id"].to_pylist()
    return ids
