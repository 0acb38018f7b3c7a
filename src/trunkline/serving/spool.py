"""The prediction log on its way to the warehouse: NDJSON files in a local directory.

A worker only appends to a file of its own, `<stem>.open`, on which it holds an advisory lock; every few seconds the
file becomes `<stem>.ready` and a new one is begun. `drain`, in another process, hands ready files to a loader and
deletes them after it returned. A file whose lock is free although it is still `.open` was left by a dead process: it
is drained too, without its torn last line. A crash between loading and deleting means that the file is loaded again,
so the loader inserts only prediction ids it has not seen.

What is written survives the death of any process, not that of the machine (no fsync).
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec

from trunkline.errors import EngineError

_log = logging.getLogger(__name__)

_FLUSH_SECONDS = 0.1  # so that with the wake-up and the write itself no row waits for more than 200 ms
_FLUSH_ROWS = 256
_CHUNK_ROWS = 1024  # encoded in one go, so that other threads get their turn between
_ROTATE_SECONDS = 2.0
_HELD_BYTES = 64 * 1024 * 1024  # what is kept in memory while the disk is full; beyond it rows are lost, and counted
_UNBORN_SECONDS = 60.0  # an empty unlocked file this old was not just created: its process died before the first row


class Record(msgspec.Struct, frozen=True, gc=False):
    """One line of the log: a prediction, what it was made from and by which model. `at` is UTC."""

    prediction_id: str
    at: datetime
    deployment: str
    model: str
    sha256: str
    key: str | None
    row: object
    score: float | None
    latency_us: int


class Told(Record, frozen=True, gc=False):
    """A line of a model that answers several numbers: `answer` is what was answered, `score` the number that stands

    for it, if there is one.
    """

    answer: object


class Scored(msgspec.Struct, frozen=True):
    """The rows of one request, answered at `at` (Unix seconds) after `latency_us`; the sequences have one length.

    `answers` is what was answered where that is more than the score.
    """

    ids: Sequence[str]
    rows: Sequence[object]
    scores: Sequence[float | None]
    keys: Sequence[str | None] | None
    at: float
    latency_us: int
    answers: Sequence[object] | None = None


@dataclass(frozen=True)
class SpoolState:
    """Counts of rows since the worker started, and the error that keeps rows from the disk now, if any."""

    written: int
    pending: int
    lost: int
    error: str | None


class SpoolWriter:
    """Appends the predictions of one process. `append` is thread-safe, never blocks on the disk and never raises.

    A thread of its own writes. While the disk refuses, rows are held in memory up to a bound and tried again.
    Raises `EngineError` if the directory cannot be written when the writer is made.
    """

    def __init__(self, directory: Path, *, deployment: str, model: str, sha256: str) -> None:
        self._directory = directory
        self._deployment, self._model, self._sha256 = deployment, model, sha256
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        self._fresh: list[bytes] = []  # lines, not yet taken by the writing thread
        self._fresh_rows = self._fresh_bytes = 0
        self._held: deque[tuple[bytes, int]] = deque()  # lines and their count, not yet on disk
        self._held_rows = 0
        self._written = self._lost = 0
        self._error: str | None = None
        self._wake = threading.Event()
        self._closing = False
        self._file: _OpenFile | None = None
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = _OpenFile.create(directory)
        except OSError as exc:
            hint = "give the server a directory that it may write"
            raise EngineError(f"the prediction log cannot be written to {directory}: {exc}", hint=hint) from exc
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    def append(self, scored: Scored) -> None:
        """Logs the rows of one request; on disk within 200 ms."""
        # Encoded here and now: to keep the rows for the writing thread costs more, in garbage collection, than this.
        records = self._records(scored)
        rows = len(scored.ids)
        parts = [self._encoder.encode_lines([*islice(records, _CHUNK_ROWS)]) for _ in range(0, rows, _CHUNK_ROWS)]
        with self._lock:
            if self._fresh_bytes > _HELD_BYTES:  # the writing thread hangs in a write
                self._lost += rows
                return
            self._fresh += parts
            self._fresh_rows += rows
            self._fresh_bytes += sum(map(len, parts))
            full = self._fresh_rows >= _FLUSH_ROWS
        if full:
            self._wake.set()

    def state(self) -> SpoolState:
        """The counts as of now."""
        return SpoolState(self._written, self._fresh_rows + self._held_rows, self._lost, self._error)

    def close(self) -> None:
        """Writes what is left, makes the file ready and ends the thread. Rows that the disk refuses are lost."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        rotate_at = time.monotonic() + _ROTATE_SECONDS
        while not self._closing:
            self._wake.wait(_FLUSH_SECONDS)
            self._wake.clear()
            self._flush()
            if time.monotonic() >= rotate_at:
                self._attempt(self._rotate)
                rotate_at = time.monotonic() + _ROTATE_SECONDS
        self._flush()
        self._attempt(self._rotate)
        if self._held_rows:
            _log.error("%d predictions are lost: the log cannot be written (%s)", self._held_rows, self._error)

    def _flush(self) -> None:
        with self._lock:
            fresh, self._fresh = self._fresh, []
            rows, self._fresh_rows, self._fresh_bytes = self._fresh_rows, 0, 0
            self._held_rows += rows
        if rows:
            self._held.append((b"".join(fresh), rows))
        while self._held and self._attempt(self._write_oldest):
            self._error = None
        while len(self._held) > 1 and sum(len(data) for data, _ in self._held) > _HELD_BYTES:
            _, rows = self._held.pop()
            self._held_rows -= rows
            with self._lock:
                self._lost += rows

    def _write_oldest(self) -> None:
        if self._file is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._file = _OpenFile.create(self._directory)
        data, rows = self._held[0]
        self._file.write(data, rows)
        self._held.popleft()
        self._held_rows -= rows
        self._written += rows

    def _records(self, scored: Scored) -> Iterator[Record]:
        at, latency_us = datetime.fromtimestamp(scored.at, UTC), scored.latency_us
        deployment, model, sha256 = self._deployment, self._model, self._sha256
        keys = scored.keys or [None] * len(scored.ids)
        rows = zip(scored.ids, keys, scored.rows, scored.scores, strict=True)
        if scored.answers is None:
            for prediction_id, key, row, score in rows:
                yield Record(prediction_id, at, deployment, model, sha256, key, row, score, latency_us)
            return
        for (prediction_id, key, row, score), told in zip(rows, scored.answers, strict=True):
            yield Told(prediction_id, at, deployment, model, sha256, key, row, score, latency_us, told)

    def _rotate(self) -> None:
        if self._file is None or (not self._file.rows and not self._closing):
            return
        if self._file.is_there():
            self._file.finish()
        else:
            with self._lock:
                self._lost += self._file.rows  # someone deleted it
        self._file.close()
        self._file = None

    def _attempt(self, action: Callable[[], None]) -> bool:
        """Whether `action` worked; the disk's refusal is kept for `/health` and must not stop the serving."""
        try:
            action()
        except OSError as exc:
            if self._error is None:
                _log.warning("the prediction log cannot be written, predictions go on: %s", exc)
            self._error = str(exc)
            return False
        return True


