"""A model inside the warehouse: published, selected from by a dbt model, scored both ways, on DuckDB and Snowflake."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from typing import Any

import pyarrow.parquet as pq
import pytest
import snowflake.connector
import yaml

from tests.e2e.conftest import Project, copy_of

MODEL = "models:/returns/1"
INPUTS = "items, amount, amount_per_item, hour, country, first_order"
SCORED = (
    "select order_id, {{ target.database }}.{{ target.schema }}.predict_returns("
    + INPUTS
    + ") as score from {{ ref('order_features') }}"
)
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def trained(shop_done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The start project with its model in a registry of its own, and `scored`, a dbt model that asks for scores."""
    project = copy_of(shop_done, tmp_path_factory.mktemp("trained") / "shop")
    project.run("train", "--force")
    project.run("functions", "publish", MODEL)
    (project.root / "models" / "scored.sql").write_text(SCORED)
    return project


def far(left: dict[int, float], right: dict[int, float]) -> int:
    """How many scores are not the same. Both must have the same keys, and some."""
    assert left.keys() == right.keys() != set()
    return sum(abs(left[key] - right[key]) > ROUNDING for key in left)


def local(project: Project, table: str) -> dict[int, float]:
    return dict(project.sql(f"select order_id, score from lake.main.{table}"))


def test_published_and_scored_both_ways(trained: Project) -> None:
    published = trained.run("functions", "publish", MODEL, "--json").data
    assert published["function"] == "main.predict_returns"
    assert [argument["type"] for argument in published["arguments"]] == ["DOUBLE"] * 4 + ["VARCHAR", "BOOLEAN"]
    trained.run("build", "scored")
    here = trained.run("score", MODEL, "--json").data
    assert (here["rows"], here["source"], here["output"]) == (2400, "main.order_features", "main.returns_scores")
    read_here = local(trained, "returns_scores")
    there = trained.run("score", MODEL, "--in-warehouse", "--json").data
    assert (there["rows"], there["output"]) == (2400, "main.returns_scores")
    assert trained.sql("select count(*), count(distinct batch_id) from lake.main.returns_scores") == [(2400, 1)]
    assert far(read_here, local(trained, "returns_scores")) == 0
    assert far(read_here, local(trained, "scored")) == 0
    rows = trained.sql("select distinct function_name, reference, who <> '' from lake.trunkline.publications")
    assert [row[1:] for row in rows] == [(MODEL, True)] * 2
    found = "select batch_id, in_warehouse, row_count from lake.trunkline.batches where output = 'main.returns_scores'"
    assert trained.sql(f"{found} order by 1") == [(here["batch_id"], False, 2400), (there["batch_id"], True, 2400)]


def test_the_digest_is_checked_and_a_lost_bundle_is_fetched(trained: Project) -> None:
    (bundle,) = (trained.root / ".trunkline" / "bundles").iterdir()
    whole = bundle.rename(trained.root / "kept")
    shutil.copytree(whole, bundle)
    (bundle / "model.onnx").write_bytes(b"another model")
    refused = trained.run("build", "scored", "--force", check=False)
    shutil.rmtree(bundle)
    lost = trained.run("build", "scored", "--force", check=False)
    assert (refused.code, lost.code) == (1, 1)
    assert "was recorded" in refused.err
    assert f"trunkline functions publish {MODEL}" in lost.err
    trained.run("functions", "publish", MODEL)
    assert {file.name: file.read_bytes() for file in bundle.iterdir()} == {
        file.name: file.read_bytes() for file in whole.iterdir()
    }
    trained.run("build", "scored", "--force")


WRONG = [
    (["score", "retruns"], "no deployment 'retruns'. Did you mean 'returns'"),
    (["score", "models:/returns/9"], "has no version 9"),
    (["score"], "deployment 'returns' has no model yet"),
    (
        ["score", MODEL, "--on", "order_feature"],
        "no dbt model is called 'order_feature'. Did you mean 'order_features'",
    ),
    (["score", MODEL, "--on", "raw.orders"], "raw.orders lacks 'amount_per_item', 'hour', which models:/returns/1"),
    (["score", MODEL, "--into", "raw.orders"], "it is no table of scores by 'order_id'"),
    (["score", MODEL, "--where", "country ="], "syntax error"),
    (["functions", "publish", MODEL, "--name", "p-1"], "'p-1' cannot name a function"),
]


