"""What `trunkline ci gate --out` leaves beside its reports: which deployments it came to, and what kept it from one.

It goes from the workflow that judges, which runs a pull request's code, to the one that may write comments. So what is
read is checked: its size, its form, each name. What it says may be anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trunkline.errors import EngineError, UserError
from trunkline.project.files import write_atomic
from trunkline.project.hidden import open_environ
from trunkline.project.redact import redact

__all__ = ["Entry", "FILE", "LARGEST", "LONGEST_ERROR", "MOST", "read_index", "write_index"]

FILE = "judged.json"
LARGEST = 64 << 10
"""Bytes of an index that `read_index` takes."""
MOST = 20
"""Deployments that are looked at: each has a report and a comment."""
LONGEST_ERROR = 1000
"""Characters of an error that are told."""
_SECRETS = ("GITHUB_TOKEN", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deployment and its verdict; `passed` is null where there is none. With an `error` there is none that counts."""

    deployment: Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}\Z")]
    passed: bool | None = None
    error: Annotated[str, msgspec.Meta(max_length=LONGEST_ERROR)] | None = None


class _Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema: Literal["trunkline.judged/1"]
    judged: tuple[Entry, ...]


def write_index(out: Path, judged: Iterable[Entry], root: Path, environ: Mapping[str, str]) -> None:
    """Write `out/judged.json`. What errors say is without the secrets in `environ`: nothing masks them in a comment."""
    kept = open_environ(root, environ)
    secrets = [value for name, value in environ.items() if name not in kept or name in _SECRETS]
    entries = tuple(
        msgspec.structs.replace(one, error=redact(one.error, {"secret": secrets})[:LONGEST_ERROR]) if one.error else one
        for one in judged
    )
    text = msgspec.json.format(msgspec.json.encode(_Index("trunkline.judged/1", entries)), indent=1)
    write_atomic(out / FILE, text.decode() + "\n")


def read_index(folder: Path) -> tuple[Entry, ...] | None:
    """The entries of `folder/judged.json`; None if it is not there. Raises `UserError` for what is no index."""
    file = folder / FILE
    if not file.exists() and not file.is_symlink():
        return None
    if file.is_symlink() or not file.is_file():
        raise UserError("the index is no plain file", file=file)
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as exc:
        raise EngineError(f"cannot read the file: {exc.strerror}", file=file) from exc
    if len(data) > LARGEST:
        raise UserError(f"the index has more than {LARGEST:,} bytes", file=file)
    try:
        judged = msgspec.json.decode(data, type=_Index).judged
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise UserError(f"this is no index of the gate: {exc}", file=file) from exc
    if len(judged) > MOST:
        raise UserError(f"{len(judged)} deployments are more than the {MOST} that are looked at", file=file)
    if len({one.deployment for one in judged}) < len(judged):
        raise UserError("the index names a deployment twice", file=file)
    return judged
