"""Requests per second and latency of our server, beside an empty RSGI application under granian in the same run.

    python benchmarks/serving.py [--seconds 5] [--connections 32] [--rounds 3]

Ours validates 20 numbers and 5 categories, scores them with a small network in ONNX Runtime and logs every prediction;
the other answers a constant. Both run one worker. The load generator is closed-loop: each connection sends its next
request when the last is answered. It takes a core of its own, so read the ratio, not the seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from networks import network

NUMBERS, CATEGORIES = 20, 5
BARE = """
async def app(scope, protocol):
    await protocol()
    protocol.response_bytes(200, [("content-type", "application/json")], b'{"predictions":[{"score":0.5}]}')
"""


@dataclass(frozen=True)
class Load:
    """What one load showed: requests a second, latencies in milliseconds, CPU of the worker in us a request."""

    rps: float
    p50: float
    p99: float
    cpu_us: float


def main() -> None:
    """Prints one table: medians over interleaved rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one, many = make_bundle(Path(folder) / "bundle")
        with bare_server(Path(folder)) as bare, our_server(Path(folder)) as (ours, ready):
            contestants = {"bare RSGI": (bare, one), "trunkline, 1 row": (ours, one)}
            print(f"ours was ready after {ready:.2f} s")
            print(f"{'':28} {'rps':>8} {'p50 ms':>8} {'p99 ms':>8} {'cpu us':>8} {'of bare':>8}")
            for connections in (options.connections, 1):
                table(contestants, connections, options.seconds, options.rounds)
            table({"trunkline, 1,000 rows": (ours, many)}, 4, options.seconds, 1)


def table(contestants: dict[str, tuple[Server, bytes]], connections: int, seconds: float, rounds: int) -> None:
    """Loads the contestants in turn and prints the medians."""
    loads: dict[str, list[Load]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, (server, body) in contestants.items():
            loads[name].append(measure(server, body, connections, seconds))
    first = 0.0
    for name, measured in loads.items():
        rps, p50, p99, cpu = (
            statistics.median(getattr(load, part) for load in measured) for part in ("rps", "p50", "p99", "cpu_us")
        )
        first = first or rps
        label = f"{name}, {connections} conn"
        print(f"{label:28} {rps:8,.0f} {p50:8.2f} {p99:8.2f} {cpu:8.0f} {rps / first:7.2f}x")


@dataclass(frozen=True)
class Server:
    """Where a server answers, and the process that does the work."""

    port: int
    worker: int
    path: str


def measure(server: Server, body: bytes, connections: int, seconds: float) -> Load:
    """One load, generated in a process of its own."""
    before = cpu_seconds(server.worker)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    generator = context.Process(target=generate, args=(there, server.port, server.path, body, connections, seconds))
    generator.start()
    elapsed, latencies = here.recv()
    generator.join()
    latencies.sort()
    spent = cpu_seconds(server.worker) - before
    return Load(
        rps=len(latencies) / elapsed,
        p50=latencies[len(latencies) // 2] * 1e3,
        p99=latencies[int(len(latencies) * 0.99)] * 1e3,
        cpu_us=spent / len(latencies) * 1e6,
    )


def generate(there: object, port: int, path: str, body: bytes, connections: int, seconds: float) -> None:
    """Closed loop over `connections` sockets; sends (seconds elapsed, latencies) through the pipe `there`."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    selector = selectors.DefaultSelector()
    sent: dict[socket.socket, float] = {}
    latencies: list[float] = []
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
        sent[connection] = time.perf_counter()
        connection.sendall(request)
    start = now = time.perf_counter()
    while now - start < seconds:
        for key, _ in selector.select():
            connection = key.fileobj  # type: ignore[assignment]
            receive(connection)
            now = time.perf_counter()
            latencies.append(now - sent[connection])
            sent[connection] = now
            connection.sendall(request)
    there.send((now - start, latencies))  # type: ignore[attr-defined]


def receive(connection: socket.socket) -> None:
    """Reads one whole answer; it must be a 200."""
    data = connection.recv(65536)
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    if not data.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"not a 200: {data[:300]!r}")
    head, _, rest = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(1 << 20)


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def make_bundle(directory: Path) -> tuple[bytes, bytes]:
    """A bundle at `directory`; returns the bodies of a request with one row and of one with 1,000."""
    import numpy as np
    import pyarrow as pa

    from trunkline.models.bundle import Bundle
    from trunkline.models.encoder import Encoder
    from trunkline.models.signature import Field, Signature

    random = np.random.default_rng(0)
    numbers = {f"number_{i}": random.normal(size=1000) for i in range(NUMBERS)}
    categories = {f"category_{i}": random.choice(["UA", "AA", "DL", "B6"], 1000) for i in range(CATEGORIES)}
    table = pa.table({**numbers, **categories})
    fields = [
        Field(name, "number" if name in numbers else "category", example=table[name][0].as_py())
        for name in table.column_names
    ]
    signature = Signature(tuple(fields), target="late")
    encoder = Encoder.fit(table, signature, min_count=1)
    Bundle.write(directory, signature=signature, encoder=encoder, onnx=network([len(fields), 64, 64, 1]), metadata={})
    rows = table.to_pylist()
    return json.dumps({"rows": rows[:1]}).encode(), json.dumps({"rows": rows}).encode()


@contextmanager
def our_server(folder: Path) -> Iterator[tuple[Server, float]]:
    """Our server over the bundle in `folder`, and how long it took to answer."""
    from trunkline.serving.process import start

    began = time.perf_counter()
    with start(folder / "bundle", reference="models:/bench/1", deployment="bench", spool=folder / "spool") as server:
        ready = time.perf_counter() - began
        port = int(server.url.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/health")
        health = json.loads(connection.getresponse().read())
        connection.close()
        yield Server(port, health["worker_pid"], "/predict"), ready


@contextmanager
def bare_server(folder: Path) -> Iterator[Server]:
    """The smallest RSGI application under granian."""
    (folder / "bare.py").write_text(BARE)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "granian", "--interface", "rsgi", "--http", "1", "--no-ws", "--no-log"]
    child = subprocess.Popen([*command, "--port", str(port), "bare:app"], cwd=folder)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.05)
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        yield Server(port, int(children[0]), "/")
    finally:
        child.terminate()
        child.wait()


if __name__ == "__main__":
    main()
