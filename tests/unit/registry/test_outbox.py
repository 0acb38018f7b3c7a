"""Runs reach the registry once, whoever dies and however long it is away."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from trunkline.errors import EngineError, TransientError
from trunkline.project.lock import locked
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.outbox import Outbox, deliver, unsent
from trunkline.registry.protocol import InvalidRecord, RunRecord


class Flaky(MemoryRegistry):
    """Away at first, and refuses some runs for good."""

    def __init__(self, away: int = 0) -> None:
        super().__init__()
        self.away = away
        self.forbids = False
        self.calls: list[int] = []

    def log_runs(self, runs: Sequence[RunRecord]) -> list[str]:
        """As in memory, once it is back."""
        self.calls.append(len(runs))
        if self.away:
            self.away -= 1
            raise TransientError("nobody home")
        if any(run.name == "bad" for run in runs):
            raise InvalidRecord("a name it does not take")
        if self.forbids:
            raise EngineError("does not let us do this")
        return super().log_runs(runs)

    def by_key(self) -> dict[str, RunRecord]:
        """What it has; fails if one is there twice."""
        assert len({run.key for run in self.runs.values()}) == len(self.runs)
        return {run.key: run for run in self.runs.values()}


def study(status: str = "RUNNING") -> RunRecord:
    """The parent."""
    return RunRecord("tune", "study", key="s", status=status)  # type: ignore[arg-type]


def trial(number: int, name: str = "trial") -> RunRecord:
    """A child with everything."""
    when = datetime(2026, 11, 23, 12, 0, number % 60, tzinfo=UTC)
    return RunRecord(
        "tune",
        name,
        {"width": number, "family": "mlp", "wide": True},
        {"auc": 0.6},
        {"auc_by_step": ((1, 0.5), (2, 0.6))},
        {"state": "complete"},
        key=f"s/{number}",
        started_at=when,
        ended_at=when,
    )


def fill(outbox: Outbox, count: int) -> None:
    """A study with so many trials."""
    outbox.add(study())
    for number in range(count):
        outbox.add(trial(number), below="s")


def test_all_arrive_below_their_study(tmp_path: Path) -> None:
    registry = Flaky()
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    fill(outbox, 250)
    outbox.add(study("FINISHED"))
    assert outbox.close() == 0
    runs = registry.by_key()
    parent = next(run_id for run_id, run in registry.runs.items() if run.key == "s")
    assert len(runs) == 251
    assert runs["s"].status == "FINISHED"
    assert {run.parent_run_id for key, run in runs.items() if key != "s"} == {parent}
    sent, given = runs["s/7"], trial(7)
    assert (sent.params, sent.metrics, sent.curves, sent.tags) == (
        given.params,
        given.metrics,
        given.curves,
        given.tags,
    )
    assert (sent.started_at, sent.ended_at) == (given.started_at, given.ended_at)
    assert max(registry.calls) > 50  # in batches


def test_it_waits_for_a_registry_that_is_away(tmp_path: Path) -> None:
    registry = Flaky(away=2)
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    fill(outbox, 3)
    until = time.monotonic() + 20
    while len(registry.runs) < 4 and time.monotonic() < until:
        time.sleep(0.02)
    assert outbox.close() == 0
    assert len(registry.by_key()) == 4


def test_what_is_left_is_delivered_later(tmp_path: Path) -> None:
    gone = Flaky(away=1_000)
    outbox = Outbox(tmp_path / "s.jsonl", lambda: gone)
    fill(outbox, 3)
    assert outbox.close(patience=0.5) == 4
    registry = Flaky(away=1)
    deliver(tmp_path, registry)
    assert registry.runs == {}
    deliver(tmp_path, registry)
    assert len(registry.by_key()) == 4
    calls = len(registry.calls)
    deliver(tmp_path, registry)
    assert len(registry.calls) == calls  # nothing is left
    again = Outbox(tmp_path / "s.jsonl", lambda: registry)
    assert again.knows("s/2")
    assert not again.knows("s/3")
    again.add(trial(3), below="s")
    assert again.close() == 0
    assert registry.by_key()["s/3"].parent_run_id == registry.by_key()["s/2"].parent_run_id is not None


def test_a_registry_that_cannot_be_opened_keeps_them(tmp_path: Path) -> None:
    def broken() -> MemoryRegistry:
        raise EngineError("the store cannot be read")

    outbox = Outbox(tmp_path / "s.jsonl", broken)
    fill(outbox, 2)
    assert outbox.close(patience=0.5) == 3


def test_one_that_is_refused_is_kept_aside_and_holds_up_nobody(tmp_path: Path) -> None:
    registry = Flaky()
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    outbox.add(study())
    outbox.add(trial(0, name="bad"), below="s")
    outbox.add(trial(1), below="s")
    assert outbox.close() == 0
    assert set(registry.by_key()) == {"s", "s/1"}
    (line,) = (tmp_path / "s.refused").read_text().splitlines()
    assert (json.loads(line)["key"], json.loads(line)["reason"]) == ("s/0", "a name it does not take")
    (told,) = unsent(tmp_path)
    assert (told.name, told.waits, told.refused, told.reason) == ("s", 0, 1, "a name it does not take")


def test_who_may_not_write_loses_nothing(tmp_path: Path) -> None:
    """It may read, so that nothing but the refusal itself tells."""
    registry = Flaky()
    registry.forbids = True
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    fill(outbox, 3)
    assert outbox.close(patience=0.5) == 4
    other = (tmp_path / "s.jsonl").read_text().replace('"s"', '"t"').replace('"s/', '"t/')
    (tmp_path / "t.jsonl").write_text(other)
    assert {name: exc.what for name, exc in deliver(tmp_path, registry).items()} == dict.fromkeys(
        "st", "does not let us do this"
    )
    assert [(one.waits, one.refused) for one in unsent(tmp_path)] == [(4, 0), (4, 0)]
    registry.forbids = False
    assert deliver(tmp_path, registry) == {}
    assert len(registry.by_key()) == 8
    assert unsent(tmp_path) == []


@pytest.mark.parametrize("damage", [b"{\n", b"[1]\n", b"\xff\n", b'{"key": "s/9", "below": "s"}\n', b"null\n"])
def test_a_damaged_line_is_set_aside(tmp_path: Path, damage: bytes) -> None:
    gone = Flaky(away=1_000)
    outbox = Outbox(tmp_path / "s.jsonl", lambda: gone)
    fill(outbox, 1)
    outbox.close(patience=0.1)
    with open(tmp_path / "s.jsonl", "ab") as file:
        file.write(damage)
    registry = Flaky()
    again = Outbox(tmp_path / "s.jsonl", lambda: registry)
    again.add(trial(2), below="s")
    assert again.close() == 0
    assert set(registry.by_key()) == {"s", "s/0", "s/2"}
    (told,) = unsent(tmp_path)
    assert (told.refused, "damaged" in told.reason) == (1, True)


@pytest.mark.parametrize("mark", ["", "[]", '{"bytes": 5}', '{"bytes": 100000, "ids": {}}', '{"bytes": "x", "ids": 1}'])
def test_a_damaged_mark_sends_all_again(tmp_path: Path, mark: str) -> None:
    registry = Flaky()
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    fill(outbox, 2)
    assert outbox.close() == 0
    (tmp_path / "s.sent").write_text(mark)
    deliver(tmp_path, registry)
    assert len(registry.by_key()) == 3
    assert unsent(tmp_path) == []


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    outbox = Outbox(tmp_path / "s.jsonl", lambda: Flaky())
    monkeypatch.setattr("trunkline.registry.outbox.os.write", lambda end, content: write(end, content[:7]))
    fill(outbox, 2)
    monkeypatch.undo()
    assert outbox.close() == 0
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 3


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = os.write, [10]

    def full(end: int, content: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(end, content[: room.pop()])

    outbox = Outbox(tmp_path / "s.jsonl", lambda: Flaky(away=1_000))
    monkeypatch.setattr("trunkline.registry.outbox.os.write", full)
    with pytest.raises(EngineError, match="cannot keep a run for the registry: No space left"):
        outbox.add(study())
    monkeypatch.undo()
    assert outbox.close(patience=0.1) == 0
    assert (tmp_path / "s.jsonl").read_bytes() == b""


def test_what_another_process_was_sending_is_sent_when_that_has_ended(tmp_path: Path) -> None:
    registry = Flaky()
    with locked(tmp_path / "s.lock"):
        outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
        fill(outbox, 2)
        closing = threading.Timer(0.1, outbox.close)
        closing.start()
        time.sleep(0.4)
    closing.join(20)
    assert not closing.is_alive()
    assert len(registry.by_key()) == 3


KILLED = """
import sys, time
from pathlib import Path
from tests.unit.registry.test_outbox import Flaky, Outbox, fill
outbox = Outbox(Path(sys.argv[1]), lambda: Flaky(away=10_000))
fill(outbox, 40)
print("filled", flush=True)
time.sleep(60)
"""


def test_a_kill_loses_none_and_doubles_none(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    file = tmp_path / "s.jsonl"
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(file)], cwd=root, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"filled\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with open(file, "ab") as lines:
        lines.write(b'{"experiment": "tune", "na')  # as a kill in the middle of a write leaves it
    registry = Flaky()
    deliver(tmp_path, registry)
    assert len(registry.by_key()) == 41
    again = Outbox(file, lambda: registry)
    again.add(trial(40), below="s")
    assert again.close() == 0
    assert len(registry.by_key()) == 42
    (tmp_path / "s.sent").unlink()  # all is sent again, as after a kill between the registry and the mark
    deliver(tmp_path, registry)
    assert len(registry.by_key()) == 42


def test_two_that_deliver_at_once_send_each_run_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "s.jsonl", lambda: Flaky(away=1_000))
    fill(outbox, 300)
    outbox.close(patience=0.2)
    registry = Flaky()
    threads = [threading.Thread(target=deliver, args=(tmp_path, registry)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    deliver(tmp_path, registry)
    assert len(registry.by_key()) == 301
    assert sum(registry.calls) == 301


@pytest.mark.parametrize("name", ["trial", "naïve ✓"])
def test_text_is_kept_as_it_is(tmp_path: Path, name: str) -> None:
    registry = Flaky()
    outbox = Outbox(tmp_path / "s.jsonl", lambda: registry)
    outbox.add(trial(1, name=name))
    assert outbox.close() == 0
    assert registry.by_key()["s/1"].name == name
