"""Events of a source as batches: what is committed when, and what a failure or a kill leaves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingest.streaming import World, table
from trunkline.errors import SourceError, TransientError
from trunkline.ingest.protocol import Batch
from trunkline.ingest.streams import Checkpoint, Event, Limits, Rows, Truncate, batches, last_state

SMALL = Limits(batch_bytes=2_000, batch_seconds=60, ahead_bytes=4_000, block_bytes=500)


def _batches(
    world: World, events: Callable[[Any], Iterable[Event]], limits: Limits = SMALL, **more: Any
) -> Iterator[Batch]:
    since = world.since(more.pop("refresh", False))
    return batches(world.reach(), since, lambda: events(last_state(since)), limits=limits, **more)


def _counting(to: int, *, fail: int | None = None, checkpoints: bool = True) -> Callable[[Any], Iterator[Event]]:
    """Ten rows a page, a checkpoint after each; fails in the middle of page `fail`."""

    def events(state: Any) -> Iterator[Event]:
        for page in range(state or 0, to):
            yield Rows("s.t", [{"a": page * 10 + i, "b": "x" * 20} for i in range(5)])
            if page == fail:
                raise TransientError("the line is dead")
            yield Rows("s.t", [{"a": page * 10 + i, "b": "x" * 20} for i in range(5, 10)])
            if checkpoints:
                yield Checkpoint(page + 1)

    return events


def _numbers(world: World, name: str = "s.t") -> list[int]:
    return [row["a"] for row in world.held[name]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, (table(),))


def test_a_batch_ends_at_a_checkpoint_once_it_is_large(world: World) -> None:
    world.load(_batches(world, _counting(50)))
    assert _numbers(world) == list(range(500))
    assert len(world.loads) > 5
    assert all(load["s.t"] % 10 == 0 for load in world.loads)
    assert world.cursor == {"state": 50, "content": {}}
    assert list((world.root / "scratch").iterdir()) == []


def test_a_failure_keeps_what_a_checkpoint_covers_and_the_next_load_goes_on(world: World) -> None:
    with pytest.raises(TransientError, match="the line is dead"):
        world.load(_batches(world, _counting(50, fail=33)))
    assert _numbers(world) == list(range(330))
    world.load(_batches(world, _counting(50)))
    assert _numbers(world) == list(range(500))


@pytest.mark.parametrize("most", [1, 2, 5])
def test_killed_after_any_batch_nothing_is_lost_or_doubled(world: World, most: int) -> None:
    world.load(_batches(world, _counting(50)), most=most)
    assert 0 < len(_numbers(world)) < 500
    world.load(_batches(world, _counting(50)))
    assert _numbers(world) == list(range(500))


def test_rows_without_a_checkpoint_wait_on_disk_for_the_end(world: World) -> None:
    seen: list[int] = []

    def events(state: Any) -> Iterator[Event]:
        for event in _counting(80, checkpoints=False)(state):
            yield event
            seen.append(sum(file.stat().st_size for file in (world.root / "scratch").iterdir()))

    world.load(_batches(world, events))
    assert _numbers(world) == list(range(800))
    assert len(world.loads) == 1
    assert max(seen) > 0
    assert list((world.root / "scratch").iterdir()) == []
    with pytest.raises(TransientError):
        world.load(_batches(world, _counting(80, fail=70, checkpoints=False)))
    assert len(world.loads) == 1


def test_an_old_batch_is_committed_though_it_is_small_and_nothing_comes(world: World) -> None:
    going_on = threading.Event()

    def events(state: Any) -> Iterator[Event]:
        yield Rows("s.t", {"a": 1})
        yield Checkpoint("one")
        assert going_on.wait(20)
        yield Rows("s.t", {"a": 2})
        yield Checkpoint("two")

    for batch in _batches(world, events, Limits(batch_seconds=0.2)):
        world._commit(batch)
        if not going_on.is_set():
            assert world.cursor == {"state": "one", "content": {}}
            going_on.set()
    assert _numbers(world) == [1, 2]


def test_a_replaced_table_is_replaced_once_and_at_the_end(tmp_path: Path) -> None:
    world = World(tmp_path, (table(load="replace"),))
    for _ in range(2):
        world.load(_batches(world, lambda _: _counting(40)(None)))
        assert _numbers(world) == list(range(400))
    with pytest.raises(TransientError):
        world.load(_batches(world, lambda _: _counting(50, fail=45)(None)))
    assert _numbers(world) == list(range(400))
    assert len(world.loads) == 2
    world.load(_batches(world, lambda _: []))
    assert _numbers(world) == []


def test_a_table_that_has_not_changed_is_not_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, (table(load="replace-when-changed"),))

    def rows(numbers: Iterable[int]) -> Callable[[Any], Iterator[Event]]:
        return lambda _: iter([Rows("s.t", [{"a": n, "b": "x" * 50} for n in numbers])])

    world.load(_batches(world, rows(range(200))))
    world.load(_batches(world, rows(reversed(range(200)))))
    assert len(world.loads) == 1  # in another order they are the same rows
    world.load(_batches(world, rows(range(201))))
    assert (len(world.loads), len(_numbers(world))) == (2, 201)
    world.load(_batches(world, rows([*range(200), 199])))
    assert len(world.loads) == 3  # as many rows, one of them twice
    world.load(_batches(world, rows([*range(200), 199]), refresh=True))
    assert len(world.loads) == 4
    world.contracts["s.t"] = [["a", "INTEGER"]]
    world.load(_batches(world, rows([*range(200), 199])))
    assert len(world.loads) == 5


def test_tables_made_anew_are_all_emptied_in_the_first_batch(tmp_path: Path) -> None:
    world = World(tmp_path, (table(), table("u")))

    def events(state: Any) -> Iterator[Event]:
        yield from _counting(50)(state)
        yield Rows("s.u", {"a": 1})

    world.load(_batches(world, events))
    assert _numbers(world, "s.u") == [1]
    world.load(_batches(world, events, refresh=True), most=1)  # killed: the next one goes on, and does not refresh
    assert _numbers(world, "s.u") == []
    world.load(_batches(world, events))
    assert (_numbers(world), _numbers(world, "s.u")) == (list(range(500)), [1])


def test_a_table_without_rows_is_made_all_the_same(world: World) -> None:
    world.load(_batches(world, lambda _: []))
    assert world.held == {"s.t": []}
    world.load(_batches(world, lambda _: []))
    assert len(world.loads) == 1


def test_truncate_takes_what_came_before(world: World) -> None:
    world.load(_batches(world, lambda _: [Rows("s.t", {"a": 1}), Checkpoint(1)]))
    more = [Rows("s.t", {"a": 2}), Truncate("s.t"), Rows("s.t", {"a": 3}), Rows("s.t", [{"a": 4}]), Checkpoint(2)]
    world.load(_batches(world, lambda _: more))
    assert _numbers(world) == [3, 4]
    world.load(_batches(world, lambda _: [Truncate("s.t"), Checkpoint(3)]))
    assert _numbers(world) == []


def test_typed_rows_stay_typed_and_keep_their_place_among_others(tmp_path: Path) -> None:
    world = World(tmp_path, (table(key=["a"], load="merge"),))
    typed = pa.table({"a": pa.array([1, 2], pa.int32()), "b": ["x", "y"]})
    events = [
        Rows("s.t", typed),
        Rows("s.t", {"a": 3}),
        Rows("s.t", typed.to_batches()[0]),
        Rows("s.t", b'{"a": 4}\n{"a": 5}'),
    ]
    order: list[Any] = []
    for batch in _batches(world, lambda _: events):
        order += [(piece.scan.shape, world.reader.describe(piece.scan.sql)) for piece in batch.pieces]  # type: ignore[union-attr]
        world._commit(batch)
    assert [shape for shape, _ in order] == ["columns", "apart", "columns", "json"][-len(order) :]
    assert order[-2][1] == [("a", "INTEGER"), ("b", "VARCHAR")]
    assert _numbers(world) == [1, 2, 3, 1, 2, 4, 5]


def test_a_sample_is_whole_whatever_the_contract_says(world: World) -> None:
    for sample, shape in ((False, "apart"), (True, "json")):
        reading = batches(replace(world.reach(), sample=sample), world.since(), lambda: [Rows("s.t", {"a": 1, "c": 2})])
        (batch,) = reading
        assert batch.pieces[-1].scan.shape == shape  # type: ignore[union-attr]


def test_one_huge_table_is_taken_apart(world: World) -> None:
    rows = 200_000
    huge = pa.table({"a": range(rows), "b": ["x"] * rows})
    world.load(_batches(world, lambda _: [Rows("s.t", huge)], Limits(batch_bytes=200_000, block_bytes=50_000)))
    assert _numbers(world) == list(range(rows))


def test_reading_ahead_stops_at_its_limit(world: World) -> None:
    given_out = 0

    def events(state: Any) -> Iterator[Event]:
        nonlocal given_out
        for event in _counting(1000)(state):
            given_out += 1
            yield event

    reading = _batches(world, events)
    next(reading)
    time.sleep(0.3)
    assert given_out < 600  # of 3,000: a batch, what is gathered for the next, and the queue
    reading.close()  # type: ignore[attr-defined]


def test_closed_early_the_source_is_closed_and_its_thread_ends(world: World) -> None:
    closed, waiting = threading.Event(), threading.Event()

    def events(state: Any) -> Iterator[Event]:
        try:
            yield from _counting(100)(state)
            waiting.wait(60)
        finally:
            closed.set()

    before = threading.active_count()
    reading = _batches(world, events, interrupt=waiting.set)
    next(reading)
    start = time.monotonic()
    reading.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 4
    assert closed.is_set()
    assert threading.active_count() == before


def test_a_table_that_is_not_there_is_named(world: World) -> None:
    with pytest.raises(SourceError, match=r"s has no table 's\.tt'\. Did you mean 's\.t'\?"):
        world.load(_batches(world, lambda _: [Rows("s.tt", {"a": 1})]))


def test_a_state_that_is_no_json_is_refused(world: World) -> None:
    with pytest.raises(SourceError, match="the state of a checkpoint is no JSON"):
        world.load(_batches(world, lambda _: [Rows("s.t", {"a": 1}), Checkpoint(object())]))


@settings(max_examples=30)
@given(st.lists(st.one_of(st.none(), st.integers(1, 40)), max_size=30), st.integers(0, 6), st.booleans())
def test_any_mix_of_rows_and_checkpoints_arrives_once(
    tmp_path_factory: pytest.TempPathFactory, script: list[int | None], kill: int, ordered: bool
) -> None:
    """None is a checkpoint, a number as many rows; killed after some batches it is read on from the last cursor."""
    kind = table(load="merge", key=["a"]) if ordered else table()
    world = World(tmp_path_factory.mktemp("mix"), (kind,))
    total = sum(item or 0 for item in script)

    def events(state: Any) -> Iterator[Event]:
        place, number = state or (0, 0)
        for index, item in enumerate(script[place:], start=place):
            if item is None:
                yield Checkpoint((index + 1, number))
                continue
            new = [{"a": number + i, "b": "x" * 40} for i in range(item)]
            yield Rows("s.t", pa.Table.from_pylist(new) if item % 3 == 0 else new)
            number += item
        yield Checkpoint((len(script), number))

    world.load(_batches(world, events), most=kill or None)
    world.load(_batches(world, events))
    found = _numbers(world)
    assert sorted(found) == list(range(total))
    assert not ordered or found == list(range(total))
