"""What is on its way to the registry, kept on disk: a run with its artifacts, and the version to be made of it or the

verdict that a version is to be tagged with.

A parcel is a folder that appears whole or not at all, so a kill at any moment leaves all of it or none. `send` hands
each over once: a run is known by its key, a version by the sha256 of its bundle. A version that has its number stays
as `arrived` until the ledger knows it, too (`settle`). What the registry did not take stays with the reason, and is
tried again by whoever sends next. One process of a checkout at a time talks to the registry of parcels.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, IntegrityError, TransientError, TrunklineError
from trunkline.project.files import write_atomic
from trunkline.project.lock import locked_now
from trunkline.registry.files import digests, identity, put, sync
from trunkline.registry.protocol import InvalidRecord, ModelVersion, Registry, RunRecord
from trunkline.registry.wire import from_plain, plain

__all__ = [
    "Parcel",
    "ToRegister",
    "ToTag",
    "Waiting",
    "keep",
    "register",
    "send",
    "settle",
    "tell",
    "waiting",
]

_FOLDER, _CONTENT, _ARRIVED, _REFUSED = "parcels", "parcel.json", "arrived.json", "refused.json"
_TURN_SECONDS = 60.0  # for which one waits while another process is at it


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
    """A parcel that lies here, for people: `model` and `sha256` are empty for a run that made no version. `refused` is
    why the registry will never have it as it is, `held` why it did not take it when it was last asked."""

    run: str
    model: str
    sha256: str
    metrics: Mapping[str, float]
    refused: str = ""
    held: str = ""


def register(outbox: Path, registry: Registry, parcel: Parcel) -> tuple[ModelVersion, bool]:
    """The version of the parcel, and whether it is new: the same bundle is never registered twice under one name.

    Raises `IntegrityError` if the bundle is not, byte for byte, the one whose sha256 the parcel has.
    """
    with _alone(outbox, _TURN_SECONDS) as mine:
        if not mine:
            raise TransientError("another command is busy with the registry", hint="the same command again, later")
        return _register(registry, parcel)


def _register(registry: Registry, parcel: Parcel) -> tuple[ModelVersion, bool]:
    wanted = parcel.version
    assert wanted is not None  # a parcel without a version is only a run
    known = next((v for v in reversed(registry.versions(wanted.name)) if v.sha256 == wanted.sha256), None)
    if known is not None:
        return known, False
    _check_bundle(wanted)
    run_id = registry.log_run(parcel.run)
    made = registry.register(
        wanted.name, wanted.bundle, run_id=run_id, sha256=wanted.sha256, tags=wanted.tags, example=wanted.example
    )
    return made, True


def _check_bundle(wanted: ToRegister) -> None:
    hint = f"trunkline train {wanted.name} --force"
    if not wanted.bundle.is_dir():
        raise IntegrityError(f"the bundle {wanted.bundle} is gone", hint=hint)
    try:
        found = identity(digests(wanted.bundle))
    except OSError as exc:
        raise IntegrityError(f"the bundle {wanted.bundle} cannot be read: {exc.strerror}", hint=hint) from exc
    if found != wanted.sha256:
        what = f"the bundle {wanted.bundle} is not the one that was trained: its digest is {found}"
        raise IntegrityError(f"{what}, and {wanted.sha256} was recorded", hint=hint)


def tell(outbox: Path, registry: Callable[[], Registry], run: RunRecord, tag: ToTag | None = None) -> str | None:
    """Record a run that has a key, and tag a version; the run's id, or None if the registry is away.

    Both are kept first, and stay until the registry has them: also where this raises, or is killed.
    """
    parcel = Parcel(_ended(run), tag=tag)
    folder = keep(outbox, parcel)
    try:
        reached = registry()
        with _alone(outbox, _TURN_SECONDS) as mine:
            if not mine:
                return None
            run_id = _record(reached, parcel)  # where another process has just sent it, its key tells
            _forget(folder)
            return run_id
    except TransientError:
        return None
    except TrunklineError as exc:
        _note(folder, exc)
        raise


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


def _ended(run: RunRecord) -> RunRecord:
    """With an end, which is that of each try: MLflow keeps a point twice that comes at another time."""
    return run if run.ended_at else replace(run, ended_at=datetime.now(UTC))


def keep(outbox: Path, parcel: Parcel) -> Path:
    """Put a parcel down, with a copy of its run's artifacts; the bundle of a version stays where it is. The folder.

    The same parcel is kept once. Raises `EngineError` if the disk refuses.
    """
    run = _ended(parcel.run)
    folder = outbox / _FOLDER / run.key.replace("/", "-")
    if _is_whole(folder):
        return folder
    made = folder.with_name(f".{folder.name}.{threading.get_ident()}.{os.getpid()}")
    try:
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        if run.artifacts is not None:
            shutil.copytree(run.artifacts, made / "artifacts")
        version = {**asdict(parcel.version), "bundle": str(parcel.version.bundle)} if parcel.version else None
        tag = asdict(parcel.tag) if parcel.tag else None
        content = {"run": plain(run), "version": version, "tag": tag, "artifacts": run.artifacts is not None}
        write_atomic(made / _CONTENT, json.dumps(content, default=str))
        sync(*made.rglob("*"), made)
        _forget(folder)  # what is there is damaged
        put(made, folder)
        sync(folder.parent)
    except OSError as exc:
        raise EngineError(f"cannot keep a run for the registry: {exc.strerror}", file=folder, hint="make room") from exc
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def waiting(outbox: Path) -> list[Waiting]:
    """What lies here and has not arrived, in the order of its making."""
    listed = []
    for folder in _folders(outbox):
        if not (folder / _ARRIVED).exists():
            with suppress(FileNotFoundError):  # sent by another process meanwhile
                listed.append(_waiting(folder))
    return listed


def _waiting(folder: Path) -> Waiting:
    try:
        parcel = _read(folder)
    except IntegrityError as exc:
        return Waiting(folder.name, "", "", {}, refused=exc.what)
    version, why = parcel.version, _noted(folder)
    return Waiting(
        run=parcel.run.name,
        model=version.name if version else "",
        sha256=version.sha256 if version else "",
        metrics=parcel.run.metrics,
        **why,
    )


def send(outbox: Path, registry: Registry) -> None:
    """Hand over what lies here, unless another process is at it. What cannot be sent stays, with the reason."""
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
            except TrunklineError as exc:
                _note(folder, exc)


def settle(outbox: Path, note: Callable[[Mapping[str, Any]], None]) -> None:
    """Hand the row of each version that has got its number to `note`, which may see it twice; forget the parcel."""
    if not any((folder / _ARRIVED).exists() for folder in _folders(outbox)):
        return
    with _alone(outbox) as mine:
        for folder in _folders(outbox) if mine else ():
            if (row := _arrived(folder)) is not None:
                note(row)
                _forget(folder)


def _arrived(folder: Path) -> dict[str, Any] | None:
    try:
        row: dict[str, Any] = json.loads((folder / _ARRIVED).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:  # damaged: it is sent again, and found by its sha256
        (folder / _ARRIVED).unlink()
        return None
    return row


def _hand_over(folder: Path, registry: Registry) -> None:
    parcel = _read(folder)
    wanted = parcel.version
    if wanted is None:
        _record(registry, parcel)
        _forget(folder)
        return
    version, _ = _register(registry, parcel)
    row = {**wanted.row, "reference": version.uri, "registry_run_id": version.run_id}
    write_atomic(folder / _ARRIVED, json.dumps(row, default=str))


def _note(folder: Path, exc: TrunklineError) -> None:
    """Why the registry did not take it; `held` if it may take it as it is, from another user or at another time."""
    kind = "held" if isinstance(exc, EngineError) and not isinstance(exc, InvalidRecord) else "refused"
    if (folder / _CONTENT).exists():
        with suppress(EngineError):  # a full disk: it stays nevertheless
            write_atomic(folder / _REFUSED, json.dumps({kind: exc.what}))


def _noted(folder: Path) -> dict[str, str]:
    try:
        told = json.loads((folder / _REFUSED).read_bytes())
        return {kind: str(told[kind]) for kind in ("held", "refused") if kind in told}
    except (FileNotFoundError, ValueError, TypeError):
        return {}


def _read(folder: Path) -> Parcel:
    """Raises `IntegrityError` for one that is damaged, `FileNotFoundError` for one that is gone."""
    text = (folder / _CONTENT).read_bytes()
    try:
        content = json.loads(text)
        run = from_plain(content["run"])
        version, tag = content["version"], content.get("tag")
        return Parcel(
            replace(run, artifacts=folder / "artifacts" if content["artifacts"] else None),
            ToRegister(**{**version, "bundle": Path(version["bundle"])}) if version else None,
            ToTag(**tag) if tag else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError, IntegrityError) as exc:
        what = f"{folder} is damaged, or of another version of Trunkline"
        raise IntegrityError(what, hint=f"rm -r {folder}") from exc


def _is_whole(folder: Path) -> bool:
    try:
        _read(folder)
    except (FileNotFoundError, IntegrityError):
        return False
    return True


def _folders(outbox: Path) -> list[Path]:
    found = []
    for path in (outbox / _FOLDER).glob(f"[!.]*/{_CONTENT}"):
        with suppress(FileNotFoundError):  # sent by another process meanwhile
            found.append((path.stat().st_mtime_ns, path.parent))
    return [folder for _, folder in sorted(found)]


def _forget(folder: Path) -> None:
    """Gone at once, however long it takes to remove."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    with suppress(FileNotFoundError):
        os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


@contextmanager
def _alone(outbox: Path, seconds: float = 0) -> Iterator[bool]:
    """Hold the parcels, for which so many seconds are waited; whether they are held."""
    place = outbox / _FOLDER
    place.mkdir(parents=True, exist_ok=True)
    with locked_now(place / ".lock", seconds) as mine:
        if mine:
            _sweep(outbox)
        yield mine


def _sweep(outbox: Path) -> None:
    """What processes that were killed left half written or half removed."""
    for left in (outbox / _FOLDER).glob(".*"):
        owner = left.name.rpartition(".")[2]
        if left.is_dir() and not (owner.isdigit() and Path(f"/proc/{owner}").exists()):
            shutil.rmtree(left, ignore_errors=True)
