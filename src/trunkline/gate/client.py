"""Bytes over plain sockets: the standard library's HTTP client spends longer on one request than a good server does.

`Connection` asks one thing at a time. `drive` asks over several connections, on a schedule: a request that is due while
all of them are busy waits, and its latency counts from when it was due (no coordinated omission: Tene, "How NOT to
measure latency", 2013; the wrk2 load generator). Every wait is bounded.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from trunkline.errors import EngineError, TransientError
from trunkline.gate.waiting import Look, OnCpu, Waiting

_LONGEST_BODY = 64 * 1024 * 1024
_LONGEST_HEAD = 64 * 1024
_PATIENCE = 1_000_000  # nanoseconds until it is asked again whether an answer is overdue, or the machine stood still


class Asked(NamedTuple):
    """One request: when it was due and when its answer was there, in nanoseconds of `time.perf_counter_ns`, for how

    long those who work on it waited for a CPU meanwhile, and whether others surely took time from it (`waiting`).
    """

    due: int
    done: int
    waited: int
    disturbed: bool


@dataclass(frozen=True)
class Schedule:
    """When to ask: `count` requests, `gap` nanoseconds apart, and on until these are answered; without a gap each as

    soon as a connection is free. What has not been sent after `seconds` is not sent.
    """

    count: int
    gap: int
    seconds: float


def request_of(url: str, row: Mapping[str, object]) -> bytes:
    """The HTTP request that asks the server at `url` for the prediction of one row."""
    body = json.dumps({"rows": [row]}, allow_nan=False, separators=(",", ":")).encode()
    head = (
        f"POST {urlsplit(url).path.rstrip('/')}/predict HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def excerpt(body: bytes) -> str:
    """The beginning of an answer, for a message."""
    return repr(body[:200].decode("utf-8", "replace"))


class Connection:
    """One keep-alive HTTP/1.1 connection that sends ready-made requests.

    Raises `EngineError` for an answer other than 200 or none by HTTP/1.1 with a Content-Length, `TransientError` for a
    server out of reach or one that has not answered within `timeout` seconds.
    """

    def __init__(self, url: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise EngineError(f"cannot measure {url!r}: only plain http:// addresses are supported")
        self._url, self._timeout = url, timeout
        self._received = bytearray()
        self._deadline = 0.0
        try:
            self.socket = socket.create_connection((parts.hostname, parts.port or 80), timeout)
        except OSError as exc:
            raise self._unreachable(exc) from exc
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.socket.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the answer."""
        self.send(request)
        body = None
        while body is None:
            body = self.receive()
        return body

    def send(self, request: bytes) -> None:
        """Send it; the answer is to be received before the next one."""
        self._received.clear()
        self._deadline = time.monotonic() + self._timeout
        try:
            self.socket.settimeout(self._timeout)
            self.socket.sendall(request)
        except OSError as exc:
            raise self._unreachable(exc) from exc

    def receive(self) -> bytes | None:
        """Wait for the next bytes: the body of the answer, or None if there is more to come."""
        try:
            # Of the whole answer: one that comes byte by byte is not waited for either.
            self.socket.settimeout(max(self._deadline - time.monotonic(), 1e-3))
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionResetError("it closed the connection instead of answering")
        except OSError as exc:
            raise self._unreachable(exc) from exc
        self._received += more
        self.check()
        return self._body()

    def check(self) -> None:
        """Raise `TransientError` if the answer is overdue."""
        if time.monotonic() > self._deadline:
            raise self._unreachable(TimeoutError("timed out"))

    def _body(self) -> bytes | None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _LONGEST_HEAD or not b"HTTP/1.1 ".startswith(self._received[:9]):
                raise EngineError(f"{self._url} answers no HTTP/1.1: {excerpt(bytes(self._received))}")
            return None
        head = bytes(self._received[:end])
        whole = end + 4 + self._length(head)
        if len(self._received) < whole:
            return None
        body = bytes(self._received[end + 4 :])
        if head[9:12] != b"200":
            status = head[9:12].decode("ascii", "replace")
            raise EngineError(f"{self._url}/predict answers with status {status}: {excerpt(body)}")
        if len(self._received) > whole:
            raise EngineError(f"{self._url} sends more than the Content-Length it announces: {excerpt(body)}")
        return body

    def _length(self, head: bytes) -> int:
        if not head.startswith(b"HTTP/1.1 "):
            raise EngineError(f"{self._url} answers no HTTP/1.1: {excerpt(head)}")
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length" and value.strip().isdigit():
                if int(value) > _LONGEST_BODY:
                    raise EngineError(f"{self._url} announces an answer of {int(value):,} bytes to one row")
                return int(value)
        raise EngineError(f"{self._url} answers without Content-Length")

    def _unreachable(self, exc: OSError) -> TransientError:
        return TransientError(f"{self._url} cannot be reached: {exc}", hint="see the server's own output")


def drive(
    connections: Sequence[Connection],
    request: Callable[[int], bytes],
    schedule: Schedule,
    threads: Callable[[], Sequence[OnCpu]] = tuple,
) -> list[Asked]:
    """Ask `request(i)` for i = 0, 1, … by `schedule`; `threads` tells what those who work on it did so far.

    Whoever comes while the server stands still waits, so the schedule goes on for as long as that takes. What is not
    sent in time counts as answered at the end, so that a server that cannot keep up is not measured by what it managed.
    Raises what `Connection` does.
    """
    free, busy = list(connections), dict[socket.socket, tuple[Connection, int, int]]()
    start = now = time.perf_counter_ns()
    stop = start + int(schedule.seconds * 1e9)
    sent, asked = 0, list[tuple[int, int]]()
    unanswered = total = schedule.count
    looks = [Look(now, threads(), time.perf_counter_ns())]
    while busy or (sent < total and now < stop):
        while free and sent < total and start + sent * schedule.gap <= now < stop:
            connection = free.pop()
            connection.send(request(sent))
            busy[connection.socket] = (connection, start + sent * schedule.gap if schedule.gap else now, sent)
            sent += 1
        more = sent < total or (schedule.gap > 0 and unanswered > 0)
        due = start + sent * schedule.gap if free and more and now < stop else now + _PATIENCE
        quiet = not busy
        ready = _ready(busy, due - now)
        now = time.perf_counter_ns()
        looks.append(Look(now, threads(), time.perf_counter_ns(), max(now - due, 0), quiet))
        if schedule.gap and unanswered:
            total = max(schedule.count, (now - start) // schedule.gap + 1)
        for found in ready:
            connection, began, place = busy[found]
            if connection.receive() is not None:
                del busy[found]
                free.append(connection)
                asked.append((began, now))
                unanswered -= place < schedule.count
        for connection, _, _ in () if ready else busy.values():
            connection.check()
    late = (start + place * schedule.gap for place in range(sent, schedule.count if unanswered else total))
    asked += [(due, max(now, due)) for due in late]
    waiting = Waiting(looks)
    return [Asked(due, done, waiting.waited(due, done), waiting.disturbed(due, done)) for due, done in asked]


def _ready(busy: Mapping[socket.socket, object], nanoseconds: int) -> list[socket.socket]:
    """Those that have something to read, or none after so long. By `select`: `epoll` counts in milliseconds."""
    if not busy:
        time.sleep(max(nanoseconds, 0) / 1e9)
        return []
    return select.select(list(busy), (), (), max(nanoseconds, 0) / 1e9)[0]
