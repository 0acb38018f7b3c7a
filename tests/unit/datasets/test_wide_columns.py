"""Lists of numbers and images in a dataset: exported, looked at, compared, read in a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.unit.datasets.building import build, context, declared, tables
from trunkline.context import StepContext
from trunkline.datasets.compare import compare, row_changes, sides
from trunkline.datasets.feed import OpenPart, whole
from trunkline.datasets.findings import read_findings
from trunkline.datasets.profile import profile
from trunkline.datasets.profile_page import page
from trunkline.datasets.run import folder
from trunkline.datasets.wording import task_words
from trunkline.errors import DatasetError
from trunkline.notebook import OpenDataset
from trunkline.project.split import by_key
from trunkline.warehouse.duckdb import DuckDB, open_duckdb

ROWS = 400
GROUPS = {"one": ["embedding", "ragged"], "two": ["picture"], "three": ["a"]}
SPLIT = by_key(validation=0.25, test=0.25)


def png(number: int) -> bytes:
    """A picture of its own for each row."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 6), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def rows() -> pa.Table:
    """What a dbt model with lists and images holds."""
    random = np.random.default_rng(0)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "a": random.normal(size=ROWS),
            "embedding": pa.array(random.normal(size=(ROWS, 3)).tolist(), pa.list_(pa.float32(), 3)),
            "ragged": pa.array([None if i % 10 == 0 else [*range(i % 5)] for i in range(ROWS)], pa.list_(pa.int32())),
            "picture": pa.array([None if i % 50 == 1 else png(i) for i in range(ROWS)], pa.binary()),
            "kind": pa.array([f"k{i % 12}" for i in range(ROWS)]),
            "two": pa.array(random.normal(size=(ROWS, 2)).tolist(), pa.list_(pa.float64())),
            "odd": pa.array([[1.0] * (1 + i % 2) for i in range(ROWS)]),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def ctx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepContext]:
    root = tmp_path_factory.mktemp("wide")
    warehouse = open_duckdb({"path": "local.duckdb"}, root)
    given = rows()
    warehouse._connection.register("given", given)
    warehouse.execute("create table main.mart as select * from given")
    yield context(warehouse, root)
    warehouse.close()


def wide(**changes: Any) -> dict[str, Any]:
    """The declaration, with every probe on."""
    return {**declared(SPLIT, time=None, groups=GROUPS, target="kind"), "probes": {}, **changes}


def test_lists_and_images_are_exported_and_read_back(ctx: StepContext) -> None:
    manifest = build(ctx, wide())
    types = dict(manifest.schema)
    assert [types[name] for name in ("embedding", "ragged", "picture")] == ["FLOAT[]", "BIGINT[]", "BLOB"]
    assert manifest.task == "multiclass"
    parts = tables(ctx, manifest)
    assert sum(len(part) for part in parts.values()) == ROWS
    found = {row["id"]: row for part in parts.values() for row in part.to_pylist()}
    for row in rows().to_pylist():
        assert {name: found[row["id"]][name] for name in types} == {name: row[name] for name in types}
    findings = {f.probe: f for f in read_findings(folder(ctx.state, "mart", manifest.dataset_id))}
    assert {f.outcome for f in findings.values()} <= {"ok", "skipped"}
    assert {findings[name].outcome for name in ("shared_rows", "single_feature", "adversarial")} == {"ok"}


def test_a_profile_says_how_long_and_how_large(ctx: StepContext) -> None:
    manifest = build(ctx, wide())
    assert isinstance(ctx.warehouse, DuckDB)
    place = folder(ctx.state, "mart", manifest.dataset_id)
    looked = profile(ctx.warehouse, manifest, place, lambda text, done: None)
    notes = {column.name: column.note for column in looked.columns}
    assert notes["embedding"] == "Lists of 3 numbers."
    assert notes["ragged"] == "Lists of 0 to 4 numbers."
    assert notes["picture"].startswith("Contents of ")
    summary = {column.name: column.summary["train"] for column in looked.columns}
    assert summary["ragged"].missing > 0
    assert summary["picture"].distinct == manifest.parts["train"].rows - summary["picture"].missing
    assert "Lists of 0 to 4 numbers." in page(looked)


