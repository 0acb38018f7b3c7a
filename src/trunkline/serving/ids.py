"""Prediction ids: UUIDs of version 7, which sort by time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

_LOW_62 = (1 << 62) - 1
_LOW_48 = (1 << 48) - 1


class PredictionIds:
    """Makes ids for one process; thread-safe.

    Layout of RFC 9562 §5.7: 48 bits of Unix milliseconds, then 74 bits that are random at each new millisecond and
    count up within it (§6.2, method 2), so ids of one process rise strictly and ids of several processes do not meet.
    The clock may stand still or step back: ids go on from the highest millisecond seen.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._random = random.Random()  # seeded from the system's entropy, so unlike in each process
        self._lock = threading.Lock()
        self._millisecond = -1
        self._tail = 0

    def take(self, count: int) -> list[str]:
        """`count` fresh ids, rising."""
        with self._lock:
            millisecond = self._clock_ns() // 1_000_000
            if millisecond > self._millisecond:
                self._millisecond = millisecond
                self._tail = self._random.getrandbits(73)  # the 74th bit stays free, so that counting cannot overflow
            first, self._tail = self._tail, self._tail + count
            stamp = self._millisecond
        prefix = f"{stamp >> 16:08x}-{stamp & 0xFFFF:04x}-"
        return [_spell(prefix, first + offset) for offset in range(count)]


def _spell(prefix: str, tail: int) -> str:
    high, low = tail >> 62, tail & _LOW_62
    return f"{prefix}{0x7000 | high:04x}-{0x8000 | low >> 48:04x}-{low & _LOW_48:012x}"
