"""The processes of a Ray, found and ended by their ids."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 240.0


def named(part: str, *, under: int | None = None) -> list[int]:
    """Processes below this one (or below `under`) whose command line has `part` in it."""
    return [pid for pid in _below(under or os.getpid()) if part in _command(pid)]


def kill(pid: int) -> None:
    """End it as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def wait_for(what: str, found: Callable[[], bool]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + _PATIENCE
    while not found():
        assert time.monotonic() < until, f"waited in vain for {what}"
        time.sleep(0.05)


def session_of(pid: int) -> list[int]:
    """Living processes of the session that `pid` is the first of."""
    read = {other: _stat(other) for other in _all()}
    return [other for other, stat in read.items() if stat[3:4] == [str(pid)] and stat[0] != "Z"]


def _below(pid: int) -> list[int]:
    read = {other: _stat(other) for other in _all()}  # once: a process may be gone at the next look
    parents = {other: int(stat[1]) for other, stat in read.items() if stat}
    found, todo = [], [pid]
    while todo:
        above = todo.pop()
        children = [child for child, parent in parents.items() if parent == above]
        found += children
        todo += children
    return found


def _all() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """State, parent, group, session, …"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
