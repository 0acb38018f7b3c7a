"""docs/datasets.md says what a dataset is."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path

import pytest

from tests.unit.datasets.building import build, context
from trunkline.datasets.manifest import Manifest
from trunkline.errors import DatasetError
from trunkline.project import split
from trunkline.project.config import read_config
from trunkline.project.ml import declarations
from trunkline.project.probes import DEFAULTS
from trunkline.warehouse.duckdb import open_duckdb

PAGE = (Path(__file__).parent.parent.parent / "docs" / "datasets.md").read_text("utf-8")
ORDERS = (
    "select i as order_id, timestamp '2025-01-01' + interval (i) hour as ordered_at, i % 5 as items, i / 8 as amount, "
    "'c' || (i % 9) as country, i // 40 as orders_before, 'customer ' || (i % 200) as customer_id, "
    "i % 7 = 0 as returned from range(2400) t(i)"
)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_are_datasets_that_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (python,), (error,) = _blocks("python"), _blocks("text")
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "returns.py").write_text(python)
    (found,) = declarations(tmp_path)
    quiet = {"probes": dict.fromkeys(DEFAULTS, "off"), "name": "mart"}
    table = re.findall(r"^\| `tl\.(split\.\w+\(.*?\))` \|", PAGE, re.MULTILINE)
    assert len(table) == 5
    with contextlib.closing(open_duckdb({"path": "local.duckdb"}, tmp_path)) as warehouse:
        ctx = context(warehouse, tmp_path)
        warehouse.execute(f"create table main.mart as {ORDERS}")
        manifest = build(ctx, {**found.data, **quiet})
        assert manifest.left_out == 2 * 14 * 24
        for number, call in enumerate(table):
            declared = eval(call, {"split": split}).to_json()
            build(ctx, {**found.data, **quiet, "split": declared}, str(number) * 64)
        warehouse.execute(
            "insert into main.mart by name select * replace (7 as order_id) from main.mart where order_id < 2"
        )
        warehouse.execute("insert into main.mart by name from main.mart where order_id = 9")
        with pytest.raises(DatasetError) as caught:
            build(ctx, {**found.data, **quiet, "name": "order_features"}, "a" * 64)
    told, hint = error.strip().splitlines()
    assert f"{found.file}:{found.line}: {caught.value.what}" == told
    assert f"Hint: {caught.value.hint}" == hint


def test_every_field_of_the_manifest_is_told() -> None:
    recorded = PAGE[PAGE.index("## What is recorded") : PAGE.index("## For a cluster")]
    fields = {field.name for field in dataclasses.fields(Manifest)} - {"name", "relation", "created_at"}
    assert set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|(.*?)\|", recorded, re.MULTILINE)))) == fields


def test_the_published_location_is_a_configuration(tmp_path: Path) -> None:
    (yaml,) = _blocks("yaml")
    (tmp_path / "trunkline.yml").write_text(yaml)
    datasets = read_config(tmp_path).datasets
    assert (datasets.location, datasets.storage["secret"]) == ("s3://lake/datasets", "env:LAKE_SECRET")
