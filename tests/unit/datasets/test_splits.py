"""Splits: each row is where the declaration says, counted beside an own reckoning of it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.datasets.building import ROWS, build, context, declared, ids
from trunkline.context import StepContext
from trunkline.errors import DatasetError
from trunkline.project import split
from trunkline.warehouse.duckdb import open_duckdb

LABELLED = [i for i in range(144) if i % 11]


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StepContext]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    warehouse.execute(f"create table main.mart as {ROWS}")
    yield context(warehouse, tmp_path)
    warehouse.close()


def _drawn(text: str, validation: float, test: float) -> str:
    share = int(hashlib.md5(text.encode()).hexdigest()[:8], 16) / 16**8
    return "test" if share < test else "validation" if share < test + validation else "train"


@pytest.mark.parametrize("type_", ["timestamp", "timestamptz", "timestamp_ms"])
def test_a_gap_is_in_no_part(ctx: StepContext, type_: str) -> None:
    ctx.warehouse.execute(f'alter table main.mart alter "at" type {type_}')
    manifest = build(ctx, declared(split.by_time(validation="2025-01-03", test="2025-01-05T02:00", gap="6 hours")))
    parts = ids(ctx, manifest)
    expected = {"train": range(42), "validation": range(48, 92), "test": range(98, 144)}
    assert parts == {part: [i for i in rows if i % 11] for part, rows in expected.items()}
    assert (manifest.left_out, manifest.unlabelled) == (len([i for i in LABELLED if 42 <= i < 48 or 92 <= i < 98]), 14)


def test_dates_begin_on_the_day_after_a_bound_within_one(ctx: StepContext) -> None:
    ctx.warehouse.execute('alter table main.mart alter "at" type date')
    parts = ids(ctx, build(ctx, declared(split.by_time(validation="2025-01-03", test="2025-01-05T12:00"))))
    assert (parts["train"], parts["test"]) == ([i for i in range(48) if i % 11], [i for i in range(120, 144) if i % 11])


def test_bounds_with_a_zone(ctx: StepContext) -> None:
    bounds = split.by_time(validation="2025-01-03T02:00+02:00", test="2025-01-05T00:00+00:00")
    assert ids(ctx, build(ctx, declared(bounds)))["train"] == [i for i in range(48) if i % 11]


def test_shares_are_drawn_by_the_key(ctx: StepContext) -> None:
    manifest = build(ctx, declared(split.by_key(validation=0.2, test=0.3, salt="it's \\ 2"), time=None))
    expected: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for i in LABELLED:
        expected[_drawn(f"it's \\ 2{i}", 0.2, 0.3)].append(i)
    assert ids(ctx, manifest) == expected  # without a time the order is the key's
    assert (manifest.time, manifest.left_out, [name for name, _ in manifest.schema]) == (
        None,
        0,
        ["id", "a", "b", "late"],
    )


def test_a_group_is_in_one_part(ctx: StepContext) -> None:
    ctx.warehouse.execute("alter table main.mart add column who varchar")
    ctx.warehouse.execute("update main.mart set who = 'customer ' || id % 20")
    parts = ids(ctx, build(ctx, declared(split.by_group("who", validation=0.3, test=0.3))))
    assert parts == {part: [i for i in LABELLED if _drawn(f"customer {i % 20}", 0.3, 0.3) == part] for part in parts}
    ctx.warehouse.execute("update main.mart set who = null where id = 5")
    with pytest.raises(DatasetError, match='the group "who" is null in 1 of 144 rows'):
        build(ctx, declared(split.by_group("who")))


def test_strata_have_exact_shares(ctx: StepContext) -> None:
    ctx.warehouse.execute(
        "update main.mart set b = case when id % 12 = 0 then 'ra''re\\' when id % 3 = 0 then null else b end"
    )
    manifest = build(ctx, declared(split.stratified(validation=0.25, test=0.25, by="b", salt="7")))
    strata = dict(ctx.warehouse.query("select id, coalesce(b, '') from main.mart"))
    sizes = Counter(strata[i] for i in LABELLED)
    for part, rows in ids(ctx, manifest).items():
        found = Counter(strata[i] for i in rows)
        for stratum, size in sizes.items():
            assert abs(found[stratum] - size * (0.5 if part == "train" else 0.25)) <= 1, (part, stratum)
    by_target = build(ctx, declared(split.stratified(validation=0.2, test=0.2), time=None))
    assert [by_target.parts[p].labels["true"] for p in ("train", "validation", "test")] == [39, 13, 13]


def _rolled(window: str | None) -> Any:
    return split.rolling(folds=3, horizon="12 hours", test="2025-01-06", gap="3 hours", window=window)


@pytest.mark.parametrize("window", [None, "40 hours"])
def test_rolling_origins(ctx: StepContext, window: str | None) -> None:
    manifest = build(ctx, declared(_rolled(window)))
    parts = ids(ctx, manifest)
    rows = parts["train"] + parts["validation"]
    first = 0 if window is None else 75 - 3 - 40
    assert rows == [i for i in range(first, 117) if i % 11 and not 102 <= i < 105]
    assert parts["test"] == [i for i in range(120, 144) if i % 11]
    assert manifest.left_out == len(LABELLED) - len(rows) - len(parts["test"])
    for fold, validated in zip(manifest.folds, (75, 90, 105), strict=True):
        start, end = fold.validation
        assert rows[start:end] == [i for i in range(validated, validated + 12) if i % 11]
        since = 0 if window is None else validated - 3 - 40
        assert rows[fold.start : fold.train] == [i for i in range(since, validated - 3) if i % 11]


def test_a_fold_without_rows(ctx: StepContext) -> None:
    with pytest.raises(DatasetError, match="fold 1 of 20 has no rows to train on: its validation begins 2024-12-2"):
        build(ctx, declared(split.rolling(folds=20, horizon="12 hours", test="2025-01-06")))


def test_a_row_never_changes_its_part_as_rows_are_added(ctx: StepContext) -> None:
    before = ids(ctx, build(ctx, declared(split.by_key(validation=0.3, test=0.3))))
    ctx.warehouse.execute(f'insert into main.mart select id + 144, "at", a, b, late from ({ROWS})')
    after = ids(ctx, build(ctx, declared(split.by_key(validation=0.3, test=0.3)), "e" * 64))
    for part, rows in before.items():
        assert set(rows) == {i for i in after[part] if i < 144}


WRONG: list[tuple[str, str]] = [
    ("by_time(validation='2025-01-01', test='soon')", "split.by_time(test='soon') is not an ISO date or time"),
    ("by_time(validation='2025-02-01', test='2025-02-03', gap='2d')", "by more than gap='2d'"),
    ("by_time(validation='2025-02-01', test='2025-02-03', gap='a while')", "(gap='a while') is no span of time"),
    ("by_time(validation='2025-02-01', test='2025-02-03T00:00Z')", "has a time zone"),
    ("by_key(test=1.5)", "split.by_key(test=1.5) is no share of the rows"),
    ("by_group('c', validation=0.5, test=0.5)", "leave nothing to train on"),
    ("by_group(None)", "wants the name of a column, not None"),
    ("stratified(salt=1)", "split.stratified(salt=1) is no text"),
    ("rolling(folds=0, horizon='1d', test='2025-01-01')", "split.rolling(folds=0)"),
    ("rolling(folds=2, horizon='0d', test='2025-01-01')", "split.rolling(horizon='0d') is no time at all"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[call for call, _ in WRONG])
def test_arguments_are_checked_where_they_are_written(call: str, message: str) -> None:
    code = compile(f"\n\nsplit.{call}", "ml/flights.py", "exec")
    with pytest.raises(DatasetError) as caught:
        exec(code, {"split": split})
    assert message in caught.value.what
    assert caught.value.hint
    assert (str(caught.value.file), caught.value.line) == ("ml/flights.py", 3)
