"""Snowflake that goes away, refuses, or loses its client: nothing is half loaded, and the same command goes on.

Against the emulator, whose connection is cut and whose answers go wrong on request (tests/emulator/faults.py). What
must come out is what the same files give on DuckLake, table by table.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Project
from tests.emulator.running import Emulator
from tests.faults import killing
from tests.faults.conftest import Scene
from trunkline.warehouse.protocol import Warehouse, open_warehouse

SNOWFLAKE = "trunkline.warehouse.snowflake:Snowflake"


@dataclass(frozen=True)
class Depot:
    """The depot with a second target, `prod`, which is a Snowflake of its own."""

    root: Path
    settings: dict[str, Any]

    @contextmanager
    def warehouse(self) -> Iterator[Warehouse]:
        opened = open_warehouse("snowflake", self.settings, self.root)
        try:
            yield opened
        finally:
            opened.close()

    def ingest(self, *select: str) -> killing.Run:
        return killing.run(self.root, "ingest", *select, "--target", "prod", "--json")

    def rows(self) -> dict[str, int]:
        """Rows of the raw tables, the quarantine and the ledger's loads, as far as they are there."""
        names = ("raw.orders", "raw.events", "raw.prices", "trunkline.quarantine", "trunkline.loads")
        with self.warehouse() as warehouse:
            there = {f"{schema}.{name}" for schema, name in warehouse.relations()}
            return {n: int(warehouse.query(f"select count(*) from {n}")[0][0]) for n in names if n in there}

    def must_equal_dev(self, *sources: str) -> None:
        """Every raw table equal to DuckLake's, value by value; each load once, its rows as the ledger says."""
        select = [part for source in sources for part in ("--select", f"ingest:{source}")]
        Project(self.root).run("diff", "dev", "prod", *select, "--json")
        with self.warehouse() as warehouse:
            counts = "load_id, source, rows_read, rows_loaded, rows_quarantined"
            loads = warehouse.query(f"select {counts} from trunkline.loads order by source")
            assert [source for _, source, *_ in loads] == sorted(sources)
            assert all(read == loaded + refused for _, _, read, loaded, refused in loads)
            for load_id, source, _, loaded, refused in loads:
                table = f"raw.{source.split('.')[1]}"
                assert warehouse.query(f"select _load_id, count(*) from {table} group by 1") == [(load_id, loaded)]
                bad = warehouse.query("select count(*) from trunkline.quarantine where load_id = ?", [load_id])
                assert bad == [(refused,)]


@pytest.fixture
def depot(first_load: Scene, snowflake: dict[str, Any], tmp_path: Path) -> Depot:
    """DuckLake holds what an undisturbed ingest gives; Snowflake is empty."""
    root = tmp_path / "depot"
    shutil.copytree(first_load.done, root)
    file = root / "profiles.yml"
    profiles = yaml.safe_load(file.read_text())
    (profile,) = (value for key, value in profiles.items() if key != "config")
    profile["outputs"]["prod"] = {**snowflake, "network_timeout": 5}
    file.write_text(yaml.safe_dump(profiles))
    return Depot(root, snowflake)


@pytest.mark.timeout(600)
def test_killed_at_every_turn(depot: Depot, record_property: Callable[[str, Any], None]) -> None:
    """Each kill takes the load a little further; the last run finds nothing in the way and nothing half done."""
    places = [
        (f"{SNOWFLAKE}._put", "after", "True"),
        (f"{SNOWFLAKE}.query", "after", "args[1].startswith('copy into')"),
        (f"{SNOWFLAKE}.execute", "after", "args[1].startswith('insert into') and 'RAW' in args[1]"),
        (f"{SNOWFLAKE}.execute", "after", "args[1] == 'commit'"),
        (f"{SNOWFLAKE}.execute", "after", "'QUARANTINE' in args[1] and args[1].startswith('insert')"),
    ]
    for call, when, given in places:
        ended = killing.run_until(depot.root, "ingest", "--target", "prod", call=call, when=when, given=given)
        assert ended.killed, f"{call} where {given}\n{ended.out}\n{ended.err}"
    record_property("kills", len(places))
    killing.must_end_well(depot.ingest())
    depot.must_equal_dev("depot.orders", "depot.events", "depot.prices")


def test_cut_connections_are_taken_up_again(depot: Depot, emulator: Emulator) -> None:
    """The answer that did not come is asked for again, under the same request: nothing runs twice."""
    rules: list[dict[str, Any]] = [
        {"match": "^/fs_bucket/|^put ", "drop": True},
        {"match": "^copy into", "drop": True},
        {"match": "^select count.*TEMPORARY", "drop": True, "when": "after"},
        {"match": "^insert into .*RAW", "drop": True, "when": "after"},
        {"match": "^insert into .*QUARANTINE", "status": 503},
        {"match": "^commit", "drop": True, "when": "after"},
    ]
    emulator.fail([{**rule, "times": 1} for rule in rules])
    killing.must_end_well(depot.ingest("depot.events"))
    assert not [rule for rule in emulator.left() if rule["times"]], "a fault that did not happen"
    depot.must_equal_dev("depot.events")


def test_an_outage_ends_in_one_message_and_leaves_nothing(depot: Depot, emulator: Emulator) -> None:
    emulator.fail([{"match": "^copy into", "drop": True, "times": 10_000}])
    error = killing.error_of(depot.ingest("depot.events"))
    assert "250003" in error["message"], error
    assert "reachable" in error["hint"], error
    assert sum(depot.rows().values()) == 0
    emulator.heal()
    killing.must_end_well(depot.ingest("depot.events"))
    depot.must_equal_dev("depot.events")


REFUSALS = {
    "role": (
        "login-request",
        "390189",
        "Role 'TRANSFORMER' specified in the connect string does not exist or not authorized.",
        "grant role TRANSFORMER to user TRUNKLINE",
    ),
    "password": ("login-request", "390100", "Incorrect username or password was specified.", "profiles.yml"),
    "token": (
        "^copy into",
        "390114",
        "Authentication token has expired.  The user must authenticate again.",
        "log in again",
    ),
    "grant": (
        "^create table",
        "003001",
        "SQL access control error:\nInsufficient privileges to operate on schema 'RAW'",
        "on schema RAW to role TRANSFORMER",
    ),
    "suspended": (
        "^copy into",
        "000606",
        "No active warehouse selected in the current session.  Select an active warehouse.",
        "alter warehouse SMALL resume",
    ),
    "quota": (
        "^insert into .*RAW",
        "090073",
        "Warehouse 'SMALL' cannot be resumed because resource monitor 'M' has exceeded its quota.",
        "resource monitor",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_says_what_to_run(name: str, depot: Depot, emulator: Emulator) -> None:
    match, code, message, mends = REFUSALS[name]
    emulator.fail([{"match": match, "times": 10_000, "error": {"code": code, "sqlState": "42501", "message": message}}])
    ended = killing.run(depot.root, "ingest", "depot.events", "--target", "prod")
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err
    told = " ".join((ended.out + ended.err).split())
    assert " ".join(message.split())[:40] in told, told
    assert mends in told, told
    emulator.heal()
    assert sum(depot.rows().values()) == 0
