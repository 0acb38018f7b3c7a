"""Batch scoring of several numbers a row on Snowflake: the emulator runs our very SQL and the very handler."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.conftest import SIGNATURE, make_bundle
from tests.unit.serving.test_batch import REQUEST, ROWS, context
from tests.unit.serving.test_tasks import TASKS
from trunkline.context import StepContext
from trunkline.models.answer import columns
from trunkline.models.function import arguments, over_arrow, returns
from trunkline.models.packed import HANDLER, PACKAGES, handler_source, pack
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.serving.batch import score_here, score_in_warehouse
from trunkline.warehouse.protocol import FunctionHost, PythonFunction
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.snowflake import open_snowflake

ASKED = replace(REQUEST, source=Relation("analytics", "flights"))  # the emulator's DuckDB has a `main` of its own
CLASSES, SPREAD, PAIR = (TASKS[place] for place in (1, 3, 4))


@pytest.fixture
def ctx(snowflake: dict[str, Any], tmp_path: Path) -> Iterator[StepContext]:
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as warehouse:
        types = [("flight", "BIGINT"), ("distance", "DOUBLE"), ("dep delay", "DOUBLE"), ("carrier", "VARCHAR")]
        flights = ASKED.source
        warehouse.create(flights, [*types, ("rainy", "BOOLEAN")])
        rows = warehouse.engine().query(ROWS.replace("10000", "300"))
        plain = [(flight, distance, float(delay), *rest) for flight, distance, delay, *rest in rows]
        warehouse.insert(flights, [*types, ("rainy", "BOOLEAN")], plain)
        yield context(warehouse, tmp_path)


@pytest.mark.parametrize("task", [CLASSES, SPREAD, PAIR], ids=lambda task: task.kind)
def test_both_ways_write_the_same(ctx: StepContext, task: Task, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", replace(SIGNATURE, task=task))
    archive = pack(bundle, tmp_path / "packed", "predict_it")
    function = PythonFunction(
        Relation("scores", "predict_it"),
        arguments(bundle.signature),
        returns(task),
        handler_source(archive, reference="models:/m/1", sha256=bundle.sha256),
        HANDLER,
        PACKAGES,
        (archive,),
    )
    assert isinstance(ctx.warehouse, FunctionHost)
    ctx.warehouse.create_function(function, over_arrow(bundle.signature.names, lambda: Scorer(bundle)))
    score_here(ASKED, bundle, ctx)
    here = _table(ctx, task)
    score_in_warehouse(ASKED, bundle, function.relation, ctx)
    there = _table(ctx, task)
    assert len(here) == len(there) == 300
    types = dict(ctx.warehouse.columns(REQUEST.output))
    assert [types[name] for name, _ in columns(task)] == [kind.replace("DOUBLE[]", "JSON") for _, kind in columns(task)]
    assert [row for row in zip(here, there, strict=True) if row[0] != pytest.approx(row[1], abs=1e-5)] == []
    if task.kind == "multiclass":
        assert len({row[-1] for row in here}) > 1


def _table(ctx: StepContext, task: Task) -> list[list[Any]]:
    """The numbers of each row, and its class at the end if it has one."""
    listed = ", ".join(ctx.warehouse.quote(name) for name, _ in columns(task))
    rows = ctx.warehouse.query(f"select {listed} from {ctx.warehouse.sql(REQUEST.output)} order by flight")
    if task.kind == "quantile":
        return [[float(value) for value in row] for row in rows]
    if task.kind == "custom":
        return [json.loads(row[0]) for row in rows]
    return [[float(score), *json.loads(several), task.classes.index(name)] for score, name, several in rows]
