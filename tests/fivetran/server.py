"""A server that speaks the part of Fivetran's REST API that syncs need, in the shapes its reference documents."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY, SECRET = "key-4411", "secret-9f2c"
START = "2026-11-20T08:00:00.000000Z"


@dataclass
class Fault:
    """Instead of an answer: a status with headers, or a dropped connection."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Fivetran:
    """One connection. `script` are the changes that each look at it makes, in turn, once a sync runs; the last stays.

    A change has the names of the API: `succeeded_at`, `sync_state`, `tasks`, … `on_sync` is called when one starts.
    `faults` come after so many `calm` requests; `odd` is an answer of another server.
    """

    url: str = ""
    id: str = "warm_tea"
    data: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    script: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    calm: int = 0
    odd: dict[str, Any] | None = None
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    on_sync: Callable[[], None] = lambda: None

    def reset(self) -> None:
        """As it is before the first sync of the day."""
        self.data = {
            "id": self.id,
            "service": "postgres",
            "schema": "shop",
            "group_id": "projected_sickle",
            "connected_by": "concerning_batch",
            "created_at": "2024-01-01T00:00:00.000000Z",
            "succeeded_at": START,
            "failed_at": None,
            "paused": False,
            "sync_frequency": 360,
            "schedule_type": "auto",
            "config": {},
        }
        self.status = {
            "setup_state": "connected",
            "schema_status": "ready",
            "sync_state": "scheduled",
            "update_state": "on_schedule",
            "is_historical_sync": False,
            "tasks": [],
            "warnings": [],
        }
        self.script, self.faults, self.asked = [], [], []
        self.calm, self.odd = 0, None
        self.on_sync = lambda: None

    def change(self, **new: Any) -> None:
        """Change what the API says of the connection."""
        for name, value in new.items():
            (self.status if name in self.status or name == "rescheduled_for" else self.data)[name] = value

    def answer(self, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
        """Status and body."""
        if self.odd is not None:
            return 200, self.odd
        parts = path.strip("/").split("/")
        if parts[:2] != ["v1", "connections"] or parts[2] != self.id:
            return 404, {"code": "NotFound_Connection", "message": f"Cannot find connection with id '{parts[-1]}'"}
        if method == "POST" and parts[3:] == ["sync"]:
            if self.status["sync_state"] != "syncing" or body["force"]:
                self.change(sync_state="syncing")
                self.on_sync()
            said = f"Sync has been successfully triggered for connection with id '{self.id}'"
            return 200, {"code": "Success", "message": said}
        if method == "POST" and parts[3:] == ["resync"]:
            self.change(sync_state="syncing", is_historical_sync=True)
            self.on_sync()
            said = f"Re-sync has been triggered successfully for connection with id '{self.id}'"
            return 200, {"code": "Success", "message": said}
        if method == "PATCH":
            assert body.pop("run_setup_tests") is False
            self.change(**body)
            return 200, {"code": "Success", "message": "Connection has been updated", "data": self._data()}
        seen = {"code": "Success", "data": self._data()}
        if self.status["sync_state"] == "syncing" or self.status["sync_state"] == "rescheduled":
            self._go_on()
        return 200, seen

    def _go_on(self) -> None:
        if self.script:
            self.change(**self.script.pop(0))

    def _data(self) -> dict[str, Any]:
        return json.loads(json.dumps({**self.data, "status": self.status}))


def _handler(api: Fivetran) -> type[BaseHTTPRequestHandler]:
    expected = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size)) if size else None
            api.asked.append((self.command, self.path, body))
            fault = api.faults.pop(0) if api.faults and len(api.asked) > api.calm else None
            if fault is not None and not fault.status:
                self.close_connection = True
                return
            assert self.headers["Accept"] == "application/json;version=2"
            if fault is not None:
                status, answer = fault.status, {"code": "Error", "message": f"fault {fault.status}"}
            elif self.headers["Authorization"] != expected:
                status, answer = 401, {"code": "Unauthorized", "message": "Invalid authorization credentials"}
            else:
                status, answer = api.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (fault.headers if fault else {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = _serve

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def serving() -> Iterator[Fivetran]:
    """A server on a free port of this machine."""
    api = Fivetran()
    api.reset()
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(api)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        api.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield api
        server.shutdown()
        thread.join()
