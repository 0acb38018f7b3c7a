"""What is tried again, how often, and what is not."""

from __future__ import annotations

import pytest

from trunkline.errors import EngineError, TransientError
from trunkline.warehouse.retry import again


class Work:
    """Fails as often as it is told to."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls, self.waits, self.told = 0, list[float](), list[str]()
        self._failures, self._error = failures, error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return self.calls

    def tell(self, text: str, done: float | None = None) -> None:
        self.told.append(text)


def test_what_may_pass_is_tried_again() -> None:
    work = Work(3, TransientError("another writer came first"))
    assert again(work, work.tell, sleep=work.waits.append) == 4
    assert work.told == ["another writer came first; trying again"] * 3
    assert [0.1 <= work.waits[0] <= 0.2, 0.2 <= work.waits[1] <= 0.4, 0.4 <= work.waits[2] <= 0.8] == [True] * 3


def test_patience_ends() -> None:
    work = Work(10**9, TransientError("the server is away"))
    with pytest.raises(TransientError, match="the server is away"):
        again(work, work.tell, patience=5, sleep=work.waits.append)
    assert max(work.waits) <= 5
    waiting = Work(10**9, TransientError("the server is away"))
    with pytest.raises(TransientError):
        again(waiting, waiting.tell, patience=0)
    assert waiting.calls == 1


def test_what_would_fail_again_is_not_tried_again() -> None:
    work = Work(1, EngineError("no such table"))
    with pytest.raises(EngineError, match="no such table"):
        again(work, work.tell)
    assert (work.calls, work.told) == (1, [])
