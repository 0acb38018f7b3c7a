"""A process that reads a dataset holds it, so that `trunkline dataset gc` beside it leaves its files alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from trunkline.datasets.manifest import FILE


@cache  # one handle a dataset, however often it is read
def hold(folder: Path) -> None:
    """Hold the dataset in `folder` until this process ends, however it ends. Any number of processes may."""
    with contextlib.suppress(OSError):  # a file system without locks: then nobody is told, and reading goes on
        handle = os.open(folder / FILE, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether no process holds the dataset; while that is asked, none begins to."""
    try:
        handle = os.open(folder / FILE, os.O_RDONLY)
    except OSError:  # no manifest: nobody can be reading it
        yield True
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
