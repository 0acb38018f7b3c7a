"""Batch scoring: equal scores both ways, one row a key, all or nothing, and clear words for what does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.serving.conftest import SIGNATURE, make_bundle
from trunkline.context import StepContext
from trunkline.errors import DatasetError, EngineError
from trunkline.ledger.ledger import Ledger
from trunkline.models.bundle import Bundle
from trunkline.models.function import RETURNS, arguments, over_arrow
from trunkline.models.runtime import Scorer
from trunkline.project.secrets import Secrets
from trunkline.registry.memory import MemoryRegistry
from trunkline.serving.batch import BatchRequest, BatchResult, score_here, score_in_warehouse
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.protocol import PythonFunction
from trunkline.warehouse.relation import Relation

ROWS = """
select i as flight, case when i % 9 = 0 then null else i * 3 end as distance,
       cast(i % 50 as decimal(9, 2)) as "dep delay",
       case i % 5 when 0 then 'UA' when 1 then 'AA' when 2 then null else 'other' end as carrier, i % 2 = 0 as rainy
from range(10000) t(i)
"""
REQUEST = BatchRequest(Relation("main", "flights"), "flight", Relation("scores", "late"), "models:/late/1")
LAKE = {
    "path": ":memory:",
    "database": "lake",
    "config_options": {"allow_unsigned_extensions": True},  # else each connection hashes the extensions' files anew
    "extensions": ["ducklake", "sqlite_scanner"],
    "attach": [{"path": "ducklake:sqlite:catalog.sqlite", "alias": "lake", "options": {"data_path": "data"}}],
}
Score = Callable[[BatchRequest], BatchResult]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("late") / "bundle", SIGNATURE)


@pytest.fixture
def ctx(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StepContext]:
    monkeypatch.chdir(tmp_path)
    warehouse = open_duckdb({"path": "local.duckdb"} if getattr(request, "param", "file") == "file" else LAKE, tmp_path)
    warehouse.execute(f"create table main.flights as {ROWS}")
    yield context(warehouse, tmp_path)
    warehouse.close()


def context(warehouse: Any, root: Path) -> StepContext:
    """What batch scoring needs of a session."""
    return StepContext(
        root=root,
        run_id="run_1",
        target="dev",
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=MemoryRegistry,
        progress=lambda text, done=None: None,
        vault_key=lambda: b"k" * 32,
        secrets=Secrets(root),
        who="tester",
        git_commit=lambda: None,
        threads=2,
    )


@pytest.fixture(params=["here", "in the warehouse"])
def score(request: pytest.FixtureRequest, ctx: StepContext, bundle: Bundle) -> Score:
    if request.param == "here":
        return lambda asked: score_here(asked, bundle, ctx)
    function = in_warehouse(ctx, bundle)
    return lambda asked: score_in_warehouse(asked, bundle, function, ctx)


def in_warehouse(ctx: StepContext, bundle: Bundle) -> Relation:
    """The bundle as a SQL function."""
    assert isinstance(ctx.warehouse, DuckDB)
    name = Relation("scores", "predict_late")
    function = PythonFunction(name, arguments(bundle.signature), RETURNS, "", "")
    ctx.warehouse.create_function(function, over_arrow(bundle.signature.names, lambda: Scorer(bundle)))
    return name


def scores(ctx: StepContext) -> list[tuple[Any, ...]]:
    return ctx.warehouse.query("select flight, score, model, sha256, batch_id from scores.late order by flight")


def test_every_row_gets_its_score(score: Score, ctx: StepContext, bundle: Bundle) -> None:
    done = score(REQUEST)
    found = scores(ctx)
    assert done.rows == len(found) == 10_000
    assert {row[2:] for row in found} == {("models:/late/1", bundle.sha256, done.batch_id)}
    columns = [(name, "varchar" if type_ == "VARCHAR" else type_) for name, type_ in arguments(SIGNATURE)]
    cast = ", ".join(f'cast("{name}" as {type_}) as "{name}"' for name, type_ in columns)
    rows = ctx.warehouse.query(f"select {cast} from main.flights order by flight")
    types = {"DOUBLE": pa.float64(), "varchar": pa.string(), "BOOLEAN": pa.bool_()}
    table = pa.table({name: pa.array([r[i] for r in rows], types[type_]) for i, (name, type_) in enumerate(columns)})
    expected = Scorer(bundle).score(table).tolist()
    assert [row[0] for row, value in zip(found, expected, strict=True) if abs(row[1] - value) > 1e-6] == []


def test_the_batch_is_in_the_ledger(score: Score, ctx: StepContext, bundle: Bundle) -> None:
    done = score(replace(REQUEST, condition="flight < 10 or carrier = 'UA?'"))
    (row,) = ctx.ledger.read("batches")
    assert (row["batch_id"], row["row_count"], row["reference"]) == (done.batch_id, 10, "models:/late/1")
    assert (row["relation"], row["output"], row["who"]) == ("main.flights", "scores.late", "tester")
    assert (row["condition"], row["sha256"]) == ("flight < 10 or carrier = 'UA?'", bundle.sha256)
    assert row["scored_at"] == done.scored_at
    assert row["seconds"] == done.seconds > 0


@pytest.mark.parametrize("ctx", ["file", "lake"], indirect=True)
def test_a_batch_replaces_the_scores_of_its_own_keys(score: Score, ctx: StepContext) -> None:
    first = score(replace(REQUEST, condition="flight < 100"))
    second = score(replace(REQUEST, condition="flight >= 90 and flight < 120", reference="models:/late/2"))
    found = scores(ctx)
    assert [row[0] for row in found] == list(range(120))
    assert {row[4] for row in found[:90]} == {first.batch_id}
    assert {(row[2], row[4]) for row in found[90:]} == {("models:/late/2", second.batch_id)}
    assert len(ctx.ledger.read("batches")) == 2


def test_no_rows_are_a_batch_too(score: Score, ctx: StepContext) -> None:
    assert score(replace(REQUEST, condition="false")).rows == 0
    assert scores(ctx) == []


@pytest.mark.parametrize("ctx", ["file", "lake"], indirect=True)
def test_both_ways_give_equal_scores(ctx: StepContext, bundle: Bundle) -> None:
    score_here(REQUEST, bundle, ctx)
    here = scores(ctx)
    score_in_warehouse(REQUEST, bundle, in_warehouse(ctx, bundle), ctx)
    there = scores(ctx)
    assert [a[0] for a, b in zip(here, there, strict=True) if a[0] != b[0] or abs(a[1] - b[1]) > 1e-6] == []


def test_what_fails_leaves_the_scores_as_they_were(
    score: Score, ctx: StepContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(replace(REQUEST, condition="flight < 100"))
    before = scores(ctx)

    def refuse(*_: object) -> None:
        raise EngineError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(ctx.ledger, "add", refuse)
        with pytest.raises(EngineError, match="disk is full"):
            score(REQUEST)
    assert scores(ctx) == before
    assert len(ctx.ledger.read("batches")) == 1


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"source": Relation("main", "flihgts")}, "no table main.flihgts. Did you mean 'main.flights'"),
    ({"key": "flihgt"}, "main.flights lacks 'flihgt', which models:/late/1 needs. Did you mean 'flight'"),
    ({"source": Relation("main", "half")}, "main.half lacks 'dep delay', 'rainy', which"),
    ({"source": Relation("main", "texts")}, "column 'distance' of main.texts has type VARCHAR, but .* takes a number"),
    ({"key": "carrier"}, "the key 'carrier' is null in 2,000 of 10,000 rows of main.flights"),
    ({"source": Relation("main", "twice")}, "the key 'flight' is not unique in 10,000 of 20,000 rows of main.twice"),
    ({"output": Relation("main", "half")}, "main.half has no column 'score': it is no table of scores by 'flight'"),
    ({"output": Relation("main", "other")}, "main.other has column 'flight' of type VARCHAR: it is no table"),
]


def test_what_does_not_fit_is_one_clear_message(score: Score, ctx: StepContext) -> None:
    execute = ctx.warehouse.execute
    execute("create table main.half as select flight, distance, carrier from main.flights")
    execute("create table main.texts as select * replace (cast(distance as varchar) as distance) from main.flights")
    execute("create table main.twice as select * from main.flights union all select * from main.flights")
    execute(
        "create table main.other as select cast(flight as varchar) as flight, 0.5::double as score from main.flights"
    )
    for change, says in WRONG:
        with pytest.raises(DatasetError, match=says):
            score(replace(REQUEST, **change))
    assert ("scores", "late") not in ctx.warehouse.relations()
    assert ctx.ledger.read("batches") == []
