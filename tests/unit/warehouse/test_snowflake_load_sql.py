"""The statements of a load on Snowflake, pinned and parsed as Snowflake's."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from trunkline.errors import ContractError
from trunkline.warehouse import snowflake_sql
from trunkline.warehouse.snowflake_load_sql import Landed, cast
from trunkline.warehouse.snowflake_merge_sql import Changes
from trunkline.warehouse.snowflake_target import is_wider, rebuild

GOLDEN = Path(__file__).parents[2] / "golden" / "snowflake"
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.timezone(dt.timedelta(hours=2)))
CONTRACT = (
    ("id", "bigint"),
    ("Odd Name", "varchar"),
    ("price", "decimal(10, 2)"),
    ("ratio", "double"),
    ("day", "date"),
    ("at", "timestamp"),
    ("seen", "timestamptz"),
    ("ok", "boolean"),
    ("tags", "json"),
    ("photo", "blob"),
)
TARGET = '"DB"."RAW"."T"'


def pinned(name: str, *statements: str) -> None:
    """Each is Snowflake's SQL, and all are the golden file; TRUNKLINE_WRITE_GOLDEN=1 writes it anew."""
    for statement in statements:
        parsed = sqlglot.parse_one(statement, read="snowflake")
        assert not isinstance(parsed, exp.Command), statement
    text = "".join(f"{statement};\n\n" for statement in statements)
    file = GOLDEN / name
    if os.environ.get("TRUNKLINE_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_rows_are_appended() -> None:
    landed = Landed("DB.TRUNKLINE.TEMPORARY_1", CONTRACT)
    pinned(
        "load.sql",
        snowflake_sql.create_table(TARGET, (*CONTRACT, *snowflake_sql.AUDIT)),
        landed.create(),
        snowflake_sql.copy_into(landed.table, "@DB.TRUNKLINE.TEMPORARY_2"),
        landed.count(),
        *landed.apply(TARGET, "load_1", AT),
        landed.quarantine('"DB"."TRUNKLINE"."QUARANTINE"', table="s.t", load_id="load_1", at=AT),
        landed.examples(5),
    )


def test_rows_are_merged_by_key() -> None:
    landed = Landed("DB.TRUNKLINE.TEMPORARY_1", (("region", "varchar"), ("id", "bigint"), ("seen", "timestamptz")))
    changes = Changes("DB.TRUNKLINE.TEMPORARY_3", landed, ("id", "Region"), order="seen")
    pinned("merge.sql", changes.create(), *changes.apply(TARGET, "load_1", AT))


def test_updates_are_merged_by_key() -> None:
    landed = Landed("DB.TRUNKLINE.TEMPORARY_1", (("id", "bigint"), ("name", "varchar"), ("price", "decimal(10, 2)")))
    changes = Changes("DB.TRUNKLINE.TEMPORARY_3", landed, ("id",), patches=True)
    pinned("merge_updates.sql", changes.create(), *changes.apply(TARGET, "load_1", AT), changes.select("load_1", AT))


def test_a_column_gets_another_type() -> None:
    pinned("widen.sql", rebuild(TARGET, ["id", "Odd Name", "n", "_load_id"], {"n": "DOUBLE"}))


def test_a_type_is_no_place_for_other_sql() -> None:
    with pytest.raises(ContractError, match="not a SQL type"):
        cast("L.R0", "int) , (select 1")


@pytest.mark.parametrize(
    ("there", "asked", "wider"),
    [
        ("DOUBLE", "BIGINT", True),
        ("DECIMAL(12,2)", "DECIMAL(10,2)", True),
        ("DECIMAL(12,4)", "DECIMAL(10,2)", True),
        ("DECIMAL(11,4)", "DECIMAL(10,2)", False),
        ("DECIMAL(10,2)", "DECIMAL(12,2)", False),
        ("DOUBLE", "DECIMAL(10,2)", False),
        ("BIGINT", "DOUBLE", False),
        ("VARCHAR", "BIGINT", False),
    ],
)
def test_what_a_wider_column_takes(there: str, asked: str, wider: bool) -> None:
    assert is_wider(there, asked) is wider
