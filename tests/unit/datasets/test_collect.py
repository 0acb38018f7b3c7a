"""Collecting: what is needed stays, what killed processes left goes, and being killed itself does no harm."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.datasets.putting import put
from trunkline.datasets.collect import (
    Built,
    Keep,
    Rubbish,
    leftovers,
    needed,
    remove,
    unneeded,
    unneeded_snapshots,
)
from trunkline.datasets.run import folder
from trunkline.datasets.vault import sealed_file
from trunkline.warehouse.duckdb import DuckDB
from trunkline.warehouse.relation import Relation

NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
PARTS = dict.fromkeys(("train", "validation", "test"), "select i as id, i % 2 = 0 as late from range(20) t(i)")


def _built(number: int, *, days: int, name: str = "mart", snapshot: str = "") -> Built:
    return Built(name, f"{number:x}" * 64, NOW - dt.timedelta(days=days), snapshot)


def _kept(builds: list[Built], users: Mapping[str, str], **keep: int) -> set[str]:
    younger = dt.timedelta(days=keep.get("younger", 0))
    return {key[0] for key in needed(builds, users, Keep(keep.get("newest", 1), younger, NOW))}


def test_who_needs_what() -> None:
    builds = [_built(number, days=number) for number in range(1, 8)] + [_built(9, days=90, name="other")]
    assert _kept(builds, {}) == {"1", "9"}
    assert _kept(builds, {}, newest=3) == {"1", "2", "3", "9"}
    assert _kept(builds, {}, younger=5) == {"1", "2", "3", "4", "9"}
    assert _kept(builds, {"6" * 64: "models:/m/1 was trained on it", "5" * 64: "it is used now"}) == {
        "1",
        "5",
        "6",
        "9",
    }
    assert _kept(builds, {}, newest=0) == {"1", "9"}  # never the last one
    why = needed(builds, {"1" * 64: "models:/m/2 was trained on it"}, Keep(2, dt.timedelta(), NOW))
    assert (why["1" * 64], why["2" * 64]) == ("models:/m/2 was trained on it", "one of the newest 2")


@pytest.fixture
def two(engine: DuckDB, tmp_path: Path) -> tuple[Path, list[Built]]:
    builds = [_built(1, days=1), _built(2, days=2)]
    for build in builds:
        put(engine, tmp_path, PARTS, fingerprint=build.dataset_id)
    return tmp_path, builds


def _there(state: Path, build: Built) -> tuple[bool, bool]:
    place, sealed = folder(state, "mart", build.dataset_id), sealed_file(state, "mart", build.dataset_id)
    return place.exists(), sealed.exists()


def test_files_of_a_build_go_together(two: tuple[Path, list[Built]], engine: DuckDB) -> None:
    state, builds = two
    (found,) = unneeded(state, builds, {builds[0].dataset_id})
    assert (found.what, found.kind, len(found.paths)) == ("mart@22222222", "dataset", 2)
    assert found.bytes == sum(
        file.stat().st_size for path in found.paths for file in [path, *path.rglob("*")] if file.is_file()
    )
    assert remove(found, engine)
    assert (_there(state, builds[0]), _there(state, builds[1])) == ((True, True), (False, False))
    assert not remove(found, engine)
    assert list(state.rglob(".*")) == []


KILLED = """
import os, sys, datetime as dt
from pathlib import Path
from trunkline.datasets import collect
state, built = Path(sys.argv[1]), collect.Built("mart", "2" * 64, dt.datetime.now(dt.UTC), "")
collect.delete = lambda path: os._exit(9)
(found,) = collect.unneeded(state, [built], ())
collect.remove(found, None)
"""


def test_killed_between_renaming_and_deleting(two: tuple[Path, list[Built]], engine: DuckDB) -> None:
    state, builds = two
    done = subprocess.run([sys.executable, "-c", KILLED, str(state)], check=False, timeout=60)
    assert done.returncode == 9
    assert (_there(state, builds[0]), _there(state, builds[1])) == ((True, True), (False, False))
    found = list(leftovers(state, {build.dataset_id for build in builds}, NOW))
    assert [item.why for item in found] == ["its removal was cut off"] * 2
    assert all(remove(item, engine) for item in found)
    assert list(state.rglob("*.removed")) == []
    assert _there(state, builds[0]) == (True, True)


HOLDING = """
import sys, time
from pathlib import Path
from trunkline.datasets.holding import hold
hold(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_dataset_that_is_being_read_stays(two: tuple[Path, list[Built]], engine: DuckDB) -> None:
    state, builds = two
    (before,) = unneeded(state, builds, {builds[0].dataset_id})
    command = [sys.executable, "-c", HOLDING, str(folder(state, "mart", builds[1].dataset_id))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == b"held\n"
        assert list(unneeded(state, builds, {builds[0].dataset_id})) == []
        assert not remove(before, engine)  # it began to be read after we looked
        assert _there(state, builds[1]) == (True, True)
        reader.kill()
        reader.wait(30)
    assert remove(before, engine)


def _touch(path: Path, *, days: float = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"12345")
    at = NOW.timestamp() - days * 86_400
    os.utime(path, (at, at))
    return path


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        dead = process.pid
    mine = os.getpid()
    goes = [
        _touch(tmp_path / "datasets" / "mart" / f".0123.{dead}" / "train.parquet").parent,
        _touch(tmp_path / "vault" / "mart" / f".0123.parquet.{dead}"),
        _touch(tmp_path / "vault" / "mart" / ".4567.parquet", days=2),
        _touch(tmp_path / "vault" / "mart" / f"{'7' * 16}.parquet", days=2),
        _touch(tmp_path / "bundles" / f".train-{dead}" / "model.onnx").parent,
        _touch(tmp_path / "fetch" / f"89ab.{dead}" / "model.onnx").parent,
        _touch(tmp_path / "cache" / ".files.json.x8k2a_", days=2),
        _touch(tmp_path / "tmp" / f"duckdb-{dead}" / "x").parent,
    ]
    stays = [
        _touch(tmp_path / "datasets" / "mart" / f".0123.{mine}" / "train.parquet").parent,
        _touch(tmp_path / "vault" / "mart" / ".89ab.parquet", days=0.5),
        _touch(tmp_path / "vault" / "mart" / f"{'8' * 16}.parquet", days=2),  # the ledger knows it
        _touch(tmp_path / "vault" / "mart" / f"{'9' * 16}.parquet", days=0.5),
        _touch(tmp_path / "fetch" / f"89ab.{mine}" / "model.onnx").parent,
        _touch(tmp_path / "cache" / ".files.json.y8k2a_"),
        _touch(tmp_path / "cache" / "files.json", days=99),
        _touch(tmp_path / "bundles" / "0123" / "model.onnx", days=99),
    ]
    found = list(leftovers(tmp_path, {"8" * 64}, NOW))
    assert sorted(path for item in found for path in item.paths) == sorted(goes)
    assert all(remove(item, None) and item.bytes == 5 for item in found)
    assert [path.exists() for path in stays] == [True] * len(stays)
    assert [path.exists() for path in goes] == [False] * len(goes)


class _Clones:
    """A warehouse with snapshots that take space."""

    def __init__(self, *names: str) -> None:
        self.there = {f"clone:{name}": NOW - dt.timedelta(days=3) for name in names}

    def snapshot(self, relation: Relation) -> str:
        return ""

    def at(self, relation: Relation, snapshot: str) -> str:
        return ""

    def kept(self) -> Mapping[str, dt.datetime]:
        return self.there

    def release(self, snapshot: str) -> None:
        del self.there[snapshot.lower()]


def test_snapshots_that_no_needed_build_came_from_are_given_back() -> None:
    warehouse = _Clones("needed", "gone", "shared", "strange")
    warehouse.there["clone:new"] = NOW
    builds = [
        _built(1, days=1, snapshot="clone:NEEDED"),
        _built(2, days=2, snapshot="clone:Gone"),
        _built(3, days=3, snapshot="clone:shared"),
        _built(4, days=4, snapshot="clone:shared"),
        _built(5, days=5, snapshot="version:12"),
    ]
    found: list[Rubbish] = list(unneeded_snapshots(warehouse, builds, {"1" * 64, "3" * 64}, NOW))
    assert [(item.snapshot, item.bytes) for item in found] == [("clone:Gone", None), ("clone:strange", None)]
    assert all(remove(item, warehouse) for item in found)
    assert sorted(warehouse.there) == ["clone:needed", "clone:new", "clone:shared"]
