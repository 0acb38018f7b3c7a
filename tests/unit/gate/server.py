"""A server for the gate's tests: answers `/predict` as ours does, or misbehaves on demand."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Row = dict[str, Any]


class Peer:
    """What a test can see of a running server: its address and the rows it was sent, in order."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.rows: list[Row] = []
        self.times: list[float] = []


@contextmanager
def serving(
    score: Callable[[Row], Any] = lambda row: 0.5,
    *,
    status: int = 200,
    body: bytes | None = None,
    raw: bytes | None = None,
    hang_up: bool = False,
    delay: float = 0.0,
    between: float = 0.0,
    stall: tuple[int, float] = (-1, 0.0),
    frozen: tuple[float, float] = (0.0, 1.0),
) -> Iterator[Peer]:
    """A server that answers `score` of each row (a number, or the whole answer), or always `status` and `body`, or

    the bytes `raw`, or closes the connection; after `delay` seconds, with `between` seconds between pieces of its
    answer, and once, at the request of the number that `stall` says, only after so many seconds. `frozen` are seconds
    in which it does nothing, and every how many seconds that is.
    """
    born = time.perf_counter()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            assert self.path == "/predict"
            sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            peer.rows += sent["rows"]
            peer.times.append(time.perf_counter())
            time.sleep(stall[1] if len(peer.rows) == stall[0] else delay)
            time.sleep(max(frozen[0] - (time.perf_counter() - born) % frozen[1], 0.0))
            if hang_up:
                self.close_connection = True
                return
            told = [score(row) for row in sent["rows"]]
            predictions = [one if isinstance(one, dict) else {"score": one} for one in told]
            answer = json.dumps({"predictions": predictions}).encode()
            answer = answer if body is None else body
            if raw is None:
                self.send_response(status)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
            answer = answer if raw is None else raw
            for start in range(0, len(answer), 7):  # in pieces, as a network may deliver it
                self.wfile.write(answer[start : start + 7])
                if between:
                    time.sleep(between)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that gave up waiting is part of a test
                super().handle_error(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    peer = Peer(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
