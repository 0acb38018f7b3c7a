"""What others took of the machine is told from what the server's own threads took of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from trunkline.gate.machine import Threads, cpu_by_thread
from trunkline.gate.waiting import Look, OnCpu, Waiting, _taken

MS = 1_000_000


def looks(*rows: Sequence[float], quiet: Sequence[int] = ()) -> list[Look]:
    """Of each look the moment, then of each thread how long it ran and waited so far, all in ms; in the end `late`.

    `quiet` are the places of those before which nothing was to be answered.
    """
    made = []
    for place, (moment, *threads, late) in enumerate(rows):
        pairs = zip(threads[::2], threads[1::2], strict=True)
        on_cpu = [OnCpu(round(ran * MS), round(waited * MS)) for ran, waited in pairs]
        made.append(Look(round(moment * MS), on_cpu, round(moment * MS), round(late * MS), place in quiet))
    return made


def took(rows: list[Look]) -> float:
    """Milliseconds in all that others took."""
    return sum(max(found, 0) for _, found, _ in _taken(rows)) / MS


def test_a_wait_while_none_of_ours_ran_is_the_others_doing() -> None:
    seen = looks([0, 0, 0, 0, 0, 0], [1, 0.1, 0, 0.1, 0, 0], [5, 0.2, 0, 0.2, 4, 0])
    assert took(seen) == pytest.approx(3.8)  # of 4 ms of waiting 0.2 at most were of ours
    assert Waiting(seen).waited(0, 5 * MS) == 4 * MS


def test_threads_that_wait_for_each_other_lose_nothing_to_others() -> None:
    """One runs for 4 ms, the other waits that long, and only then is the wait told."""
    assert took(looks([0, 0, 0, 0, 0, 0], [4, 4, 0, 0, 0, 0], [4.1, 4, 0, 0.1, 4, 0])) == 0
    assert took(looks([0, 0, 0, 0, 0, 0], [2, 2, 0, 0, 0, 0], [4, 4, 0, 0, 0, 0], [4.1, 4, 0, 0.1, 4, 0])) == 0


def test_of_threads_that_waited_at_once_the_longest_counts() -> None:
    assert took(looks([0, 0, 0, 0, 0, 0], [6, 0, 5, 0, 4, 0])) == pytest.approx(5)


def test_a_pause_of_the_whole_machine_is_seen_by_who_sleeps() -> None:
    assert took(looks([0, 0, 0, 0], [9, 0, 0, 8])) == pytest.approx(8)
    assert took(looks([0, 0, 0, 0], [9, 7, 0, 8])) == pytest.approx(1)  # the one that asks was at work
    assert took(looks([0, 0, 0, 0], [9, 0, 0, 0.4])) == 0  # the grain of the clock


def test_who_is_stopped_while_it_looks_knows_the_others_runs_before_its_own_wait() -> None:
    """Between reading of itself and of the other thread it waits for 4 ms, in which the other runs."""
    seen = [Look(0, [OnCpu(0, 0), OnCpu(0, 0)], 0), Look(1 * MS, [OnCpu(0, 0), OnCpu(4 * MS, 0)], 5 * MS)]
    assert took([*seen, *looks([5.1, 0.1, 4, 4, 0, 0])]) == 0


def test_what_was_before_the_first_look_counts_for_nothing() -> None:
    assert took(looks([10, 0, 0, 0], [11, 0, 30, 0])) == pytest.approx(1)


def test_disturbed_is_what_was_asked_then_or_before_all_was_answered() -> None:
    """Others take 4 ms from 1 on; what piled up is answered at 7, and at 20 they come again, to the end."""
    rows = [[0, 0, 0, 0], [1, 0, 0, 0], [5, 0, 4, 0], [6, 0.9, 4, 0], [7, 1.8, 4, 0], [8, 1.9, 4, 0]]
    rows += [[20, 2, 4, 0], [23, 2, 7, 0], [24, 2.9, 7, 0]]
    seen = Waiting(looks(*rows, quiet=[4, 5]))
    expected = {(0, 0.9): False, (0.5, 1.5): True, (3, 5): True, (5.5, 6): True, (6.9, 7.5): True, (7.1, 19): False}
    expected |= {(21, 22): True, (23.5, 24): True, (8, 9): False, (0, 30): True}
    assert {when: seen.disturbed(*(round(moment * MS) for moment in when)) for when in expected} == expected


def test_of_one_request() -> None:
    def disturbed(before: list[OnCpu], after: list[OnCpu]) -> bool:
        return Waiting([Look(0, before, 0), Look(30 * MS, after, 30 * MS)]).disturbed(0, 30 * MS)

    before = [OnCpu(0, 0), OnCpu(5 * MS, 5 * MS)]
    assert disturbed(before, [OnCpu(MS, 0), OnCpu(6 * MS, 25 * MS)])
    assert not disturbed(before, [OnCpu(30 * MS, 0), OnCpu(6 * MS, 25 * MS)])
    assert not disturbed([], [])


def beside_neighbours() -> tuple[list[Look], list[Look]]:
    """With real processes, all on one CPU: two take time from a thread that wants to run all the time. What is seen of

    it alone, and of all three.
    """
    alone, together = list[Look](), list[Look]()
    cpu, before = min(os.sched_getaffinity(0)), cpu_by_thread(os.getpid())
    command = f"import os; os.sched_setaffinity(0, [{cpu}]); print(flush=True)\nwhile True: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE) for _ in range(2)]

    def compute() -> None:
        os.sched_setaffinity(0, [cpu])  # of this thread alone
        threads = Threads(os.getpid(), before)  # those that have worked since: the neighbours, and hardly anything else
        while not alone or alone[-1].moment < alone[0].moment + 500 * MS:
            moment, seen, known = time.perf_counter_ns(), threads.now(), time.perf_counter_ns()
            alone.append(Look(moment, seen[:1], known))
            together.append(Look(moment, seen, known))
        threads.close()

    try:
        for neighbour in neighbours:
            assert neighbour.stdout is not None
            neighbour.stdout.readline()
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.communicate()
    return alone, together


def test_neighbours_that_compute_are_told_from_processes_of_ours() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no way to keep threads on one CPU")
    for _ in range(10):
        alone, together = beside_neighbours()
        if took(together) < 0.9 * took(alone):  # else other programs had most of that CPU meanwhile
            break
    assert took(alone) > 100
    assert took(together) < 0.9 * took(alone)  # of what is left, other programs on that CPU may have some
