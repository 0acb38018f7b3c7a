"""`python -m trunkline.serving`: one server over one bundle, without a project or a warehouse.

Prints one JSON line `{"url", "pid"}` when it answers. The prediction log stays in the spool directory.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from trunkline.errors import TrunklineError
from trunkline.serving.app import Service
from trunkline.serving.server import ServerConfig, serve


def main() -> int:
    """The exit code: 0 after SIGINT or SIGTERM."""
    options = _options()
    if options.hidden:
        from trunkline.project.confined import confine  # not needed for a model that is no code

        confine(options.hidden)
    service = Service(options.bundle, options.reference, options.deployment, options.spool, options.sha256)
    if options.with_stdin:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        serve(ServerConfig(service, options.host, options.port, options.workers), on_ready=_announce)
    except TrunklineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trunkline.serving", description=__doc__)
    parser.add_argument("--bundle", type=Path, required=True, help="directory of the bundle")
    parser.add_argument("--reference", required=True, help="what answers and the log call the model: models:/delay/7")
    parser.add_argument("--deployment", required=True, help="name of the deployment")
    parser.add_argument("--spool", type=Path, required=True, help="directory of the prediction log")
    parser.add_argument("--sha256", help="refuse a bundle with another digest")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--hidden", type=Path, action="append", help="a file or folder to be out of the server's reach")
    parser.add_argument("--with-stdin", action="store_true", help="end when standard input ends")
    return parser.parse_args()


def _announce(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    sys.stdout.flush()


def _end_with_stdin() -> None:
    """The parent holds the other end of a pipe: when it dies, however, the pipe ends and so does this server."""
    # Not through sys.stdin: its lock, held by a thread, breaks the end of the interpreter.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
