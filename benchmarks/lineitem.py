"""TPC-H's lineitem as the benchmarks load it, and the profile of the DuckLake they load into."""

from __future__ import annotations

from typing import Any

COLUMNS = {
    "l_orderkey": "bigint",
    "l_partkey": "bigint",
    "l_suppkey": "bigint",
    "l_linenumber": "bigint",
    "l_quantity": "decimal(15,2)",
    "l_extendedprice": "decimal(15,2)",
    "l_discount": "decimal(15,2)",
    "l_tax": "decimal(15,2)",
    "l_returnflag": "varchar",
    "l_linestatus": "varchar",
    "l_shipdate": "date",
    "l_commitdate": "date",
    "l_receiptdate": "date",
    "l_shipinstruct": "varchar",
    "l_shipmode": "varchar",
    "l_comment": "varchar",
}

PROFILE = """\
bench:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: ":memory:"
      database: lake
      schema: main
      extensions: [ducklake, sqlite_scanner]
      attach:
        - {path: "ducklake:sqlite:lake.sqlite", alias: lake, options: {data_path: lake.files}}
"""


def attach_lake(connection: Any, options: str) -> None:
    """Attach the DuckLake of this folder, `lake`, with its SQLite catalog."""
    connection.execute("load ducklake")
    connection.execute("load sqlite_scanner")
    connection.execute(f"attach 'ducklake:sqlite:lake.sqlite' as lake ({options})")
