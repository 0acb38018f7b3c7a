"""A lock file has one holder, whoever asks for it and by whatever means."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from trunkline.project.lock import locked, locked_now

HOLDER = """
import sys, time
from pathlib import Path
from trunkline.project.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_it_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError), locked(file, 0.1):
            pass
        holder.send_signal(signal.SIGKILL)
        with locked(file, 10):
            pass


def test_it_and_filelock_keep_each_other_out(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file), pytest.raises(Timeout):
        FileLock(file).acquire(timeout=0.1)
    with FileLock(file), pytest.raises(TimeoutError), locked(file, 0.1):
        pass
    with locked(file, 0.1):
        pass


def test_a_child_that_was_forked_does_not_keep_it(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked(file):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    try:
        with locked(file, 0.1):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_without_flock_filelock_does_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    file = tmp_path / "lock"
    monkeypatch.setattr("fcntl.flock", none)
    with pytest.warns(UserWarning, match="flock not supported"), locked(file, 1):
        assert file.exists()
    assert not file.exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), locked(tmp_path / "nowhere" / "lock", 1):
        pass


def test_who_comes_second_is_told_and_what_times_out_within_is_no_such_thing(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    with locked_now(file) as first, locked_now(file) as second:
        assert (first, second) == (True, False)
    with pytest.raises(TimeoutError, match="a server"), locked_now(file):
        raise TimeoutError("a server")
    with locked_now(file) as after:
        assert after