class _OpenFile:
    """The locked file that a worker appends to, in whole lines."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._size = 0
        self._torn = False
        self.rows = 0

    @classmethod
    def create(cls, directory: Path) -> _OpenFile:
        path = directory / f"{time.time_ns():020d}-{os.getpid()}.open"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(path, descriptor)

    def is_there(self) -> bool:
        return self._path.exists()

    def write(self, data: bytes, rows: int) -> None:
        self._mend()
        self._torn = True
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._torn = False
        self._size += len(data)
        self.rows += rows

    def finish(self) -> None:
        """The file becomes ready for `drain`, or goes away if it is empty."""
        self._mend()
        if self.rows:
            self._path.rename(self._path.with_suffix(".ready"))
        else:
            self._path.unlink()

    def close(self) -> None:
        os.close(self._descriptor)

    def _mend(self) -> None:
        """Takes back what a failed write has left of its lines."""
        if self._torn:
            os.ftruncate(self._descriptor, self._size)
            self._torn = False


def drain(directory: Path, load: Callable[[Path], int], *, report: Callable[[str], None] | None = None) -> int:
    """Loads what workers have logged under `directory`; returns the sum of what `load` returned.

    `load` gets one NDJSON file of whole lines (`Record`) at a time, oldest first, and must be idempotent by
    `prediction_id`. The file is deleted when it returns; if it raises, the file stays and the error propagates.
    `report` gets one sentence for each torn line that a dead process left (default: a log warning). One drain at a
    time: a second one waits for the first.
    """
    if not directory.is_dir():
        return 0
    loaded = 0
    with _only_drain(directory):
        for path in sorted(directory.glob("*.open")):
            _take_over(path, report or _log.warning)
        for path in sorted(directory.glob("*.ready")):
            loaded += load(path)
            path.unlink()
    return loaded


def backlog(directory: Path) -> int:
    """How many files wait for `drain`."""
    return sum(1 for entry in os.scandir(directory) if entry.name.endswith(".ready")) if directory.is_dir() else 0


@contextmanager
def _only_drain(directory: Path) -> Iterator[None]:
    descriptor = os.open(directory / ".drain", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _take_over(path: Path, report: Callable[[str], None]) -> None:
    """Makes the file of a dead process ready. Leaves alone what a live process writes or has just created."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        return  # its process has made it ready since we looked
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        size = os.fstat(file.fileno()).st_size
        if not size:
            if time.time() - os.fstat(file.fileno()).st_mtime > _UNBORN_SECONDS:
                path.unlink(missing_ok=True)
            return
        whole = _end_of_last_line(file.fileno(), size)
        if whole < size:
            report(f"{path.name}: the process died while writing; dropped the last {size - whole} bytes, a torn line")
            file.truncate(whole)
        if not whole:
            path.unlink(missing_ok=True)
            return
        try:
            path.rename(path.with_suffix(".ready"))
        except FileNotFoundError:
            return  # as above


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Offset behind the last newline, read backwards in blocks."""
    block = 1 << 16
    end = size
    while end:
        start = max(0, end - block)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
