"""What the machine did meanwhile: how long a server waited for a CPU, its memory, how busy everybody else was.

Time on a shared machine has two parts: what the server takes, and what others take from it. Linux counts the second
for each thread: the nanoseconds it was ready to run and was not running (`run_delay` in `/proc/PID/task/TID/schedstat`,
Documentation/scheduler/sched-stats.rst). On other systems nothing is known and nothing is taken off.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline.gate.evidence import Memory
from trunkline.gate.waiting import OnCpu

_LEAST_SHARE = 0.002
"""A thread with less than this share of a server's CPU time does not work on requests."""


def tree(pid: int) -> list[int]:
    """The process and all below it; empty if it has ended, or on a system without /proc."""
    found = [pid] if Path(f"/proc/{pid}").is_dir() else []
    for file in _of_threads(pid, "children"):
        with contextlib.suppress(OSError):
            found += [member for child in file.read_text().split() for member in tree(int(child))]
    return found


def _of_threads(pid: int, name: str) -> list[Path]:
    """The file `name` of each thread of a process; none if it has ended."""
    found: list[Path] = []
    with contextlib.suppress(OSError):
        found.extend(Path(f"/proc/{pid}/task").glob(f"*/{name}"))
    return found


class Threads:
    """What the threads that work on requests did with their CPUs: the one that asks, first, and those of a server.

    Made while the server is loaded, it finds its threads by what they did since `before`, a `cpu_by_thread`.
    """

    def __init__(self, pid: int | None, before: dict[Path, int] | None = None) -> None:
        files = [Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")]
        if pid is not None:
            spent = {file: cpu - (before or {}).get(file, 0) for file, cpu in cpu_by_thread(pid).items()}
            files += [file for file, cpu in spent.items() if cpu > _LEAST_SHARE * sum(spent.values())]
        self._open: list[int] = []
        for file in files:
            with contextlib.suppress(OSError):
                self._open.append(os.open(file, os.O_RDONLY))
        self._last = [OnCpu(0, 0)] * len(self._open)

    def now(self) -> list[OnCpu]:
        """Each of them so far; only differences mean something."""
        try:
            self._last = [OnCpu(*map(int, os.pread(file, 64, 0).split()[:2])) for file in self._open] or self._last
        except (OSError, TypeError):  # a thread has ended: of this server nothing more is known
            self.close()
        return self._last

    def close(self) -> None:
        """Let the files go."""
        for file in self._open:
            os.close(file)
        self._open = []


def cpu_by_thread(pid: int) -> dict[Path, int]:
    """CPU time of each thread of a server's processes, in nanoseconds, by its file in /proc."""
    return {file: numbers[0] for file, numbers in _schedstat(pid)}


def waited_at_start(pid: int) -> float:
    """Seconds that the first threads of a server's processes have waited for a CPU since they began."""
    main = [numbers[1] for file, numbers in _schedstat(pid) if file.parts[2] == file.parts[4]]
    return sum(main) / 1e9


def _schedstat(pid: int) -> Iterator[tuple[Path, list[int]]]:
    for member in tree(pid):
        for file in _of_threads(member, "schedstat"):
            with contextlib.suppress(OSError):
                yield file, [int(number) for number in file.read_text().split()]


def memory(pid: int) -> Memory | None:
    """What a server's processes hold now, pages they share counted once, and the most they held, shared ones counted

    in each. None where the system does not tell.
    """
    share, peak, processes = 0, 0, 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            share += _kilobytes(Path(f"/proc/{member}/smaps_rollup"), "Pss:")
            peak += _kilobytes(Path(f"/proc/{member}/status"), "VmHWM:")
            processes += 1
    return Memory(share / 1024, share / 1024, peak / 1024, processes) if processes and share else None


def _kilobytes(file: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith(name)), 0)


def stolen() -> int:
    """For how long a hypervisor let somebody else run, in ticks of this system's clock; 0 where none tells."""
    numbers = _stat()
    return numbers[7] if len(numbers) > 7 else 0


def _stat() -> list[int]:
    """User, nice, system, idle, iowait, irq, softirq and steal, in ticks; empty where the system does not tell."""
    try:
        return [int(number) for number in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return []


@dataclass(frozen=True)
class _Spent:
    at: float
    busy: float
    ours: float


class Others:
    """How many cores everybody else kept busy, the hypervisor's other guests included, between two calls."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._last = self._now()

    def cores(self) -> float:
        """Since the last call, or since this was made; 0 where the system does not tell."""
        before, self._last = self._last, self._now()
        seconds = self._last.at - before.at
        return max(self._last.busy - before.busy - (self._last.ours - before.ours), 0.0) / max(seconds, 1e-3)

    def _now(self) -> _Spent:
        numbers = _stat()
        if not numbers:
            return _Spent(time.perf_counter(), 0.0, 0.0)
        ticks = os.sysconf("SC_CLK_TCK")
        busy = (sum(numbers) - numbers[3] - numbers[4]) / ticks  # but idle and waiting for a disk
        return _Spent(time.perf_counter(), busy, sum(map(_cpu_seconds, [os.getpid(), *self._pids])))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
