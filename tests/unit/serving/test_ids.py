"""Prediction ids: version 7, rising, unlike in every process."""

from __future__ import annotations

import threading
import uuid
from itertools import pairwise

from trunkline.serving.ids import PredictionIds


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    (text,) = PredictionIds(lambda: 1_700_000_000_123 * 1_000_000).take(1)
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_123
    assert str(parsed) == text


def test_ids_rise_also_while_the_clock_stands_still_or_steps_back() -> None:
    clock = iter([5_000_000, 5_000_000, 4_000_000, 6_000_000, 6_000_000])
    ids = PredictionIds(lambda: next(clock))
    taken = [text for count in (1, 3, 2, 1, 2) for text in ids.take(count)]
    assert all(a < b for a, b in pairwise(taken))


def test_two_makers_with_one_clock_do_not_meet() -> None:
    one, other = PredictionIds(lambda: 0), PredictionIds(lambda: 0)
    assert not set(one.take(5000)) & set(other.take(5000))


def test_threads_get_unlike_ids() -> None:
    ids = PredictionIds(lambda: 0)
    taken: list[str] = []
    threads = [threading.Thread(target=lambda: taken.extend(ids.take(1)[0] for _ in range(2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 8000
