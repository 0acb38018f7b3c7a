"""A server in a child process: for the gate, which times the real thing, and for tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from trunkline.errors import EngineError
from trunkline.models.bundle import holds_module
from trunkline.project.pickles import NO_PICKLES

_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class ServerProcess:
    """A running server; `pid` is its supervisor, which leads a process group of its own. A context manager.

    `cold_start` is how many seconds it took from the start of the process to the first answer.
    """

    url: str
    pid: int
    cold_start: float
    _child: subprocess.Popen[bytes]
    _output: IO[bytes]

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it in order: requests are finished and the prediction log is written. May be called twice."""
        _stop(self._child)
        self._output.close()


def start(
    bundle_dir: Path,
    *,
    reference: str,
    deployment: str,
    spool: Path,
    port: int = 0,
    timeout: float = 30.0,
    root: Path | None = None,
) -> ServerProcess:
    """Starts a server over `bundle_dir` on 127.0.0.1 and returns when it answers; it ends with this process at last.

    With the `root` of a project the child gets none of its secrets, and reads neither vault nor warehouse. Raises
    `EngineError` with the child's last output if it dies first or is not ready after `timeout` seconds.
    """
    command = [sys.executable, "-P", "-m", "trunkline.serving", "--with-stdin", "--port", str(port)]
    command += ["--bundle", str(bundle_dir), "--spool", str(spool), "--reference", reference]
    hidden, environ = _confined(bundle_dir, root)
    began = time.monotonic()
    command += ["--deployment", deployment, *hidden]
    output = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `stop`
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=output,
        start_new_session=True,
        env={**(os.environ if environ is None else environ), **NO_PICKLES},
    )
    line = _first_line(child, timeout)
    if not line:
        _stop(child)
        what = f"did not answer within {timeout:g} s" if line is None else f"ended with code {child.returncode}"
        with output:
            raise EngineError(f"the server {what} at its start", hint=f"its last output:\n{_last(output)}")
    return ServerProcess(json.loads(line)["url"], child.pid, time.monotonic() - began, child, output)


def _confined(bundle_dir: Path, root: Path | None) -> tuple[list[str], dict[str, str] | None]:
    """Arguments and environment of the child. With a project's `root`, or if the model is code of the project around

    the working directory, it runs as `ml/` code does: vault, warehouse, keys and secrets are out of its reach.
    """
    if root is None and not holds_module(bundle_dir):
        return [], None
    from trunkline.project.hidden import hidden_paths, open_environ
    from trunkline.project.load import find_root

    root = root or find_root(Path.cwd())
    return [f"--hidden={path}" for path in hidden_paths(root)], open_environ(root, os.environ)


def _first_line(child: subprocess.Popen[bytes], timeout: float) -> bytes | None:
    """The line by which the child says that it answers; empty if it has ended instead, None if `timeout` passed."""
    assert child.stdout is not None
    lines: list[bytes] = []
    reader = threading.Thread(target=lambda out: lines.append(out.readline()), args=(child.stdout,), daemon=True)
    reader.start()
    reader.join(timeout)
    if lines == [b""]:
        with suppress(subprocess.TimeoutExpired):
            child.wait(_STOP_SECONDS)
    return lines[0] if lines else None


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    with suppress(subprocess.TimeoutExpired):  # what is left of the group is killed below
        child.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _last(output: IO[bytes], size: int = 4000) -> str:
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - size))
    return output.read().decode(errors="replace").strip() or "(nothing)"
