"""Where the processes that fit one XGBoost model find each other. A home of xgboost."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from xgboost.tracker import RabitTracker

__all__ = ["tracked"]


@contextlib.contextmanager
def tracked(host: str, world: int) -> Iterator[dict[str, Any]]:
    """Listen on `host`, this machine, for `world` processes, and say what each needs to come: settings of its peers.

    Ranks are those of the processes' `dmlc_task_id`s, in their order.
    """
    tracker = RabitTracker(n_workers=world, host_ip=host, sortby="task")
    tracker.start()
    try:
        yield dict(tracker.worker_args())
    finally:
        tracker.free()
