"""Training and search on a real Ray, and the deaths of everything that takes part in it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.ray.processes import kill, named, session_of, wait_for
from tests.ray.project import fit_place, subject
from trunkline.errors import TrainingError, TransientError
from trunkline.training.apart import Apart, Study
from trunkline.training.placement import Placement
from trunkline.training.records import Trained, TrialRecord

pytestmark = pytest.mark.timeout(900)

_DRIVER, _WORKER, _ACTOR = "-m trunkline.project.child", "RayTrainWorker", "ray::ImplicitFunc"


def _train(project: Path, model: str, placement: Placement, key: str) -> Trained:
    apart = Apart(subject(project, model), seed=1, threads=1, placement=placement)
    return apart.train({}, None, fit_place(project, key), lambda step, value: None)


@contextmanager
def _beside(work: Callable[[], object]) -> Iterator[list[object]]:
    """Run `work` in a thread; what it gives or raises is in the list after the end."""
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(work())
        except BaseException as exc:  # noqa: BLE001  looked at by the test
            ended.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    yield ended
    thread.join()


def _checkpoints(project: Path, key: str) -> set[str]:
    return {path.name for path in (project / ".trunkline" / "ray" / key).glob("checkpoint_*")}


def _drivers() -> list[int]:
    """Child processes that run a job: not the one that holds the Ray, which has a session of its own."""
    return [pid for pid in named(_DRIVER) if os.getsid(pid) != pid]


def test_two_workers_go_on_after_the_death_of_one_and_of_the_driver(project: Path, head: Placement) -> None:
    placement = replace(head, workers=2)
    undisturbed = _train(project, "net", placement, "undisturbed")
    assert undisturbed.bundle.metadata["workers"] == 2
    with _beside(lambda: _train(project, "net", placement, "disturbed")) as ended:
        wait_for("a checkpoint", lambda: bool(_checkpoints(project, "disturbed")))
        before, workers = _checkpoints(project, "disturbed"), named(_WORKER)
        assert len(workers) == 2
        kill(workers[1])
        wait_for("a later checkpoint", lambda: bool(_checkpoints(project, "disturbed") - before) or bool(ended))
        assert not ended, ended
        (driver,) = _drivers()
        kill(driver)
    assert isinstance(ended[0], TrainingError)
    resumed = _train(project, "net", placement, "disturbed")
    assert resumed.bundle.sha256 == undisturbed.bundle.sha256
    assert resumed.history == undisturbed.history
    assert [step for step, _ in resumed.history] == list(range(1, 81))


def test_trees_go_on_after_the_death_of_a_worker(project: Path, head: Placement) -> None:
    with _beside(lambda: _train(project, "trees", replace(head, workers=2), "felled")) as ended:
        wait_for("a checkpoint", lambda: bool(_checkpoints(project, "felled")) or bool(ended))
        assert not ended, ended
        kill(named(_WORKER)[1])
    (trained,) = ended
    assert isinstance(trained, Trained), trained
    assert [step for step, _ in trained.history] == list(range(25, 2401, 25))


def test_what_trying_again_may_mend_is_left_to_ray() -> None:
    from trunkline.training.on_ray import ray

    board = _Lines()
    with pytest.raises(TransientError), ray._told_to(board):
        raise TransientError("a peer is gone")
    assert not board.lines
    with pytest.raises(TrainingError), ray._told_to(board):
        raise TrainingError("the data is at fault")
    told: list[tuple[int, float]] = []
    with pytest.raises(TrainingError, match="the data is at fault"):
        ray._pass_on(board, 0, lambda step, value: told.append((step, value)))
    attempts = [[(1, 0.1), (2, 0.2), (3, 0.3)], [(2, 0.2)], [(2, 0.2), (3, 0.3), (4, 0.4)]]  # from a checkpoint at 1
    last = 0
    for history in attempts:
        last = ray._pass_on(_Lines(history=history), last, lambda step, value: told.append((step, value)))
    assert told == [(1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4)]


class _Lines:
    """A board without a Ray."""

    def __init__(self, **lines: object) -> None:
        self.lines = lines
        self.put, self.get = lines.__setitem__, lines.get


def test_a_search_waits_for_the_trials_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from trunkline.training.on_ray import tune

    monkeypatch.setattr(tune, "_LOOK_SECONDS", 0.0)
    study = SimpleNamespace(ask=lambda build: None, beat=lambda: beats.append(1), complete=lambda: len(beats) > 2)
    beats: list[int] = []
    searcher = tune._Asking(study, lambda trial: None, float("inf"), lambda record: None)
    assert [searcher.suggest(str(number)) for number in range(3)] == [None, None, "FINISHED"]
    over = tune._Asking(study, lambda trial: None, 0.0, lambda record: None)
    beats.clear()
    assert over.suggest("0") == "FINISHED"  # the time is over


def test_a_search_loses_no_finished_trial(project: Path, head: Placement) -> None:
    heard: list[TrialRecord] = []
    study = Study("few", project / ".trunkline" / "studies" / "few.journal", 6)
    tuning = Apart(subject(project, "few"), seed=1, threads=1, placement=head)

    def hear(told: object) -> None:
        if isinstance(told, TrialRecord):
            heard.append(told)

    with _beside(lambda: tuning.search(study, hear)) as ended:
        wait_for("two actors", lambda: len(named(_ACTOR)) >= 2 or bool(ended))
        kill(named(_ACTOR)[0])
        wait_for("two trials", lambda: len(heard) >= 2 or bool(ended))
        assert not ended, ended
        (driver,) = _drivers()
        kill(driver)
    assert isinstance(ended[0], TrainingError)
    finished = list(heard)
    on_ray = tuning.search(study, hear)
    known = {trial.number: trial for trial in on_ray.trials}
    assert [known[trial.number] for trial in finished] == finished
    assert len(on_ray.trials) == 6
    assert not [trial.error for trial in on_ray.trials if trial.error]
    left = {path.name for path in (project / ".trunkline" / "ray").glob("tune-*")}
    assert len(left) == 1, left  # of the driver that was killed
    inline = replace(tuning, placement=Placement()).search(replace(study, trials=7), hear)
    assert inline.trials[:6] == on_ray.trials
    assert len(inline.trials) == 7


def test_three_nodes_go_on_where_a_ray_that_died_was(
    project: Path, head: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    inline = _train(project, "trees", Placement(), "inline")
    away = replace(head, shared=False, storage=str(project / ".trunkline" / "ray"))
    (holder,) = [pid for pid in named(_DRIVER) if os.getsid(pid) == pid]
    with _beside(lambda: _train(project, "trees", away, "moved")) as ended:
        wait_for("a checkpoint", lambda: bool(_checkpoints(project, "moved")) or bool(ended))
        assert not ended, ended
        kill(holder)
    assert isinstance(ended[0], TransientError)
    wait_for("its processes to end", lambda: not session_of(holder))
    with _three_nodes(monkeypatch) as address:
        cluster = replace(away, address=address, token="")
        moved = _train(project, "trees", cluster, "moved")
        assert moved.bundle.sha256 == inline.bundle.sha256
        assert moved.history == inline.history
        shared = _train(project, "quick", replace(cluster, workers=2), "quick")
        assert shared.value > 0.7


@contextmanager
def _three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "7e57" * 16)
    with tempfile.TemporaryDirectory(prefix="tl-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable, str(Path(__file__).with_name("three_nodes.py")), folder]
        pipe, said = subprocess.PIPE, Path(folder, "said")
        with said.open("w") as err, subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=err, text=True) as nodes:
            assert nodes.stdout is not None
            address = nodes.stdout.readline().strip()
            assert address, said.read_text()
            yield address
            nodes.communicate(timeout=60)
