"""The process that runs the user's `ml/*.py`: started by `project/apart.py`, confined before it reads a line of it.

Arguments: the parent's process id and the file descriptors of two pipes. One brings the request, one line of JSON, and
stays open as long as the parent lives; the other takes messages, a line of JSON each: `{"tell": …}`, and in the end
`{"result": …}` or `{"error": …}`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from trunkline.errors import TrunklineError
from trunkline.project.confined import confine, die_with

Tell = Callable[[Any], None]


def main(arguments: list[str]) -> int:
    """Do what is asked; the exit code. An error that nobody raised on purpose leaves its traceback on stderr."""
    parent, *ends = map(int, arguments)
    for end in ends:
        os.set_inheritable(end, False)  # a process of the user's code shall not hold them open
    die_with(parent)
    requests, messages = os.fdopen(ends[0], "rb", buffering=0), os.fdopen(ends[1], "w", encoding="utf-8")
    said = threading.Lock()

    def say(kind: str, what: Any) -> None:
        line = json.dumps({kind: what}, default=_plain)
        with said:
            messages.write(line + "\n")
            messages.flush()

    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        request = json.loads(_line(requests))
        only = request.get("only")  # where a job that gets sealed rows may write
        confine([Path(path) for path in request["hidden"]], only=Path(only) if only else None)
        threading.Thread(target=_watch, args=(requests,), daemon=True).start()
        say("result", _job(request["job"])(request["request"], lambda what: say("tell", what)))
    except KeyboardInterrupt:
        return 130
    except TrunklineError as exc:
        say("error", exc.to_json())
    return 0


def _line(requests: IO[bytes]) -> bytes:
    """The first line. Not buffered: what comes after it is for `_watch`."""
    found = bytearray()
    while not found.endswith(b"\n"):
        found += requests.readline() or b"\n"
    return bytes(found)


def _watch(requests: IO[bytes]) -> None:
    """End with the parent: its end of the pipe closes when it dies, on every system."""
    while requests.read(1):
        pass
    os._exit(1)


def _job(path: str) -> Callable[[Any, Tell], Any]:
    module, _, function = path.partition(":")
    job: Callable[[Any, Tell], Any] = getattr(import_module(module), function)
    return job


def _plain(value: Any) -> Any:
    """Numbers of NumPy, which settings may hold, as Python's; anything else as text."""
    return value.item() if hasattr(value, "item") else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
