"""A full disk during `ingest`: one clear error, nothing half in the tables, and success once there is room again.

Two kinds of full. A small file system of its own, filled but for a rest, where this user may mount one (ENOSPC, as in
life). And a limit on the size of files (RLIMIT_FSIZE, EFBIG), which any user can set and which hits one file after
the other as it grows.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import ingesting, killing, scenes, state
from tests.faults.conftest import Scene

_MIB = 1 << 20


@pytest.mark.parametrize("rest", [0, 16 << 10, 256 << 10, _MIB], ids=lambda rest: f"{rest >> 10}k")
def test_a_full_file_system(rest: int, next_load: Scene, small_disk: Path) -> None:
    root = next_load.copy(small_disk / "depot")
    ballast = small_disk / "ballast"
    _fill(ballast, shutil.disk_usage(small_disk).free - rest)
    shown = _one_error(killing.run(root, "ingest"))
    assert "space" in shown or "full" in shown, shown
    assert "another process" not in shown, shown
    ballast.unlink()
    _nothing_half(root, next_load)
    killing.must_end_well(killing.run(root, "ingest"))
    assert state.tables(root) == next_load.tables
    assert not state.left_over(root, next_load.done)


@pytest.mark.parametrize("largest", [0, 4 << 10, 192 << 10, 400 << 10], ids=lambda size: f"{size >> 10}k")
def test_a_file_that_cannot_grow(largest: int, next_load: Scene, tmp_path: Path) -> None:
    root = next_load.copy(tmp_path / "depot")
    _one_error(_limited(root, largest))
    _nothing_half(root, next_load)
    killing.must_end_well(killing.run(root, "ingest"))
    assert state.tables(root) == next_load.tables
    assert not state.left_over(root, next_load.done)


@pytest.mark.parametrize("rest", [0, 48 << 10], ids=lambda rest: f"{rest >> 10}k")
@pytest.mark.parametrize("source", ["files merged", "python merged"])
def test_a_full_file_system_at_a_merge_and_under_a_stream(
    source: str, rest: int, tmp_path: Path, small_disk: Path
) -> None:
    """Changed rows are merged, or spooled on their way: no half batch is left, and with room again all are there."""
    ready = ingesting.ready(scenes.named(source), tmp_path)
    root = ready.copy(small_disk / "depot")
    ballast = small_disk / "ballast"
    _fill(ballast, shutil.disk_usage(small_disk).free - rest)
    ended = ingesting.ingest(root, ready.source)
    assert ended.code == 1, ended.out + ended.err
    assert "Traceback" not in ended.err, ended.err
    assert "space" in ended.err.lower() or "full" in ended.err.lower(), ended.err
    ballast.unlink()
    killing.must_end_well(ingesting.ingest(root, ready.source))
    ready.must_be_whole(root, f"{source} on a disk with a rest of {rest} bytes")


def _one_error(done: killing.Run) -> str:
    """What a command that must have failed has shown."""
    shown = f"{done.out}\n{done.err}"
    assert done.code > 0, shown
    assert "Traceback" not in shown, shown
    assert shown.count("error:") == 1, shown
    return shown.lower()


def _nothing_half(root: Path, scene: Scene) -> None:
    """Each table as before the command or as after it (sources load one by one), and not all of them as after it."""
    before, now = state.tables(scene.start), state.tables(root)
    raw = [name for name in now if name.startswith("raw.")]
    assert len(raw) == 3
    assert all(now[name] in (before[name], scene.tables[name]) for name in raw)
    assert any(now[name] == before[name] for name in raw)


def _fill(ballast: Path, size: int) -> None:
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _limited(root: Path, largest: int) -> killing.Run:
    """`ingest` with no file larger than `largest`. Its output goes through pipes, which no limit stops."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    command = [sys.executable, "-m", "trunkline", "ingest"]
    done = subprocess.run(command, cwd=root, preexec_fn=limit, capture_output=True, text=True, timeout=240, check=False)
    return killing.Run(done.returncode, done.stdout, done.stderr, 0.0, 0)
