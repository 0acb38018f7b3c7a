"""What the registry was not there for arrives once, whoever dies meanwhile."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.registry.tiny import write_tiny
from trunkline.errors import EngineError, IntegrityError, TransientError
from trunkline.registry.files import digests, identity
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.parcels import Parcel, ToRegister, ToTag, keep, register, send, settle, tell, waiting
from trunkline.registry.protocol import DatasetInput, InvalidRecord, ModelVersion, RunRecord
from trunkline.testing.registry_suite import EXAMPLE, FILES, a_run, write_bundle


class Dying(MemoryRegistry):
    """Breaks off after so many calls, having done what it was asked or not."""

    def __init__(self, calls: int, error: type[EngineError] = TransientError) -> None:
        super().__init__()
        self.left = calls
        self.error = error

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error("gone")

    def versions(self, name: str) -> list[ModelVersion]:
        """As in memory."""
        self._spend()
        return super().versions(name)

    def log_run(self, run: RunRecord) -> str:
        """As in memory; the answer may be lost."""
        run_id = super().log_run(run)
        self._spend()
        return run_id

    def register(self, name: str, bundle_dir: Path, **given: object) -> ModelVersion:
        """As in memory; the answer may be lost."""
        made = super().register(name, bundle_dir, **given)  # type: ignore[arg-type]  # handed on as they are
        self._spend()
        return made


def trained(tmp_path: Path, name: str = "delay", number: int = 0) -> Parcel:
    """A training and its bundle."""
    bundle = tmp_path / "bundles" / str(number)
    if not bundle.exists():
        write_bundle(bundle, {**FILES, "bundle.json": json.dumps({"number": number}).encode()})
    sha256 = identity(digests(bundle))
    read = (DatasetInput("flights train", "ab" * 32, "/data/train.parquet", "training"),)
    run = a_run(key=f"train-{name}-{sha256}", datasets=read)
    return Parcel(run, ToRegister(name, bundle, sha256, {"dataset": "d-1"}, EXAMPLE, {"model": name, "sha256": sha256}))


def settled(outbox: Path) -> list[Mapping[str, object]]:
    """The rows that the ledger gets."""
    rows: list[Mapping[str, object]] = []
    settle(outbox, rows.append)
    return rows


@pytest.mark.parametrize("calls", range(4))
def test_wherever_it_breaks_off_there_is_one_version(tmp_path: Path, calls: int) -> None:
    registry = Dying(calls)
    parcel = trained(tmp_path)
    keep(tmp_path, parcel)
    send(tmp_path, registry)
    assert len(waiting(tmp_path)) == (0 if calls == 3 else 1)
    registry.left = 100
    send(tmp_path, registry)
    (version,) = registry.versions("delay")
    assert parcel.version is not None
    assert settled(tmp_path) == [
        {"model": "delay", "sha256": parcel.version.sha256, "reference": version.uri, "registry_run_id": version.run_id}
    ]
    assert settled(tmp_path) == []
    (run,) = registry.runs.values()
    assert (run.datasets, run.curves, run.started_at) == (
        parcel.run.datasets,
        {name: tuple(curve) for name, curve in parcel.run.curves.items()},
        parcel.run.started_at,
    )


def test_a_run_alone_is_kept_with_a_copy_of_its_artifacts(tmp_path: Path) -> None:
    def away() -> MemoryRegistry:
        raise TransientError("gone")

    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "report.md").write_text("# yes", "utf-8")
    run = a_run(key="compare_1", artifacts=tmp_path / "page", children=(a_run(name="row"),))
    assert tell(tmp_path, away, run) is None
    (tmp_path / "page" / "report.md").write_text("# no", "utf-8")
    (kept,) = (tmp_path / "parcels").glob("*/artifacts/report.md")
    assert kept.read_text("utf-8") == "# yes"
    registry = MemoryRegistry()
    send(tmp_path, registry)
    send(tmp_path, registry)
    assert sorted(run.name for run in registry.runs.values()) == ["mlp", "row"]
    assert tell(tmp_path, lambda: registry, run) in registry.runs
    assert len(registry.runs) == 2


@pytest.mark.parametrize(("already", "stays"), [(None, False), ("12:00", True), ("09:00", False), ("no JSON", False)])
def test_a_verdict_arrives_with_its_run_unless_there_is_a_later_one(
    tmp_path: Path, already: str | None, stays: bool
) -> None:
    registry = MemoryRegistry()
    write_bundle(tmp_path / "bundle", FILES)
    run_id = registry.log_run(a_run(key="train"))
    made = registry.register("delay", tmp_path / "bundle", run_id=run_id, sha256="ab" * 32, tags={}, example=None)
    there = json.dumps({"decided_at": f"2026-01-02T{already}:00+00:00"}) if already != "no JSON" else "{"
    if already is not None:
        registry.tag(made, {"gate": there})

    def away() -> MemoryRegistry:
        raise TransientError("gone")

    verdict = {"passed": True, "decided_at": "2026-01-02T10:30:00.5+00:00"}
    assert tell(tmp_path, away, a_run(key="look"), ToTag(made.uri, "gate", verdict)) is None
    send(tmp_path, registry)
    assert not waiting(tmp_path)
    (look,) = (run_id for run_id, run in registry.runs.items() if run.key == "look")
    told = registry.resolve(made.uri).tags["gate"]
    assert told == (there if stays else json.dumps({**verdict, "run_id": look}, sort_keys=True))


def test_what_is_refused_is_told_and_holds_up_nobody(tmp_path: Path) -> None:
    keep(tmp_path, trained(tmp_path, name="a b"))
    keep(tmp_path, trained(tmp_path))
    registry = MemoryRegistry()
    send(tmp_path, registry)
    (left,) = waiting(tmp_path)
    assert (left.model, left.metrics["roc_auc"], left.held) == ("a b", 0.7821, "")
    assert "'a b' cannot name a model" in left.refused
    assert len(registry.versions("delay")) == 1


def test_who_is_not_let_in_is_not_refused_this_one(tmp_path: Path) -> None:
    keep(tmp_path, trained(tmp_path))
    send(tmp_path, Dying(0, EngineError))
    assert [(one.refused, one.held) for one in waiting(tmp_path)] == [("", "gone")]


def test_what_the_registry_never_takes_is_said(tmp_path: Path) -> None:
    keep(tmp_path, trained(tmp_path))
    send(tmp_path, Dying(0, InvalidRecord))
    assert [(one.refused, one.held) for one in waiting(tmp_path)] == [("gone", "")]


@pytest.mark.parametrize("harm", ["changed", "removed", "added"])
def test_a_bundle_that_is_another_is_never_registered(tmp_path: Path, harm: str) -> None:
    parcel = trained(tmp_path)
    keep(tmp_path, parcel)
    assert parcel.version is not None
    model = parcel.version.bundle / "model.onnx"
    if harm == "changed":
        model.write_bytes(model.read_bytes()[:-1] + b"!")
    elif harm == "removed":
        model.unlink()
    else:
        (parcel.version.bundle / "more.pkl").write_bytes(b"!")
    registry = MemoryRegistry()
    send(tmp_path, registry)
    assert "is not the one that was trained" in waiting(tmp_path)[0].refused
    with pytest.raises(IntegrityError, match="is not the one that was trained"):
        register(tmp_path, registry, parcel)
    assert (registry.runs, registry.files) == ({}, {})


def test_the_digest_is_that_of_a_bundle(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "bundle")
    assert identity(digests(bundle.path)) == bundle.sha256


def test_what_is_told_is_kept_first(tmp_path: Path) -> None:
    """Ctrl-C, a kill and a refusal lose nothing; what is kept has the end that was told."""

    class Forbidding(MemoryRegistry):
        def resolve(self, reference: str) -> ModelVersion:
            raise error

    def asked() -> MemoryRegistry:
        assert len(waiting(tmp_path)) == 1
        return registry

    registry = Forbidding()
    tag = ToTag("models:/delay/1", "gate", {"passed": True, "decided_at": "2026-01-02T10:30:00+00:00"})
    for error in (EngineError("does not let us do this"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            tell(tmp_path, asked, a_run(key="look", ended_at=None), tag)
    assert [(one.run, one.held) for one in waiting(tmp_path)] == [("mlp", "does not let us do this")]
    whole = MemoryRegistry()
    write_bundle(tmp_path / "bundle", FILES)
    run_id = whole.log_run(a_run(key="train"))
    made = whole.register("delay", tmp_path / "bundle", run_id=run_id, sha256="", tags={}, example=None)
    send(tmp_path, whole)
    (look,) = (run for run in whole.runs.values() if run.key == "look")
    (first,) = registry.runs.values()
    assert look.ended_at == first.ended_at is not None
    assert "run_id" in whole.resolve(made.uri).tags["gate"]
    assert waiting(tmp_path) == []


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": {}}', '{"run": {"experiment": 1}, "version": 2}'])
def test_a_damaged_parcel_is_told_and_holds_up_nobody(tmp_path: Path, content: str) -> None:
    lost, sound = trained(tmp_path), trained(tmp_path, number=1)
    (keep(tmp_path, lost) / "parcel.json").write_text(content)
    keep(tmp_path, sound)
    registry = MemoryRegistry()
    send(tmp_path, registry)
    (left,) = waiting(tmp_path)
    assert (left.run, "damaged" in left.refused) == (lost.run.key, True)
    assert len(settled(tmp_path)) == 1
    keep(tmp_path, lost)  # trained again
    send(tmp_path, registry)
    assert waiting(tmp_path) == []
    assert len(registry.versions("delay")) == 2


def test_damaged_notes_beside_a_parcel_do_no_harm(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    folder = keep(tmp_path, trained(tmp_path))
    (folder / "refused.json").write_text("{")
    assert [one.refused for one in waiting(tmp_path)] == [""]
    send(tmp_path, registry)
    (folder / "arrived.json").write_text("{")
    assert settled(tmp_path) == []
    send(tmp_path, registry)
    assert len(settled(tmp_path)) == len(registry.versions("delay")) == 1


def test_parcels_that_vanish_while_they_are_listed_are_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [keep(tmp_path, Parcel(a_run(key=f"run-{number}"))) for number in range(2)]
    monkeypatch.setattr("trunkline.registry.parcels._folders", lambda outbox: folders)
    shutil.rmtree(folders[0])
    assert len(waiting(tmp_path)) == 1
    send(tmp_path, MemoryRegistry())
    assert settled(tmp_path) == []


def test_two_commands_that_register_one_bundle_make_one_version(tmp_path: Path) -> None:
    class Slow(MemoryRegistry):
        def versions(self, name: str) -> list[ModelVersion]:
            found = super().versions(name)
            time.sleep(0.1)
            return found

    registry, parcel, made = Slow(), trained(tmp_path), []
    threads = [threading.Thread(target=lambda: made.append(register(tmp_path, registry, parcel))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [version.version for version, _ in made] == [1, 1, 1]
    assert sorted(new for _, new in made) == [False, False, True]


def test_a_bundle_that_is_gone_is_told(tmp_path: Path) -> None:
    parcel = trained(tmp_path)
    keep(tmp_path, parcel)
    assert parcel.version is not None
    parcel.version.bundle.rename(tmp_path / "elsewhere")
    send(tmp_path, MemoryRegistry())
    assert "is gone" in waiting(tmp_path)[0].refused


def test_several_that_send_at_once_make_one_version_each(tmp_path: Path) -> None:
    for number in range(20):
        keep(tmp_path, trained(tmp_path, number=number))
    registry = MemoryRegistry()
    threads = [threading.Thread(target=send, args=(tmp_path, registry)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({version.sha256 for version in registry.versions("delay")}) == len(registry.versions("delay")) == 20
    assert len(settled(tmp_path)) == 20


KILLED = """
import sys
from pathlib import Path
from tests.unit.registry.test_parcels import trained, keep, a_run, Parcel
place = Path(sys.argv[1])
for number in range(100_000):
    keep(place, Parcel(a_run(key=f"run-{number}", artifacts=place / "page")))
    if number == 20:
        print("going", flush=True)
"""


def test_a_kill_leaves_whole_parcels(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    for number in range(5):
        (tmp_path / "page" / f"{number}.html").write_text("x" * 10_000, "utf-8")
    root = Path(__file__).resolve().parents[3]
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"going\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    kept = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "parcels").glob("[!.]*/parcel.json")]
    assert len(kept) == len(waiting(tmp_path)) > 20
    for folder in (tmp_path / "parcels").glob("[!.]*"):
        assert len(list((folder / "artifacts").iterdir())) == 5
    registry = MemoryRegistry()
    send(tmp_path, registry)
    assert {run.key for run in registry.runs.values()} == {one["run"]["key"] for one in kept}
    assert [path.name for path in (tmp_path / "parcels").iterdir()] == [".lock"]
