"""Processes: who dies, who lives, and what is written when."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import alive
from tests.unit.serving.client import Client
from tests.unit.serving.conftest import ROW, SIGNATURE, make_bundle
from trunkline.errors import EngineError
from trunkline.models.bundle import Bundle
from trunkline.serving.process import ServerProcess, start
from trunkline.serving.spool import drain

Launch = Callable[[], ServerProcess]
Connect = Callable[[str], Client]


def logged(spool: Path) -> list[str]:
    """The prediction ids that `drain` hands over, in order, doubles included."""
    ids: list[str] = []

    def load(path: Path) -> int:
        lines = path.read_text("utf-8").splitlines()
        ids.extend(json.loads(line)["prediction_id"] for line in lines)
        return len(lines)

    drain(spool, load)
    return ids


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def ask_until_refused(client: Client, answered: list[tuple[float, str]]) -> None:
    """Predicts on one connection until it breaks; notes when each answer came."""
    try:
        while True:
            reply = client.post("/predict", ROW).json
            answered.append((time.monotonic(), reply["predictions"][0]["prediction_id"]))
    except (OSError, ValueError):
        return


def test_a_killed_worker_loses_and_doubles_nothing_and_is_replaced(
    launch: Launch, tmp_path: Path, connect: Connect
) -> None:
    client = connect(launch().url)
    worker = client.get("/health").json["worker_pid"]
    answered: list[tuple[float, str]] = []
    asking = threading.Thread(target=ask_until_refused, args=(client, answered))
    asking.start()
    time.sleep(4.0)  # past the first rotation
    os.kill(worker, signal.SIGKILL)
    killed_at = time.monotonic()
    asking.join()
    assert wait_until(lambda: not alive(worker))
    ids = logged(tmp_path / "spool")
    missing = [at for at, prediction_id in answered if prediction_id not in set(ids)]
    assert not [at for at in missing if at < killed_at - 1.5]  # beside other tests the writer may get its turn late
    assert len(ids) == len(set(ids)) >= 100
    assert logged(tmp_path / "spool") == []

    def answers() -> bool:
        try:
            return bool(client.get("/health").json["worker_pid"] != worker)
        except OSError:
            return False

    assert wait_until(answers)
    assert client.post("/predict", ROW).status == 200


def test_stopping_writes_everything_that_was_answered(launch: Launch, tmp_path: Path, connect: Connect) -> None:
    server = launch()
    client = connect(server.url)
    rows = [ROW] * 700
    asked = [p["prediction_id"] for p in client.post("/predict", {"rows": rows}).json["predictions"]]
    asked += [client.post("/predict", ROW).json["predictions"][0]["prediction_id"]]
    server.stop()
    server.stop()
    assert logged(tmp_path / "spool") == asked
    with pytest.raises(ConnectionError):
        connect(server.url).get("/health")


def test_workers_end_in_order_when_their_server_is_killed(launch: Launch, tmp_path: Path, connect: Connect) -> None:
    server = launch()
    client = connect(server.url)
    worker = client.get("/health").json["worker_pid"]
    (asked,) = client.post("/predict", ROW).json["predictions"]
    os.kill(server.pid, signal.SIGKILL)
    assert wait_until(lambda: not alive(worker))
    assert logged(tmp_path / "spool") == [asked["prediction_id"]]


_PARENT = """
import sys, time
from pathlib import Path
from trunkline.serving.process import start
bundle, spool = map(Path, sys.argv[1:])
server = start(bundle, reference="m", deployment="d", spool=spool)
print(server.pid, flush=True)
time.sleep(60)
"""


def test_a_server_ends_when_the_process_that_started_it_is_killed(bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, str(bundle.path), str(tmp_path / "spool")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: not alive(pid))


def test_a_server_loads_nothing_that_it_does_not_need(shared: Client) -> None:
    health = shared.get("/health").json
    for pid in (health["worker_pid"], health["server_pid"]):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert [name for name in ("torch", "duckdb", "pyarrow", "pandas", "sklearn") if f"/{name}/" in maps] == []


def test_a_taken_port_is_an_error_with_a_hint(bundle: Bundle, tmp_path: Path, shared: Client) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for port in (other.getsockname()[1], int(shared.url.rsplit(":", 1)[1])):
            with pytest.raises(EngineError, match="ended with code 1") as caught:
                start(bundle.path, reference="m", deployment="d", spool=tmp_path, port=port)
            assert f"port {port} of 127.0.0.1 is taken" in str(caught.value.hint)
            assert "another port" in str(caught.value.hint)


def test_a_bundle_that_was_changed_is_not_served(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", SIGNATURE)
    (bundle.path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError) as caught:
        start(bundle.path, reference="m", deployment="d", spool=tmp_path / "spool")
    assert "model.onnx" in str(caught.value.hint)


def test_a_server_that_is_not_ready_in_time_is_ended(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"did not answer within 0\.01 s"):
        start(bundle.path, reference="m", deployment="d", spool=tmp_path, timeout=0.01)


_SERVE = """
import json, signal, sys, threading, time
from pathlib import Path
from trunkline.errors import TrunklineError
from trunkline.serving.app import Service
from trunkline.serving.server import ServerConfig, serve
from trunkline.serving.spool import drain

