"""The client that measures servers, and what it makes of the real one."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.unit.gate.server import serving
from tests.unit.serving.conftest import ROW, SIGNATURE, make_bundle
from trunkline.errors import EngineError, TransientError
from trunkline.gate.client import Connection, Schedule, drive, request_of
from trunkline.gate.latency import Load, Target, measure
from trunkline.gate.latency_rules import latency_rules
from trunkline.gate.machine import Others, Threads, memory, tree
from trunkline.project.deploy import LatencyRule
from trunkline.serving.process import start

ROWS = [{"distance": i, "carrier": "UÄ"} for i in range(30)]
QUICK = Load(requests=60, warmup=45, connections=2, seconds=0.05, longest=0.1, timeout=5.0)


def test_every_row_is_answered_in_order() -> None:
    with serving(lambda row: row["distance"] / 100) as peer:
        (found,) = measure([Target(peer.url, ROWS)], QUICK)
    assert found.answers == tuple((i / 100,) for i in range(30))
    assert peer.rows[:45] == [*ROWS, *ROWS[:15]]  # later some go over two connections, in the machine's order
    latency = found.latency
    assert latency.connections == 2
    assert latency.single_requests >= 10
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms
    assert len(latency.quantiles_ms) == 100
    assert list(latency.quantiles_ms) == sorted(latency.quantiles_ms)
    assert latency.quantiles_ms[49] == pytest.approx(latency.p50_ms, abs=1e-4)
    assert latency.requests_per_second > 0
    assert (latency.memory, latency.cold_start_s) == (None, None)  # whose process it is, nobody said


def test_servers_are_asked_in_turn() -> None:
    load = Load(requests=10, warmup=0, connections=1, seconds=0.01, longest=0.01)
    with serving() as one, serving() as two:
        measure([Target(one.url, ROWS), Target(two.url, ROWS)], load)
    asked = sorted([(at, "one") for at in one.times] + [(at, "two") for at in two.times])
    who = [name for _, name in asked]
    turns = [[who[start + 2 * i : start + 2 * i + 2] for i in range(10)] for start in range(60, len(who) - 20)]
    alike = [turn for turn in turns if all(len(set(pair)) == 2 for pair in turn)]
    assert any(len({first for first, _ in turn}) == 2 for turn in alike)  # ten turns of both; who goes first is drawn


def test_a_slower_server_is_told_from_a_faster_one() -> None:
    load = Load(requests=40, warmup=1, connections=1, seconds=0.3, longest=0.3, rate=20)
    with serving(delay=0.02) as slow, serving() as fast:
        found = measure([Target(slow.url, ROWS[:5]), Target(fast.url, ROWS[:5])], load)
    latencies = [each.latency for each in found]
    assert latencies[0].p50_ms >= 20
    assert latencies[1].p50_ms < latencies[0].p50_ms
    assert latencies[0].slower["p50"].value > 1.2
    assert latencies[1].slower == {}
    assert latencies[0].rate == latencies[1].rate == 20


def test_latency_counts_from_when_a_request_was_due() -> None:
    """A pause of 0.2 s with a request due each 10 ms delays twenty of them, though a client that waits sees one."""
    with serving(stall=(5, 0.2)) as peer:
        connection = Connection(peer.url, 5.0)
        asked = drive([connection], lambda i: request_of(peer.url, ROWS[0]), Schedule(40, 10_000_000, 5.0))
        connection.close()
    late = [one for one in asked if one.done - one.due > 5_000_000]
    assert len(asked) >= 40
    assert len(late) >= 15
    assert [one.due for one in asked] == [asked[0].due + i * 10_000_000 for i in range(40)]


def test_the_schedule_goes_on_while_the_server_stands_still() -> None:
    """Five requests within 50 ms, and the server stops at the second for 0.3 s: thirty would have come by then."""
    with serving(stall=(2, 0.3)) as peer:
        connection = Connection(peer.url, 5.0)
        asked = drive([connection], lambda i: request_of(peer.url, ROWS[0]), Schedule(5, 10_000_000, 5.0))
        connection.close()
    assert len(asked) >= 28
    assert sum(one.done - one.due > 100_000_000 for one in asked) >= 15
    assert [one.due for one in asked] == [asked[0].due + i * 10_000_000 for i in range(len(asked))]


def test_a_server_that_is_frozen_half_the_time_does_not_pass() -> None:
    """Of those who come at 100 a second half wait, up to 0.3 s; of those who ask one at a time hardly anybody does."""
    load = Load(requests=50, warmup=5, connections=4, seconds=1.2, longest=2.4)
    rule = LatencyRule(p95_ms=60, p99_ms=100, rate=100)
    for _ in range(2):
        with serving(frozen=(0.3, 0.6)) as peer:
            (found,) = measure([Target(peer.url, ROWS)], load, rule)
        assert "pass" not in [one.status for one in latency_rules(rule, found.latency, None)]
        assert found.latency.p99_ms > 100 or found.latency.stalls_ms


def test_what_could_not_be_sent_in_time_counts_as_late() -> None:
    with serving(delay=0.03) as peer:
        connection = Connection(peer.url, 5.0)
        asked = drive([connection], lambda i: request_of(peer.url, ROWS[0]), Schedule(50, 1_000_000, 0.1))
        connection.close()
    assert len(asked) == 50
    assert len(peer.rows) < 10


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ({"status": 422, "body": b'{"error": "no"}'}, "status 422: .*no"),
        ({"status": 503, "body": b""}, "status 503"),
        ({"status": 500, "body": b"Traceback"}, "status 500"),
        ({"body": b"<html>"}, "something else than a prediction: '<html>'"),
        ({"body": b'{"predictions": []}'}, "something else than a prediction"),
        ({"body": b'{"predictions": [{"score": null}]}'}, "something else than a prediction"),
        ({"hang_up": True}, "closed the connection"),
        ({"raw": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n"}, "without Content-Length"),
        ({"raw": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{} and more"}, "more than the Content-Length"),
        ({"raw": b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{}"}, "timed out"),
        ({"raw": b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n{}"}, "99,999,999,999 bytes"),
        ({"raw": b"HTTP/1.1 200 OK\r\n"}, "timed out"),
        ({"raw": b"SSH-2.0-OpenSSH_9.6\r\n"}, "no HTTP/1.1: 'SSH"),
        ({"raw": b"HTTP/1.0 200 OK\r\n\r\n"}, "no HTTP/1.1"),
        ({"between": 0.2}, "timed out"),  # byte by byte, each in time
        ({"delay": 0.5}, "timed out"),
    ],
)
def test_a_server_that_misbehaves_is_an_error(behaviour: dict[str, object], says: str) -> None:
    load = Load(requests=60, warmup=5, connections=2, seconds=0.05, timeout=0.3)
    began = time.monotonic()
    with serving(**behaviour) as peer, pytest.raises(EngineError, match=says):  # type: ignore[arg-type]
        measure([Target(peer.url, ROWS)], load)
    assert time.monotonic() - began < 30


def test_a_server_that_hangs_in_the_middle_is_an_error() -> None:
    load = Load(requests=60, warmup=5, connections=2, seconds=0.05, timeout=0.3)
    with serving(stall=(40, 2.0)) as peer, pytest.raises(TransientError, match="timed out"):
        measure([Target(peer.url, ROWS)], load)


def test_a_server_that_is_not_there_is_transient() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(TransientError, match="cannot be reached"):
            measure([Target(f"http://127.0.0.1:{free.getsockname()[1]}", ROWS)], QUICK)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "ftp://x", "127.0.0.1:8000", ""])
def test_only_plain_http_is_measured(url: str) -> None:
    with pytest.raises(EngineError, match="http://"):
        measure([Target(url, ROWS)], QUICK)


def test_the_real_server_with_all_evidence(tmp_path: Path) -> None:
    """One server as candidate and champion, by bounds that no machine is near to."""
    bundle = make_bundle(tmp_path / "bundle", SIGNATURE)
    rows = [{**ROW, "distance": 1000 + place} for place in range(50)]
    load = Load(requests=200, warmup=50, seconds=0.5, longest=1.0)
    with start(bundle.path, reference="models:/delay/7", deployment="delay", spool=tmp_path / "spool") as server:
        target = Target(server.url, rows, pid=server.pid, cold_start=server.cold_start)
        found = [each.latency for each in measure([target, target], load, LatencyRule(rate=250))]
        processes = tree(server.pid)
    candidate, champion = found
    assert candidate.requests >= 30
    assert (candidate.rate, candidate.rounds) == (250, champion.rounds)
    assert candidate.memory is not None
    assert len(processes) >= candidate.memory.processes >= 2
    assert 20 < candidate.memory.steady_mb <= candidate.memory.peak_mb < candidate.memory.rss_peak_mb < 2000
    assert candidate.cold_start_own_s is not None
    assert candidate.cold_start_s is not None
    assert 0 < candidate.cold_start_own_s <= candidate.cold_start_s < 60
    assert all(0 < own.value <= candidate.max_ms for own in candidate.own.values())
    generous = LatencyRule(p50_ms=1000, may_slow=1000, throughput_at_least=0.1, cold_start_s=60, memory_mb=4000)
    assert "fail" not in [rule.status for rule in latency_rules(generous, *found)]
    strict = LatencyRule(p50_ms=0.001, may_slow=0.001, throughput_at_least=1e7, cold_start_s=0.001, memory_mb=1)
    assert "pass" not in [rule.status for rule in latency_rules(strict, *found)]


def test_waiting_for_a_cpu_is_known_thread_by_thread() -> None:
    """Threads of one interpreter wait for its lock, which is not waiting for a CPU; a process that has ended is 0."""
    threads = Threads(os.getpid())
    before = threads.now()
    threading.Event().wait(0.05)
    for then, now in zip(before, threads.now(), strict=True):
        assert 0 <= now.waited - then.waited < 5e9
        assert 0 <= now.ran - then.ran < 5e9
    threads.close()
    assert len(threads.now()) == len(before)
    assert tree(2**22) == []
    assert memory(2**22) is None
    assert Others([2**22]).cores() >= 0