def test_bad_input_is_one_clear_message(trained: Project) -> None:
    before = trained.sql("select count(*) from duckdb_tables()")
    for command, says in WRONG:
        outcome = trained.run(*command, check=False)
        assert outcome.code in ((1,) if "syntax" in says else (2,)), outcome.err
        assert says in outcome.err
        assert len(outcome.err.strip().splitlines()) <= 4, outcome.err
    assert trained.sql("select count(*) from duckdb_tables()") == before


def test_killed_it_leaves_the_scores_as_they_were(trained: Project) -> None:
    into = ("--into", "main.killed")
    trained.run("score", MODEL, *into, "--where", "order_id % 2 = 0")
    before = local(trained, "killed")
    command = [sys.executable, "-m", "trunkline", "score", MODEL, *into]
    for seconds in (0.5, 1.0, 1.5):
        process = subprocess.Popen(command, cwd=trained.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        scores = local(trained, "killed")
        batches = trained.sql("select 1 from lake.trunkline.batches where output = 'main.killed'")
        assert len(scores) == (2400 if len(batches) > 1 else len(before))
    trained.run("score", MODEL, *into)
    after = trained.sql("select count(*), count(distinct order_id) from lake.main.killed")
    assert after == [(2400, 2400)]


def test_snowflake_gives_the_same_scores(trained: Project, snowflake: dict[str, Any]) -> None:
    profiles = trained.root / "profiles.yml"
    targets = yaml.safe_load(profiles.read_text())
    targets["shop"]["outputs"]["prod"] = {**snowflake, "schema": "marts"}
    profiles.write_text(yaml.safe_dump(targets))
    trained.run("score", MODEL, "--into", "main.expected")
    expected = local(trained, "expected")
    prod = ("--target", "prod")
    trained.run("ingest", *prod)
    trained.run("build", "+order_features", *prod)
    published = trained.run("functions", "publish", MODEL, "--json", *prod).data
    assert published["function"] == "marts.predict_returns"
    trained.run("build", "scored", *prod)
    assert trained.run("score", MODEL, "--json", *prod).data["rows"] == 2400
    assert far(expected, remote(snowflake, "returns_scores")) == 0
    done = trained.run("score", MODEL, "--in-warehouse", "--json", *prod).data
    assert (done["rows"], done["source"], done["output"]) == (2400, "marts.order_features", "marts.returns_scores")
    assert far(expected, remote(snowflake, "returns_scores", done["batch_id"])) == 0
    assert far(expected, remote(snowflake, "scored")) == 0
    assert_parity(trained, *prod)


def test_the_gate_compares_offline_server_and_warehouse(trained: Project) -> None:
    before = trained.sql("select function_name from duckdb_functions() where function_name like '%try_%'")
    assert_parity(trained)
    assert trained.sql("select function_name from duckdb_functions() where function_name like '%try_%'") == before


def assert_parity(project: Project, *target: str) -> None:
    """The gate finds no row with different scores, in three ways, on rows of the validation part."""
    rules = "deployment: returns\nmodel: null\ngate: {bundle: {size_mb: 1}}\n"
    (project.root / "deploy" / "returns.yml").write_text(rules)
    gated = project.run("gate", "returns", "--model", MODEL, "--json", *target).data
    (report,) = (project.root / ".trunkline" / "gates" / gated["look_id"]).glob("gate.json")
    found = json.loads(report.read_text())
    parity = found["evidence"]["parity"]
    assert (parity["ways"], parity["differ"], parity["left_out"]) == (["http", "warehouse"], 0, "")
    assert parity["rows"] == len(pq.read_table(*project.root.glob(".trunkline/datasets/*/*/validation.parquet")))
    results = {rule["name"]: rule["status"] for rule in found["verdict"]["rules"]}
    assert results == dict.fromkeys(("parity", "leakage.probes", "leakage.keys", "bundle.size_mb"), "pass")
    phases = {phase["name"]: phase["seconds"] for phase in found["phases"]}
    assert phases["score in the warehouse"] < 20


def remote(target: dict[str, Any], table: str, batch_id: str | None = None) -> dict[int, float]:
    """The scores of a table; with `batch_id`, all of them are that batch's, one a key."""
    keys = ("account", "user", "password", "host", "port", "protocol", "database")
    login = {**{key: target[key] for key in keys}, "application": "Trunkline", "network_timeout": 30}
    with contextlib.closing(snowflake.connector.connect(**login)) as connection:
        rows = connection.cursor().execute(f"select * from marts.{table}").fetchall() or []
    scores = {row[0]: row[1] for row in rows}
    assert len(scores) == len(rows)
    assert batch_id is None or {row[-1] for row in rows} == {batch_id}
    return scores
