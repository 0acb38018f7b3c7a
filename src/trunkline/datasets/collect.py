"""What of a checkout's datasets nobody needs any more, and its removal.

Removing is safe to be killed at: files are renamed away first, under a name that says so, and what was renamed is
deleted by whoever collects next.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from trunkline.datasets.holding import alone
from trunkline.datasets.run import folder
from trunkline.datasets.vault import sealed_file
from trunkline.warehouse.protocol import Snapshots

_SCRATCH = re.compile(r"(?P<name>.+)[.-](?P<pid>\d{1,10})(?P<removed>\.removed)?\Z")
_NAMELESS = dt.timedelta(days=1)  # after that, nobody is still writing a file that does not say who writes it

Kind = Literal["dataset", "snapshot", "leftover"]


@dataclass(frozen=True)
class Built:
    """One build of a dataset, as the ledger has it."""

    name: str
    dataset_id: str
    created_at: dt.datetime
    snapshot: str


@dataclass(frozen=True)
class Keep:
    """What is kept whatever else: the newest `newest` builds of each dataset, and those younger than `younger`."""

    newest: int
    younger: dt.timedelta
    now: dt.datetime


@dataclass(frozen=True)
class Rubbish:
    """Something to be removed: files, or a snapshot of the warehouse. `bytes` None: only the warehouse knows."""

    kind: Kind
    what: str
    why: str
    bytes: int | None
    paths: tuple[Path, ...] = ()
    snapshot: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "paths": [str(path) for path in self.paths]}


def needed(builds: Sequence[Built], users: Mapping[str, str], keep: Keep) -> dict[str, str]:
    """Why each dataset that is kept is kept, by id. `users` says the same of those that something needs."""
    found = {build.dataset_id: users[build.dataset_id] for build in builds if build.dataset_id in users}
    by_name: dict[str, list[Built]] = {}
    for build in sorted(builds, key=lambda build: build.created_at, reverse=True):
        by_name.setdefault(build.name, []).append(build)
    for listed in by_name.values():
        for place, build in enumerate(listed):
            if place < max(keep.newest, 1):
                found.setdefault(build.dataset_id, "the newest" if place == 0 else f"one of the newest {keep.newest}")
            elif keep.now - build.created_at < keep.younger:
                found.setdefault(build.dataset_id, "it is too young")
    return found


def unneeded(state: Path, builds: Sequence[Built], kept: Collection[str]) -> Iterator[Rubbish]:
    """Files of builds that are not in `kept` and that no process is reading."""
    for build in builds:
        if build.dataset_id in kept:
            continue
        place, sealed = folder(state, build.name, build.dataset_id), sealed_file(state, build.name, build.dataset_id)
        paths = tuple(path for path in (place, sealed) if path.exists())
        if not paths:
            continue
        with alone(place) as free:
            if free:
                why = f"built {build.created_at:%Y-%m-%d %H:%M}, no model version needs it"
                what = f"{build.name}@{build.dataset_id[:8]}"
                yield Rubbish("dataset", what, why, sum(size(path) for path in paths), paths)


def unneeded_snapshots(
    warehouse: object, builds: Sequence[Built], kept: Collection[str], now: dt.datetime
) -> Iterator[Rubbish]:
    """Snapshots that take space and that no build in `kept` was made from. Of one that the ledger does not know, a
    build may be under way."""
    if not isinstance(warehouse, Snapshots):
        return
    wanted = {build.snapshot.lower() for build in builds if build.dataset_id in kept}
    known = {build.snapshot.lower(): build for build in builds}
    for snapshot, taken in warehouse.kept().items():
        build = known.get(snapshot.lower())
        if snapshot.lower() in wanted or (build is None and now - taken < _NAMELESS):
            continue
        why = f"of {build.name}@{build.dataset_id[:8]}, which is not needed" if build else "no dataset was made from it"
        yield Rubbish("snapshot", snapshot, why, None, snapshot=build.snapshot if build else snapshot)


def leftovers(state: Path, known: Collection[str], now: dt.datetime) -> Iterator[Rubbish]:
    """What killed processes left: scratch that says whose it is, files that were never put in place, sealed parts of
    datasets that were never finished. `known` are the ids of all datasets anybody knows."""
    for path in _hidden(state):
        found = _SCRATCH.match(path.name)
        if found and found["removed"]:
            yield _leftover(path, "its removal was cut off")
        elif found and not _runs(int(found["pid"])):
            yield _leftover(path, f"process {found['pid']} ended before it was finished")
        elif not found and now - _changed(path) > _NAMELESS:
            yield _leftover(path, "nobody has finished it since yesterday")
    short = {dataset_id[:16] for dataset_id in known}
    for path in sorted(state.glob("vault/*/*.parquet")):
        finished = (state / "datasets" / path.parent.name / path.stem).exists()
        orphan = not path.name.startswith(".") and not finished and path.stem not in short
        if orphan and now - _changed(path) > _NAMELESS:
            yield _leftover(path, "the sealed part of a dataset that was never finished")


def _hidden(state: Path) -> list[Path]:
    """Unfinished things begin with a dot; in `fetch` everything is unfinished."""
    places = ("datasets/*/.*", "vault/*/.*", "bundles/.*", "cache/.*", "fetch/*", "tmp/*")
    return sorted(path for place in places for path in state.glob(place))


def _leftover(path: Path, why: str) -> Rubbish:
    return Rubbish("leftover", f"{path.parent.relative_to(path.parents[1])}/{path.name}", why, size(path), (path,))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _changed(path: Path) -> dt.datetime:
    with contextlib.suppress(FileNotFoundError):
        return dt.datetime.fromtimestamp(path.lstat().st_mtime, dt.UTC)
    return dt.datetime.now(dt.UTC)  # it is being put in place this very moment


def size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    total = 0
    for each in [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]:
        with contextlib.suppress(FileNotFoundError):
            stat = each.lstat()
            total += stat.st_size if not each.is_dir() else 0
    return total


def remove(rubbish: Rubbish, warehouse: object) -> bool:
    """Remove it: rename away, then delete. Whether anything was there; a dataset that is read meanwhile stays."""
    if rubbish.snapshot:
        assert isinstance(warehouse, Snapshots)  # or there would be none
        warehouse.release(rubbish.snapshot)
        return True
    with alone(rubbish.paths[0]) if rubbish.kind == "dataset" else contextlib.nullcontext(True) as free:
        gone = [away for path in rubbish.paths if free and (away := _renamed(path))]
    for path in gone:
        delete(path)
    return bool(gone)


def _renamed(path: Path) -> Path | None:
    """Beside where it was, so that it is one step on one file system. None if it is gone already."""
    if path.name.endswith(".removed"):
        return path
    away = path.with_name(f".{path.name.lstrip('.')}.{os.getpid()}.removed")
    try:
        path.rename(away)
    except FileNotFoundError:
        return None
    return away


def delete(path: Path) -> None:
    """Delete what was renamed away. Somebody else may be at it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
