"""Kill `ingest` and `run` anywhere, run again, and find the tables of an undisturbed run.

The moments of the first two tests are drawn as `killing` tells, from a fixed seed that every failure shows. The other
tests kill exactly where one thing has been written and the next has not.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults import killing, state
from tests.faults.conftest import Scene

SEED = 20130831
INGEST_KILLS = 3  # for each of the two scenes
RUN_KILLS = 3
_DRAWS = 12  # a command that ends before its moment was not killed; at most so many draws for one kill


def _kill(scene: Scene, root: Path, rng: random.Random, done: float = 0.0) -> killing.Moment | None:
    """Kill the scene's command once; the moment, or None if the command succeeded before it."""
    moment = killing.draw(rng, scene.undisturbed, done)
    ended = killing.run(root, scene.command, kill=moment)
    if ended.killed:
        return moment
    killing.must_end_well(ended)
    return None


def _as_undisturbed(scene: Scene, root: Path, told: str) -> set[str]:
    """Run again: the tables must be those of the undisturbed run. What the kills have left behind."""
    done = killing.run(root, scene.command)
    assert done.code == 0, f"{told}: exit code {done.code}\n{done.out}\n{done.err}"
    try:
        assert state.tables(root) == scene.tables
    except AssertionError as exc:
        raise AssertionError(f"{told}: {exc}") from exc
    return state.left_over(root, scene.done)


@pytest.mark.parametrize("which", ["first_load", "next_load"])
def test_a_killed_ingest_runs_again(
    which: str, request: pytest.FixtureRequest, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    scene: Scene = request.getfixturevalue(which)
    left: set[str] = set()
    kills = draws = 0
    while kills < INGEST_KILLS:
        draws += 1
        assert draws <= _DRAWS * INGEST_KILLS, "the command keeps ending before its moment"
        rng = random.Random(f"{SEED} {which} {draws}")
        root = scene.copy(tmp_path / str(draws))
        moments = [_kill(scene, root, rng)]
        if moments[0] and rng.random() < 0.4:  # and the one that goes on from there
            moments.append(_kill(scene, root, rng))
        if moments[0]:
            left |= _as_undisturbed(scene, root, f"{which}, draw {draws} of seed {SEED}, killed at {moments}")
        kills += sum(moment is not None for moment in moments)
    record_property("kills", kills)
    assert not left


@pytest.mark.timeout(600)
def test_a_killed_run_goes_on(whole_line: Scene, tmp_path: Path, record_property: Callable[[str, Any], None]) -> None:
    """Killed several times in a row, each time somewhere in what is left to do."""
    left: set[str] = set()
    kills = draws = 0
    while kills < RUN_KILLS:
        draws += 1
        assert draws <= _DRAWS, "the command keeps ending before its moment"
        root = whole_line.copy(tmp_path / str(draws))
        rng = random.Random(f"{SEED} run {draws}")
        moments: list[killing.Moment] = []
        while kills < RUN_KILLS and (moment := _kill(whole_line, root, rng, done=len(moments) / (RUN_KILLS + 1))):
            moments.append(moment)
            kills += 1
        if moments:
            left |= _as_undisturbed(whole_line, root, f"run, draw {draws} of seed {SEED}, killed at {moments}")
            _one_of_each(whole_line, root)
    record_property("kills", kills)
    assert not left


def _one_of_each(scene: Scene, root: Path) -> None:
    """One dataset, one version of one bundle: those of the undisturbed run, and whole."""
    from trunkline.models.bundle import Bundle

    ((version, sha256),) = state.registered(scene.done, "returns")
    assert state.registered(root, "returns") == [(version, sha256)]
    (bundle,) = (root / ".trunkline" / "bundles").iterdir()
    Bundle.open(bundle, expect_sha256=sha256)
    assert state.query(root, "select count(distinct dataset_id) from lake.trunkline.datasets") == [(1,)]


LEDGER = "trunkline.ledger.ledger:Ledger"


@pytest.mark.parametrize(
    ("call", "given"),
    [
        (f"{LEDGER}.add", "args[1] == 'loads'"),  # archives unpacked, rows and quarantine written, no commit
        (f"{LEDGER}.add", "args[1] == 'step_runs'"),  # the load committed, the step not recorded
        ("trunkline.project.files:write_atomic", "True"),
    ],
    ids=["load", "record", "cache"],
)
def test_an_ingest_killed_between_two_writes(
    call: str, given: str, next_load: Scene, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    root = next_load.copy(tmp_path / "depot")
    assert killing.run_until(root, "ingest", call=call, given=given).killed
    record_property("kills", 1)
    assert not _as_undisturbed(next_load, root, f"killed before {call} where {given}")


def test_a_run_killed_between_two_writes(
    whole_line: Scene, tmp_path: Path, record_property: Callable[[str, Any], None]
) -> None:
    """Each step in turn is killed when what it makes is there and the ledger does not say so yet."""
    root = whole_line.copy(tmp_path / "shop")
    places = [
        (f"{LEDGER}.finish_steps", "before", "args[2][0].kind == 'build'"),
        ("pathlib:Path.rename", "before", "'datasets' in args[0].parts"),  # its sealed part is in the vault already
        (f"{LEDGER}.finish_steps", "before", "args[2][0].kind == 'dataset'"),
        ("trunkline.registry.mlflow:MlflowRegistry.log_run", "after", "True"),
        ("trunkline.registry.mlflow:MlflowRegistry.register", "after", "True"),
        (f"{LEDGER}.finish_steps", "before", "args[2][0].kind == 'train'"),
    ]
    for call, when, given in places:
        ended = killing.run_until(root, "run", call=call, when=when, given=given)
        assert ended.killed, f"{call} where {given}\n{ended.out}\n{ended.err}"
    record_property("kills", len(places))
    left = _as_undisturbed(whole_line, root, "killed between all writes")
    _one_of_each(whole_line, root)
    assert not left
