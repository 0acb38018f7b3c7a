"""How fast running servers are, seen by a client on the same machine.

The phase is made of rounds, half a second each or so. In a round, requests go to the servers in turn, one each, in an
order that is drawn; then each server gets a block of requests on a schedule, which lasts until they are answered, and a
short one of as many as it can take.
So what else the machine does hits all servers alike, and what is left of it is told from the servers' own time by what
the kernel says of waiting threads (`machine`). Three times at most, at planned moments, the phase asks whether the
rules are decided, and ends if they are.
"""

from __future__ import annotations

import gc
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from trunkline.errors import EngineError
from trunkline.gate import machine
from trunkline.gate.client import Asked, Connection, Schedule, drive, excerpt, request_of
from trunkline.gate.evidence import Latency, Memory, Own
from trunkline.gate.latency_rules import BUSY_CORES, settled
from trunkline.gate.policy import LatencyRule
from trunkline.gate.timings import QUANTILES, Block, limits, own_times, paired, quantile, ratio, throughput
from trunkline.gate.waiting import Look, Waiting
from trunkline.models.answer import numbers
from trunkline.models.task import BINARY, Task

__all__ = ["Load", "Measured", "Target", "measure"]

_TURNS_SECONDS, _OPEN_SECONDS, _CLOSED_SECONDS = 0.2, 0.12, 0.05
"""What a round gives each server: for single requests, requests on a schedule, and as many as it can take."""
_BUSY_TURNS = 4
"""How much longer single requests may take in a round where others kept the machine busy in the last one."""
_STALL = 10
"""A request that lasts as long as so many gaps of the schedule is a stall: so many others would have waited with it."""
_LEAST, _MOST = 10, 100
"""Single requests of a round to each server."""
_MOST_STALLS = 1000
"""That are kept: the longest."""


@dataclass(frozen=True)
class Target:
    """A server to measure: its address, as in `http://127.0.0.1:8000`, the rows to send it, as JSON values, and what

    it answers a row. `pid` is the process that it is, or that leads it, and `cold_start` the seconds from its start to
    its first answer; without them there is no such evidence, and no telling what others took from it.
    """

    url: str
    rows: Sequence[Mapping[str, object]]
    task: Task = BINARY
    pid: int | None = None
    cold_start: float | None = None


@dataclass(frozen=True)
class Load:
    """How much is asked of each server.

    Before the clock starts: every row once, `warmup` requests at least. Then rounds for `seconds`, with `requests` one
    at a time at least; if the rules are not decided by then, on for up to `longest` seconds. On a schedule, requests go
    at `rate` a second, or at `share` of the throughput of the slower server, over `connections`.
    """

    requests: int = 1000
    warmup: int = 200
    connections: int = 4
    seconds: float = 5.0
    longest: float = 20.0
    timeout: float = 10.0
    rate: float | None = None
    share: float = 0.3


@dataclass(frozen=True)
class Measured:
    """Latency of one server, and the numbers of its answer to each of its rows, in order."""

    latency: Latency
    answers: tuple[tuple[float, ...], ...]


def measure(targets: Sequence[Target], load: Load | None = None, rule: LatencyRule | None = None) -> list[Measured]:
    """Measure `targets`, interleaved: the candidate and, if there is one, the champion. `rule` says what is to be

    decided, and the rate; without it, the phase takes `load.seconds`.

    Raises `EngineError` for an answer that is not 200 or holds no score, `TransientError` for a server out of reach.
    """
    load, rule = load or Load(), rule or LatencyRule()
    if rule.rate is not None:
        load = replace(load, rate=rule.rate)
    with ExitStack() as stack:
        servers = [_Server(target, load, stack) for target in targets]
        answers = [server.warm_up() for server in servers]
        rate = load.rate or max(load.share * min(server.calibrate() for server in servers), 1.0)
        phase = _Phase(servers, load, rate)
        found: list[Latency] = []
        while not found:
            phase.run_until_look()
            latencies = phase.latencies()
            if phase.over or settled(rule, latencies[0], latencies[1] if len(latencies) > 1 else None):
                found = latencies
    return [Measured(*pair) for pair in zip(found, answers, strict=True)]


@dataclass
class _Seen:
    """What the rounds so far have shown of one server; `single` and `open` one block a round, rates in requests/s."""

    single: list[Block] = field(default_factory=list)
    open: list[Block] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    stolen: list[float] = field(default_factory=list)
    memory: Memory | None = None


