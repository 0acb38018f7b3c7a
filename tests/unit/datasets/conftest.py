"""A DuckDB in memory, one for all tests that only read files with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trunkline.warehouse.duckdb import DuckDB, open_duckdb


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDB]:
    opened = open_duckdb({"path": ":memory:", "extensions": ["icu"]}, tmp_path_factory.mktemp("engine"))
    yield opened
    opened.close()
