"""A team's MLflow server for tests: `mlflow server` with logins, PostgreSQL behind it and artifacts in an object store.

And what stands between: a proxy that loses requests or answers when told to.
"""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.contract import servers


@dataclass(frozen=True)
class Tracking:
    """A running server. `user` may do everything; `stranger` logs in and may only read what others made."""

    port: int
    pid: int
    database: str
    user: str = "admin"
    password: str = "never-on/any@screen:7"
    stranger: str = "stranger"
    strangers_password: str = "nor-this-one-either"

    @property
    def uri(self) -> str:
        """Without a login."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def tracking(postgres: servers.Postgres, store: servers.ObjectStore, name: str) -> Iterator[Tracking]:
    """A new server on a free port, its databases and its folder in the bucket called `name`.

    As docs/registry.md says, but with one worker and without MLflow's runner of jobs: it starts in half the time.
    """
    login = f"postgresql+psycopg://{postgres.user}:{postgres.password}@127.0.0.1:{postgres.port}"
    database, people = postgres.database(name), postgres.database(f"{name}_people")
    port = servers.free_port()
    with tempfile.TemporaryDirectory(prefix="trunkline-mlflow-") as made:
        folder = Path(made)
        (folder / "people.ini").write_text(
            f"[mlflow]\ndatabase_uri = {login}/{people}\nadmin_username = admin\ndefault_permission = READ\n"
            "auth_cache_ttl_seconds = 60\n"
        )
        environ = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": store.key_id,
            "AWS_SECRET_ACCESS_KEY": store.secret,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
            "MLFLOW_AUTH_ADMIN_PASSWORD": Tracking.password,
            "MLFLOW_AUTH_CONFIG_PATH": str(folder / "people.ini"),
            "MLFLOW_BACKEND_STORE_URI": f"{login}/{database}",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            "MLFLOW_S3_ENDPOINT_URL": f"http://{store.endpoint}",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--workers", "1"]
        command += ["--artifacts-destination", f"s3://{store.bucket}/{name}", "--port", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT)
        server = Tracking(port, process.pid, database)
        try:
            _wait(process, f"{server.uri}/health", folder / "log")
            _add_stranger(server)
            yield server
        finally:
            process.terminate()  # it ends its worker
            process.wait(30)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    until = time.monotonic() + 180  # 15 s on idle cores
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"the MLflow server does not answer: {log.read_text()}")


def _add_stranger(server: Tracking) -> None:
    import base64
    import json

    who = base64.b64encode(f"{server.user}:{server.password}".encode()).decode()
    request = urllib.request.Request(
        f"{server.uri}/api/2.0/mlflow/users/create",
        json.dumps({"username": server.stranger, "password": server.strangers_password}).encode(),
        {"Authorization": f"Basic {who}", "Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


class Line:
    """The way to a server, at `uri`. `lose_answers` drops the answer to the next request of each such path, which the
    server has carried out; while `cut` every connection ends without a word."""

    def __init__(self, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self.lose_answers: set[str] = set()
        self.cut = False
        self.lost: list[str] = []
        self.asked: list[str] = []


@contextmanager
def line(target: str) -> Iterator[Line]:
    """A proxy in front of the server at `target`."""
    host = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            if made.cut:
                self.close_connection = True
                return
            made.asked.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            connection = http.client.HTTPConnection(host, timeout=60)
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            connection.close()
            path = next((path for path in made.lose_answers if urlsplit(self.path).path.endswith(path)), None)
            if path is not None:
                made.lose_answers.remove(path)
                made.lost.append(path)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _forward

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Line(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield made
        finally:
            server.shutdown()
