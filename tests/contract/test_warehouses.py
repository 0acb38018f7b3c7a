"""The conformance suite on every warehouse: three ways of DuckDB, Snowflake's emulator, and a real account if given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract import matrix, servers
from tests.contract.connections import Connect, OnEmulator, OnFile, OnSqlite, lake
from trunkline.testing.warehouse_suite import WarehouseSuite
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import Warehouse

ACCOUNT = {
    "account": "TRUNKLINE_SNOWFLAKE_ACCOUNT",
    "user": "TRUNKLINE_SNOWFLAKE_USER",
    "password": "TRUNKLINE_SNOWFLAKE_PASSWORD",
    "private_key_path": "TRUNKLINE_SNOWFLAKE_PRIVATE_KEY_PATH",
    "role": "TRUNKLINE_SNOWFLAKE_ROLE",
    "warehouse": "TRUNKLINE_SNOWFLAKE_WAREHOUSE",
    "database": "TRUNKLINE_SNOWFLAKE_DATABASE",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the databases lie that the tests of a class share: each test has a schema of its own."""
    return tmp_path_factory.mktemp("warehouses")


@pytest.fixture(scope="module")
def on_postgres(folder: Path, postgres: servers.Postgres) -> dict[str, Any]:
    login = f"host=127.0.0.1 port={postgres.port} dbname={postgres.database('suite')} user={postgres.user}"
    path = f"ducklake:postgres:{login} password={postgres.password}"
    return lake(path, str(folder / "data-of-postgres"), "postgres_scanner")


class TestDuckLakeOnSqlite(OnSqlite, WarehouseSuite):
    pass


class TestDuckLakeOnPostgres(WarehouseSuite):
    lacks = matrix.LAKE_ON_POSTGRES.lacks

    @pytest.fixture
    def connect(self, folder: Path, on_postgres: dict[str, Any]) -> Connect:
        return lambda: open_duckdb(on_postgres, folder)


class TestDuckDBFile(OnFile, WarehouseSuite):
    pass


class TestSnowflakeEmulator(OnEmulator, WarehouseSuite):
    database = "SUITE"


if os.environ.get("TRUNKLINE_SNOWFLAKE_ACCOUNT"):

    class TestSnowflakeAccount(WarehouseSuite):
        lacks = matrix.of_an_account(matrix.SNOWFLAKE)

        @pytest.fixture
        def connect(self, folder: Path) -> Connect:
            from trunkline.warehouse.snowflake import open_snowflake

            given = {key: os.environ[name] for key, name in ACCOUNT.items() if os.environ.get(name)}
            return lambda: open_snowflake({"type": "snowflake", "schema": "public", **given}, folder)

        @pytest.fixture
        def schema(self, warehouse: Warehouse, fresh: str) -> Iterator[str]:
            yield fresh
            warehouse.execute(f"drop schema if exists {warehouse.quote(fresh)}")

else:

    @pytest.mark.skip(
        reason="no Snowflake account: with TRUNKLINE_SNOWFLAKE_ACCOUNT, _USER, _PASSWORD or _PRIVATE_KEY_PATH, _ROLE, "
        "_WAREHOUSE and _DATABASE the whole suite runs there"
    )
    def test_a_real_snowflake_account() -> None:
        """One skip that stands for the suite."""
