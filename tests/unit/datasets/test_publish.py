"""A published dataset is the one that was built: fetched by another machine, compared, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.datasets.building import build, declared, must_share, two_machines
from trunkline.datasets.manifest import read_manifest
from trunkline.datasets.run import folder
from trunkline.errors import IntegrityError, ProjectError
from trunkline.project.config import Datasets


def test_a_shared_folder(tmp_path: Path) -> None:
    with two_machines(tmp_path, Datasets(str(tmp_path / "shared"))) as (one, two):
        must_share(one, two)


@pytest.mark.parametrize("file", ["train.parquet", "sealed"])
def test_a_damaged_copy_is_refused(tmp_path: Path, file: str) -> None:
    with two_machines(tmp_path, Datasets(str(tmp_path / "shared"))) as (one, two):
        build(one, declared())
        copy = tmp_path / "shared" / "mart" / ("f" * 16)
        with (copy / file).open("r+b") as damaged:
            damaged.seek(100)
            damaged.write(b"damage")
        with pytest.raises(IntegrityError, match="is not the file that was made"):
            build(two, declared())
        assert not [*two.state.glob("datasets/mart/*"), *two.state.glob("vault/**/*.parquet")]
        (copy / file).unlink()
        with pytest.raises(IntegrityError, match="is not whole"):
            build(two, declared())
        (copy / "manifest.json").unlink()  # what is not whole is no copy: it is built, and published anew
        build(two, declared())
        assert read_manifest(copy) == read_manifest(folder(two.state, "mart", "f" * 64))


def test_a_copy_of_another_dataset_is_refused(tmp_path: Path) -> None:
    with two_machines(tmp_path, Datasets(str(tmp_path / "shared"))) as (one, two):
        build(one, declared())
        place = tmp_path / "shared" / "mart"
        (place / ("f" * 16)).rename(place / ("e" * 16))
        with pytest.raises(IntegrityError, match="is not dataset 'mart' eeee"):
            build(two, declared(), "e" * 64)


def test_a_location_that_is_no_store(tmp_path: Path) -> None:
    with (
        two_machines(tmp_path, Datasets("ftp://host/x")) as (one, _),
        pytest.raises(ProjectError, match="ftp:// is no store"),
    ):
        build(one, declared())
