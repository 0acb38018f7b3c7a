"""Batch scoring with models of every task: what the table holds, here and by the warehouse's own SQL."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.serving.conftest import SIGNATURE, make_bundle
from tests.unit.serving.test_batch import REQUEST, ctx  # noqa: F401  # a fixture
from tests.unit.serving.test_tasks import TASKS
from trunkline.context import StepContext
from trunkline.errors import DatasetError
from trunkline.models.answer import columns
from trunkline.models.bundle import Bundle
from trunkline.models.function import arguments, over_arrow, returns
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.serving.batch import score_here, score_in_warehouse
from trunkline.warehouse.duckdb import DuckDB
from trunkline.warehouse.protocol import PythonFunction
from trunkline.warehouse.relation import Relation

SEVERAL = [task for task in TASKS if task.kind not in ("binary", "regression")]


@pytest.fixture(scope="module", params=TASKS, ids=lambda task: task.kind)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("task") / "bundle", replace(SIGNATURE, task=request.param))


def function_of(ctx: StepContext, bundle: Bundle) -> Relation:  # noqa: F811
    """The bundle as a SQL function."""
    assert isinstance(ctx.warehouse, DuckDB)
    name = Relation("scores", "predict_it")
    returned = returns(bundle.signature.task)
    function = PythonFunction(name, arguments(bundle.signature), returned, "", "")
    ctx.warehouse.create_function(function, over_arrow(bundle.signature.names, lambda: Scorer(bundle)))
    return name


def table(ctx: StepContext, task: Task) -> list[tuple[Any, ...]]:  # noqa: F811
    listed = ", ".join(f'"{name}"' for name, _ in columns(task))
    return ctx.warehouse.query(f"select {listed} from scores.late order by flight")


def flat(rows: list[tuple[Any, ...]]) -> np.ndarray:
    """All numbers of the rows, [n, m]."""
    lists = [
        [value if isinstance(value, list) else [value] for value in row if not isinstance(value, str)] for row in rows
    ]
    return np.array([[number for part in row for number in part] for row in lists], np.float64)


def test_both_ways_write_what_the_scorer_says(ctx: StepContext, bundle: Bundle) -> None:  # noqa: F811
    task = bundle.signature.task
    expected = _expected(ctx, bundle)
    score_here(REQUEST, bundle, ctx)
    here = table(ctx, task)
    there_types = dict(ctx.warehouse.columns(REQUEST.output))
    assert {name: there_types[name] for name, _ in columns(task)} == dict(columns(task))
    score_in_warehouse(REQUEST, bundle, function_of(ctx, bundle), ctx)
    there = table(ctx, task)
    assert len(here) == len(there) == 10_000
    for found in (here, there):
        numbers = flat(found)
        if task.kind == "multiclass":
            assert np.abs(numbers[:, 0] - expected.max(axis=1)).max() < 1e-6
            chosen = [task.classes.index(row[1]) for row in found]
            sure = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2] > 1e-5
            assert (np.array(chosen) == expected.argmax(axis=1))[sure].all()
            assert len(set(chosen)) > 1
            numbers = numbers[:, 1:]
        assert np.abs(numbers - expected.reshape(len(numbers), -1)).max() < 1e-5


def _expected(ctx: StepContext, bundle: Bundle) -> np.ndarray:  # noqa: F811
    """From rows, one by one, as a request would give them."""
    names = ", ".join(f'"{name}"' for name in bundle.signature.names)
    rows = ctx.warehouse.query(f"select {names} from main.flights order by flight")
    given = [[distance, float(delay), carrier, rainy] for distance, delay, carrier, rainy in rows]
    return np.array(Scorer(bundle).score_rows([dict(zip(SIGNATURE.names, row, strict=True)) for row in given]))


def test_no_rows_are_a_batch_of_every_task(ctx: StepContext, bundle: Bundle) -> None:  # noqa: F811
    assert score_here(replace(REQUEST, condition="false"), bundle, ctx).rows == 0
    assert table(ctx, bundle.signature.task) == []


def test_a_table_of_another_task_is_not_written_to(ctx: StepContext, tmp_path: Path) -> None:  # noqa: F811
    plain = make_bundle(tmp_path / "plain", SIGNATURE)
    classes = make_bundle(tmp_path / "classes", replace(SIGNATURE, task=SEVERAL[0]))
    score_here(replace(REQUEST, condition="flight < 5"), plain, ctx)
    with pytest.raises(DatasetError, match="scores.late has no column 'class': it is no table of scores by 'flight'"):
        score_here(REQUEST, classes, ctx)
    ctx.warehouse.execute('create table main.named as select flight as "class", * from main.flights')
    with pytest.raises(DatasetError, match="the key 'class' has the name of a column"):
        score_here(replace(REQUEST, source=Relation("main", "named"), key="class"), classes, ctx)
