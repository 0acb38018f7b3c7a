"""Runs the user's `ml/*.py` in a process apart: what this one holds (warehouse, keys, secrets) is out of its reach."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from trunkline.errors import TrainingError, from_json
from trunkline.project.confined import unreadable
from trunkline.project.hidden import hidden_paths, open_environ
from trunkline.project.pickles import NO_PICKLES

_PATIENCE_SECONDS = 5.0
_LONGEST = 20  # characters of a folder


def run_apart(
    job: str,
    request: Mapping[str, Any],
    *,
    root: Path,
    hear: Callable[[Any], None] = lambda what: None,
    sealed: bool = False,
    handed: Sequence[int] = (),
    within: float | None = None,
) -> Any:
    """Call `job` ("module:function" of ours) with `request` and a function to tell things by, in a child process.

    Request, what is told (it comes to `hear`) and result are JSON. The child works in `root`, ends with this process,
    and is ended when this function is left. An error of the tree comes back as itself; `TrainingError`, caused by a
    `ChildProcessError`, if the child ended otherwise, after a traceback on stderr; `TimeoutError` if it has not ended
    `within` so many seconds. With `sealed`, the child may write only into a folder that goes with it: what it is given
    of the test part cannot be kept for a training. It holds the file descriptors `handed`, by the same numbers.
    """
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-"))
        stack.enter_context(unreadable())
        child = stack.enter_context(_child(root, scratch, handed))
        hidden = [str(path) for path in hidden_paths(root)]
        with contextlib.suppress(BrokenPipeError):  # it has ended: what it left tells why
            whole = {"job": job, "hidden": hidden, "only": scratch if sealed else None, "request": dict(request)}
            child.requests.write(json.dumps(whole).encode() + b"\n")
        for message in child.messages(within):
            if "tell" in message:
                hear(message["tell"])
            elif "error" in message:
                raise from_json(message["error"])
            else:
                return message["result"]
        code = child.process.wait()
        raise _ended(code) from ChildProcessError(code)


@contextlib.contextmanager
def held_apart(job: str, request: Mapping[str, Any], *, root: Path) -> Iterator[Any]:
    """Call `job` as `run_apart` does, and go on with the first thing it tells while it lasts; it is ended then.

    The folder `request["scratch"]`, which is its own, is there for it and goes with it. Its errors are those of
    `run_apart`.
    """
    folder = tempfile.TemporaryDirectory(prefix="tl-", dir=_short_folder(), ignore_cleanup_errors=True)
    with folder as scratch, unreadable(), _child(root, scratch) as child:
        hidden = [str(path) for path in hidden_paths(root)]
        whole = {"job": job, "hidden": hidden, "request": {**request, "scratch": scratch}}
        with contextlib.suppress(BrokenPipeError):
            child.requests.write(json.dumps(whole).encode() + b"\n")
        message = next(child.messages(), None)
        if message is None:
            raise _ended(child.process.wait())
        if "error" in message:
            raise from_json(message["error"])
        try:
            yield message["tell"]
        finally:
            child.process.terminate()


def _short_folder() -> str | None:
    """Where temporary folders have short names: a path of a Unix socket has 107 characters at most."""
    return None if len(tempfile.gettempdir()) <= _LONGEST or not os.path.isdir("/tmp") else "/tmp"


class _Child:
    """The process and our ends of its pipes."""

    def __init__(self, process: subprocess.Popen[bytes], requests: IO[bytes], messages: int) -> None:
        self.process = process
        self.requests = requests
        self._messages = messages

    def messages(self, within: float | None = None) -> Iterator[dict[str, Any]]:
        """What it says, until it has ended: not until the pipe closes, which its own children may hold open."""
        rest, end = b"", None if within is None else time.monotonic() + within
        while True:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"it has not ended within {within:g} s")
            alive = self.process.poll() is None
            if select.select([self._messages], [], [], 0.5 if alive else 0)[0]:
                found = os.read(self._messages, 1 << 16)
                if not found:
                    return
                *lines, rest = (rest + found).split(b"\n")
                yield from map(json.loads, lines)
            elif not alive:
                return


@contextlib.contextmanager
def _child(root: Path, scratch: str, handed: Sequence[int] = ()) -> Iterator[_Child]:
    (theirs, requests), (messages, told) = os.pipe(), os.pipe()
    command = [sys.executable, "-P", "-m", "trunkline.project.child", str(os.getpid()), str(theirs), str(told)]
    environ = open_environ(root, os.environ) | NO_PICKLES | {"TMPDIR": scratch}
    with os.fdopen(requests, "wb", buffering=0) as asking, contextlib.ExitStack() as stack:
        stack.callback(os.close, messages)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # until it knows what to do with it
        try:
            process = subprocess.Popen(command, cwd=root, env=environ, pass_fds=[theirs, told, *handed])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(theirs)
            os.close(told)
        stack.callback(_end, process)
        yield _Child(process, asking, messages)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end by itself if it has said all; else end it."""
    try:
        if sys.exc_info()[0] is None or process.poll() is not None:
            process.wait(_PATIENCE_SECONDS)
            return
        process.terminate()
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ended(code: int) -> BaseException:
    if code == 130:  # Ctrl-C reached it, and is on its way to us
        return KeyboardInterrupt()
    if code < 0:
        name = signal.Signals(-code).name
        hint = "the system ends what needs more memory than there is" if name == "SIGKILL" else None
        return TrainingError(f"the process that ran the project's ml/ code was ended by {name}", hint=hint)
    return TrainingError(f"the process that ran the project's ml/ code ended with exit code {code}, without a result")
