"""How the suites connect to each kind of warehouse; a suite's class takes one of these and what it tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract import matrix
from tests.emulator import running
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import Warehouse

Connect = Callable[[], Warehouse]


def lake(path: str, data: str, *extensions: str) -> dict[str, Any]:
    """A DuckLake as a dbt profile has it."""
    attached = {"path": path, "alias": "lake", "options": {"data_path": data}}
    trusting = {"allow_unsigned_extensions": True}  # else each connection hashes the extensions' files anew
    return {
        "path": ":memory:",
        "database": "lake",
        "config_options": trusting,
        "extensions": ["ducklake", *extensions],
        "attach": [attached],
    }


class OnSqlite:
    lacks = matrix.LAKE_ON_SQLITE.lacks

    @pytest.fixture
    def connect(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Connect:
        monkeypatch.chdir(folder)  # a profile's paths are relative to the project
        settings = lake("ducklake:sqlite:catalog.sqlite", "data", "sqlite_scanner")
        return lambda: open_duckdb(settings, folder)


class OnFile:
    lacks = matrix.DUCKDB_FILE.lacks

    @pytest.fixture
    def connect(self, folder: Path) -> Connect:
        return lambda: open_duckdb({"path": "local.duckdb"}, folder)


class OnEmulator:
    """`database` is the suite's own: the emulator serves several."""

    lacks = matrix.SNOWFLAKE.lacks
    database: str

    @pytest.fixture
    def connect(self, folder: Path, emulator: running.Emulator) -> Connect:
        from trunkline.warehouse.snowflake import open_snowflake

        return lambda: open_snowflake(emulator.profile(self.database), folder)
