"""The start project through the whole line, and what is run again after which change."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project

STEPS = {
    "ingest:shop.orders",
    "build:order_features",
    "test:order_features",
    "dataset:order_features",
    "train:returns",
}


def _ran(project: Project, *arguments: str) -> set[str]:
    return {step["step"] for step in project.run("run", "--json", *arguments).data["ran"]}


def test_everything_runs_once(fresh_shop: Project) -> None:
    fresh_shop = replace(fresh_shop, anew=True)
    assert _ran(fresh_shop) == STEPS
    assert _ran(fresh_shop) == set()
    assert "nothing to do: all 5 steps are fresh" in fresh_shop.run("run").out
    assert fresh_shop.sql("select count(*) from lake.raw.orders") == [(2400,)]
    ((read, loaded, quarantined),) = fresh_shop.sql(
        "select rows_read, rows_loaded, rows_quarantined from lake.trunkline.loads"
    )
    assert (read, loaded, quarantined) == (2400, 2400, 0)
    assert fresh_shop.sql("select status from lake.trunkline.runs") == [("done",)]


def test_no_op_loads_no_heavy_library(shop: Project) -> None:
    code = (
        "import sys; sys.argv = ['trunkline', 'run']\n"
        "from trunkline.cli.main import main\n"
        "main(['run'])\n"
        "heavy = {'dbt', 'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'pyarrow', 'optuna', 'lightgbm', 'sqlglot'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=shop.root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "nothing to do" in done.stdout


def test_a_comment_runs_nothing_and_sql_runs_what_depends_on_it(shop: Project) -> None:
    shop.edit("models/order_features.sql", "select\n", "select -- a comment\n\n")
    assert _ran(shop) == set()
    shop.edit("models/order_features.sql", "amount / nullif(items, 0)", "round(amount / nullif(items, 0), 2)")
    plan = {step["step"]: step["reason"] for step in shop.run("plan", "--json").data["steps"]}
    assert plan["build:order_features"] == "code changed"
    assert plan["train:returns"] == "input changed: dataset:order_features"
    assert _ran(shop) == STEPS - {"ingest:shop.orders"}


def test_a_test_alone_runs_alone(shop: Project) -> None:
    shop.edit("models/order_features.yml", "[not_null]", "[not_null, unique]")
    assert _ran(shop) == {"test:order_features"}


def test_a_helper_of_the_model_trains_again(shop: Project) -> None:
    (shop.root / "ml" / "settings.py").write_text("ROUNDS = 200\n")
    shop.edit("ml/returns.py", "import trunkline as tl\n", "import trunkline as tl\n\nfrom ml.settings import ROUNDS\n")
    shop.edit("ml/returns.py", "rounds=200", "rounds=ROUNDS")
    assert _ran(shop) == {"train:returns"}
    assert _ran(shop) == set()
    (shop.root / "ml" / "settings.py").write_text("ROUNDS = 120  # fewer\n")
    assert _ran(shop) == {"train:returns"}
    (shop.root / "ml" / "settings.py").write_text("# as before\nROUNDS = 120\n")
    assert _ran(shop) == set()


def test_new_files_are_appended_and_known_ones_are_not(shop: Project) -> None:
    header, *rows = (shop.root / "data" / "orders.csv").read_text().splitlines()
    more = [row.replace(row.split(",")[0], str(5000 + i), 1) for i, row in enumerate(rows[:10])]
    (shop.root / "data" / "orders_2.csv").write_text(
        "\n".join([header, *more, "x,2025-01-01,DE,1,1,true,false"]) + "\n"
    )
    (step,) = shop.run("ingest", "--json").data["ran"]
    assert (step["output"]["read"], step["output"]["loaded"], step["output"]["quarantined"]) == (11, 10, 1)
    assert shop.sql("select count(*), count(distinct _load_id) from lake.raw.orders") == [(2410, 2)]
    assert shop.run("ingest", "--json").data["ran"] == []


def test_a_changed_file_is_refused_not_doubled(shop: Project) -> None:
    with (shop.root / "data" / "orders.csv").open("a") as file:
        file.write("9999,2025-05-12 00:00:00,DE,1,1,true,false\n")
    refused = shop.run("ingest", check=False)
    assert refused.code == 2
    assert "orders.csv has changed since load" in refused.err
    assert "models/sources.yml:7" in refused.err
    assert shop.sql("select count(*) from lake.raw.orders") == [(2400,)]


def test_lost_state_is_made_again_and_no_row_twice(shop: Project) -> None:
    shutil.rmtree(shop.root / ".trunkline")
    assert _ran(shop) == {"dataset:order_features", "train:returns"}
    assert shop.sql("select count(*) from lake.raw.orders") == [(2400,)]


def test_the_whole_line(shop: Project) -> None:
    anew = replace(shop, anew=True)  # `run` and `gate` anew: test_flights.py
    shutil.rmtree(shop.root / ".trunkline")  # a registry of its own
    shop.run("run")
    ladder = anew.run("compare", "returns", "--json").data["rows"]
    assert [row["features"] for row in ladder] == [4, 6]
    tuned = anew.run("tune", "returns", "--trials", "3", "--json").data
    assert len(tuned["trials"]) == 3
    assert tuned["trained"][0]["params"] == tuned["best"]["params"]
    assert shop.run("tune", "returns", "--trials", "3", "--json").data["trained"] == []  # resumed: nothing is left
    refused = shop.run("promote", "returns", check=False)
    assert (refused.code, "has no verdict yet" in refused.err) == (3, True)
    shop.edit("deploy/returns.yml", "p99_ms: 25", "p99_ms: 2000")  # other tests run beside it: no claim on time here
    gate = shop.run("gate", "returns", "--json").data
    assert gate["passed"], gate
    assert (gate["looks"], gate["budget"], gate["ladder"], gate["withheld"]) == (1, 100, False, [])
    low, high = gate["metrics"]["roc_auc"][1:]
    assert 0.6 < low < gate["metrics"]["roc_auc"][0] < high < 0.85
    assert "0 of" in next(rule["why"] for rule in gate["rules"] if rule["rule"] == "parity")
    assert "metrics.roc_auc.at_least" in (shop.root / gate["report"]).read_text()
    before = (shop.root / "deploy" / "returns.yml").read_text()
    assert anew.run("promote", "returns", "--json").data["model"] == gate["candidate"]
    after = (shop.root / "deploy" / "returns.yml").read_text()
    assert after == before.replace("model: null", f"model: {gate['candidate']}")
    assert "This is look 1 of 100" in (shop.root / gate["report"]).read_text()
    ((who, deployment, candidate, digest, released),) = shop.sql(
        "select who, deployment, candidate, sha256, released from lake.trunkline.looks"
    )
    assert (bool(who), deployment, candidate, len(digest)) == (True, "returns", gate["candidate"], 64)
    shown = {name: [m["value"], m["low"], m["high"]] for name, m in json.loads(released)["metrics"].items()}
    assert shown == gate["metrics"]
    assert shop.sql("select passed from lake.trunkline.verdicts") == [(True,)]
    _serve_and_ask(shop, gate["candidate"])


def _serve_and_ask(shop: Project, reference: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "trunkline", "serve", "returns", "--port", "0", "--json"],
        cwd=shop.root,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        started = json.loads(server.stdout.readline())
        assert started["model"] == reference
        row: dict[str, Any] = {
            "items": 3,
            "amount": 40.0,
            "amount_per_item": 13.3,
            "hour": 12,
            "country": "DE",
            "first_order": True,
        }
        answer = _post(started["url"], row)
        assert answer["model"] == reference
        assert 0 < answer["predictions"][0]["score"] < 1
        for wrong, field in (({**row, "items": "3"}, "items"), ({k: v for k, v in row.items() if k != "hour"}, "hour")):
            with pytest.raises(urllib.error.HTTPError) as refused:
                _post(started["url"], wrong)
            assert refused.value.code == 422
            assert json.load(refused.value)["field"] == field
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
        assert server.stdout is not None
        server.stdout.close()
    ((id_, model, score),) = shop.sql("select prediction_id, model, score from lake.trunkline.predictions")
    assert (id_, model, score) == (
        answer["predictions"][0]["prediction_id"],
        reference,
        answer["predictions"][0]["score"],
    )


def _post(url: str, row: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{url}/predict", json.dumps(row).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


BAD = [
    ("deploy/returns.yml", "slices:", "slics:", ["plan"], "deploy/returns.yml:6", "Did you mean 'slices'"),
    ("models/sources.yml", "connector: files", "connector: fles", ["plan"], "models/sources.yml:7", "'fles'"),
    ("models/sources.yml", "data/orders*.csv", "data/ordrs*.csv", ["run"], "models/sources.yml:7", "no file matches"),
    ("ml/returns.py", '"order_features",', '"order_feature",', ["run"], "ml/returns.py:6", "'order_features'"),
    ("ml/returns.py", 'target="returned"', 'target="retruned"', ["run"], "ml/returns.py:6", "'returned'"),
    ("ml/returns.py", '"amount",', '"amuont",', ["run"], "ml/returns.py:6", "Did you mean 'amount'"),
    ("ml/returns.py", 'test="2025-04-01"', 'test="2025-01-01"', ["run"], "", "must come before"),
    ("ml/returns.py", "leaves=trial", "leafs=trial", ["run"], "ml/returns.py:21", "leafs"),
    ("dbt_project.yml", "profile: shop", "profile: shp", ["run"], "profiles.yml", "Did you mean 'shop'"),
    ("profiles.yml", "alias: lake", "alias: lke", ["run"], "", "'lake' is not attached"),
    ("deploy/returns.yml", "model: null", "model: models:/returns/99", ["serve"], "", "no model 'returns'"),
    ("deploy/returns.yml", "model: null", "model: returns-7", ["serve"], "", "models:/"),
]


@pytest.mark.parametrize(("file", "old", "new", "command", "where", "says"), BAD, ids=[b[2][:24] for b in BAD])
def test_bad_input_is_one_clear_message(
    shop_done: Project, shop: Project, file: str, old: str, new: str, command: list[str], where: str, says: str
) -> None:
    tables = "select table_name, estimated_size from duckdb_tables() where schema_name <> 'trunkline' order by 1"
    before = shop.sql(tables)
    shop.edit(file, old, new)
    outcome = shop.run(*command, check=False)
    assert outcome.code in ((1, 2) if "alias" in old else (2,)), outcome.err
    assert says in outcome.err
    assert where in outcome.err
    assert len(outcome.err.strip().splitlines()) <= 6
    if "alias" not in old:
        assert shop.sql(tables) == before


def test_a_failing_test_holds_up_what_depends_on_it(shop: Project) -> None:
    shop.edit("models/order_features.yml", "[not_null]", "[not_null, {accepted_values: {arguments: {values: [x]}}}]")
    shop.edit("models/order_features.sql", "    items,", "    items + 0 as items,")
    outcome = shop.run("run", check=False)
    assert outcome.code == 1
    assert "accepted_values_order_features" in outcome.err
    assert "models/order_features.yml" in outcome.err
    assert "skipped: test:order_features failed" in outcome.out
    shop.edit("models/order_features.yml", "[not_null, {accepted_values: {arguments: {values: [x]}}}]", "[not_null]")
    assert _ran(shop) == {"test:order_features", "dataset:order_features", "train:returns"}


def test_errors_as_json(shop: Project) -> None:
    shop.edit("deploy/returns.yml", "slices:", "slics:")
    error = shop.run("plan", "--json", check=False).data
    assert error["error"] == "ProjectError"
    assert error["line"] == 6


@pytest.mark.parametrize("seconds", [3.0])
def test_ctrl_c_leaves_a_state_from_which_run_goes_on(fresh_shop: Project, seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "trunkline", "run"], cwd=fresh_shop.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode in (0, 130, -signal.SIGINT), err
    assert b"Traceback" not in err
    fresh_shop.run("run")
    assert fresh_shop.sql("select count(*), count(distinct order_id) from lake.main.order_features") == [(2400, 2400)]


def test_doctor(shop: Project) -> None:
    findings = shop.run("doctor", "--json").data["findings"]
    assert not [finding for finding in findings if finding["level"] == "bad"]
    (shop.root / "functions").mkdir()
    (shop.root / "functions" / "f.py").write_text("def main(a):\n    return a\n")
    shop.edit("profiles.yml", "trunkline.transform.functions", "some_other_plugin")
    shop.edit("profiles.yml", 'path: "ducklake', 'path: "ducklake')
    outcome = shop.run("doctor", check=False)
    assert outcome.code == 1
    assert re.search(r"profiles\.yml has no plugin", outcome.out)


def test_adopting_a_dbt_project_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: old\nprofile: old\n")
    (tmp_path / ".gitignore").write_text("target/\n")
    (tmp_path / "trunkline.yml").write_text("training: {seed: 3}\n")
    added = Project(tmp_path).run("init", ".", "--json").data
    assert added["adopted"]
    assert added["kept"] == ["trunkline.yml"]
    assert set(added["added"]) == {"macros/trunkline.sql", "macros/trunkline_as_of.sql", ".gitignore"}
    assert (tmp_path / "dbt_project.yml").read_text() == "name: old\nprofile: old\n"
    assert (tmp_path / "trunkline.yml").read_text() == "training: {seed: 3}\n"
    assert (tmp_path / ".gitignore").read_text() == "target/\n.trunkline/\n"
