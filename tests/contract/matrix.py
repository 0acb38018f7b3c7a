"""The warehouses the suite runs on, and what each is known not to do. `docs/warehouses.md` is drawn from this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trunkline.testing.warehouse_suite import Lack


@dataclass(frozen=True)
class Tried:
    """A warehouse of the matrix: its column in the table, its adapter, and the tests of the suite that must fail."""

    name: str
    adapter: str
    lacks: Mapping[str, Lack] = field(default_factory=dict)


LAKE_ON_SQLITE = Tried("DuckLake, SQLite catalog", "trunkline.warehouse.duckdb:DuckDB")
LAKE_ON_POSTGRES = Tried("DuckLake, PostgreSQL catalog", "trunkline.warehouse.duckdb:DuckDB")
DUCKDB_FILE = Tried(
    "DuckDB file",
    "trunkline.warehouse.duckdb:DuckDB",
    {"test_a_snapshot_is_read_as_it_was": Lack("a DuckDB file keeps no history")},
)

_QUOTING = "fakesnow forgets to quote the name once more"
_DOLLAR = "fakesnow takes a dollar sign within quotes for a session variable"
_LARGE = "fakesnow holds NUMBER(38,0) in 64 bits"
_TOO_LARGE = "integer-7-9223372036854775808-after1", "bigint-7-9223372036854775808-after2"
SNOWFLAKE = Tried(
    "Snowflake (emulator)",
    "trunkline.warehouse.snowflake:Snowflake",
    {
        "test_any_name_can_be_a_column_or_a_table[it's]": Lack(_QUOTING, emulator=True),
        "test_any_name_can_be_a_column_or_a_table[$dollar]": Lack(_DOLLAR, emulator=True),
        "test_columns_of_any_name_are_loaded[dollar and apostrophe]": Lack(_DOLLAR, emulator=True),
        **{
            f"test_types_evolve[{values}-{how}]": Lack(_LARGE, emulator=True)
            for values in _TOO_LARGE
            for how in ("append", "merge")
        },
    },
)

WAREHOUSES = (LAKE_ON_SQLITE, LAKE_ON_POSTGRES, DUCKDB_FILE, SNOWFLAKE)
LOADED = (LAKE_ON_SQLITE, DUCKDB_FILE, SNOWFLAKE)  # what the load suite runs on


def of_an_account(tried: Tried) -> dict[str, Lack]:
    """What must fail on the real thing as well: not what its emulator alone lacks."""
    return {name: lack for name, lack in tried.lacks.items() if not lack.emulator}
