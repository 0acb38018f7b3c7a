"""What the adapter says without a server; what it does with one is in tests/contract and tests/faults."""

from __future__ import annotations

from typing import cast

import sqlglot
from snowflake.connector import SnowflakeConnection
from sqlglot import exp

from trunkline.warehouse.protocol import CAPABILITIES, Observable, Turns
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.snowflake import Snowflake

WAREHOUSE = Snowflake(cast(SnowflakeConnection, None), {"database": "flights", "account": "a"})
TABLE = Relation("analytics", "flight_features")


def test_a_table_as_it_was() -> None:
    """Time travel, which the emulator lacks: https://docs.snowflake.com/en/sql-reference/constructs/at-before."""
    assert WAREHOUSE.at(TABLE, "") == '"FLIGHTS"."ANALYTICS"."FLIGHT_FEATURES"'
    assert WAREHOUSE.at(TABLE, "clone:flight_features__2026_ab") == '"FLIGHTS"."TRUNKLINE"."FLIGHT_FEATURES__2026_AB"'
    past = WAREHOUSE.at(TABLE, "time-travel:2026-01-02T03:04:05.678901+00:00")
    assert past == (
        '"FLIGHTS"."ANALYTICS"."FLIGHT_FEATURES" '
        "at (timestamp => cast('2026-01-02T03:04:05.678901+00:00' as timestamp_tz))"
    )
    parsed = sqlglot.parse_one(f"select count(*) from {past}", read="snowflake")
    assert parsed.find(exp.HistoricalData) is not None


def test_its_capabilities_are_these() -> None:
    """Writers take turns inside transactions; a running statement does not say how far it is."""
    lacks = {capability.__name__ for capability in CAPABILITIES if not isinstance(WAREHOUSE, capability)}
    assert {Turns.__name__, Observable.__name__} <= lacks
    assert lacks <= {Turns.__name__, Observable.__name__, "FunctionRecall"}
