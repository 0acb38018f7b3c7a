"""The flights example in full. A sample of it, with damage, goes through both warehouses: test_flights_snowflake.py."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Project

MODELS = {
    "crosswind",
    "stg_flights",
    "stg_weather",
    "stg_planes",
    "stg_airports",
    "stg_airlines",
    "int_weather_before",
    "flight_features",
}


def _flights(tmp_path: Path) -> Project:
    Project(tmp_path).run("init", "--example", "flights", "flights")
    with (tmp_path / "flights" / "trunkline.yml").open("a") as config:
        config.write("\ntraining: {threads: 1}  # two test workers share the cores\n")
    return Project(tmp_path / "flights")


def _sample(project: Project, days: set[str]) -> tuple[int, int]:
    """Keep the flights of some days of each month, and damage two of them; rows written, rows that cannot be loaded.

    A sample does not need so many trees.
    """
    project.edit("ml/delay.py", "rounds=500", "rounds=150")
    path = project.root / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as packed:
        (name,) = [n for n in packed.namelist() if n.endswith("flights.csv") and not n.startswith("__")]
        reader = csv.DictReader(io.TextIOWrapper(packed.open(name), "utf-8"))
        rows = [row for row in reader if row["day"] in days]
    rows[5]["distance"] = "far"
    rows[9]["time_hour"] = "some day"
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("flights.csv", text.getvalue())
    return len(rows), 2


@pytest.mark.timeout(900)
def test_in_full(tmp_path: Path) -> None:
    project = replace(_flights(tmp_path), anew=True)
    project.edit("ml/delay.py", "rounds=500", "rounds=120")  # `make demo` trains them all
    project.run("run")
    assert project.sql("select sum(rows_read), sum(rows_quarantined) from lake.trunkline.loads") == [(367687, 0)]
    ((rows, keys),) = project.sql("select count(*), count(distinct flight_id) from lake.analytics.flight_features")
    assert (rows, keys) == (327346, 327346)
    gate = project.run("gate", "delay", "--json", check=False).data
    assert gate["metrics"]["roc_auc"][0] >= 0.765
    quality = [rule for rule in gate["rules"] if not rule["rule"].startswith("latency")]
    assert {rule["status"] for rule in quality} == {"pass"}
    loads = {load for (load,) in project.sql("select distinct load_id from lake.trunkline.loads")}
    ((manifest,),) = project.sql("select manifest from lake.trunkline.datasets")
    assert set(json.loads(manifest)["load_ids"]) <= loads
    project.edit("models/intermediate/int_weather_before.sql", "select", "-- a comment\nselect")
    assert project.run("plan", "--json").data["stale"] == 0
    text = (project.root / "models/staging/stg_airlines.sql").read_text()
    (project.root / "models/staging/stg_airlines.sql").write_text(f"select * from ({text}) as s\n")
    stale = {step["step"] for step in project.run("plan", "--json").data["steps"] if step["reason"]}
    assert "build:stg_airlines" in stale
    assert not {step for step in stale if step.startswith(("ingest", "build")) and "airlines" not in step}
