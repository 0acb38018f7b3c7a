"""What the registry was not there for, kept on disk: a run with its artifacts, and the version to be made of it or the

verdict that a version is to be tagged with.

A parcel is a folder that appears whole or not at all, so a kill at any moment leaves all of it or none. `send` hands
each over once: a run is known by its key, a version by the sha256 of its bundle. A version that has its number stays
as `arrived` until the ledger knows it, too (`settle`).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, IntegrityError, TransientError, TrunklineError
from trunkline.project.files import write_atomic
from trunkline.project.lock import locked_now
from trunkline.registry.protocol import ModelVersion, Registry, RunRecord
from trunkline.registry.wire import from_plain, plain

__all__ = [
    "Parcel",
    "ToRegister",
    "ToTag",
    "Waiting",
    "keep",
    "refuses_all",
    "register",
    "send",
    "settle",
    "tell",
    "waiting",
]

_FOLDER, _CONTENT, _ARRIVED, _REFUSED = "parcels", "parcel.json", "arrived.json", "refused.json"


@dataclass(frozen=True)
class ToRegister:
    """A bundle that is to become a version: see `Registry.register`. `row` is what the ledger is to know of it."""

    name: str
    bundle: Path
    sha256: str
    tags: Mapping[str, str]
    example: Mapping[str, object] | None
    row: Mapping[str, Any]


@dataclass(frozen=True)
class ToTag:
    """What a version, `models:/NAME/NUMBER`, is to be tagged with: `verdict` as JSON, and the id of the run beside it.

    Of two with the same name, the one that was decided later (`decided_at`, ISO 8601) stays.
    """

    reference: str
    name: str
    verdict: Mapping[str, Any]


@dataclass(frozen=True)
class Parcel:
    """A run that has a key, and the version it made or the one it was about, if there is one."""

    run: RunRecord
    version: ToRegister | None = None
    tag: ToTag | None = None


@dataclass(frozen=True)
class Waiting:
    """A parcel that lies here, for people: `model` and `sha256` are empty for a run that made no version, `refused` is
    why the registry will not have it, if it was asked."""

    run: str
    model: str
    sha256: str
    metrics: Mapping[str, float]
    refused: str = ""


def register(registry: Registry, parcel: Parcel) -> tuple[ModelVersion, bool]:
    """The version of the parcel, and whether it is new: the same bundle is never registered twice under one name."""
    wanted = parcel.version
    assert wanted is not None  # a parcel without a version is only a run
    known = next((v for v in reversed(registry.versions(wanted.name)) if v.sha256 == wanted.sha256), None)
    if known is not None:
        return known, False
    run_id = registry.log_run(parcel.run)
    made = registry.register(
        wanted.name, wanted.bundle, run_id=run_id, sha256=wanted.sha256, tags=wanted.tags, example=wanted.example
    )
    return made, True


def tell(outbox: Path, registry: Callable[[], Registry], run: RunRecord, tag: ToTag | None = None) -> str | None:
    """Record a run that has a key, and tag a version; the run's id, or None if the registry is away and both are kept
    until it is back."""
    parcel = Parcel(run, tag=tag)
    try:
        return _record(registry(), parcel)
    except TransientError:
        keep(outbox, parcel)
        return None


def _record(registry: Registry, parcel: Parcel) -> str:
    run_id = registry.log_run(parcel.run)
    if parcel.tag is not None:
        version, verdict = registry.resolve(parcel.tag.reference), {**parcel.tag.verdict, "run_id": run_id}
        told = json.dumps(verdict, sort_keys=True)
        if _decided_at(version.tags.get(parcel.tag.name, "")) <= _decided_at(told):
            registry.tag(version, {parcel.tag.name: told})
    return run_id


def _decided_at(tag: str) -> datetime:
    try:
        return datetime.fromisoformat(json.loads(tag)["decided_at"]).astimezone(UTC)
    except (ValueError, KeyError, TypeError):
        return datetime.min.replace(tzinfo=UTC)


def keep(outbox: Path, parcel: Parcel) -> None:
    """Put a parcel down, with a copy of its run's artifacts; the bundle of a version stays where it is.

    The same parcel is kept once. Raises `EngineError` if the disk refuses.
    """
    run = parcel.run if parcel.run.ended_at else replace(parcel.run, ended_at=datetime.now(UTC))
    folder = outbox / _FOLDER / run.key.replace("/", "-")
    if (folder / _CONTENT).exists():
        return
    made = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        if run.artifacts is not None:
            shutil.copytree(run.artifacts, made / "artifacts")
        version = {**asdict(parcel.version), "bundle": str(parcel.version.bundle)} if parcel.version else None
        tag = asdict(parcel.tag) if parcel.tag else None
        content = {"run": plain(run), "version": version, "tag": tag, "artifacts": run.artifacts is not None}
        write_atomic(made / _CONTENT, json.dumps(content, default=str))
        os.replace(made, folder)
    except OSError as exc:
        raise EngineError(f"cannot keep a run for the registry: {exc.strerror}", file=folder, hint="make room") from exc


def waiting(outbox: Path) -> list[Waiting]:
    """What lies here and has not arrived, in the order of its making."""
    listed = []
    for folder in _folders(outbox):
        if (folder / _ARRIVED).exists():
            continue
        parcel, refused = _read(folder), folder / _REFUSED
        version = parcel.version
        listed.append(
            Waiting(
                run=parcel.run.name,
                model=version.name if version else "",
                sha256=version.sha256 if version else "",
                metrics=parcel.run.metrics,
                refused=json.loads(refused.read_text("utf-8"))["reason"] if refused.exists() else "",
            )
        )
    return listed


def send(outbox: Path, registry: Registry) -> None:
    """Hand over what lies here, unless another process is at it. What cannot be sent stays."""
    folders = [folder for folder in _folders(outbox) if not (folder / _ARRIVED).exists()]
    if not folders:
        return
    with _alone(outbox) as mine:
        for folder in folders if mine else ():
            if not (folder / _CONTENT).exists():  # sent by another process meanwhile
                continue
            try:
                _hand_over(folder, registry)
            except TransientError:
                return
            except (TrunklineError, OSError) as exc:
                if isinstance(exc, EngineError) and refuses_all(registry):
                    return
                reason = exc.what if isinstance(exc, TrunklineError) else str(exc)
                write_atomic(folder / _REFUSED, json.dumps({"reason": reason}))


def settle(outbox: Path, note: Callable[[Mapping[str, Any]], None]) -> None:
    """Hand the row of each version that has got its number to `note`, which may see it twice; forget the parcel."""
    if not any((folder / _ARRIVED).exists() for folder in _folders(outbox)):
        return
    with _alone(outbox) as mine:
        for folder in _folders(outbox) if mine else ():
            if (folder / _ARRIVED).exists():
                note(json.loads((folder / _ARRIVED).read_text("utf-8")))
                _forget(folder)


def refuses_all(registry: Registry) -> bool:
    """Whether the registry refuses whatever it is asked, as one does that does not let us in."""
    try:
        registry.versions("trunkline-doctor")
    except EngineError:
        return True
    return False


def _hand_over(folder: Path, registry: Registry) -> None:
    parcel = _read(folder)
    wanted = parcel.version
    if wanted is None:
        _record(registry, parcel)
        _forget(folder)
        return
    if not wanted.bundle.is_dir():
        raise IntegrityError(f"the bundle {wanted.bundle} is gone")
    version, _ = register(registry, parcel)
    row = {**wanted.row, "reference": version.uri, "registry_run_id": version.run_id}
    write_atomic(folder / _ARRIVED, json.dumps(row, default=str))


def _read(folder: Path) -> Parcel:
    content = json.loads((folder / _CONTENT).read_text("utf-8"))
    run = from_plain(content["run"])
    version, tag = content["version"], content.get("tag")
    return Parcel(
        replace(run, artifacts=folder / "artifacts" if content["artifacts"] else None),
        ToRegister(**{**version, "bundle": Path(version["bundle"])}) if version else None,
        ToTag(**tag) if tag else None,
    )


def _folders(outbox: Path) -> list[Path]:
    found = [path.parent for path in (outbox / _FOLDER).glob(f"[!.]*/{_CONTENT}")]
    return sorted(found, key=lambda folder: (folder / _CONTENT).stat().st_mtime_ns)


def _forget(folder: Path) -> None:
    """Gone at once, however long it takes to remove."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _alone(outbox: Path) -> Iterator[bool]:
    with locked_now(outbox / _FOLDER / ".lock") as mine:
        if mine:
            _sweep(outbox)
        yield mine


def _sweep(outbox: Path) -> None:
    """What processes that were killed left half written or half removed."""
    for left in (outbox / _FOLDER).glob(".*"):
        owner = left.name.rpartition(".")[2]
        if left.is_dir() and not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(left, ignore_errors=True)
