"""What changed between two builds: told by the manifests, and row by row as a loop over both sides finds it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.datasets.putting import put
from trunkline.datasets.compare import Comparison, Sides, column_changes, compare, row_changes, sides
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.run import folder
from trunkline.warehouse.duckdb import DuckDB

COLUMNS = "i as id, timestamp '2025-01-01' + interval (i) hour as at, i % 5 as a, 'x' || i % 3 as b, i % 2 = 0 as late"


def _rows(condition: str, columns: str = COLUMNS) -> str:
    return f"select {columns} from range(300) t(i) where {condition}"


BEFORE = {"train": _rows("i < 100"), "validation": _rows("i between 100 and 199"), "test": _rows("i >= 200")}


def _both(engine: DuckDB, state: Path, after: dict[str, str], **given: Any) -> tuple[Manifest, Manifest, Sides]:
    old = put(engine, state, BEFORE)
    new = put(engine, state, {**BEFORE, **after}, fingerprint="b" * 64, **given)
    for manifest in (old, new):  # the sealed parts are compared without being there
        (state / "vault" / "mart" / f"{manifest.dataset_id[:16]}.parquet").unlink()
    return old, new, sides(old, new, tuple(folder(state, "mart", m.dataset_id) for m in (old, new)))  # type: ignore[arg-type]


def _compared(engine: DuckDB, state: Path, after: dict[str, str], **given: Any) -> Comparison:
    old, new, files = _both(engine, state, after, **given)
    found = compare(old, new)
    rows = row_changes(engine, found, files, 3, lambda text: None)
    return replace(found, rows=rows, columns=column_changes(engine, found, files))


def test_equal_builds_are_the_same(engine: DuckDB, tmp_path: Path) -> None:
    found = _compared(engine, tmp_path, {})
    assert found.rows is not None
    assert (found.same, found.declared, found.columns, found.rows.same) == (True, (), (), 200)
    assert found.rows.added + found.rows.removed + found.rows.changed + found.rows.moved == 0


def test_rows_added_removed_changed_and_moved(engine: DuckDB, tmp_path: Path) -> None:
    changed = COLUMNS.replace("i % 5 as a", "case when i = 7 then null else i % 5 end as a")
    after = {
        "train": _rows("i between 2 and 109", changed),
        "validation": _rows("i between 110 and 204"),
        "test": _rows("i >= 205"),
    }
    found = _compared(engine, tmp_path, after)
    rows = found.rows
    assert rows is not None
    assert not found.same
    assert (rows.added, rows.removed, rows.changed, rows.moved, rows.same) == (5, 2, 1, 10, 187)
    assert rows.columns == {"a": 1}
    assert rows.added_keys == (("200", "validation"), ("201", "validation"), ("202", "validation"))
    assert rows.removed_keys == (("0", "train"), ("1", "train"))
    assert [(row.key, row.parts, row.values) for row in rows.examples] == [
        ("100", ("validation", "train"), ()),
        ("101", ("validation", "train"), ()),
        ("102", ("validation", "train"), ()),
    ]
    sealed = found.parts[2]
    assert (sealed.name, sealed.same, sealed.rows) == ("test", False, (100, 95))


def test_the_counts_are_those_of_a_loop(engine: DuckDB, tmp_path: Path) -> None:
    random.seed(7)
    states = []
    for _ in range(2):
        keys = random.sample(range(80), 60)
        values = [random.choice([None, float("nan"), 1.5, 2.5]) for _ in keys]
        table = pa.table({"id": keys, "a": values, "b": [random.choice("xy") for _ in keys]})
        states.append(table.append_column("late", pa.array([key % 2 == 0 for key in keys])))
    for name, table in zip(("before", "after"), states, strict=True):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    parts = [
        {
            part: f"select * from read_parquet('{tmp_path / name}.parquet') where id % 3 {sign} 0"
            for part, sign in (("train", "<>"), ("validation", "="))
        }
        for name in ("before", "after")
    ]
    old, new = (put(engine, tmp_path, sql, fingerprint=id_ * 64) for sql, id_ in zip(parts, "ab", strict=True))
    files = sides(old, new, (folder(tmp_path, "mart", "a" * 64), folder(tmp_path, "mart", "b" * 64)))
    rows = row_changes(engine, compare(old, new), files, 100, lambda text: None)
    left, right = ({row["id"]: repr((row["a"], row["b"])) for row in table.to_pylist()} for table in states)
    both = left.keys() & right.keys()
    assert rows.added == len(right.keys() - left.keys()) == len(rows.added_keys)
    assert rows.removed == len(left.keys() - right.keys()) == len(rows.removed_keys)
    assert rows.changed == sum(left[key] != right[key] for key in both) == len(rows.examples)
    assert rows.same == sum(left[key] == right[key] for key in both)
    assert all(row.values for row in rows.examples)
    assert sum(rows.columns.values()) == sum(len(row.values) for row in rows.examples)


def test_schema_and_declaration(engine: DuckDB, tmp_path: Path) -> None:
    columns = COLUMNS.replace("i % 5 as a", "cast(i % 5 as double) as a, i as c").replace("'x' || i % 3 as b, ", "")
    after = {"train": _rows("i < 100", columns), "validation": _rows("i between 100 and 199", columns)}
    given = {
        "split": {"by": "time", "validation": "2025-03-02", "test": "2025-04-01"},
        "load_ids": ("load_1", "load_2"),
    }
    found = _compared(engine, tmp_path, {**after, "test": _rows("i >= 200", columns)}, **given)
    assert found.added_columns == (("c", "BIGINT"),)
    assert found.removed_columns == (("b", "VARCHAR"),)
    assert found.retyped == (("a", "BIGINT", "DOUBLE"),)
    assert {(change.what, change.before, change.after) for change in found.declared} == {
        ("split validation", "2025-03-01", "2025-03-02"),
        ("feature b", "in group all", "no feature"),
        ("feature c", "no feature", "in group all"),
    }
    assert (found.new_loads, found.gone_loads) == (("load_2",), ())
    assert found.rows is not None
    assert (found.rows.changed, found.rows.same, found.same) == (0, 200, False)  # 1 and 1.0 are one value


def test_a_column_whose_new_type_takes_no_old_value(engine: DuckDB, tmp_path: Path) -> None:
    columns = COLUMNS.replace("'x' || i % 3 as b", "i % 3 as b")
    conditions = {"train": "i < 100", "validation": "i between 100 and 199", "test": "i >= 200"}
    found = _compared(engine, tmp_path, {part: _rows(condition, columns) for part, condition in conditions.items()})
    assert found.rows is not None
    assert (found.rows.changed, found.rows.columns) == (200, {"b": 200})


@pytest.mark.parametrize("what", ["relation", "key", "target"])
def test_each_declared_name_is_told(engine: DuckDB, tmp_path: Path, what: str) -> None:
    old = put(engine, tmp_path, BEFORE)
    (change,) = compare(old, replace(old, **{what: "other"})).declared
    assert (change.what, change.after) == (what, "other")
