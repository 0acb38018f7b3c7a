"""Datasets of a project: found by name and id, and collected only when nobody needs them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.unit.datasets.putting import put
from trunkline.cli import dataset
from trunkline.context import StepContext
from trunkline.datasets.run import folder
from trunkline.errors import DatasetError, ModelReferenceError
from trunkline.graph.plan import Past
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration import collecting, datasets
from trunkline.project.deploy import Deployment, DeploymentFile
from trunkline.project.secrets import Secrets
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.protocol import RunRecord
from trunkline.warehouse.duckdb import open_duckdb

PARTS = dict.fromkeys(("train", "validation", "test"), "select i as id, i % 2 = 0 as late from range(20) t(i)")
NEVER = dt.timedelta()


@dataclass
class _Project:
    root: Path
    deployments: tuple[Deployment, ...] = ()

    @property
    def state(self) -> Path:
        return self.root / ".trunkline"


@dataclass
class _Session:
    """What the commands use of a session."""

    context: StepContext
    project: _Project
    past: dict[str, Past] = field(default_factory=dict)

    def refresh(self) -> None:
        """Nothing is remembered."""

    def build(self, number: int, name: str = "mart", *, day: int = 1, recorded: bool = True) -> str:
        """A build, as the step leaves it."""
        given = {"name": name, "created_at": f"2026-01-{day:02}T00:00:00+00:00"}
        warehouse: Any = self.context.warehouse
        manifest = put(warehouse, self.project.state, PARTS, fingerprint=f"{number:x}" * 64, **given)
        row = {"dataset_id": manifest.dataset_id, "name": name, "manifest": manifest.to_json()}
        self.context.ledger.add("datasets", [{**row, "created_at": manifest.created_at}] if recorded else [])
        return manifest.dataset_id

    def train(self, dataset_id: str, bundle: Path, *, recorded: bool = True) -> str:
        """A model version, in the registry and, if `recorded`, in the ledger."""
        registry = self.context.registry()
        run_id, tags = registry.log_run(RunRecord("e", "m")), {"trunkline.dataset_id": dataset_id}
        version = registry.register("m", bundle, run_id=run_id, sha256="f" * 64, tags=tags, example=None)
        row = {"version_id": version.uri, "model": "m", "reference": version.uri, "dataset_id": dataset_id}
        self.context.ledger.add("versions", [row] if recorded else [])
        return version.uri

    def here(self) -> set[str]:
        """The first digit of every build whose files are here."""
        return {one.dataset_id[0] for one in datasets.known(self) if one.here}  # type: ignore[arg-type]

    def gc(self, keep: int = 1) -> set[str]:
        """Collect; what is here afterwards."""
        found = collecting.rubbish(self, keep, NEVER)  # type: ignore[arg-type]
        gone = list(collecting.collect(self, found, keep, NEVER))  # type: ignore[arg-type]
        assert [item.what for item in gone] == [item.what for item in found.rubbish]
        return self.here()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[_Session]:
    warehouse, registry = open_duckdb({"path": "local.duckdb"}, tmp_path), MemoryRegistry()
    context = StepContext(
        root=tmp_path,
        run_id="run_1",
        target="dev",
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=lambda: registry,
        progress=lambda text, done=None: None,
        vault_key=lambda: b"k" * 32,
        secrets=Secrets(tmp_path),
        who="tester",
        git_commit=lambda: None,
    )
    yield _Session(context, _Project(tmp_path))
    warehouse.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    place = tmp_path / "bundle"
    place.mkdir()
    (place / "model.onnx").write_bytes(b"x")
    return place


def test_names_and_ids(session: Any) -> None:
    for number, day in ((1, 1), (2, 3), (3, 2)):
        session.build(number, day=day)
    session.build(4, "other")
    builds = datasets.known(session)
    assert [one.label for one in builds] == ["mart@22222222", "mart@33333333", "mart@11111111", "other@44444444"]
    assert [datasets.find(builds, text).dataset_id[0] for text in ("mart", "mart@1111", "33333333", "other")] == list(
        "2134"
    )
    session.past["dataset:mart"] = Past("f", {}, {"dataset_id": "3" * 64})
    assert datasets.find(datasets.known(session), "mart").dataset_id[0] == "3"  # what is used now
    assert [one.dataset_id[0] for one in datasets.pair(builds, "mart", None)] == ["3", "2"]
    assert [one.dataset_id[0] for one in datasets.pair(builds, "mart@1111", "other")] == ["1", "4"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("marts", "no dataset 'marts'. Did you mean 'mart'?"),
        ("mart@9999", "'mart' has no build '9999'"),
        ("mart@111", "'111' is too short for an id"),
        ("mrat@1111", "no dataset 'mrat'. Did you mean 'mart'?"),
    ],
)
def test_what_is_not_there_is_said(session: Any, text: str, message: str) -> None:
    session.build(1)
    with pytest.raises(DatasetError) as caught:
        datasets.find(datasets.known(session), text)
    assert message in caught.value.what


def test_what_a_registered_version_needs_survives(session: Any, bundle: Path) -> None:
    ids = [session.build(number, day=number) for number in range(1, 8)]
    session.train(ids[0], bundle)
    session.train(ids[1], bundle, recorded=False)  # trained by another target: only the registry knows
    session.past["dataset:mart"] = Past("f", {}, {"dataset_id": ids[2]})  # an older commit is checked out
    cache = session.project.state / "cache" / "state-prod.json"
    cache.parent.mkdir(parents=True)
    cache.write_text(json.dumps({"past": {"dataset:mart": {"output": {"dataset_id": ids[3]}}}}))
    assert session.gc() == {"1", "2", "3", "4", "7"}
    assert session.gc() == {"1", "2", "3", "4", "7"}
    listed = {one.dataset_id[0]: one for one in datasets.known(session)}
    assert (listed["1"].versions, listed["5"].here, listed["5"].recorded) == (("models:/m/1",), False, True)


def test_a_version_that_only_the_ledger_has_counts_while_the_registry_knows_nothing(session: Any) -> None:
    ids = [session.build(number, day=number) for number in (1, 2, 3)]
    row = {"version_id": "v", "model": "m", "reference": "models:/m/1", "dataset_id": ids[0]}
    session.context.ledger.add("versions", [row])
    assert session.gc() == {"1", "3"}


def test_a_version_deleted_in_the_registry_needs_nothing(session: Any, bundle: Path) -> None:
    ids = [session.build(number, day=number) for number in (1, 2, 3)]
    row = {"version_id": "v", "model": "m", "reference": "models:/m/99", "dataset_id": ids[0]}
    session.context.ledger.add("versions", [row])
    session.train(ids[1], bundle)
    assert session.gc() == {"2", "3"}


def test_what_a_deployment_needs_survives(session: Any, bundle: Path) -> None:
    ids = [session.build(number, day=number) for number in (1, 2, 3)]
    uri = session.train(ids[1], bundle)

    def deployed(reference: str) -> tuple[Deployment, ...]:
        return (Deployment("d", DeploymentFile("d", reference), session.project.root / "deploy" / "d.yml", 2),)

    session.project.deployments = deployed("models:/m/7")
    with pytest.raises(ModelReferenceError, match="what deployment 'd' needs is not known") as caught:
        session.gc()
    assert (caught.value.line, session.here()) == (2, {"1", "2", "3"})
    session.project.deployments = deployed(uri)
    assert session.gc() == {"2", "3"}


def test_builds_of_other_targets_stay(session: Any) -> None:
    for number in (1, 2, 3):
        session.build(number, day=number)
    session.build(8, day=1, recorded=False)
    found = collecting.rubbish(session, 2, NEVER)
    assert [item.what for item in found.rubbish] == ["mart@11111111"]
    assert [one.label for one in found.strange] == ["mart@88888888"]
    assert session.gc(2) == {"2", "3", "8"}


def test_what_was_not_seen_is_not_removed(session: Any) -> None:
    for number in (1, 2):
        session.build(number, day=number)
    found = collecting.rubbish(session, 1, NEVER)
    session.build(3, day=3)  # while the user was asked
    assert [item.what for item in collecting.collect(session, found, 1, NEVER)] == ["mart@11111111"]
    assert session.here() == {"2", "3"}


def test_nothing_is_removed_that_nobody_agreed_to(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "session", lambda *_: contextlib.nullcontext(session))
    for number in (1, 2):
        session.build(number, day=number)
    told = CliRunner().invoke(dataset.command, ["gc", "--keep", "1"])  # nobody is at the terminal
    assert (told.exit_code, "nothing was removed: --yes removes it" in told.output) == (0, True)
    assert "mart@11111111" in told.output
    dry = CliRunner().invoke(dataset.command, ["gc", "--keep", "1", "--yes", "--dry-run"])
    assert "nothing was removed (" in dry.output
    assert session.here() == {"1", "2"}
    monkeypatch.setattr(dataset, "_agreed", lambda show, found: True)
    assert "removed 1 of 1" in CliRunner().invoke(dataset.command, ["gc", "--keep", "1"]).output
    assert session.here() == {"2"}


def test_the_whole_of_show_and_diff(session: Any) -> None:
    session.build(1, day=1)
    session.build(2, day=2)
    shown = datasets.show(session, "mart")
    assert shown.page == folder(session.project.state, "mart", "2" * 64) / "profile.html"
    assert shown.page.read_text().startswith("<!doctype html>")
    assert all(check.ok for _, check in datasets.verified(session, datasets.chosen(session, None)))
    before, after, found = datasets.diff(session, "mart", None, 5)
    assert (before.dataset_id[0], after.dataset_id[0], found.same, found.rows) == ("1", "2", True, None)
    for name in ("train.parquet", "validation.parquet", "manifest.json", "profile.html"):
        (shown.page.parent / name).unlink()
    absent = datasets.show(session, "mart")
    assert (absent.page, absent.manifest) == (None, shown.manifest)
    assert datasets.diff(session, "mart", None, 5)[2].why == "the files of mart@22222222 are not here"
    with pytest.raises(DatasetError, match="the files of mart@22222222 are not here"):
        datasets.chosen(session, "mart")
