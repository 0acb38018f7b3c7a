"""`trunkline.open`: a project's datasets in a notebook."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import trunkline
from tests.unit.datasets.building import ROWS, build, context, declared
from trunkline.errors import DatasetError, ProjectError, UserError
from trunkline.notebook import OpenDataset, OpenProject
from trunkline.project import split
from trunkline.warehouse.duckdb import open_duckdb

ML = """
import trunkline as tl

flights = tl.Dataset(
    "trips", key="id", time="at", target="late", groups={"one": ["a"]},
    split=tl.split.by_time(validation="2025-01-03", test="2025-01-05"),
)
"""
OLDER, NEWER = "ab12" + "0" * 60, "ab34" + "0" * 60


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> OpenProject:
    """A project with two versions of the dataset `mart`, and `trips`, which was never built."""
    root = tmp_path_factory.mktemp("project")
    (root / "dbt_project.yml").write_text("name: demo\nprofile: demo\n")
    (root / "profiles.yml").write_text("demo: {target: dev, outputs: {dev: {type: duckdb, path: local.duckdb}}}\n")
    (root / "ml").mkdir()
    (root / "ml" / "trips.py").write_text(ML)
    warehouse = open_duckdb({"path": "local.duckdb"}, root)
    try:
        warehouse.execute(f"create table main.mart as {ROWS}")
        build(context(warehouse, root), declared(), OLDER)
        warehouse.execute("update main.mart set a = 99 where id = 1")
        build(context(warehouse, root), declared(), NEWER)
        rolling = split.rolling(test="2025-01-05", folds=2, horizon="1d")
        build(context(warehouse, root), declared(rolling, name="series"), "c" * 64)
    finally:
        warehouse.close()
    return trunkline.open(root / "ml")


@pytest.fixture(scope="module")
def mart(project: OpenProject) -> OpenDataset:
    """The newer version."""
    return project.dataset("mart")


def test_a_part_in_every_form(mart: OpenDataset) -> None:
    table = mart.train.arrow()
    assert table.column_names == ["id", "at", "a", "b", "late"]
    frame = mart.train.pandas()
    assert isinstance(frame, pd.DataFrame)
    assert frame["id"].tolist() == table.column("id").to_pylist() == [i for i in range(48) if i % 11]
    assert len(mart.train) == len(frame) == mart.manifest.parts["train"].rows
    x, y = next(iter(mart.train.batches(100, shuffle=False)))
    np.testing.assert_array_equal(x, mart.train.encoder.encode(table))
    assert y.tolist() == table.column("late").cast(pa.int8()).to_pylist()
    batches = mart.validation.torch(batch_size=16, seed=2)
    assert sum(len(batch.y) for batch in batches) == len(mart.validation)
    streamed = mart.train.batches(10, memory=200)
    assert streamed.mode == "streamed"
    assert sum(len(batch.y) for batch in streamed) == len(table)


def test_what_encodes_validation_was_fitted_on_train(mart: OpenDataset) -> None:
    assert mart.validation.encoder is mart.train.encoder
    assert mart.train.encoder.columns[0].mean == pytest.approx(mart.train.pandas()["a"].mean())


def test_the_counts_are_shown(project: OpenProject, mart: OpenDataset) -> None:
    parts = mart.manifest.parts
    lines = repr(mart).splitlines()
    assert lines[0].startswith("dataset mart, version ab34000000000000, built 20")
    assert f"{parts['train'].rows} rows, late: " in lines[1]
    assert lines[3].endswith(f"{parts['test'].rows} rows, sealed")
    assert lines[4] == "  2 features, binary target 'late'"
    assert repr(mart.train).startswith("<train of mart: 43 rows, late: ")
    assert repr(project).endswith("datasets built here: mart, series>")


def test_the_test_part_is_refused_with_why(mart: OpenDataset) -> None:
    with pytest.raises(DatasetError, match=r"sealed: its score says .* only while nobody has seen it") as caught:
        _ = mart.test
    assert caught.value.hint == "choose by `.validation`"


def test_versions(project: OpenProject) -> None:
    first, second = (project.dataset("mart", version=version) for version in ("ab12…", NEWER))
    assert (first.manifest.dataset_id, second.manifest.dataset_id) == (OLDER, NEWER)
    assert first.train.arrow() != second.train.arrow()
    assert project.dataset("mart").manifest.dataset_id == NEWER
    with pytest.raises(DatasetError, match="has 2 versions that begin with 'ab'"):
        project.dataset("mart", version="ab")
    with pytest.raises(DatasetError, match="has no version 'ffff'") as caught:
        project.dataset("mart", version="ffff")
    assert "ab12000000000000 (20" in str(caught.value.hint)


def test_folds_are_encoded_by_their_own_train_rows(project: OpenProject) -> None:
    series = project.dataset("series")
    rows = pa.concat_tables([series.train.arrow(), series.validation.arrow()])
    assert len(series.folds) == len(series.manifest.folds) == 2
    for fold, ranges in zip(series.folds, series.manifest.folds, strict=True):
        assert fold.train.arrow() == rows.slice(ranges.start, ranges.train - ranges.start)
        first, end = ranges.validation
        assert fold.validation.arrow() == rows.slice(first, end - first)
        assert fold.validation.encoder is fold.train.encoder
    assert series.folds[0].train.encoder.columns[0].mean != series.folds[1].train.encoder.columns[0].mean
    with pytest.raises(DatasetError, match="has no folds"):
        _ = project.dataset("mart").folds


def test_a_dataset_that_was_never_built_says_what_to_run(project: OpenProject) -> None:
    with pytest.raises(DatasetError, match="'trips' was never built") as caught:
        project.dataset("trips")
    assert caught.value.hint == "`trunkline run` builds it"
    assert str(caught.value.where).endswith("ml/trips.py:4")
    with pytest.raises(DatasetError, match="no dataset is called 'tripps'. Did you mean 'trips'"):
        project.dataset("tripps")


def test_a_damaged_version_does_not_hide_a_whole_one(project: OpenProject) -> None:
    broken = project.root / ".trunkline" / "datasets" / "mart" / "dddd"
    broken.mkdir()
    (broken / "manifest.json").write_text("{")
    try:
        assert project.dataset("mart").manifest.dataset_id == NEWER
    finally:
        (broken / "manifest.json").unlink()
        broken.rmdir()


def test_outside_a_project(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"no dbt_project\.yml"):
        trunkline.open(tmp_path)


@pytest.mark.parametrize(
    ("library", "install"), [("polars", "polars"), ("pandas", "pandas"), ("torch", "'trunkline[torch]'")]
)
def test_a_library_that_is_not_installed_is_named(
    mart: OpenDataset, monkeypatch: pytest.MonkeyPatch, library: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    method: Any = getattr(mart.train, library)
    with pytest.raises(UserError, match=f"{library} is not installed") as caught:
        method()
    assert caught.value.hint == f"pip install {install}"
