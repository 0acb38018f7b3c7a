"""Lock files: one holder at a time, among processes and threads. A holder that is killed holds it no more."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_PAUSE = 0.05
_HELD = (errno.EAGAIN, errno.EACCES)  # some file systems say the second


@contextmanager
def locked(file: Path, seconds: float | None = None) -> Iterator[None]:
    """Hold `file`, made if need be, once its holder has let go; without `seconds` wait for that as long as it takes.

    With `filelock`, which imports asyncio for that, where the system or the file system knows no flock(2): the two
    respect each other. Raises `TimeoutError`, or `OSError` if the file cannot be written.
    """
    with ExitStack() as stack:
        try:
            _flock(file, seconds, stack)
        except (ImportError, OSError) as exc:
            if isinstance(exc, OSError) and exc.errno != errno.ENOSYS:
                raise
            _filelock(file, seconds, stack)
        yield


@contextmanager
def locked_now(file: Path, seconds: float = 0) -> Iterator[bool]:
    """Hold `file` if nobody else does, or lets go of it within so many seconds; whether it is held."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(file, seconds))
        except TimeoutError:
            held = False
        else:
            held = True
        yield held


def _flock(file: Path, seconds: float | None, stack: ExitStack) -> None:
    import fcntl

    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    stack.callback(os.close, descriptor)
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError as exc:
            if exc.errno not in _HELD:
                raise
        if until is not None and time.monotonic() > until:
            raise TimeoutError(f"{file} is held")
        time.sleep(_PAUSE)
    stack.callback(fcntl.flock, descriptor, fcntl.LOCK_UN)  # a forked child may hold the descriptor, too


def _filelock(file: Path, seconds: float | None, stack: ExitStack) -> None:
    from filelock import FileLock, Timeout

    try:
        stack.enter_context(FileLock(file).acquire(timeout=-1 if seconds is None else seconds))
    except Timeout as exc:
        raise TimeoutError(f"{file} is held") from exc
