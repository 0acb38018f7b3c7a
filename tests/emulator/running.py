"""Start the emulator of `server.py` from a test, in the environment that `make` builds for it.

with start() as emulator:
    profile = emulator.profile(database="T1")     # an output of dbt's profiles.yml
    emulator.fail([{"match": "copy into", "drop": True}])
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SERVER = Path(__file__).with_name("server.py")


@dataclass(frozen=True)
class Emulator:
    """A running emulator and how to reach it."""

    port: int

    @property
    def settings(self) -> dict[str, Any]:
        """A target as dbt-snowflake reads it from profiles.yml. Tests that meet in one emulator use `profile`."""
        return {
            "type": "snowflake",
            "account": "emulator",
            "user": "trunkline",
            "password": "any",
            "host": "127.0.0.1",
            "port": self.port,
            "protocol": "http",
            "database": "TESTS",
            "schema": "analytics",  # not `main`: DuckDB has a schema of that name in each database, in lower case
            "role": "TRANSFORMER",
            "warehouse": "SMALL",
            "threads": 1,
            "connect_retries": 0,
            "connect_timeout": 30,
        }

    def profile(self, database: str, **changes: Any) -> dict[str, Any]:
        """The settings with a database of one's own, which exists from the first login on."""
        return {**self.settings, "database": database, **changes}

    def log(self) -> list[dict[str, Any]]:
        """Every statement so far: session, application, tag, sql, describe."""
        statements: list[dict[str, Any]] = self._request("GET", "/__log__")["statements"]
        return statements

    def fail(self, rules: list[dict[str, Any]]) -> None:
        """Make requests go wrong from now on; the rules are those of `faults.py`."""
        self._request("POST", "/__faults__", rules)

    def left(self) -> list[dict[str, Any]]:
        """Every rule, and how often it is still to happen."""
        rules: list[dict[str, Any]] = self._request("GET", "/__faults__")["left"]
        return rules

    def heal(self) -> None:
        """Forget every rule."""
        self._request("DELETE", "/__faults__")

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def account(schema: str) -> dict[str, Any] | None:
    """A real account as a target of profiles.yml, if the environment names one; `schema` is one to make and drop."""
    names = ("account", "user", "password", "private_key_path", "role", "warehouse", "database")
    given = {name: os.environ.get(f"TRUNKLINE_SNOWFLAKE_{name.upper()}") for name in names}
    if not given["account"]:
        return None
    return {
        "type": "snowflake",
        **{name: value for name, value in given.items() if value},
        "schema": schema,
        "threads": 4,
    }


NO_ACCOUNT = (
    "no Snowflake account: set TRUNKLINE_SNOWFLAKE_ACCOUNT, _USER, _PASSWORD or _PRIVATE_KEY_PATH, _ROLE, _WAREHOUSE "
    "and _DATABASE to run this there"
)


def connect(target: dict[str, Any]) -> Any:
    """A connection of the official connector to a target of profiles.yml, as one of Trunkline's sessions."""
    import snowflake.connector

    same = ("account", "user", "password", "role", "warehouse", "database", "schema", "host", "port", "protocol")
    settings = {name: target[name] for name in same if name in target}
    if "private_key_path" in target:
        settings["private_key_file"] = target["private_key_path"]
    return snowflake.connector.connect(**settings, application="Trunkline", network_timeout=120)


def python_of_emulator() -> Path:
    """The Python that has fakesnow: `make` builds its environment."""
    asked = os.environ.get("TRUNKLINE_TEST_EMULATOR_PYTHON")
    return Path(asked) if asked else ROOT / ".venv-emulator" / "bin" / "python"


@contextmanager
def start(python: Path | None = None, db_path: Path | None = None) -> Iterator[Emulator]:
    """A new emulator on a free port, stopped at the end; `db_path` is a folder that keeps its databases."""
    command = [str(python or python_of_emulator()), str(SERVER), "--port", "0"]
    command += ["--db-path", str(db_path)] if db_path else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            assert ready, "the emulator did not start; `make .venv-emulator/.stamp` builds its environment"
            yield Emulator(json.loads(ready)["port"])
        finally:
            process.stdin.close()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
