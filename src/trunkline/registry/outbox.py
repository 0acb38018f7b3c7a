"""Runs on their way to the registry: kept on disk first, sent by a thread in batches, none lost and none sent twice.

An outbox is a file of JSON lines, one a run, and beside it how far it was sent. Whoever is killed leaves both, and the
next command sends the rest (`deliver`). A line whose runs had just arrived may be sent again: its key tells. What the
registry calls invalid, or is damaged, is set aside in a third file with the reason; what it refuses for another reason
stays.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, IntegrityError, TransientError, TrunklineError
from trunkline.project.files import append_whole
from trunkline.project.lock import locked_now
from trunkline.registry.files import sync
from trunkline.registry.protocol import InvalidRecord, Registry, RunRecord
from trunkline.registry.wire import from_plain, plain

__all__ = ["Outbox", "Unsent", "deliver", "unsent"]

_BATCH = 100
_LINGER_SECONDS = 0.5  # between two batches: runs that end meanwhile go together
_LONGEST_PAUSE = 30.0


@dataclass(frozen=True)
class Unsent:
    """What lies here of the runs of one file: how many are to be sent, and how many were set aside in `aside`, the last
    one for `reason`."""

    name: str
    waits: int
    refused: int
    reason: str
    aside: Path


class Outbox:
    """The runs below one file. `add` is for one thread; a thread of its own sends, until `close`.

    `registry` is opened by that thread: it may take seconds, and may fail for as long as the server is away.
    """

    def __init__(self, file: Path, registry: Callable[[], Registry]) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = _File(file)
        self._known = self._file.keys()
        self._end = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        sync(file.parent)
        self._registry = registry
        self._told, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def knows(self, key: str) -> bool:
        """Whether a run of that key was added, now or by an earlier command."""
        return key in self._known

    def add(self, run: RunRecord, *, below: str | None = None) -> None:
        """Keep a run that has a key; `below` is the key of the run it is a child of, added before.

        Raises `EngineError` if the disk refuses.
        """
        try:
            append_whole(self._end, json.dumps(_plain(run, below), default=str).encode() + b"\n")
        except OSError as exc:
            raise EngineError(f"cannot keep a run for the registry: {exc.strerror}", hint="make room") from exc
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
        self._file.sync()  # the thread may have ended
        return self._file.left()

    def _send(self) -> None:
        pause = _LINGER_SECONDS
        while True:
            self._told.wait()
            self._told.clear()
            try:
                self._file.sync()
                mine = self._file.send(self._registry())
                pause = _LINGER_SECONDS
            except TransientError:
                if self._closing.is_set():
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._told.set()
            except (TrunklineError, OSError):
                return  # it does not open, or not to us: the command says so where it needs it, and how many are left
            else:
                if self._closing.is_set() and not self._file.left():
                    return
                if not mine:  # another process is at it, and may end before it is done
                    self._told.set()
                    time.sleep(_LINGER_SECONDS)
            self._closing.wait(pause)


def deliver(folder: Path, registry: Registry) -> dict[str, EngineError]:
    """Send what commands that were killed, or that met no server, left in `folder`. What cannot be sent stays; why, by
    the name of the file without its end."""
    why: dict[str, EngineError] = {}
    for path in sorted(folder.glob("*.jsonl")):
        try:
            _File(path).send(registry)
        except EngineError as exc:
            why[path.stem] = exc
            if isinstance(exc, TransientError):
                break
    return why


def unsent(folder: Path) -> list[Unsent]:
    """What lies in `folder`, file by file; none that were sent whole."""
    found = [_File(path).unsent() for path in sorted(folder.glob("*.jsonl"))]
    return [one for one in found if one.waits or one.refused]


class _File:
    """An outbox's file, how far it was sent (bytes, and the ids of runs that have children), and what was set aside."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mark = path.with_suffix(".sent")
        self._aside = path.with_suffix(".refused")

    def keys(self) -> set[str]:
        """The keys of all runs, for who is about to add others: a last line that is half written is cut off."""
        if not self._path.exists():
            return set()
        lines = self._lines()
        os.truncate(self._path, sum(map(len, lines)))
        return {key for line in lines if (key := _key(line))}

    def sync(self) -> None:
        """What was added is on the disk."""
        if self._path.exists():
            sync(self._path)

    def sent(self) -> int:
        """Bytes that were sent."""
        return int(self._state()["bytes"])

    def left(self) -> int:
        """Runs that were not."""
        return len(self._lines(self.sent()))

    def unsent(self) -> Unsent:
        """See the function of that name."""
        try:
            refused = {str(one["key"]): str(one["reason"]) for one in map(json.loads, _read(self._aside).splitlines())}
        except (ValueError, KeyError, TypeError):
            refused = {"": "the list of them is damaged, too"}
        reason = list(refused.values())[-1] if refused else ""
        return Unsent(self._path.stem, self.left(), len(refused), reason, self._aside)

    def send(self, registry: Registry) -> bool:
        """Send the rest, unless another process is at it: False. Raises TransientError where the registry does not
        answer, and EngineError where it refuses what is not the run's fault."""
        if not self.left():
            return True
        with locked_now(self._path.with_suffix(".lock")) as mine:
            while mine and (lines := self._lines(self.sent())[:_BATCH]):
                state = self._state()
                ids: dict[str, str] = state["ids"]
                for batch in _levels(self._sound(lines), ids):
                    ids |= self._sent(registry, [_below(line, ids) for line in batch])
                # of these only the runs that have children will be asked for: they are the first of their file
                kept = {key: run_id for key, run_id in ids.items() if "/" not in key}
                self._write({"bytes": state["bytes"] + sum(map(len, lines)), "ids": kept})
        return mine

    def _sent(self, registry: Registry, runs: list[RunRecord]) -> dict[str, str]:
        """Ids by key. A run that the registry will never take is set aside, and the others go on."""
        try:
            return dict(zip([run.key for run in runs], registry.log_runs(runs), strict=True))
        except InvalidRecord as exc:
            if len(runs) > 1:
                return {key: run_id for run in runs for key, run_id in self._sent(registry, [run]).items()}
            self._set_aside({**_plain(runs[0], None), "reason": exc.what})
            return {}

    def _sound(self, lines: list[bytes]) -> list[_Line]:
        """The lines as runs; one that is damaged is set aside."""
        found = []
        for line in lines:
            try:
                found.append(_line(line))
            except IntegrityError as exc:
                text = line.decode("utf-8", "replace")
                self._set_aside({"key": _key(line) or text, "line": text, "reason": exc.what})
        return found

    def _set_aside(self, what: Mapping[str, Any]) -> None:
        with open(self._aside, "a", encoding="utf-8") as file:
            file.write(json.dumps(what, default=str) + "\n")
        sync(self._aside)

    def _lines(self, start: int = 0) -> list[bytes]:
        """The whole lines from byte `start` on: what follows the last of them is still being written, or never was."""
        return [line + b"\n" for line in _read(self._path, start).split(b"\n")[:-1]]

    def _state(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"bytes": 0, "ids": {}}
        try:
            told = json.loads(self._mark.read_bytes())
            state: dict[str, Any] = {"bytes": int(told["bytes"]), "ids": dict(told["ids"])}
            return state if state["bytes"] <= self._path.stat().st_size else nothing
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return nothing  # all is sent again: the keys tell

    def _write(self, state: Mapping[str, Any]) -> None:
        made = self._mark.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        made.write_text(json.dumps(state), "utf-8")
        os.replace(made, self._mark)


