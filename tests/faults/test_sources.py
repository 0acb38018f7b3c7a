"""`ingest` from every kind of source, killed at drawn statements and moments until it is done: every row is there once.

The statements are those that the warehouse is given, each counted in an undisturbed load: three kills in four come
before or after a drawn one, the fourth at a drawn moment. A killed load is run again and killed again, up to
`CHAIN` times; then it is left in peace, and what it leaves is compared with what the undisturbed load left. Every
failure shows seed and draws.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api import Api
from tests.contract import servers
from tests.faults import ingesting, scenes
from tests.faults.ingesting import Source
from tests.faults.killing import must_end_well

SEED = 20131124
CHAIN = 11


@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", scenes.SOURCES, ids=lambda source: source.name.replace(" ", "-"))
def test_killed_until_it_is_done(source: Source, tmp_path: Path, record_property: Callable[[str, Any], None]) -> None:
    record_property("kills", _killed(source, tmp_path))


@pytest.mark.timeout(900)
def test_a_database_server_is_read_on(
    postgres: servers.Postgres, fresh: str, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    record_property("kills", _killed(scenes.postgres(postgres, postgres.database(fresh)), tmp_path))


@pytest.mark.timeout(900)
def test_an_api_is_read_on(api: Api, tmp_path: Path, record_property: Callable[[str, Any], None]) -> None:
    record_property("kills", _killed(scenes.rest(api), tmp_path))


@pytest.mark.timeout(900)
def test_a_connector_of_fivetrans_sdk_is_run_on(tmp_path: Path, record_property: Callable[[str, Any], None]) -> None:
    record_property("kills", _killed(scenes.fivetran(), tmp_path))


def _killed(source: Source, place: Path) -> int:
    """Kill its load, again and again; how many times."""
    ready = ingesting.ready(source, place)
    rng = random.Random(f"{SEED} {source.name}")
    kills = rounds = 0
    while kills < source.kills:
        rounds += 1
        root = ready.copy(place / str(rounds))
        chain = 0
        while chain < CHAIN and ready.attempt(root, rng).killed:
            chain += 1
        kills += chain
        must_end_well(ingesting.ingest(root, source))
        ready.must_be_whole(root, f"{source.name}, round {rounds} of seed {SEED}, killed {chain} times")
    return kills


@pytest.mark.parametrize("how", ["term", "interrupt"])
@pytest.mark.parametrize("name", ["sql appended", "python merged"])
def test_ended_by_a_signal_it_goes_on(name: str, how: str, tmp_path: Path) -> None:
    """SIGTERM and Ctrl-C, each at three statements of one load after the other."""
    ready = ingesting.ready(scenes.named(name), tmp_path)
    root = ready.copy(tmp_path / "project")
    for part in (0.2, 0.5, 0.9):
        ended = ingesting.ingest(root, ready.source, at=int(ready.statements * part), when=how)
        assert ended.code != 0 or part > 0.2, "it was not even told"
    must_end_well(ingesting.ingest(root, ready.source))
    ready.must_be_whole(root, f"{name} after three times {how}")


@pytest.mark.parametrize("name", ["python appended", "sql merged"])
def test_two_checkouts_load_into_one_lake_at_once(name: str, tmp_path: Path) -> None:
    """Neither waits for the other's checkout: who comes second at a commit looks again, and no row is there twice."""
    ready = ingesting.ready(scenes.named(name), tmp_path)
    one, other = ready.copy(tmp_path / "one"), ready.copy(tmp_path / "other")
    shutil.rmtree(other / "warehouse", ignore_errors=True)
    for profile in (one / "profiles.yml", other / "profiles.yml"):
        place = profile.read_text().replace("warehouse/", f"{one}/warehouse/")  # whoever comes first makes the lake
        profile.write_text(place.replace("{data_path", "{override_data_path: true, data_path"))
    with (
        ingesting.started(one, ready.source, "0", "before") as (first, _, first_said),
        ingesting.started(other, ready.source, "0", "before") as (second, _, second_said),
    ):
        codes = [first.wait(240), second.wait(240)]
        assert codes == [0, 0], ingesting.text_of(first_said) + ingesting.text_of(second_said)
    ready.must_be_whole(one, f"{name} from two checkouts at once")


def test_a_connection_that_is_cut_is_made_again(postgres: servers.Postgres, fresh: str, tmp_path: Path) -> None:
    """The server ends the connection while it sends rows, several times: the load looks again, and ends well."""
    database = postgres.database(fresh)
    ready = ingesting.ready(scenes.postgres(postgres, database, slow=True), tmp_path)
    root = ready.copy(tmp_path / "project")
    cut = 0
    reading = f"datname = '{database}' and usename = '{postgres.user}' and state = 'active' and query like '%kept%'"
    reading = reading.replace("kept", '"t"')

    def cut_it() -> None:
        nonlocal cut
        if cut < 3:
            cut += int(postgres.sql(f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {reading}"))

    ended = ingesting.ingest(root, ready.source, meanwhile=cut_it)
    assert cut > 0
    assert ended.code == 0 or "Transient" in ended.err, ended.err
    must_end_well(ingesting.ingest(root, ready.source))
    ready.must_be_whole(root, f"the connection was cut {cut} times")
