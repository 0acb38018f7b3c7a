"""Commands that start from a process which has imported the heavy libraries already.

`python -m trunkline` spends seconds of processor time on importing dbt, MLflow and the rest before it does anything.
Here one process a test session imports them, does nothing else, opens nothing, and forks for each command: same code,
same arguments, a folder, environment, output and process group of its own, and a real exit. What a fork does not show
is shown by tests that start Python anew (`run_anew`): that the command imports what it needs, and that no
order of a set matters, for all forks have one hash seed.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import json
import logging
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

# Not what starts threads on its import (onnxruntime, snowflake.connector), nor what few commands need (torch).
MODULES = (
    "trunkline.cli.main",
    "duckdb",
    "pyarrow.parquet",
    "pandas",
    "dbt.cli.main",
    "dbt.adapters.duckdb",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "lightgbm",
    "sklearn.linear_model",
    "onnxmltools",
    "optuna",
    "sqlglot",
)
_LENGTH = struct.Struct("!I")


class Process:
    """A command at work. `returncode` is negative for a signal, None while it runs."""

    def __init__(self, pid: int, reply: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._reply = reply

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        return self._ended(0.0)

    def wait(self, timeout: float) -> int:
        """The exit code. Raises `subprocess.TimeoutExpired` after so many seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("trunkline", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """To it and what it has started."""
        if self.poll() is None:
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it and what it has started."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._reply, selectors.EVENT_READ)
                if not selector.select(timeout):
                    return None
            line = self._reply.readline()
            self._reply.close()
            assert line, "the process that forks commands has ended"
            self.returncode = int(line)
        return self.returncode


def start(
    command: Sequence[str],
    cwd: Path,
    *,
    out: IO[Any],
    err: IO[Any],
    environ: Mapping[str, str] | None = None,
    modules: tuple[str, ...] = MODULES,
) -> Process:
    """Start what follows `python`: `-m trunkline …`, or `-c CODE …`. There is one process that forks for each tuple of
    `modules`; `environ` is set beside what is set here."""
    return _parent(modules).start(command, cwd, out, err, environ or {})


def run(command: Sequence[str], cwd: Path, *, timeout: float, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, which must come within `timeout` seconds."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(command, cwd, out=out, err=err, environ=environ)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, code, out.read().decode(), err.read().decode())


def run_anew(command: Sequence[str], cwd: Path, *, timeout: float, **environ: str) -> subprocess.CompletedProcess[str]:
    """The same by a Python of its own."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environ},
        check=False,
    )


@functools.cache
def _parent(modules: tuple[str, ...]) -> _Parent:
    parent = _Parent(modules)
    atexit.register(parent.close)
    return parent


class _Parent:
    """This end of the process that forks."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self._socket, theirs = socket.socketpair()
        command = [sys.executable, str(Path(__file__)), str(theirs.fileno()), *modules]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()
        self._one_at_a_time = threading.Lock()

    def start(
        self, command: Sequence[str], cwd: Path, out: IO[Any], err: IO[Any], environ: Mapping[str, str]
    ) -> Process:
        request = {"command": list(command), "cwd": str(cwd), "environ": {**os.environ, **environ}}
        body = json.dumps(request).encode()
        ours, theirs = os.pipe()
        with self._one_at_a_time:
            socket.send_fds(self._socket, [_LENGTH.pack(len(body))], [out.fileno(), err.fileno(), theirs])
            self._socket.sendall(body)
        os.close(theirs)
        reply = os.fdopen(ours, "rb", buffering=0)
        return Process(int(reply.readline()), reply)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(30)


def _serve(requests: socket.socket, modules: Sequence[str]) -> None:
    """Fork for each request; tell of each end. Returns when nobody asks any more; in a fork it never returns."""
    for module in modules:
        __import__(module)
    logging.root.handlers.clear()  # dbt's, which a command that needs no dbt does not have
    gc.freeze()
    woken, wake = socket.socketpair()
    woken.setblocking(False)
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    replies: dict[int, int] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(requests, selectors.EVENT_READ)
        selector.register(woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if woken in ready:
                woken.recv(4096)
                _tell(replies)
            if requests in ready:
                asked = _received(requests)
                if asked is None:
                    return
                request, (out, err, reply) = asked
                pid = os.fork()
                if pid == 0:
                    for own in (selector, woken, wake, requests):
                        own.close()
                    _become(request, out, err, reply, list(replies.values()))
                replies[pid] = reply
                os.close(out)
                os.close(err)


def _tell(replies: dict[int, int]) -> None:
    while replies:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        reply = replies.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # who asked has gone
            os.write(reply, b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(reply)


def _received(requests: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    head, handles, *_ = socket.recv_fds(requests, _LENGTH.size, 3)
    if not head:
        return None
    body = b""
    (length,) = _LENGTH.unpack(head)
    while len(body) < length:
        body += requests.recv(length - len(body))
    return json.loads(body), handles


def _become(request: dict[str, Any], out: int, err: int, reply: int, others: list[int]) -> None:
    """Be `python COMMAND`: end as it ends."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.write(reply, b"%d\n" % os.getpid())  # only now is there a group to send signals to
    for handle in (reply, *others):
        os.close(handle)
    for handle, place in ((os.open(os.devnull, os.O_RDONLY), 0), (out, 1), (err, 2)):
        os.dup2(handle, place)
        os.close(handle)
    os.environ.clear()
    os.environ.update(request["environ"])
    time.tzset()
    os.chdir(request["cwd"])
    kind, what, *arguments = request["command"]
    if kind == "-m":
        sys.path[0] = request["cwd"]  # a command knows nothing of the tests
    sys.argv = ["-c" if kind == "-c" else what, *arguments]
    ended = 1
    try:
        ended = _exit_code(kind, what)
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        # What Python does at its end, but for taking itself apart: with so many modules that is slow, and libraries
        # miss their threads there, for a fork has none of them.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)


def _exit_code(kind: str, what: str) -> int:
    try:
        if kind == "-c":
            exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        else:
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as exc:
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)  # noqa: T201
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return 0


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parent.parent)
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
