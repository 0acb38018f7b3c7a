"""A fresh DuckLake for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.warehouse.duckdb import DuckDB, open_duckdb

SETTINGS = {
    "path": ":memory:",
    "database": "lake",
    "config_options": {"allow_unsigned_extensions": True},  # else each connection hashes the extensions' files anew
    "extensions": ["ducklake", "sqlite_scanner"],
    "attach": [
        {
            "path": "ducklake:sqlite:warehouse/catalog.sqlite",
            "alias": "lake",
            "options": {"data_path": "warehouse/data"},
        }
    ],
}


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DuckDB]:
    monkeypatch.chdir(tmp_path)
    warehouse = open_duckdb(SETTINGS, tmp_path)
    yield warehouse
    warehouse.close()
