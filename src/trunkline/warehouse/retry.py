"""Doing it again when another writer came first or a server was away: written once, around the whole transaction."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from trunkline.errors import TransientError
from trunkline.warehouse.protocol import Tell

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.2, 8.0


def again(do: Callable[[], T], tell: Tell, *, patience: float = 60.0, sleep: Callable[[float], None] = time.sleep) -> T:
    """The result of `do`, which may be called several times: a `TransientError` means that nothing of it was done.

    Waits twice as long each time, by chance a little less, so that two who hindered each other do not meet again. The
    error is raised once `patience` seconds have gone by since the first call.
    """
    start, wait = time.monotonic(), _FIRST_WAIT
    while True:
        try:
            return do()
        except TransientError as exc:
            if time.monotonic() - start + wait > patience:
                raise
            tell(f"{exc.what}; trying again")
        sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, _LONGEST_WAIT)
