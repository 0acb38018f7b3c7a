"""Rows that servers may see are of the open part, the same each time; keys that training saw are counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trunkline.datasets.manifest import Manifest, Part
from trunkline.errors import DatasetError, IntegrityError
from trunkline.gate.opened import MOST_ROWS, OpenPart, probe_rows, seen
from trunkline.project.files import content_digest

ROWS = 9_000


def rows(first: int, count: int) -> pa.Table:
    keys = range(first, first + count)
    return pa.table({"id": pa.array(keys, pa.int64()), "x": [key / 7 for key in keys], "note": [f"n{k}" for k in keys]})


@pytest.fixture
def part(tmp_path: Path) -> OpenPart:
    """Keys 0 to 8,999 train, from 9,000 on validate."""
    parts = {}
    for name, first in (("train", 0), ("validation", ROWS)):
        file = tmp_path / f"{name}.parquet"
        pq.write_table(rows(first, ROWS), file, row_group_size=1_000)
        parts[name] = Part(name, ROWS, {}, "", file.name, content_digest(file), file.stat().st_size)
    parts["test"] = Part("test", 10, {}, "", None, "", 1)
    manifest = Manifest(
        dataset_id="d", content_id="c", name="orders", relation="main.orders", snapshot="", sql="", key="id", time=None,
        target="y", task="binary", groups={}, split={}, schema=(), parts=parts, load_ids=(), unlabelled=0, left_out=0,
        created_at="",
    )  # fmt: skip
    return OpenPart(tmp_path, manifest)


def test_at_most_so_many_rows_of_the_validation_part(part: OpenPart) -> None:
    found = probe_rows(part, ["x"], seed=3)
    assert found.column_names == ["id", "x"]
    keys = found.column("id").to_pylist()
    assert len(set(keys)) == MOST_ROWS
    assert keys == sorted(keys)
    assert ROWS <= keys[0] < ROWS + 50
    assert 2 * ROWS - 50 < keys[-1] < 2 * ROWS
    assert found.column("x").to_pylist() == [key / 7 for key in keys]
    assert probe_rows(part, ["x"], seed=3).equals(found)
    assert not probe_rows(part, ["x"], seed=4).equals(found)


def test_rows_that_are_large_are_fewer(part: OpenPart) -> None:
    large = replace(part.manifest.parts["validation"], bytes=ROWS << 20)  # a MiB each
    manifest = replace(part.manifest, parts={**part.manifest.parts, "validation": large})
    assert len(probe_rows(replace(part, manifest=manifest), ["x"])) == 64


def test_an_input_that_is_not_there_is_named(part: OpenPart) -> None:
    with pytest.raises(DatasetError, match=r"has no column 'nott'.*Did you mean 'note'\?"):
        probe_rows(part, ["x", "nott"])


def test_a_file_that_was_changed_is_refused(part: OpenPart) -> None:
    pq.write_table(rows(0, ROWS), part.folder / "validation.parquet")
    with pytest.raises(IntegrityError, match=r"validation\.parquet is not the file that was made"):
        probe_rows(part, ["x"])


@pytest.mark.parametrize(("first", "shared"), [(2 * ROWS, 0), (2 * ROWS - 3, 3), (-4, 6)])
def test_keys_that_are_in_an_open_part_are_counted(part: OpenPart, first: int, shared: int) -> None:
    assert seen(rows(first, 10), part) == shared


def test_keys_of_another_width_are_the_same_keys(part: OpenPart) -> None:
    sealed = rows(ROWS - 5, 10)
    assert seen(sealed.set_column(0, "id", sealed.column("id").cast(pa.int32())), part) == 10
