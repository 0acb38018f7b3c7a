"""Nothing heavy is loaded before it is needed. Times are ratios to an empty interpreter in the same rounds."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from trunkline.cli.main import COMMANDS

HEAVY = {
    "dbt", "dlt", "duckdb", "fastapi", "granian", "lightgbm", "matplotlib", "mlflow", "numpy", "onnx", "onnxruntime",
    "optuna", "pandas", "polars", "pyarrow", "pydantic", "ray", "requests", "scipy", "sklearn", "snowflake",
    "sqlalchemy", "sqlglot", "torch",
}  # fmt: skip
ROUNDS = 9

COMMAND = str(Path(sys.executable).with_name("trunkline"))
EMPTY = ["-c", "pass"]
PACKAGE = ["-c", "import trunkline"]
HELP = [COMMAND, "--help"]


def cpu_seconds(arguments: Sequence[str]) -> float:
    """CPU time of one interpreter run from start to exit: what a user waits for, less what other processes take."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def loaded(arguments: Sequence[str]) -> set[str]:
    """Top-level names of all modules that a run imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line for line in result.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


# An empty interpreter takes 13 ms where these limits were set: 100 ms beyond it are 8.7 times as much, 200 ms 15 times.
@pytest.mark.parametrize(("arguments", "limit"), [(PACKAGE, 7.0), (HELP, 13.0)], ids=["import", "help"])
def test_start_is_quick(arguments: list[str], limit: float) -> None:
    cpu_seconds(arguments)  # once for the byte code
    rounds = [(cpu_seconds(EMPTY), cpu_seconds(arguments)) for _ in range(ROUNDS)]
    empty, ours = (statistics.median(column) for column in zip(*rounds, strict=True))
    assert ours / empty <= limit, f"{ours * 1000:.0f} ms against {empty * 1000:.0f} ms of an empty interpreter"


@pytest.mark.parametrize(
    "arguments",
    [PACKAGE, HELP, *([COMMAND, name, "--help"] for name in COMMANDS)],
    ids=["import", "help", *COMMANDS],
)
def test_start_loads_nothing_heavy(arguments: list[str]) -> None:
    names = loaded(arguments)
    assert "trunkline" in names
    assert names & HEAVY == set()


def test_a_heavy_import_is_noticed() -> None:
    assert "numpy" in loaded(["-c", "import numpy"])
