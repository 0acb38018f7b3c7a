"""Ends all processes of a session when the one that began it has ended, however it ended.

`begin_session` is for a process with a tree of others below it that must not outlive it. This file is the program that
watches, too: it is run by its path, with the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


def begin_session() -> None:
    """Make this process the first of a session of its own, with somebody who ends its members after it.

    The terminal's Ctrl-C does not reach it, and its members are found whatever process groups they make.
    """
    os.setsid()
    # The pipe's other end is this process's alone: what Python opens is not inherited by programs it starts.
    subprocess.Popen([sys.executable, "-IS", __file__], stdin=subprocess.PIPE)


def _members() -> Iterator[int]:
    """The processes of this session but this one. On Linux; elsewhere none."""
    session = os.getsid(0)
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(ProcessLookupError):
            if int(entry.name) != os.getpid() and os.getsid(int(entry.name)) == session:
                yield int(entry.name)


def _main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it goes last
    sys.stdin.buffer.read()
    for member in _members():
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main()