@dataclass(frozen=True)
class _Line:
    run: RunRecord
    below: str | None


def _line(content: bytes) -> _Line:
    """Raises IntegrityError for one that is damaged."""
    try:
        data = json.loads(content)
        below = data.pop("below")
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise IntegrityError("what was kept of a run is damaged, or of another version of Trunkline") from exc
    return _Line(from_plain(data), below)


def _key(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["key"])
    except (ValueError, KeyError, TypeError):
        return None


def _levels(lines: list[_Line], ids: Mapping[str, str]) -> Iterator[list[_Line]]:
    """The lines in order, cut wherever a run needs the id of one that comes in the same stretch."""
    stretch: list[_Line] = []
    for line in lines:
        if line.below and any(line.below == other.run.key for other in stretch):
            yield stretch
            stretch = []
        stretch.append(line)
    if stretch:
        yield stretch


def _below(line: _Line, ids: Mapping[str, str]) -> RunRecord:
    return replace(line.run, parent_run_id=ids.get(line.below or "", line.run.parent_run_id))


def _plain(run: RunRecord, below: str | None) -> dict[str, Any]:
    return {**plain(replace(run, children=(), artifacts=None)), "below": below}


def _read(path: Path, start: int = 0) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read()
    except FileNotFoundError:
        return b""
