"""A real HTTP server with a paginated API, that can be told to misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PAGE = 100


@dataclass
class Fault:
    """What happens instead of an answer: a status with headers, a dropped connection, or a wait before the answer."""

    times: int
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    seconds: float = 0.0


@dataclass
class Api:
    """`GET /NAME?page=1&since=…` → `{"data": [rows], "page": 1, "pages": 3, "next": URL}`, sorted by `id`.

    `GET /NAME/ID/CHILD` gives the rows of CHILD whose `NAME_id` is ID. Other paths are `odd`: fixed answers.
    """

    url: str = ""
    tables: dict[str, Sequence[dict[str, Any]]] = field(default_factory=dict)
    odd: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    token: str | None = None
    page: int = PAGE
    cursor: str = "id"
    asked: list[tuple[str, float]] = field(default_factory=list)
    faults: dict[str, Fault] = field(default_factory=dict)
    encoded: dict[str, bytes] = field(default_factory=dict)

    def fault(self, target: str, times: int = 1, **what: Any) -> None:
        """Misbehave on requests whose path and query hold `target`, that many times."""
        self.faults[target] = Fault(times, **what)

    def reset(self) -> None:
        """As new."""
        self.tables, self.odd, self.asked, self.faults, self.encoded = {}, {}, [], {}, {}
        self.token, self.page, self.cursor = None, PAGE, "id"

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        parts = urlsplit(target)
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        path = parts.path.strip("/").split("/")
        if path[0] in self.odd:
            return 200, *self.odd[path[0]]
        if path[0] not in self.tables:
            return 404, "application/json", b'{"error": "no such thing"}'
        rows = self.tables[path[0]]
        if len(path) == 3:
            rows = [row for row in self.tables[path[2]] if str(row[f"{path[0]}_id"]) == path[1]]
        if "since" in query:
            first = type(rows[0][self.cursor])(query["since"]) if rows else None
            rows = [row for row in rows if row[self.cursor] >= first]
        page, pages = int(query.get("page", 1)), max(1, -(-len(rows) // self.page))
        found = rows[(page - 1) * self.page : page * self.page]
        body: dict[str, Any] = {"data": found, "page": page, "pages": pages}
        if page < pages:
            since = f"&since={query['since']}" if "since" in query else ""
            body["next"] = f"{self.url}/{path[0]}?page={page + 1}{since}"
        return 200, "application/json", json.dumps(body).encode()


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # head and body in one packet

        def do_GET(self) -> None:
            api.asked.append((self.path, time.monotonic()))
            fault = next((f for target, f in api.faults.items() if target in self.path and f.times > 0), None)
            if fault is not None:
                fault.times -= 1
                time.sleep(fault.seconds)
                if fault.drop:
                    self._send(200, "application/json", b'{"data": [', length=5000)
                    self.close_connection = True
                    return
                if fault.status:
                    self._send(fault.status, "text/plain", b"not now", fault.headers)
                    return
            if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                self._send(401, "application/json", b'{"error": "who are you?"}')
                return
            if self.path in api.encoded:
                self._send(200, "application/json", api.encoded[self.path])
                return
            self._send(*api.answer(self.path))

        def _send(
            self,
            status: int,
            kind: str,
            body: bytes,
            headers: Mapping[str, str] | None = None,
            length: int | None = None,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length or len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def serving() -> Iterator[Api]:
    """A server on a free port of this machine, in threads of this process."""
    api = Api()

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    server = Server(("127.0.0.1", 0), _handler(api))
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def rows(count: int, make: Callable[[int], dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """Rows with an `id` from 1, and what `make` adds."""
    return [{"id": number, **(make(number) if make else {})} for number in range(1, count + 1)]
