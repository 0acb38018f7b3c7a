"""Looks: each a row, counted by what was asked for, up to a budget."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import log, pi
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from benchmarks.ladder import SHOWN, boosting, mutating
from tests.unit.datasets.building import ROWS, build, context, declared
from trunkline.context import StepContext
from trunkline.datasets.ladder import is_low
from trunkline.datasets.manifest import Manifest
from trunkline.datasets.sealed import Shown, open_sealed, sealed_id, standing
from trunkline.errors import GateFailed
from trunkline.project.split import Split, by_key, by_time, rolling
from trunkline.warehouse.duckdb import open_duckdb


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[StepContext]:
    warehouse = open_duckdb({"path": "local.duckdb"}, tmp_path)
    warehouse.execute(f"create table main.mart as {ROWS}")
    yield context(warehouse, tmp_path)
    warehouse.close()


def _look(ctx: StepContext, manifest: Manifest, sha256: str, deployment: str = "d") -> str:
    return open_sealed(ctx, manifest, deployment=deployment, candidate="models:/m/1", sha256=sha256)[0]


def test_looks_are_counted_to_the_budget_and_then_refused(ctx: StepContext) -> None:
    manifest = build(ctx, declared())
    assert standing(ctx, manifest, "d", 3).look == 1
    first = _look(ctx, manifest, "s1")
    ctx.ledger.release(first, {"metrics": {"roc_auc": {"value": 0.7, "low": 0.6, "high": 0.8, "own": True}}})
    second = _look(ctx, manifest, "s2")
    ctx.ledger.release(second, {"metrics": {"roc_auc": {"value": 0.7, "low": 0.6, "high": 0.8, "own": False}}})
    _look(ctx, manifest, "x", deployment="another")
    now = standing(ctx, manifest, "d", 3)
    assert (now.look, now.budget, now.low, now.shown) == (3, 3, False, (Shown("s1", "roc_auc", 0.7, 0.6, 0.8),))
    rows = ctx.ledger.read("looks", "where look_id = ?", [first])
    assert [(r["who"], r["content"], r["sha256"]) for r in rows] == [("tester", manifest.parts["test"].content, "s1")]
    _look(ctx, manifest, "s3")
    with pytest.raises(GateFailed, match="all 3 looks of 'd' at the sealed part of 'mart' are spent") as caught:
        standing(ctx, manifest, "d", 3)
    assert "a test part nobody has looked at" in str(caught.value.hint)
    assert standing(ctx, manifest, "d", 4).low


def test_a_feature_and_late_rows_begin_no_new_budget(ctx: StepContext) -> None:
    first = build(ctx, declared())
    _look(ctx, first, "s1")
    ctx.warehouse.execute("insert into main.mart values (500, timestamp '2025-01-06', 1, 'x1', true)")
    wider = build(ctx, declared(groups={"one": ["a", "b"]}), "e" * 64)
    assert wider.parts["test"].content != first.parts["test"].content
    assert standing(ctx, wider, "d", 100).look == 2


def _asked(manifest: Manifest, split: Split) -> str:
    return sealed_id(replace(manifest, split=split.to_json()))


def test_what_makes_another_sealed_part(ctx: StepContext) -> None:
    manifest = build(ctx, declared())
    same = [
        by_time(validation="2025-01-02", test="2025-01-05", gap="1 hour"),
        rolling(folds=2, horizon="12 hours", test="2025-01-05"),
    ]
    assert {_asked(manifest, split) for split in same} == {sealed_id(manifest)}
    others = [by_time(validation="2025-01-03", test="2025-01-04"), by_key(), by_key(salt="2"), by_key(test=0.2)]
    assert len({_asked(manifest, split) for split in others} | {sealed_id(manifest)}) == 5
    assert _asked(manifest, by_key(validation=0.3)) == _asked(manifest, by_key())
    assert sealed_id(replace(manifest, target="other")) != sealed_id(manifest)


def test_a_ledger_from_before_gets_the_columns(ctx: StepContext) -> None:
    ctx.ledger.prepare()
    for column in ("sealed_id", "content", "released"):
        ctx.warehouse.execute(f"alter table trunkline.looks drop column {column}")
    manifest = build(ctx, declared())
    assert standing(ctx, manifest, "d", 100).look == 1
    _look(ctx, manifest, "s1")
    assert standing(ctx, manifest, "d", 100).look == 2


def test_the_ladder_stops_both_attacks() -> None:
    """On coin tosses every model is right half of the time. What an attack wins without the Ladder is known (Blum &
    Hardt, section 4): as many standard errors as half the square root of the looks, or so."""
    rows, looks = 1_000, 250
    won = {
        (attack.__name__, shown): float(np.mean([attack(rows, looks, SHOWN[shown], seed)[-1] for seed in range(4)]))
        for attack in (boosting, mutating)
        for shown in ("plain", "ladder")
    }
    expected = NormalDist().cdf((looks / 2) ** 0.5 * (2 / (pi * rows)) ** 0.5) - 0.5
    assert won["boosting", "plain"] == pytest.approx(expected, abs=0.02)
    assert won["mutating", "plain"] > 0.08
    most = (2 * log(looks)) ** 0.5 * 0.5 / rows**0.5  # the best of so many honest draws
    assert most < won["mutating", "plain"] < won["boosting", "plain"]
    assert won["boosting", "ladder"] < most
    assert won["mutating", "ladder"] < most


def test_the_last_quarter_is_low() -> None:
    assert [look for look in range(1, 9) if is_low(look, 8)] == [7, 8]
    assert not is_low(3, 3)