class _Server:
    """One target with its connections, what it is sent, and what has been seen of it."""

    def __init__(self, target: Target, load: Load, stack: ExitStack) -> None:
        self.target, self._load, self._stack = target, load, stack
        self.seen = _Seen()
        self.threads = machine.Threads(None)
        self._requests = [request_of(target.url, row) for row in target.rows]
        self._next = 0
        self._single = self._connect()
        self._lanes = [self._connect() for _ in range(load.connections)]
        self.waited_at_start = machine.waited_at_start(target.pid) if target.pid else 0.0

    def _connect(self) -> Connection:
        connection = Connection(self.target.url, self._load.timeout)
        self._stack.callback(connection.close)
        return connection

    def request(self, ahead: int = 0) -> bytes:
        """What is to be sent next: row after row, over and over."""
        return self._requests[(self._next + ahead) % len(self._requests)]

    def warm_up(self) -> tuple[tuple[float, ...], ...]:
        """Every row once, `warmup` requests at least; the answers to the rows. Finds the threads that answer."""
        before = machine.cpu_by_thread(self.target.pid) if self.target.pid else None
        bodies = [self._single.ask(request) for request in self._requests]
        for place in range(len(bodies), self._load.warmup):
            self._single.ask(self._requests[place % len(bodies)])
        self.threads.close()
        self.threads = machine.Threads(self.target.pid, before)
        self._stack.callback(self.threads.close)
        return tuple(_scores(body, self.target) for body in bodies)

    def calibrate(self) -> float:
        """Answers a second, at first sight."""
        return self._closed(min(0.3, max(self._load.seconds / 4, 0.02)))[0]

    def ask(self) -> Asked:
        """One request, due when it is sent."""
        request, before, began = self.request(), self.threads.now(), time.perf_counter_ns()
        self._single.ask(request)
        ended, after = time.perf_counter_ns(), self.threads.now()
        self._next += 1
        waiting = Waiting([Look(began, before, began), Look(ended, after, ended)])
        return Asked(began, ended, waiting.waited(began, ended), waiting.disturbed(began, ended))

    def on_schedule(self, rate: float, seconds: float) -> list[Asked]:
        """Requests at `rate` a second for so long."""
        count, before = max(round(rate * seconds), 1), machine.stolen()
        schedule = Schedule(count, round(1e9 / rate), max(seconds, count / rate) + self._load.timeout)
        asked = drive(self._lanes, self.request, schedule, self.threads.now)
        self._next += len(asked)
        if machine.stolen() > before:  # some time in this block, and nobody knows when
            return [each._replace(disturbed=True) for each in asked]
        return asked

    def as_many_as_it_can(self, seconds: float) -> None:
        """Requests over all connections, each asking again as soon as it is answered."""
        rate, stolen = self._closed(seconds)
        self.seen.rates.append(rate)
        self.seen.stolen.append(stolen)

    def _closed(self, seconds: float) -> tuple[float, float]:
        """Answers a second, and the share of the time that the unluckiest thread waited for a CPU."""
        before, began = self.threads.now(), time.perf_counter_ns()
        stop, count = began + int(seconds * 1e9), 0
        while count == 0 or time.perf_counter_ns() < stop:
            burst = 8 * len(self._lanes)
            drive(self._lanes, self.request, Schedule(burst, 0, self._load.timeout))
            self._next += burst
            count += burst
        spent = time.perf_counter_ns() - began
        waits = [now.waited - then.waited for then, now in zip(before, self.threads.now(), strict=True)]
        longest = max(waits, default=0)
        return count * 1e9 / spent, longest / spent