def say(**what):
    print(json.dumps(what), flush=True)

def load(path):
    count = len(path.read_text().splitlines())
    say(loaded=count)
    return count

def flush():
    drain(spool, load)
    if mode == "warehouse is down":
        raise RuntimeError("the warehouse is down")

def ready(url):
    say(url=url, threads=threading.active_count())
    if mode == "callback fails":
        raise RuntimeError("no")

if __name__ == "__main__":
    bundle, spool, mode = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    before = signal.getsignal(signal.SIGTERM)
    service = Service(bundle, "models:/delay/7", "delay", spool)
    host = "no-such-host.invalid" if mode == "host" else "localhost"
    workers = 2 if mode == "two workers" else 1
    try:
        serve(ServerConfig(service, host, 0, workers, flush_seconds=0.2), flush=flush, on_ready=ready)
    except (TrunklineError, RuntimeError) as error:
        say(error=str(error))
    say(ended=True, restored=signal.getsignal(signal.SIGTERM) is before)
"""


class Serving:
    """A process that calls `serve` with callbacks, as the command line does."""

    def __init__(self, bundle: Bundle, folder: Path, mode: str) -> None:
        script = folder / "serve_script.py"
        script.write_text(_SERVE)
        command = [sys.executable, str(script), str(bundle.path), str(folder / "spool"), mode]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = self.process.stdout.readline()
        assert text, self.process.communicate()[1]
        return dict(json.loads(text))

    def finish(self, number: int | None = None) -> tuple[list[dict[str, Any]], str]:
        """What it still says, and its standard error."""
        if number is not None:
            self.process.send_signal(number)
        out, error = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return [json.loads(text) for text in out.splitlines()], error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_flushes_once_more_after_the_workers_have_written(
    bundle: Bundle, tmp_path: Path, number: int, connect: Connect
) -> None:
    serving = Serving(bundle, tmp_path, "")
    client = connect(serving.line()["url"])
    for _ in range(3):
        assert client.post("/predict", ROW).status == 200
    said, error = serving.finish(number)
    assert sum(line.get("loaded", 0) for line in said) == 3
    assert said[-1] == {"ended": True, "restored": True}
    assert error == ""


def test_two_workers_share_the_port_and_both_log(bundle: Bundle, tmp_path: Path, connect: Connect) -> None:
    serving = Serving(bundle, tmp_path, "two workers")
    url = serving.line()["url"]
    seen: set[int] = set()
    asked = 0
    deadline = time.monotonic() + 10
    while len(seen) < 2 and time.monotonic() < deadline:
        client = connect(url)
        seen.add(client.get("/health").json["worker_pid"])
        asked += client.post("/predict", ROW).status == 200
    said, _ = serving.finish(signal.SIGTERM)
    assert len(seen) == 2
    assert sum(line.get("loaded", 0) for line in said) == asked


def test_a_flush_that_fails_stops_nothing_until_the_end(bundle: Bundle, tmp_path: Path, connect: Connect) -> None:
    serving = Serving(bundle, tmp_path, "warehouse is down")
    client = connect(serving.line()["url"])
    time.sleep(0.5)
    assert client.post("/predict", ROW).status == 200
    said, error = serving.finish(signal.SIGTERM)
    assert said[-2:] == [{"error": "the warehouse is down"}, {"ended": True, "restored": True}]
    assert "tried again" in error


@pytest.mark.parametrize(("mode", "words"), [("callback fails", "no"), ("host", "is not known here")])
def test_what_fails_at_the_start_is_raised(bundle: Bundle, tmp_path: Path, mode: str, words: str) -> None:
    said, _ = Serving(bundle, tmp_path, mode).finish()
    assert words in said[-2]["error"]
    assert said[-1]["restored"]
