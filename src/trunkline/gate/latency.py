"""Latency and throughput of running servers, seen by a client on the same machine.

Bytes go over plain sockets: the standard library's HTTP client spends longer on one request than a good server does.
The clock runs from the first byte sent to the last byte received. Servers are asked in turn, one request each, so that
what else the machine does hits them alike.
"""

from __future__ import annotations

import gc
import json
import random
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from trunkline.errors import EngineError, TransientError
from trunkline.gate.evidence import Latency
from trunkline.models.answer import numbers
from trunkline.models.task import BINARY, Task


@dataclass(frozen=True)
class Target:
    """A server to measure: its address, as in `http://127.0.0.1:8000`, the rows to send it, as JSON values, and what

    it answers a row.
    """

    url: str
    rows: Sequence[Mapping[str, object]]
    task: Task = BINARY


@dataclass(frozen=True)
class Load:
    """How much is asked of each server. `seconds` is the time given to the throughput over `connections`."""

    requests: int = 1000
    warmup: int = 200
    connections: int = 4
    seconds: float = 1.0
    timeout: float = 10.0


@dataclass(frozen=True)
class Measured:
    """Latency of one server, and the numbers of its answer to each of its rows, in order."""

    latency: Latency
    answers: tuple[tuple[float, ...], ...]


def measure(targets: Sequence[Target], load: Load | None = None) -> list[Measured]:
    """Measure `targets`, interleaved. Every row is sent once at least, over and over until `requests` are reached.

    Raises `EngineError` for an answer that is not 200 or holds no score, `TransientError` for a server out of reach.
    """
    load = load or Load()
    requests = [[_request(target.url, row) for row in target.rows] for target in targets]
    connections = [_Connection(target.url, load.timeout) for target in targets]
    try:
        for connection, sent in zip(connections, requests, strict=True):
            for i in range(load.warmup):
                connection.ask(sent[i % len(sent)])
        times, bodies = _in_turn(connections, requests, load)
    finally:
        for connection in connections:
            connection.close()
    answers = [tuple(_scores(body, target) for body in found) for target, found in zip(targets, bodies, strict=True)]
    rates = [_throughput(target.url, sent, load) for target, sent in zip(targets, requests, strict=True)]
    return [
        Measured(_latency(found, rate, load), answer) for found, rate, answer in zip(times, rates, answers, strict=True)
    ]


def _in_turn(
    connections: Sequence[_Connection], requests: Sequence[Sequence[bytes]], load: Load
) -> tuple[list[list[int]], list[list[bytes]]]:
    """Nanoseconds of each request and the body of the answer to each row, by server."""
    count = max(load.requests, *(len(sent) for sent in requests))
    times: list[list[int]] = [[] for _ in connections]
    bodies: list[list[bytes]] = [[] for _ in connections]
    order, shuffle = list(range(len(connections))), random.Random(0)
    collecting = gc.isenabled()
    gc.disable()  # our own pauses are not the server's
    try:
        for i in range(count):
            shuffle.shuffle(order)
            for which in order:
                sent = requests[which]
                started = time.perf_counter_ns()
                body = connections[which].ask(sent[i % len(sent)])
                times[which].append(time.perf_counter_ns() - started)
                if i < len(sent):
                    bodies[which].append(body)
    finally:
        if collecting:
            gc.enable()
    return times, bodies


def _throughput(url: str, requests: Sequence[bytes], load: Load) -> float:
    """Answers a second over `connections`, each asking again as soon as it is answered."""
    counts = [0] * load.connections
    failures: list[EngineError] = []
    stop = time.perf_counter() + load.seconds

    def ask_on(which: int) -> None:
        try:
            connection = _Connection(url, load.timeout)
            try:
                while time.perf_counter() < stop:
                    connection.ask(requests[(counts[which] * load.connections + which) % len(requests)])
                    counts[which] += 1
            finally:
                connection.close()
        except EngineError as error:
            failures.append(error)

    started = time.perf_counter()
    threads = [threading.Thread(target=ask_on, args=(which,), daemon=True) for which in range(load.connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return sum(counts) / (time.perf_counter() - started)


def _latency(nanoseconds: Sequence[int], rate: float, load: Load) -> Latency:
    ordered = sorted(nanoseconds)
    p50, p95, p99 = (_quantile(ordered, permille) / 1e6 for permille in (500, 950, 990))
    return Latency(len(ordered), p50, p95, p99, ordered[-1] / 1e6, rate, load.connections)


def _quantile(ordered: Sequence[int], permille: int) -> int:
    """The smallest value such that `permille` of all are not above it."""
    return ordered[max(-(-permille * len(ordered) // 1000) - 1, 0)]


def _request(url: str, row: Mapping[str, object]) -> bytes:
    body = json.dumps({"rows": [row]}, allow_nan=False, separators=(",", ":")).encode()
    head = (
        f"POST {urlsplit(url).path.rstrip('/')}/predict HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _scores(body: bytes, target: Target) -> tuple[float, ...]:
    try:
        return numbers(target.task, json.loads(body)["predictions"][0])
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise EngineError(f"{target.url}/predict answers something else than a prediction: {_shown(body)}") from exc


def _shown(body: bytes) -> str:
    return repr(body[:200].decode("utf-8", "replace"))


class _Connection:
    """One keep-alive HTTP/1.1 connection that sends ready-made requests."""

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise EngineError(f"cannot measure {url!r}: only plain http:// addresses are supported")
        self._url = url
        try:
            self._socket = socket.create_connection((parts.hostname, parts.port or 80), timeout)
        except OSError as exc:
            raise self._unreachable(exc) from exc
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the answer. Raises `EngineError` unless its status is 200."""
        try:
            self._socket.sendall(request)
            received, end = self._more(b"")
            while end < 0:
                received, end = self._more(received)
            length = self._length(received[:end])
            while len(received) < end + 4 + length:
                received, _ = self._more(received)
        except OSError as exc:
            raise self._unreachable(exc) from exc
        body = received[end + 4 :]
        if received[9:12] != b"200":
            status = received[9:12].decode("ascii", "replace")
            raise EngineError(f"{self._url}/predict answers with status {status}: {_shown(body)}")
        return body

    def _more(self, received: bytes) -> tuple[bytes, int]:
        more = self._socket.recv(65536)
        if not more:
            raise ConnectionResetError("it closed the connection instead of answering")
        received += more
        return received, received.find(b"\r\n\r\n")

    def _length(self, head: bytes) -> int:
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length" and value.strip().isdigit():
                return int(value)
        raise EngineError(f"{self._url} answers without Content-Length")

    def _unreachable(self, exc: OSError) -> TransientError:
        return TransientError(f"{self._url} cannot be reached: {exc}", hint="see the server's own output")