class _Phase:
    """The rounds, and when to look at what they have shown."""

    def __init__(self, servers: Sequence[_Server], load: Load, rate: float) -> None:
        self._servers, self._load, self._rate = servers, load, rate
        self._began = time.perf_counter()
        self._looks = [load.seconds, (load.seconds + load.longest) / 2, load.longest]
        self._shuffle = random.Random(0)
        pids = [pid for server in servers if server.target.pid for pid in machine.tree(server.target.pid)]
        self._others = machine.Others(pids)
        self._cores: list[float] = []
        self._asked = 0

    @property
    def over(self) -> bool:
        """Whether there is no look left."""
        return not self._looks

    def run_until_look(self) -> None:
        """Rounds until the next planned moment; one at least."""
        moment = self._looks.pop(0)
        first = not self._cores
        with _no_collection():
            while True:
                self._round()
                enough = self._asked >= self._load.requests or not first
                if self._seconds >= (moment if enough else self._load.longest):
                    break
        if self._looks and self._seconds >= self._looks[-1]:
            self._looks.clear()

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began

    def _round(self) -> None:
        turns = self._in_turn()
        blocks: list[list[Asked]] = [[] for _ in self._servers]
        seconds = min(_OPEN_SECONDS, max(self._load.seconds, 0.01))
        for which in self._shuffle.sample(range(len(self._servers)), len(self._servers)):
            blocks[which] = self._servers[which].on_schedule(self._rate, seconds)
            self._servers[which].as_many_as_it_can(min(_CLOSED_SECONDS, seconds))
        self._cores.append(self._others.cores())
        shared = self._cores[-1] > BUSY_CORES
        for server, turn, block in zip(self._servers, turns, blocks, strict=True):
            server.seen.open.append(_block(block, shared))
            server.seen.single.append(_block(turn, shared))
            if server.target.pid:
                server.seen.memory = _more(server.seen.memory, machine.memory(server.target.pid))

    def _in_turn(self) -> list[list[Asked]]:
        turns: list[list[Asked]] = [[] for _ in self._servers]
        order = list(range(len(self._servers)))
        busy = bool(self._cores) and self._cores[-1] > BUSY_CORES
        # Where it is busy, single requests are what the rules go by, and each takes long.
        stop = time.perf_counter() + _TURNS_SECONDS * len(self._servers) * (_BUSY_TURNS if busy else 1)
        most = max(min(self._load.requests, _MOST), 1)
        for count in range(most):
            if count >= _LEAST and time.perf_counter() > stop:
                break
            self._shuffle.shuffle(order)
            for which in order:
                turns[which].append(self._servers[which].ask())
        self._asked += len(turns[0])
        return turns

    def latencies(self) -> list[Latency]:
        """What has been seen so far, of each server."""
        return [self._latency(server, server is self._servers[0]) for server in self._servers]

    def _latency(self, server: _Server, candidate: bool) -> Latency:
        seen, target = server.seen, server.target
        pooled = np.sort(np.concatenate([block.seen for block in seen.open]))
        single = np.concatenate(own_times(seen.single))
        rates = throughput(seen.rates, seen.stolen if self._shared else [0.0] * len(seen.rates))
        if self._shared:
            rates = replace(rates, low=max(rates.low or 0.0, 1e3 / float(single.mean())))
        p50, p95, p99 = (quantile(pooled, share) for _, share in QUANTILES)
        return Latency(
            len(pooled),
            p50,
            p95,
            p99,
            float(pooled[-1]),
            rates.value,
            self._load.connections,
            rate=self._rate,
            quantiles_ms=tuple(round(quantile(pooled, place / 100), 4) for place in range(1, 101)),
            own={name: limits(own_times(seen.open), share) for name, share in QUANTILES},
            single_ms={name: quantile(single, share) for name, share in QUANTILES},
            single={name: limits(own_times(seen.single), share) for name, share in QUANTILES},
            single_requests=len(single),
            stalls_ms=self._stalls(seen),
            watched_seconds=self._watched(seen),
            slower=self._slower() if candidate and len(self._servers) > 1 else {},
            throughput=rates,
            cold_start_s=target.cold_start,
            cold_start_own_s=self._cold_start_own(server),
            memory=seen.memory,
            others_cores=float(np.mean(self._cores)),
            cores=os.cpu_count() or 1,
            waited_ms=quantile(np.concatenate([block.waited for block in seen.open]), 0.99),
            rounds=len(self._cores),
            seconds=self._seconds,
        )

    def _stalls(self, seen: _Seen) -> tuple[float, ...]:
        """Of requests on a schedule, which wait together, the slowest of each block."""
        single = np.concatenate(own_times(seen.single)).tolist()
        times = [*single, *(float(block.max()) for block in own_times(seen.open))]
        return tuple(sorted((time for time in times if time > _STALL * 1e3 / self._rate), reverse=True)[:_MOST_STALLS])

    def _watched(self, seen: _Seen) -> float:
        """For how long one would have seen a stall: the time of single requests, and that of the schedule."""
        single = float(np.concatenate(own_times(seen.single)).sum()) / 1e3
        return single + sum(map(len, own_times(seen.open))) / self._rate

    @property
    def _shared(self) -> bool:
        return float(np.mean(self._cores)) > BUSY_CORES

    def _cold_start_own(self, server: _Server) -> float | None:
        seconds = server.target.cold_start
        return seconds if seconds is None or not self._shared else max(seconds - server.waited_at_start, 0.0)

    def _slower(self) -> dict[str, Own]:
        ours, theirs = paired(*(server.seen.single for server in self._servers[:2]))
        return {name: ratio(ours, theirs, share) for name, share in QUANTILES}


def _block(asked: Sequence[Asked], shared: bool) -> Block:
    seen, waited = np.array([[each.done - each.due, each.waited] for each in asked], np.float64).T / 1e6
    return Block(seen, waited, np.array([each.disturbed for each in asked]), shared)


def _more(before: Memory | None, now: Memory | None) -> Memory | None:
    if before is None or now is None:
        return now or before
    return replace(now, peak_mb=max(before.peak_mb, now.peak_mb), rss_peak_mb=max(before.rss_peak_mb, now.rss_peak_mb))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Our own pauses are not the server's."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _scores(body: bytes, target: Target) -> tuple[float, ...]:
    try:
        return numbers(target.task, json.loads(body)["predictions"][0])
    except (ValueError, KeyError, IndexError, TypeError) as exc:
        raise EngineError(f"{target.url}/predict answers something else than a prediction: {excerpt(body)}") from exc
