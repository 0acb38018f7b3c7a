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
    "OMP_NUM_THREADS": "1",  # two workers share two cores
    "RAY_USAGE_STATS_ENABLED": "0",
    "RUNTIME__DLTHUB_TELEMETRY": "false",
}

# Files whose tests share what is dear to make, and so run on one worker of pytest-xdist, one after the other.
# (Its own mark `xdist_group` has no effect with pytest 9.2: the worker's new node ids do not reach the scheduler.)
TOGETHER = {
    "tests/e2e/test_databases.py",
    "tests/e2e/test_scoring.py",
    "tests/e2e/test_search.py",
    "tests/ray/test_ray.py",
    "tests/unit/project/test_macros.py",
}

# The same examples in every run, and no deadline on a machine that others use as well.
settings.register_profile("trunkline", deadline=None, derandomize=True, database=None)
settings.load_profile("trunkline")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Tests go to workers one by one, but for those of a file in `TOGETHER`."""
    return _Scheduling(config, log)


class _Scheduling(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file in TOGETHER else nodeid


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
