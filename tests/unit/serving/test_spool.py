"""The prediction log: nothing lost, nothing doubled, whoever dies and whatever the disk does."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trunkline.errors import EngineError
from trunkline.serving.spool import Scored, SpoolWriter, backlog, drain


class Ledger:
    """What the lead's loader does: inserts unseen prediction ids only."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.files: list[str] = []

    def load(self, path: Path) -> int:
        self.files.append(path.name)
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        fresh = {r["prediction_id"]: r for r in records if r["prediction_id"] not in self.rows}
        self.rows.update(fresh)
        return len(fresh)


def writer(directory: Path) -> SpoolWriter:
    return SpoolWriter(directory, deployment="delay", model="models:/delay/7", sha256="abc")


def scored(*ids: str, keys: list[str | None] | None = None) -> Scored:
    rows = [{"a": index, "b": "x\ny"} for index in range(len(ids))]
    return Scored(ids, rows, [0.25] * len(ids), keys, at=1_700_000_000.5, latency_us=120)


def eventually(condition: Callable[[], bool], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_record_says_all_about_its_prediction(tmp_path: Path) -> None:
    spool = writer(tmp_path)
    spool.append(scored("p1", "p2", keys=["flight-9", None]))
    spool.close()
    ledger = Ledger()
    assert drain(tmp_path, ledger.load) == 2
    assert ledger.rows["p1"] == {
        "prediction_id": "p1",
        "at": "2023-11-14T22:13:20.500000Z",
        "deployment": "delay",
        "model": "models:/delay/7",
        "sha256": "abc",
        "key": "flight-9",
        "row": {"a": 0, "b": "x\ny"},
        "score": 0.25,
        "latency_us": 120,
    }
    assert ledger.rows["p2"]["key"] is None
    assert drain(tmp_path, ledger.load) == 0
    assert [path.name for path in tmp_path.iterdir()] == [".drain"]


def test_rows_are_on_disk_within_200_ms_and_leave_a_live_writer_every_two_seconds(tmp_path: Path) -> None:
    spool, ledger = writer(tmp_path), Ledger()
    try:
        spool.append(scored("p1"))
        (file,) = tmp_path.glob("*.open")
        assert eventually(lambda: file.stat().st_size > 0, 0.2)
        assert drain(tmp_path, ledger.load) == 0  # the writer lives and holds the file
        assert eventually(lambda: backlog(tmp_path) == 1, 4.0)
        assert drain(tmp_path, ledger.load) == 1
        spool.append(scored("p2"))
    finally:
        spool.close()
    assert drain(tmp_path, ledger.load) == 1


def test_a_drain_that_dies_between_loading_and_deleting_doubles_nothing(tmp_path: Path) -> None:
    spool, ledger = writer(tmp_path), Ledger()
    spool.append(scored("p1", "p2"))
    spool.close()

    def load_and_die(path: Path) -> int:
        ledger.load(path)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drain(tmp_path, load_and_die)
    assert backlog(tmp_path) == 1
    assert drain(tmp_path, ledger.load) == 0
    assert backlog(tmp_path) == 0
    assert set(ledger.rows) == {"p1", "p2"}


_KILLED = """
import os, signal, sys, time
from pathlib import Path
from trunkline.serving.spool import Scored, SpoolWriter
spool = SpoolWriter(Path(sys.argv[1]), deployment="delay", model="m", sha256="s")
spool.append(Scored([f"p{i}" for i in range(300)], [{"a": 1}] * 300, [0.5] * 300, None, time.time(), 1))
while spool.state().pending:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_file_of_a_killed_process_is_drained_without_its_torn_line(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], timeout=30)
    assert killed.returncode == -signal.SIGKILL
    (file,) = tmp_path.glob("*.open")
    with file.open("ab") as torn:
        torn.write(b'{"prediction_id":"torn","at":"20')
    ledger, reports = Ledger(), list[str]()
    assert drain(tmp_path, ledger.load, report=reports.append) == 300
    assert drain(tmp_path, ledger.load, report=reports.append) == 0
    (report,) = reports
    assert "32 bytes" in report
    assert file.name in report


def test_a_file_that_holds_only_a_torn_line_goes_away_with_a_report(tmp_path: Path) -> None:
    (tmp_path / "1-1.open").write_bytes(b'{"torn')
    reports: list[str] = []
    assert drain(tmp_path, Ledger().load, report=reports.append) == 0
    assert len(reports) == 1
    assert [path.name for path in tmp_path.iterdir()] == [".drain"]


def test_an_empty_file_may_be_one_just_made_and_is_left_alone_for_a_while(tmp_path: Path) -> None:
    file = tmp_path / "1-1.open"
    file.touch()
    drain(tmp_path, Ledger().load)
    assert file.exists()
    os.utime(file, (0, 0))
    drain(tmp_path, Ledger().load)
    assert not file.exists()


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No file of this process grows beyond `after` bytes: the write fails with an OSError, in part done."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_no_caller_and_loses_nothing_that_memory_can_hold(tmp_path: Path) -> None:
    spool, ledger = writer(tmp_path), Ledger()
    with full_disk(after=1000):
        for index in range(20):
            spool.append(scored(f"p{index}", f"q{index}"))
            time.sleep(0.01)
        assert eventually(lambda: spool.state().error is not None)
        assert spool.state().pending > 0
        assert spool.state().lost == 0
        (file,) = tmp_path.glob("*.open")
        file_at_full = file.read_bytes()
    assert len(file_at_full) <= 1000
    assert eventually(lambda: spool.state().pending == 0)
    assert spool.state().error is None
    spool.close()
    assert drain(tmp_path, ledger.load) == 40  # every line whole


def test_beyond_what_memory_may_hold_the_loss_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trunkline.serving.spool._HELD_BYTES", 5000)
    spool, ledger = writer(tmp_path), Ledger()
    with full_disk(after=100):
        for index in range(12):
            spool.append(scored(*(f"p{index}-{i}" for i in range(10))))
            assert eventually(lambda: not spool._fresh)
        assert eventually(lambda: spool.state().lost > 0)
    assert eventually(lambda: spool.state().pending == 0)
    lost = spool.state().lost
    spool.close()
    assert drain(tmp_path, ledger.load) == 120 - lost


def test_a_directory_that_someone_deletes_is_made_again(tmp_path: Path) -> None:
    directory, ledger = tmp_path / "spool", Ledger()
    spool = writer(directory)
    spool.append(scored("gone"))
    assert eventually(lambda: spool.state().written == 1)
    shutil.rmtree(directory)
    assert eventually(lambda: spool.state().lost == 1, 4.0)
    spool.append(scored("p2"))
    spool.close()
    assert drain(directory, ledger.load) == 1


def test_a_directory_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineError, match="prediction log"):
        writer(tmp_path / "file" / "spool")


def test_a_directory_that_is_not_there_has_nothing_to_drain(tmp_path: Path) -> None:
    assert drain(tmp_path / "nowhere", Ledger().load) == 0
    assert backlog(tmp_path / "nowhere") == 0


def test_drains_at_once_load_each_file_once(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:03d}.ready").write_text(json.dumps({"prediction_id": f"p{number}"}) + "\n")
    ledger = Ledger()
    threads = [threading.Thread(target=drain, args=(tmp_path, ledger.load)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.files == [f"{number:03d}.ready" for number in range(20)]


def test_threads_append_at_once(tmp_path: Path) -> None:
    spool, ledger = writer(tmp_path), Ledger()

    def append(name: str) -> None:
        for index in range(500):
            spool.append(scored(f"{name}-{index}"))

    threads = [threading.Thread(target=append, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spool.close()
    assert drain(tmp_path, ledger.load) == 2000
