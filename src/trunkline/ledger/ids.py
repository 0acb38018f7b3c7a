"""Ids of ledger rows: a short prefix, then a time-ordered random part (UUID version 7, RFC 9562) in hex."""

from __future__ import annotations

import os
import time


def new_id(prefix: str) -> str:
    """A new id, for example `load_019a3f…`. Sorts by time of creation; 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return f"{prefix}_{value:032x}"
