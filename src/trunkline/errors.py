"""Every error Trunkline raises on purpose, on one page.

    TrunklineError
    ├── UserError                 the project or the command is at fault; exit code 2
    │   ├── ProjectError          a file of the project (has file and line)
    │   ├── SourceError           a source: file missing, column missing, unreadable
    │   ├── ContractError         rows or columns that break the table's contract policy
    │   ├── DatasetError          a dataset that cannot be built as declared
    │   ├── TrainingError         user code or data that cannot be trained on
    │   ├── ModelReferenceError   a model reference that leads nowhere
    │   └── RequestError          a prediction request that does not fit the signature (HTTP 422)
    ├── EngineError               a warehouse, registry or server refused; exit code 1
    │   └── TransientError        the same call may succeed later; callers retry it
    ├── IntegrityError            stored bytes are not the bytes that were recorded
    ├── StepFailed                a step of a run failed for a reason already shown
    └── GateFailed                the verdict is no; exit code 3

A message has up to three parts: what happened, where (file and line of the user's project), and what to type
next. Terminal or transient is a class, never a guess from text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "ContractError",
    "DatasetError",
    "EngineError",
    "GateFailed",
    "IntegrityError",
    "ModelReferenceError",
    "ProjectError",
    "RequestError",
    "SourceError",
    "StepFailed",
    "TrainingError",
    "TransientError",
    "TrunklineError",
    "UserError",
    "did_you_mean",
    "from_json",
]


class TrunklineError(Exception):
    """Base of all errors raised on purpose.

    `what` is one sentence; `file` and `line` (1-based) point into the user's project; `hint` is the next thing to
    type or change.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, file: Path | str | None = None, line: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.file = Path(file) if file is not None else None
        self.line = line
        self.hint = hint

    @property
    def where(self) -> str | None:
        """`file:line`, `file`, or None."""
        if self.file is None:
            return None
        return f"{self.file}:{self.line}" if self.line is not None else str(self.file)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        return "\n".join(parts)

    def to_json(self) -> dict[str, object]:
        """The error as plain data, for `--json`."""
        return {
            "error": type(self).__name__,
            "message": self.what,
            "file": str(self.file) if self.file else None,
            "line": self.line,
            "hint": self.hint,
        }


class UserError(TrunklineError):
    """The project or the command line is at fault. Nothing was changed."""

    exit_code = 2


class ProjectError(UserError):
    """A file of the project cannot be read or does not validate."""


class SourceError(UserError):
    """A source cannot be read: it is not there, lacks a column, or is not what it says it is."""


class ContractError(UserError):
    """Rows or columns break the contract of a table whose policy is to fail."""


class DatasetError(UserError):
    """A dataset cannot be built as declared."""


class TrainingError(UserError):
    """A model cannot be trained as declared."""


class ModelReferenceError(UserError):
    """A model reference (`models:/name/7`, `models:/name@alias`) leads nowhere."""


class RequestError(UserError):
    """A prediction request does not fit the model's signature."""

    def __init__(self, what: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(what)
        self.field = field
        self.row = row


class EngineError(TrunklineError):
    """An engine (warehouse, registry, server) refused and would refuse again."""


class TransientError(EngineError):
    """An engine refused for a passing reason: the same call may succeed later."""


class IntegrityError(TrunklineError):
    """Stored bytes differ from the bytes that were recorded; nothing is loaded from them."""


class StepFailed(TrunklineError):
    """A step of a run failed. The steps before it are committed; the same command goes on from there."""


class GateFailed(TrunklineError):
    """The gate's verdict is no."""

    exit_code = 3


def from_json(data: Mapping[str, Any]) -> TrunklineError:
    """The error of `TrunklineError.to_json`'s data, from another process; TrainingError for what is none of these.

    >>> from_json(EngineError("no answer").to_json())
    EngineError('no answer')
    """
    kind = globals()[data["error"]] if data["error"] in __all__ else TrainingError
    error: TrunklineError = kind(data["message"], file=data["file"], line=data["line"], hint=data["hint"])
    return error


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`" Did you mean 'x'?"` for the closest of `known`, else an empty string.

    >>> did_you_mean("flihgts", ["flights", "planes"])
    " Did you mean 'flights'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""
