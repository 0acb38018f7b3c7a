"""The flights example: on a sample, quickly, and once in full."""

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
    """Keep the flights of some days of each month, and damage two of them; rows written, rows that cannot be loaded."""
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


@pytest.mark.timeout(600)
def test_a_sample_through_the_whole_line(tmp_path: Path) -> None:
    project = _flights(tmp_path)
    written, damaged = _sample(project, {"4", "12", "20", "28"})
    ran = {step["step"]: step for step in project.run("run", "--json").data["ran"]}
    flights = ran["ingest:nyc.flights"]["output"]
    assert (flights["read"], flights["loaded"], flights["quarantined"]) == (written, written - damaged, damaged)
    assert {f"build:{name}" for name in MODELS} <= set(ran)
    columns = [
        (errors["column"], errors["value"])
        for (text,) in project.sql("select errors from lake.trunkline.quarantine order by raw")
        for errors in json.loads(text)
    ]
    assert sorted(columns) == [("distance", "far"), ("time_hour", "some day")]
    assert project.sql("select count(*) from lake.analytics.flight_features where crosswind is not null")[0][0] > 1000
    ladder = project.run("compare", "delay", "--json").data["rows"]
    values = [row["value"] for row in ladder]
    assert values[-1] == max(values)  # the history is what tells
    gate = project.run("gate", "delay", "--json", check=False)
    assert gate.code in (0, 3)
    assert gate.data["metrics"]["roc_auc"][0] > 0.7
    assert project.run("run", "--json").data["ran"] == []
    loads = {load for (load,) in project.sql("select distinct load_id from lake.trunkline.loads")}
    ((manifest,),) = project.sql("select manifest from lake.trunkline.datasets")
    upstream = set(json.loads(manifest)["load_ids"])
    assert upstream
    assert upstream <= loads


@pytest.mark.timeout(900)
def test_in_full(tmp_path: Path) -> None:
    project = replace(_flights(tmp_path), anew=True)
    project.run("run")
    assert project.sql("select sum(rows_read), sum(rows_quarantined) from lake.trunkline.loads") == [(367687, 0)]
    ((rows, keys),) = project.sql("select count(*), count(distinct flight_id) from lake.analytics.flight_features")
    assert (rows, keys) == (327346, 327346)
    gate = project.run("gate", "delay", "--json", check=False).data
    assert gate["metrics"]["roc_auc"][0] >= 0.765
    quality = [rule for rule in gate["rules"] if not rule["rule"].startswith("latency")]
    assert {rule["status"] for rule in quality} == {"pass"}
    project.edit("models/intermediate/int_weather_before.sql", "select", "-- a comment\nselect")
    assert project.run("plan", "--json").data["stale"] == 0
    text = (project.root / "models/staging/stg_airlines.sql").read_text()
    (project.root / "models/staging/stg_airlines.sql").write_text(f"select * from ({text}) as s\n")
    stale = {step["step"] for step in project.run("plan", "--json").data["steps"] if step["reason"]}
    assert "build:stg_airlines" in stale
    assert not {step for step in stale if step.startswith(("ingest", "build")) and "airlines" not in step}
