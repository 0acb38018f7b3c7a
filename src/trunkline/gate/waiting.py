"""From what the kernel says of threads to what others took of the machine. Pure.

A thread that is ready to run and does not run is kept from its CPU by whoever runs there. If that is another thread of
ours, it ran meanwhile, and how long is known; so what all of ours together did not run of that time was surely taken by
others. The same goes for a sleep that ends too late: nobody of ours ran, nobody of ours waited, and the time is gone,
as when a hypervisor stops the whole machine. What is asked then, and until all that has piled up is answered, is
disturbed, and tells nothing of the server.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Look", "OnCpu", "Waiting"]

_PAUSE = 500_000
"""Nanoseconds from which on a sleep that ends late is a pause; before, it is the clock's grain."""
_LEAST = 200_000
"""Nanoseconds taken by others that disturb."""


class OnCpu(NamedTuple):
    """One thread so far: for how long it ran, and for how long it was ready to run and did not, in nanoseconds."""

    ran: int
    waited: int


@dataclass(frozen=True)
class Look:
    """All threads at a moment, in nanoseconds; they had been looked at by `known`. `late` is how much later than asked

    a sleep has just ended; `quiet`, that nothing was to be answered when it began.
    """

    moment: int
    threads: Sequence[OnCpu]
    known: int
    late: int = 0
    quiet: bool = False


class Waiting:
    """What a series of looks tells of any time between two of them."""

    def __init__(self, looks: Sequence[Look]) -> None:
        self._moments = [look.moment for look in looks]
        self._waited = [sum(thread.waited for thread in look.threads) for look in looks]
        self._disturbed = list(_disturbed(looks))

    def waited(self, begin: int, end: int) -> int:
        """Nanoseconds that threads waited for a CPU, all of them together."""
        first, last = (max(bisect.bisect_right(self._moments, moment) - 1, 0) for moment in (begin, end))
        return self._waited[last] - self._waited[first]

    def disturbed(self, begin: int, end: int) -> bool:
        """Whether others took time then, or had, and what had piled up was not all answered yet."""
        place = bisect.bisect_right(self._disturbed, end, key=lambda one: one[0])  # the first that begins later
        return place > 0 and self._disturbed[place - 1][1] >= begin


def _disturbed(looks: Sequence[Look]) -> Iterator[tuple[int, int]]:
    """From when to when, one after the other; none overlaps the next."""
    since, until = 0, 0
    for place, taken, longest in _taken(looks):
        began = looks[place].known - longest
        if taken <= _LEAST or looks[place].moment <= until:
            continue
        if until:
            yield since, until
        since = max(began, until)
        until = next((look.moment for look in looks[place + 1 :] if look.quiet), looks[-1].moment)
    if until:
        yield since, until


def _taken(looks: Sequence[Look]) -> Iterator[tuple[int, int, int]]:
    """Of each look that ended a wait: its place, what others took of the longest one, and how long that was."""
    known = [look.known for look in looks]
    ran = [sum(thread.ran for thread in look.threads) for look in looks]
    for place, (then, now) in enumerate(pairwise(looks), 1):
        waits = [one.waited - before.waited for before, one in zip(then.threads, now.threads, strict=True)]
        longest = max([*waits, now.late if now.late > _PAUSE else 0])
        if longest <= 0:
            continue
        began = bisect.bisect_right(known, now.known - longest) - 1
        if began < 0:  # what was before the first look is not known
            longest, began = now.known - known[0], 0
        yield place, longest - (ran[place] - ran[began]), longest