def test_a_changed_list_or_image_is_found(ctx: StepContext) -> None:
    before = build(ctx, wide())
    ids = [row["id"] for row in tables(ctx, before)["train"].to_pylist() if row["picture"] is not None]
    changed = f"id in ({ids[0]}, {ids[1]})"
    ctx.warehouse.execute(f"create table main.kept as select * from main.mart where {changed}")
    ctx.warehouse.execute(f"update main.mart set embedding = [9, 9, 9], picture = '\\x00'::blob where {changed}")
    try:
        after = build(ctx, wide(probes=declared()["probes"]), "b" * 64)
    finally:
        ctx.warehouse.execute(f"delete from main.mart where {changed}")
        ctx.warehouse.execute("insert into main.mart from main.kept")
    places = tuple(folder(ctx.state, "mart", manifest.dataset_id) for manifest in (before, after))
    found = compare(before, after)
    assert isinstance(ctx.warehouse, DuckDB)
    differing = row_changes(ctx.warehouse, found, sides(before, after, places), 3, lambda text: None)  # type: ignore[arg-type]
    assert (differing.changed, differing.added, differing.removed) == (2, 0, 0)
    assert differing.columns == {"embedding": 2, "picture": 2}


def test_a_target_of_lists_is_no_class_and_no_number(ctx: StepContext) -> None:
    manifest = build(ctx, wide(target="two", name="two"), "c" * 64)
    assert (manifest.task, task_words(manifest)) == ("custom", "a list of numbers")
    assert {part.labels == {} for part in manifest.parts.values()} == {True}
    findings = {f.probe: f for f in read_findings(folder(ctx.state, "two", manifest.dataset_id))}
    assert findings["single_feature"].text == "the target is a list of numbers, which has neither classes nor ranks"
    assert findings["shared_rows"].outcome == "ok"
    assert isinstance(ctx.warehouse, DuckDB)
    looked = profile(ctx.warehouse, manifest, folder(ctx.state, "two", manifest.dataset_id), lambda text, done: None)
    assert looked.outcome == ""
    with pytest.raises(DatasetError, match="does not fit the target"):
        build(ctx, wide(target="two", name="two", task="binary"), "d" * 64)


def test_a_notebook_reads_them(ctx: StepContext) -> None:
    data = OpenDataset(ctx.state, build(ctx, wide()))
    x, y = next(iter(data.train.batches(64, shuffle=False)))
    assert data.train.encoder.places == {
        "embedding": slice(0, 3), "ragged": slice(3, 7), "picture": slice(7, 31), "a": slice(31, 32),
    }  # fmt: skip
    first = data.train.arrow().slice(0, 64).to_pylist()
    np.testing.assert_array_equal(x[:, :3], np.array([row["embedding"] for row in first], np.float32))
    assert y.tolist() == [int(row["kind"][1:]) for row in first]  # k2 comes before k10
    assert np.isnan(x[[row["picture"] is None for row in first], 7:31]).all()
    assert data.validation.torch(32).batches.width == 32
    lists = OpenDataset(ctx.state, build(ctx, wide(target="two", name="two"), "c" * 64))
    batch = next(iter(lists.train.torch(16)))
    assert batch.y.shape == (16, 2)
    uneven = OpenDataset(ctx.state, build(ctx, wide(target="odd", name="odd"), "e" * 64))
    with pytest.raises(DatasetError, match="'odd' has not 2 numbers in"):
        uneven.train.batches(16)


def test_wide_rows_are_written_and_read_in_small_pieces(ctx: StepContext, tmp_path: Path) -> None:
    assert isinstance(ctx.warehouse, DuckDB)
    ctx.warehouse.write_parquet("select i as id, [i, i] as v from range(10000) t(i) order by i", tmp_path / "a.parquet")
    assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 3
    heavy = pa.table({"id": np.arange(40), "v": pa.array([bytes([i]) * 1_000_000 for i in range(40)])})
    pq.write_table(heavy, tmp_path / "b.parquet", compression="none", use_dictionary=False)
    part = OpenPart(tmp_path / "b.parquet")
    pieces = [piece.num_rows for piece in part.read(whole(part), ["id", "v"])]
    assert (sum(pieces), max(pieces)) == (40, 33)  # 32 MiB
    assert [piece.num_rows for piece in part.read(whole(part), ["id"])] == [40]
