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
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as nodes:
            assert nodes.stdout is not None
            yield nodes.stdout.readline().strip()
            nodes.communicate(timeout=60)
