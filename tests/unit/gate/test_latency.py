"""The client that measures servers."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest

from tests.unit.gate.server import serving
from trunkline.errors import EngineError, TransientError
from trunkline.gate.latency import Load, Target, measure

ROWS = [{"distance": i, "carrier": "UÄ"} for i in range(30)]
QUICK = Load(requests=60, warmup=5, connections=2, seconds=0.05, timeout=5.0)


def test_every_row_is_answered_in_order() -> None:
    with serving(lambda row: row["distance"] / 100) as peer:
        (found,) = measure([Target(peer.url, ROWS)], QUICK)
    assert found.answers == tuple((i / 100,) for i in range(30))
    assert peer.rows[5:65] == ROWS * 2
    latency = found.latency
    assert (latency.requests, latency.connections) == (60, 2)
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms < 5000
    assert latency.requests_per_second > 10


def test_more_rows_than_requests_are_all_sent() -> None:
    with serving(lambda row: row["distance"] / 100) as peer:
        (found,) = measure([Target(peer.url, ROWS)], Load(requests=3, warmup=0, connections=1, seconds=0.01))
    assert len(found.answers) == 30
    assert found.latency.requests == 30


def test_latency_is_the_servers() -> None:
    with serving(delay=0.02) as slow, serving() as fast:
        loads = Load(requests=20, warmup=1, connections=1, seconds=0.05)
        found = measure([Target(slow.url, ROWS[:5]), Target(fast.url, ROWS[:5])], loads)
    assert found[0].latency.p50_ms >= 20
    assert found[1].latency.p50_ms < found[0].latency.p50_ms


def test_servers_are_asked_in_turn() -> None:
    with serving() as one, serving() as two:
        measure([Target(one.url, ROWS), Target(two.url, ROWS)], Load(requests=30, warmup=0, connections=1, seconds=0))
    turns = list(zip(one.times, two.times, strict=True))
    assert all(max(turn) < min(after) for turn, after in pairwise(turns))
    assert 3 < sum(first < second for first, second in turns) < 27  # who goes first is drawn


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"status": 422, "body": b'{"error": "no"}'}, "status 422: .*no"),
        ({"status": 503, "body": b""}, "status 503"),
        ({"body": b"<html>"}, "something else than a prediction: '<html>'"),
        ({"body": b'{"predictions": []}'}, "something else than a prediction"),
        ({"body": b'{"predictions": [{"score": null}]}'}, "something else than a prediction"),
        ({"hang_up": True}, "closed the connection"),
    ],
)
def test_a_server_that_misbehaves_is_an_error(behaviour: dict[str, object], says: str) -> None:
    with serving(**behaviour) as peer, pytest.raises(EngineError, match=says):  # type: ignore[arg-type]
        measure([Target(peer.url, ROWS)], QUICK)


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="cannot be reached"):
            measure([Target(f"http://127.0.0.1:{free.getsockname()[1]}", ROWS)], QUICK)


def test_a_server_that_hangs_is_transient() -> None:
    with serving(delay=0.5) as peer, pytest.raises(TransientError, match="timed out"):
        measure([Target(peer.url, ROWS)], Load(timeout=0.1))


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "ftp://x", "127.0.0.1:8000", ""])
def test_only_plain_http_is_measured(url: str) -> None:
    with pytest.raises(EngineError, match="http://"):
        measure([Target(url, ROWS)], QUICK)
