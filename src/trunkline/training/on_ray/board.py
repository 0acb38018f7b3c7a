"""Words between the processes of a job on Ray, through the store of the cluster's head. A home of ray.

A line costs a millisecond and no process of its own, which an actor would be.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put

__all__ = ["Board"]


@dataclass(frozen=True)
class Board:
    """Where the processes of one job leave JSON for each other, by name. Made by the job's driver."""

    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    def put(self, name: str, what: Any) -> None:
        """Leave `what`, in place of what was there."""
        _internal_kv_put(self._key(name), json.dumps(what).encode(), overwrite=True)

    def get(self, name: str) -> Any:
        """What was left last; None if nothing was."""
        found = _internal_kv_get(self._key(name))
        return None if found is None else json.loads(found)

    def wait(self, name: str, seconds: float) -> Any:
        """What is left there within `seconds`. Raises TimeoutError."""
        ends = time.monotonic() + seconds
        while (found := self.get(name)) is None:
            if time.monotonic() > ends:
                raise TimeoutError(f"nobody told {name} in {seconds:.0f} s")
            time.sleep(0.05)
        return found

    def clear(self) -> None:
        """Take away all that was left."""
        _internal_kv_del(self._key(""), del_by_prefix=True)

    def _key(self, name: str) -> bytes:
        return f"trunkline/{self.name}/{name}".encode()
