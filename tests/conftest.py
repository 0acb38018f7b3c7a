"""Tests depend on nothing of the machine they run on: not its home folder, git identity, network or idle cores."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.emulator import running

# Set on import, before any test module loads a library that reads them once; child processes inherit them.
os.environ |= {
    "ANONYMIZED_TELEMETRY": "false",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",  # the workers share two cores
    "RAY_USAGE_STATS_ENABLED": "0",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}

# What Python has compiled is kept: a test starts hundreds of processes that import the same.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Tests of one file run on one worker of pytest-xdist, one after the other: what they share is made once. So do those of
# the files in one line here, which share a project that was run, or a server. The longest come first, so that no worker
# waits for another in the end.
# (The mark `xdist_group` has no effect with pytest 9.2: the worker's new node ids do not reach the scheduler.)
TOGETHER = (
    (
        "tests/e2e/test_shop.py",
        "tests/e2e/test_search.py",
        "tests/e2e/test_scoring.py",
        "tests/e2e/test_experiments.py",
        "tests/e2e/test_registry.py",
        "tests/e2e/test_datasets.py",
        "tests/e2e/test_vault.py",
        "tests/e2e/test_github.py",
    ),
    (
        "tests/faults/test_kill.py",
        "tests/faults/test_damage.py",
        "tests/faults/test_writers.py",
        "tests/faults/test_disk_full.py",
        "tests/faults/test_snowflake.py",
    ),
    ("tests/e2e/test_story.py",),
    ("tests/ray/test_ray.py",),
    ("tests/e2e/test_databases.py",),
    ("tests/e2e/test_flights.py",),
)

# Long files whose tests share nothing but a server: class by class, and test by test.
BY_CLASS = (
    "tests/contract/test_estimators.py",
    "tests/contract/test_loads.py",
    "tests/contract/test_sources.py",
    "tests/contract/test_warehouses.py",
)
BY_TEST = ("tests/faults/test_sources.py",)

# The same examples in every run, and no deadline on a machine that others use as well.
settings.register_profile("trunkline", deadline=None, derandomize=True, database=None)
settings.load_profile("trunkline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those of `TOGETHER` first, in its order, then the others as they are."""
    places = {file: place for place, files in enumerate(TOGETHER) for file in files}
    items.sort(key=lambda item: places.get(_file(item.nodeid), len(TOGETHER)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Tests go to workers in the order of the items, those of one scope to one worker."""
    config.option.loadscopereorder = False
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        for files in TOGETHER:
            if file in files:
                return files[0]
        if file in BY_TEST:
            return nodeid
        return nodeid.partition("[")[0].rpartition("::")[0] if file in BY_CLASS else file


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty home folder and an identity for git, for this process and its children."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        for role in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{role}_NAME", "Test")
            patch.setenv(f"GIT_{role}_EMAIL", "test@example.invalid")
        for name in ("DBT_PROFILES_DIR", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        yield home


@pytest.fixture(scope="session")
def emulator() -> Iterator[running.Emulator]:
    """A Snowflake emulator, one for each worker; tests that share it use databases of their own."""
    with running.start() as started:
        yield started


@pytest.fixture
def snowflake(emulator: running.Emulator) -> Iterator[dict[str, Any]]:
    """A Snowflake target as profiles.yml has it, with an empty database; nothing goes wrong any more afterwards."""
    yield emulator.profile(f"TEST_{uuid.uuid4().hex[:12].upper()}")
    emulator.heal()
