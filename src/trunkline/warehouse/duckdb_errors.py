"""What DuckDB says when something fails, as Trunkline's errors."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, SourceError, TransientError
from trunkline.project.redact import redact

_SILENT = "Failed to fetch result row for MySQL:"  # DuckDB does not tell why
# What a server was asked, which comes before why it refused, line after line.
_RUN = re.compile(r"(Failed to [\w ]+?) query \"(?:.*?)\"(?=: |$):? ?", re.DOTALL)
_NETWORK = (
    "connection to server",
    "server closed the connection",
    "Could not establish connection",
    "Could not connect",
    "Connection refused",
    "timed out",
    "Could not resolve host",  # object stores
    "error for HTTP GET",
    "HTTP 500",
    "HTTP 502",
    "HTTP 503",
    "HTTP 504",
    "Can't connect to server",  # MySQL
    "Lost connection to server",
    "gone away",
    "no connection to the server",
    "connection has been closed",
    "could not receive data",
    _SILENT,
    "server has gone away",
)


# what DuckDB says of files that are at fault, and what to do about them
_WHOLE = "is the file whole, and of the format that its name says?"
_SOURCE_FAULTS = (
    (("CSV Parser state machine",), "do its lines end now in CR LF, now in LF? dos2unix makes them alike"),
    (("CSV",), _WHOLE),
    (("Malformed JSON",), "a document that is broken has no rows; mend it, or write one object a line as .ndjson"),
    (("maximum_object_size",), "an object of a JSON file may have 16 MiB"),
    (("arquet",), _WHOLE),
    (("No magic bytes",), _WHOLE),
    (("not a GZIP",), _WHOLE),
    (("Data corruption detected",), _WHOLE),
)


@contextlib.contextmanager
def redacted(what: str, settings: Mapping[str, Any], file: Path | None = None) -> Iterator[None]:
    """Errors that quote the profile, without its passwords: in the message, and in no traceback either."""
    try:
        yield
    except TransientError as exc:
        raise TransientError(redact(f"{what}: {exc.what}", settings), hint=exc.hint) from None
    except EngineError as exc:
        hint = "`attach:` and `secrets:` in profiles.yml say where the catalog is and how it is reached"
        if file is not None:
            hint = "is it a DuckLake catalog, and whole? `attach:` in profiles.yml names it"
        raise EngineError(redact(f"{what}: {exc.what}", settings), file=file, hint=hint) from None


def refused(message: str) -> bool:
    """Another writer came first, and nothing of this transaction was done."""
    words = ("database is locked", "onflict", "ducklake_max_retry_count", "lock timeout")
    made = "Failed to initialize DuckLake" in message and ("duplicate key" in message or "already exists" in message)
    return made or any(word in message for word in words)


def lost(message: str) -> bool:
    """A server cannot be reached, and may be reached again later."""
    if "FATAL" in message:
        return "the database system is" in message or "too many" in message or "terminating connection" in message
    return any(word in message for word in _NETWORK)


def translate(exc: Exception, what: str = "", *, reading: bool = False) -> EngineError | SourceError:
    """The error, whose message begins with `what` it was for. Only while a source is being read may a file of that
    source be at fault."""
    message = first_line(exc)
    text = f"{what}: {message}" if what else message
    if any(word in message for word in ("No space left", "disk is full", "File too large")):
        return EngineError(text, hint="make room on the disk, and run the same command again")
    if refused(message):
        return TransientError(text, hint="another process is writing; run the same command again")
    if lost(message):
        return TransientError(text, hint="the server cannot be reached now; run the same command again")
    if reading and (found := _source_fault(message)):
        return SourceError(text, hint=found)
    return EngineError(text)


def _source_fault(message: str) -> str:
    """What to do about a file that is not what its name says; "" where the file is not at fault."""
    if "HTTP" in message:  # a store that refuses
        return ""
    return next((hint for words, hint in _SOURCE_FAULTS if all(word in message for word in words)), "")


def first_line(exc: Exception) -> str:
    lines = [line for line in _RUN.sub(r"\1: ", str(exc), count=1).splitlines() if line.strip()]
    with contextlib.suppress(ValueError, AttributeError, IndexError):
        return str(json.loads(lines[0])["exception_message"])
    if len(lines) > 1 and lines[0].endswith("Failed to commit DuckLake transaction."):
        return lines[1]  # why
    first = lines[0] if lines else type(exc).__name__
    return f"{first.strip()} the connection was lost, or the time was up" if first.strip().endswith(_SILENT) else first
