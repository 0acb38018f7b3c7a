"""What is known of a candidate's origin, and of its dataset, by what registry, dataset and bundle say."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.models.test_bundle import write
from trunkline.datasets.findings import Finding, write_findings
from trunkline.datasets.manifest import Manifest
from trunkline.gate.opened import OpenPart
from trunkline.models.bundle import Bundle
from trunkline.orchestration.proving import leakage, opened, provenance
from trunkline.registry.protocol import ModelVersion

FILES = tuple(f"sha256 of {name}" for name in ("encoder.json", "model.onnx", "signature.json"))
ID = "0123456789abcdef" * 4


def manifest(**changes: Any) -> Manifest:
    whole = Manifest(
        dataset_id=ID,
        content_id="c0ffee",
        name="orders",
        relation="main.orders",
        snapshot="version:7",
        sql="",
        key="id",
        time=None,
        target="y",
        task="binary",
        groups={},
        split={},
        schema=(),
        parts={},
        load_ids=("l1", "l2"),
        unlabelled=0,
        left_out=0,
        created_at="",
    )
    return replace(whole, **changes)


def version(bundle: Bundle, **tags: str) -> ModelVersion:
    files = json.dumps({"bundle.json": "", **bundle.digests})
    told = {"trunkline.git_commit": "4be1", "trunkline.dbt_manifest": "d1", "trunkline.files": files}
    return ModelVersion("y", 1, "models:/y/1", bundle.sha256, "run-1", {**told, **tags}, {}, datetime.now(UTC))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write(tmp_path / "bundle")


def test_all_is_known(bundle: Bundle) -> None:
    found = provenance(version(bundle), bundle, manifest())
    assert found.missing == ()
    assert found.known["loads"] == "l1 l2"
    assert found.known["sha256 of model.onnx"] == bundle.digests["model.onnx"]
    assert found.bundle_bytes == sum(len(content) for content in bundle.files().values())


@pytest.mark.parametrize(
    ("tags", "changes", "missing"),
    [
        ({"trunkline.git_commit": ""}, {}, ("git commit",)),
        ({"trunkline.git_dirty": "true"}, {}, ("git commit",)),
        ({"trunkline.dbt_manifest": ""}, {"snapshot": "", "load_ids": ()}, ("dbt manifest", "snapshot", "loads")),
        ({"trunkline.files": '{"model.onnx": "0000"}'}, {}, FILES),
        ({"trunkline.files": "no JSON"}, {}, FILES),
    ],
    ids=["no git", "changes", "database file", "another model", "damaged"],
)
def test_what_is_not_known_is_named(
    bundle: Bundle, tags: dict[str, str], changes: dict[str, Any], missing: tuple[str, ...]
) -> None:
    assert provenance(version(bundle, **tags), bundle, manifest(**changes)).missing == missing


@pytest.mark.parametrize(
    ("name", "dataset_id"),
    [
        ("orders", "1" * 64),
        ("../elsewhere", ID),
        ("orders/../../elsewhere", ID),
        ("/etc", ID),
        ("orders", "../.."),
        ("", ""),
    ],
)
def test_a_bundle_names_no_dataset_elsewhere(tmp_path: Path, name: str, dataset_id: str) -> None:
    session: Any = SimpleNamespace(context=SimpleNamespace(state=tmp_path / "state"))
    for place in (tmp_path / "state/datasets/orders", tmp_path / "state/elsewhere", tmp_path / "elsewhere"):
        (place / ID[:16]).mkdir(parents=True)
        manifest().write(place / ID[:16])
    assert opened(session, name, dataset_id) is None
    found = opened(session, "orders", ID)
    assert found is not None
    assert found.folder == tmp_path / "state" / "datasets" / "orders" / ID[:16]


def test_another_dataset_in_its_place_is_none(tmp_path: Path) -> None:
    session: Any = SimpleNamespace(context=SimpleNamespace(state=tmp_path))
    place = tmp_path / "datasets" / "orders" / ID[:16]
    place.mkdir(parents=True)
    manifest(dataset_id=ID[:16] + "f" * 48).write(place)
    assert opened(session, "orders", ID) is None


def test_findings_are_signs(tmp_path: Path) -> None:
    import pyarrow as pa

    write_findings(tmp_path, [Finding("single_feature", "warn", "`x` alone", "x", 0.99, 0.98)])
    part = OpenPart(tmp_path, manifest())
    found = leakage(pa.table({"id": [1, 2]}), part, OpenPart(tmp_path, manifest(relation="main.other")))
    ((sign),) = found.signs
    assert (sign.probe, sign.outcome, sign.column, sign.value) == ("single_feature", "warn", "x", 0.99)
    assert (found.keys, found.seen, found.seen_by_champion) == (2, 0, None)
