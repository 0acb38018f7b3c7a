"""Runs on their way to the registry: kept on disk first, sent by a thread in batches, none lost and none sent twice.

An outbox is a file of JSON lines, one a run, and beside it how far it was sent. Whoever is killed leaves both, and the
next command sends the rest (`deliver`). A line whose runs had just arrived may be sent again: its key tells.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, TransientError, TrunklineError
from trunkline.project.lock import locked_now
from trunkline.registry.parcels import refuses_all
from trunkline.registry.protocol import Registry, RunRecord
from trunkline.registry.wire import from_plain, plain

__all__ = ["Outbox", "deliver"]

_BATCH = 100
_LINGER_SECONDS = 0.5  # between two batches: runs that end meanwhile go together
_LONGEST_PAUSE = 30.0


class Outbox:
    """The runs below one file. `add` is for one thread; a thread of its own sends, until `close`.

    `registry` is opened by that thread: it may take seconds, and may fail for as long as the server is away.
    """

    def __init__(self, file: Path, registry: Callable[[], Registry]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = _File(file)
        self._known = {line["key"] for line in self._file.lines()}
        self._end = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._registry = registry
        self._told, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def knows(self, key: str) -> bool:
        """Whether a run of that key was added, now or by an earlier command."""
        return key in self._known

    def add(self, run: RunRecord, *, below: str | None = None) -> None:
        """Keep a run that has a key; `below` is the key of the run it is a child of, added before."""
        os.write(self._end, json.dumps(_plain(run, below), default=str).encode() + b"\n")
        self._known.add(run.key)
        self._told.set()

    def close(self, patience: float = 60.0) -> int:
        """Wait until all is sent, for so many seconds without any progress; how many runs are left for the next
        command."""
        self._closing.set()
        self._told.set()
        sent, until = self._file.sent(), time.monotonic() + patience
        while self._thread.is_alive() and time.monotonic() < until:
            self._thread.join(0.05)
            if (now := self._file.sent()) != sent:
                sent, until = now, time.monotonic() + patience
        os.close(self._end)
        return self._file.left()

    def _send(self) -> None:
        pause = _LINGER_SECONDS
        while True:
            self._told.wait()
            self._told.clear()
            try:
                self._file.send(self._registry())
                pause = _LINGER_SECONDS
            except TransientError:
                if self._closing.is_set():
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._told.set()
            except TrunklineError:
                return  # the registry cannot be opened: the command will say so where it needs it
            if self._closing.is_set() and not self._file.left():
                return
            self._closing.wait(pause)


def deliver(folder: Path, registry: Registry) -> None:
    """Send what commands that were killed, or that met no server, left in `folder`. What cannot be sent stays."""
    for path in sorted(folder.glob("*.jsonl")):
        try:
            _File(path).send(registry)
        except EngineError:  # away, or it does not let us in: whoever asks it next is told
            return


class _File:
    """An outbox's file, and how far it was sent: bytes, and the ids of runs that have children."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".sent")

    def lines(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """Whole lines from byte `start` on; a last one that a killed process left half written is cut off."""
        if not self._path.exists():
            return
        with open(self._path, "rb+") as file:
            file.seek(start)
            content = file.read()
            if not content.endswith(b"\n"):
                content = content[: content.rfind(b"\n") + 1]
                if start == 0:
                    file.truncate(len(content))
        yield from map(json.loads, content.splitlines())

    def sent(self) -> int:
        """Bytes that were sent."""
        return int(self._state()["bytes"])

    def left(self) -> int:
        """Runs that were not."""
        return sum(1 for _ in self.lines(self.sent()))

    def send(self, registry: Registry) -> None:
        """Send the rest, if no other process is at it. Raises TransientError where the registry does not answer."""
        if not self._path.exists() or self.sent() >= self._path.stat().st_size:
            return
        with locked_now(self._path.with_suffix(".lock")) as mine:
            while mine:
                state = self._state()
                with open(self._path, "rb") as file:
                    file.seek(state["bytes"])
                    whole = [line for _, line in zip(range(_BATCH), file, strict=False) if line.endswith(b"\n")]
                if not whole:
                    return
                ids: dict[str, str] = state["ids"]
                for batch in _levels([json.loads(line) for line in whole], ids):
                    ids |= _sent(registry, [_run(line, ids) for line in batch], self._path.with_suffix(".refused"))
                # of these only the runs that have children will be asked for: they are the first of their file
                kept = {key: run_id for key, run_id in ids.items() if "/" not in key}
                state = {"bytes": state["bytes"] + sum(map(len, whole)), "ids": kept}
                self._write(state)

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self._mark.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {"bytes": 0, "ids": {}}
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        made = self._mark.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        made.write_text(json.dumps(state), "utf-8")
        os.replace(made, self._mark)


def _levels(lines: list[dict[str, Any]], ids: Mapping[str, str]) -> Iterator[list[dict[str, Any]]]:
    """The lines in order, cut wherever a run needs the id of one that comes in the same stretch."""
    stretch: list[dict[str, Any]] = []
    for line in lines:
        if line["below"] and any(line["below"] == other["key"] for other in stretch):
            yield stretch
            stretch = []
        stretch.append(line)
    if stretch:
        yield stretch


def _sent(registry: Registry, runs: list[RunRecord], refused: Path) -> dict[str, str]:
    """Ids by key. A run that the registry will never take is kept aside with the reason, and the others go on."""
    try:
        return dict(zip([run.key for run in runs], registry.log_runs(runs), strict=True))
    except TransientError:
        raise
    except EngineError as exc:
        if refuses_all(registry):
            raise
        if len(runs) > 1:
            return {key: run_id for run in runs for key, run_id in _sent(registry, [run], refused).items()}
        with open(refused, "a", encoding="utf-8") as file:
            file.write(json.dumps({**_plain(runs[0], None), "reason": exc.what}, default=str) + "\n")
        return {}


def _plain(run: RunRecord, below: str | None) -> dict[str, Any]:
    return {**plain(replace(run, children=(), artifacts=None)), "below": below}


def _run(line: Mapping[str, Any], ids: Mapping[str, str]) -> RunRecord:
    run = from_plain({name: value for name, value in line.items() if name != "below"})
    return replace(run, parent_run_id=ids.get(line["below"] or "", run.parent_run_id))
