"""A connector of Fivetran's Connector SDK in a process of its own: its frames (`fivetran_host.py`) as events."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, SourceError, TrunklineError, did_you_mean
from trunkline.ingest import fivetran_host, streams
from trunkline.ingest.fivetran import cleaner, contract_types, fits
from trunkline.ingest.protocol import Batch, Reach, Since, Table
from trunkline.project.durations import seconds
from trunkline.project.fivetran import connector_environment, sdk_python

_FRAME = struct.Struct(">cI")
_LONGEST_LINE = 2**16  # bytes; the rest of one that is printed is another line
_INSTALL = "-m pip install 'fivetran-connector-sdk>=2.13.1,<3'"
_SYSTEM = {"id": "_fivetran_id", "synced": "_fivetran_synced", "deleted": "_fivetran_deleted"}
_TYPES = {
    "BOOLEAN": "BOOLEAN",
    "SHORT": "SMALLINT",
    "INT": "INTEGER",
    "LONG": "BIGINT",
    "FLOAT": "FLOAT",
    "DOUBLE": "DOUBLE",
    "NAIVE_DATE": "DATE",
    "NAIVE_TIME": "TIME",
    "NAIVE_DATETIME": "TIMESTAMP",
    "UTC_DATETIME": "TIMESTAMP WITH TIME ZONE",
    "BINARY": "BLOB",
    "XML": "VARCHAR",
    "STRING": "VARCHAR",
    "JSON": "JSON",
}


class Sdk:
    """All tables that one connector fills, with its state."""

    exclusive = False

    def __init__(self, reach: Reach) -> None:
        options = reach.tables[0].options
        self._reach = reach
        self._tables = {(table.options["table"] or table.name).lower(): table for table in reach.tables}
        self._file = reach.root / options["sdk"] / "connector.py"
        self._configuration: dict[str, str] = reach.secret(options["configuration"])
        given = options["configuration"]
        self._clean = cleaner([value for key, value in self._configuration.items() if value != given[key]])
        self._patience = seconds(options["patience"])
        self._types: dict[str, dict[str, str]] = {}
        self._child: Child | None = None
        self.notes: list[str] = []

    def batches(self, since: Since) -> Iterator[Batch]:
        """What the connector sends. What no checkpoint follows is kept if it ends well, else dropped."""
        self._types = {table.source: contract_types(self._reach, table) for table in self._reach.tables}
        state = streams.last_state(since) or {}
        return streams.batches(self._reach, since, lambda: self._events(state), interrupt=self._stop)

    def _stop(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _events(self, state: Any) -> Iterator[streams.Event]:
        python = sdk_python(self._reach.root, self._reach.tables[0].options["python"])
        if python is None:
            raise ProjectError(
                "there is no environment with Fivetran's SDK",
                hint=f"python3 -m venv .venv-fivetran && .venv-fivetran/bin/python {_INSTALL}; "
                "or name one with `python:` or TRUNKLINE_FIVETRAN_PYTHON",
            )
        with started(python, self._reach.name, self._patience, self._log) as child:
            self._child = child
            child.say(connector=str(self._file), configuration=self._configuration, state=state)
            for kind, payload in child.frames():
                if (event := self._event(kind, payload, child)) is not None:
                    yield event

    def _event(self, kind: bytes, payload: bytes, child: Child) -> streams.Event | None:
        if kind == b"R":
            source, _, lines = payload.partition(b"\n")
            return streams.Rows(source.decode(), lines)
        if kind == b"T":
            return streams.Truncate(payload.decode())
        if kind == b"C":
            return streams.Checkpoint(json.loads(payload))
        told = json.loads(payload)
        if kind == b"S":
            self._schema(told["tables"])
            child.answer(tables={name: self._wanted(table) for name, table in self._tables.items()})
        elif kind == b"W":
            self._note(f"the connector warns: {told['message']}")
        elif kind == b"U":
            self._undeclared(told)
        elif kind == b"E":
            raise self._error(child.python, **told)
        return None

    def _wanted(self, table: Table) -> dict[str, Any]:
        names = {column.source_name.lower() for column in table.contract.columns}
        return {"source": table.source} | {key: name in names for key, name in _SYSTEM.items()}

    def _schema(self, found: list[dict[str, Any]] | None) -> None:
        """Hold what the connector tells of its tables against the contracts."""
        for told in found or ():
            table = self._tables.get(told["name"].lower())
            if table is not None:
                self._check_key(table, told["key"])
                self._check_types(table, told["columns"])

    def _check_key(self, table: Table, theirs: list[str]) -> None:
        ours = [column.source_name for column in table.contract.columns if column.name in table.contract.key]
        if not theirs or {name.lower() for name in ours} == {name.lower() for name in theirs}:
            return
        if table.load == "append":
            raise SourceError(
                f"{table.source} is appended to, but the connector replaces its rows by {', '.join(theirs)}",
                hint=f"say `load: merge` and `key: [{', '.join(theirs)}]`",
            )
        if ours:
            self._note(f"{table.source}: the key is {', '.join(ours)} here, {', '.join(theirs)} in the connector")

    def _check_types(self, table: Table, theirs: Mapping[str, str]) -> None:
        ours = self._types[table.source]
        for name, type_ in theirs.items():
            held, sent = ours.get(name.lower()), _TYPES.get(type_, type_)
            if held and sent and not fits(sent, held):
                self._note(f"{table.source}.{name}: {held} in the contract, {sent} in the connector")

    def _undeclared(self, rows: Mapping[str, int]) -> None:
        for name, count in rows.items():
            likely = did_you_mean(name, [table.name for table in self._tables.values()])
            self._note(
                f"{count:,} rows of {name!r} were left out: no table of {self._reach.name} has that name.{likely} "
                f"Declare it with its columns, or say `table: {name}` for a table that is called otherwise"
            )

    def _note(self, text: str) -> None:
        cleaned = self._clean(text)
        if cleaned not in self.notes:
            self.notes.append(cleaned)

    def _log(self, text: str) -> None:
        self._reach.progress(self._clean(f"{self._reach.name}: {text}"))

    def _error(self, python: Path, kind: str, what: str, trace: str) -> TrunklineError:
        if kind == "environment":
            return ProjectError(f"{python}: {what}", hint=f"{python} {_INSTALL}")
        shown = f"{what}\n{trace}" if trace else what
        if kind == "import":
            requirements = self._file.parent / "requirements.txt"
            hint = f"{python} -m pip install " + (f"-r {requirements}" if requirements.is_file() else "what it needs")
            missing = what.startswith("ModuleNotFoundError")
            return SourceError(f"{self._file} cannot be imported: {shown}", hint=hint if missing else None)
        return SourceError(f"the connector failed: {shown}", hint="what came before its last checkpoint is kept")


class Child:
    """The host at work. `say` and `frames` are for one thread; `kill` is for any."""

    def __init__(self, process: subprocess.Popen[bytes], python: Path, patience: float) -> None:
        self.python = python
        self._process = process
        self._patience = patience
        self._waiting: float | None = None  # since when we wait for a frame
        self._silent = self._answered = False
        self._last: deque[str] = deque(maxlen=10)

    def answer(self, **message: Any) -> None:
        """Send one message, unless that was done: a connector may tell of its schema more than once."""
        if not self._answered:
            self._answered = True
            self.say(**message)

    def say(self, **message: Any) -> None:
        """Send one message."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # why it is gone is told by the frames
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def frames(self) -> Iterator[tuple[bytes, bytes]]:
        """The frames up to the good end. Raises `SourceError` where there is none."""
        assert self._process.stdout is not None
        while True:
            self._waiting = time.monotonic()
            head = self._process.stdout.read(_FRAME.size)
            kind, length = _FRAME.unpack(head) if len(head) == _FRAME.size else (b"", 0)
            payload = self._process.stdout.read(length)
            self._waiting = None
            if not kind or len(payload) < length:
                raise self._gone()
            if kind == b"Z":
                return
            yield kind, payload

    def _gone(self) -> SourceError:
        if self._silent:
            return SourceError(
                f"the connector said nothing for {self._patience:,.0f} s and was ended",
                hint="what came before its last checkpoint is kept; say `patience: 2 hours` if it takes longer",
            )
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        said = "".join(f"\n  {line}" for line in self._last)
        hint = "what came before its last checkpoint is kept: run the same command again"
        return SourceError(f"the connector's process {how} in the middle of a sync{said}", hint=hint)

    def listen(self, show: Callable[[str], None]) -> None:
        """Show what the connector prints, until it ends."""
        assert self._process.stderr is not None
        with self._process.stderr as printed:
            for line in iter(lambda: printed.readline(_LONGEST_LINE), b""):
                text = _message(line.decode("utf-8", "replace").rstrip())
                if self._waiting is not None:
                    self._waiting = time.monotonic()
                if text:
                    self._last.append(text)
                    show(text)

    def watch(self) -> None:
        """End a child that says nothing for too long, until it is gone."""
        while self._process.poll() is None:
            since = self._waiting
            if since is not None and time.monotonic() - since > self._patience:
                self._silent = True
                self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(min(0.5, self._patience / 4))

    def kill(self) -> None:
        """End it now, with all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave nothing of it behind."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]  # all three are pipes


@contextlib.contextmanager
def started(python: Path, name: str, patience: float, show: Callable[[str], None]) -> Iterator[Child]:
    """A host, gone at the end. Raises `ProjectError` where `python` does not start."""
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            [python, "-I", fivetran_host.__file__],
            stdin=pipe, stdout=pipe, stderr=pipe, env=connector_environment(name), start_new_session=True,
        )  # fmt: skip
    except OSError as exc:
        raise ProjectError(f"{python} does not start: {exc.strerror}", hint="see `python:` of the source") from exc
    child = Child(process, python, patience)
    threads = [
        threading.Thread(target=child.listen, args=(show,), daemon=True),
        threading.Thread(target=child.watch, daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        yield child
    finally:
        child.close()
        for thread in threads:
            thread.join(2.0)  # the last lines are read


def _message(line: str) -> str:
    """What a line of the connector says: the SDK logs JSON. Nothing for what the SDK says of itself."""
    try:
        told = json.loads(line)
    except ValueError:
        return line
    if not isinstance(told, dict) or "message" not in told:
        return line
    own = str(told.get("message_origin", "")).startswith("library") and told.get("level") == "INFO"
    return "" if own else str(told["message"])
