"""The SQL that hides test rows on Snowflake, pinned in tests/golden/snowflake; `TRUNKLINE_GOLDEN=write` writes it.

What runs here is its condition, on DuckDB: the emulator has no row access policies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.datasets.building import BY_TIME, ROWS, build, context, declared, ids
from trunkline.context import StepContext
from trunkline.datasets.grants import Roles, grants
from trunkline.datasets.source import Source, open_source
from trunkline.datasets.splits import parted
from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.project.split import Split, by_group, by_key, stratified
from trunkline.warehouse.duckdb import open_duckdb

GOLDEN = Path(__file__).parents[2] / "golden" / "snowflake" / "grants.sql"
ROLES = Roles("FLIGHTS", "TRANSFORMER")


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StepContext]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    warehouse.execute(f"create table main.mart as select *, 'customer ' || id % 20 as who from ({ROWS})")
    yield context(warehouse, tmp_path)
    warehouse.close()


def source(ctx: StepContext, split: Split) -> Source:
    step = dataset_step(declared(split), Upstream("build:mart", ("main", "mart"), ()), (), "ml/m.py:4")
    return parted(open_source(step, ctx.warehouse), ctx.warehouse)


def test_the_text_is_as_pinned(ctx: StepContext) -> None:
    text = grants(source(ctx, BY_TIME), ROLES)
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")


@pytest.mark.parametrize(
    ("split", "columns"),
    [
        (BY_TIME, '"at"'),
        (by_key(), '"id"'),
        (by_group("who", validation=0.3, test=0.3), '"who"'),
        (stratified(), '"late", "id"'),
    ],
)
def test_it_hides_the_test_rows_and_no_other(ctx: StepContext, split: Split, columns: str) -> None:
    text = grants(source(ctx, split), ROLES)
    assert f"on ({columns});" in text
    (condition,) = re.findall(r"boolean ->\n  (.*) or is_role_in_session\('TRUNKLINE_VAULT'\);", text)
    left = {key for (key,) in ctx.warehouse.query(f"select id from main.mart where {condition}")}
    parts = ids(ctx, build(ctx, declared(split)))
    assert left >= set(parts["train"]) | set(parts["validation"])
    assert not left & set(parts["test"])
