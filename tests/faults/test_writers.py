"""Several processes at one warehouse: writers take turns, readers see the old or the new and wait for nobody."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults import killing, state
from tests.faults.conftest import Scene

LOADED = """
    select (select coalesce(sum(rows_loaded), 0) from lake.trunkline.loads where source = 'depot.orders')
        = (select count(*) from lake.raw.orders),
        (select coalesce(sum(rows_quarantined), 0) from lake.trunkline.loads)
        = (select count(*) from lake.trunkline.quarantine),
        (select count(*) from lake.raw.orders where cast(_extra as varchar) like '%$reject%'),
        (select count(*) from lake.raw.orders), (select count(*) from lake.raw.prices)
"""


@pytest.mark.parametrize("which", ["first_load", "next_load"])
def test_two_ingests_at_once_load_every_row_once(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The first load is the harder one: both find no catalog and make it."""
    scene: Scene = request.getfixturevalue(which)
    for attempt in range(2):
        root = scene.copy(tmp_path / str(attempt))
        with started(root, "ingest") as one, started(root, "ingest") as other:
            for process in (one, other):
                out, err = process.communicate(timeout=240)
                assert process.returncode == 0, f"{out}\n{err}"
        assert state.tables(root) == scene.tables
        assert not state.left_over(root, scene.done)


def test_an_ingest_waits_for_its_turn(next_load: Scene, tmp_path: Path) -> None:
    root = next_load.copy(tmp_path / "depot")
    before = state.tables(root)
    turn = FileLock(root / "warehouse" / "catalog.sqlite.lock")
    with turn, started(root, "ingest") as waiting:
        time.sleep(2 * next_load.undisturbed.seconds + 1)
        assert waiting.poll() is None, waiting.communicate()
        assert state.tables(root) == before
        plan = killing.must_end_well(killing.run(root, "plan", "ingest", "--json"))  # who only reads does not wait
        assert {step["reason"] for step in json.loads(plan.out)["steps"]} == {"configuration changed"}
        turn.release()
        out, err = waiting.communicate(timeout=240)
        assert waiting.returncode == 0, f"{out}\n{err}"
    assert state.tables(root) == next_load.tables


def test_a_reader_sees_the_old_or_the_new(next_load: Scene, tmp_path: Path) -> None:
    """Each look counts tables and ledger in one statement, through a new connection or one that stays open."""
    root = next_load.copy(tmp_path / "depot")
    old = state.query(root, LOADED)[0]
    seen = [old]
    with closing(state.connect(root)) as staying, started(root, "ingest") as loading:
        while loading.poll() is None:
            seen.append(staying.execute(LOADED).fetchall()[0])
            seen.append(state.query(root, LOADED)[0])
        out, err = loading.communicate()
        assert loading.returncode == 0, f"{out}\n{err}"
    seen.append(state.query(root, LOADED)[0])
    assert len(seen) > 6, "the reader was too slow to see anything"
    assert {look[:3] for look in seen} == {(True, True, 0)}
    assert [look[3:] for look in seen] == sorted(look[3:] for look in seen)
    assert {look[3] for look in seen} == {120_000, 180_000}
    assert {look[4] for look in seen} == {19_980, 24_975}
    assert state.tables(root) == next_load.tables


def test_a_reader_who_stays_holds_up_no_load(next_load: Scene, tmp_path: Path) -> None:
    """A notebook with an open transaction, or one long query: it keeps what it saw, and the load goes on beside it."""
    root = next_load.copy(tmp_path / "depot")
    rows = "select count(*) from lake.raw.orders"
    with closing(state.connect(root)) as staying:
        staying.execute("begin transaction")
        assert staying.execute(rows).fetchall() == [(120_000,)]
        killing.must_end_well(killing.run(root, "ingest"))
        assert staying.execute(rows).fetchall() == [(120_000,)]
        staying.execute("commit")
        assert staying.execute(rows).fetchall() == [(180_000,)]
    assert state.tables(root) == next_load.tables


def test_the_first_ingest_waits_before_it_makes_the_catalog(first_load: Scene, tmp_path: Path) -> None:
    root = first_load.copy(tmp_path / "depot")
    catalog = root / "warehouse" / "catalog.sqlite"
    catalog.parent.mkdir()
    with FileLock(f"{catalog}.lock") as turn, started(root, "ingest") as waiting:
        time.sleep(first_load.undisturbed.seconds + 1)
        assert not catalog.exists()
        turn.release()
        out, err = waiting.communicate(timeout=240)
        assert waiting.returncode == 0, f"{out}\n{err}"
    assert state.tables(root) == first_load.tables


@contextmanager
def started(root: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A command at work in the project; ended with the block if it has not ended by itself."""
    command = [sys.executable, "-m", "trunkline", *arguments]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()
