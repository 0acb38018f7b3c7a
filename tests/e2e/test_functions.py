"""dbt builds the same functions and models on DuckDB and on the Snowflake emulator, and the tables are equal.

The emulator runs the generated handlers in its own Python, in batches of 1, 7, 500 and more rows.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pytest
import snowflake.connector
import yaml

import trunkline.project
from tests.emulator.running import Emulator
from tests.unit.transform.writing import SAMPLES
from trunkline.errors import ProjectError
from trunkline.transform.dbt import Dbt
from trunkline.transform.portable import find_functions
from trunkline.transform.snowpark import handler_source

TEMPLATES = Path(trunkline.project.__file__).parent / "templates"
GOLDEN = Path(__file__).parents[1] / "golden" / "functions"

Rows = list[tuple[Any, ...]]

PROJECT = """
name: words
version: "1.0.0"
profile: words
config-version: 2
"""
NOTES = """
{{ config(materialized='table') }}
{% for n in range(60) %}
select {{ n }} as n, {{ "null" if n % 7 == 3 else "'  Straße  No. " ~ n ~ " '" }} as name,
       {{ "null" if n % 5 == 4 else "cast(" ~ n ~ " as double) / 7" }} as amount,
       {{ "null" if n % 11 == 5 else "cast('2024-02-" ~ "%02d" % (n % 29 + 1) ~ "' as date)" }} as day,
       {{ "null" if n % 3 == 2 else n % 2 == 0 }} as fit
{{ "union all" if not loop.last }}
{% endfor %}
"""
MARKED = """
{{ config(materialized='table') }}
select n,
       {{ function('label') }}(name, n) as label,
       {{ function('shouted') }}(name) as shouted,
       {{ function('ratio') }}(amount, cast(n as double)) as ratio,
       {{ function('windy') }}(amount, fit) as windy,
       {{ function('halved') }}(n) as halved,
       {{ function('written') }}(day, cast(day as timestamp)) as written,
       {{ function('start') }}(cast(day as timestamp)) as start_day
from {{ ref('notes') }}
"""


@pytest.fixture
def project(tmp_path: Path, snowflake: dict[str, Any]) -> Path:
    return words(tmp_path, {**snowflake, "schema": "analytics"})


def words(tmp_path: Path, prod: dict[str, Any]) -> Path:
    """A dbt project with two targets, and functions of both kinds, one of which uses a module of the project."""
    local = {"type": "duckdb", "path": str(tmp_path / "words.duckdb"), "schema": "analytics"}
    local["plugins"] = [{"module": "trunkline.transform.functions"}]
    outputs = {"dev": local, "prod": prod}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"words": {"target": "dev", "outputs": outputs}}))
    (tmp_path / "dbt_project.yml").write_text(PROJECT)
    (tmp_path / "macros").mkdir()
    (tmp_path / "macros" / "trunkline.sql").write_text((TEMPLATES / "flights/macros/trunkline.sql").read_text())
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "notes.sql").write_text(NOTES)
    (tmp_path / "models" / "marked.sql").write_text(MARKED)
    for name in ("label", "shouted", "ratio", "windy", "halved", "written", "start"):
        SAMPLES[name].write(tmp_path, name)
    return tmp_path


def build(project: Path, target: str) -> None:
    with contextlib.chdir(project):
        results = Dbt(project, target, project).build(["*"], lambda name, status: None)
    assert len(results) == 9
    assert [(result.unique_id, result.message) for result in results if not result.ok] == []


def test_both_warehouses_compute_the_same(project: Path, emulator: Emulator, snowflake: dict[str, Any]) -> None:
    here, there = both(project, snowflake, "analytics")
    assert len(here) == 60
    assert there == here
    assert all({row[column] is None for row in here} == {True, False} for column in range(1, 8) if column != 5)
    assert (here[0][1], here[0][2]) == ("{strasse no. 0}{% 0 %} $$ '''", "STRASSE  NO. 0")
    created = [s["sql"] for s in emulator.log() if "CREATE OR REPLACE FUNCTION" in s["sql"]]
    golden(created, "label", snowflake["database"], project)
    golden(created, "ratio", snowflake["database"], project)


@pytest.mark.skipif(
    not os.environ.get("TRUNKLINE_SNOWFLAKE_ACCOUNT"),
    reason="no Snowflake account: set TRUNKLINE_SNOWFLAKE_ACCOUNT, _USER, _PASSWORD or _PRIVATE_KEY_PATH, _ROLE, "
    "_WAREHOUSE and _DATABASE",
)
def test_a_real_account_computes_the_same(tmp_path: Path) -> None:
    names = ("account", "user", "password", "private_key_path", "role", "warehouse", "database")
    given = {name: os.environ.get(f"TRUNKLINE_SNOWFLAKE_{name.upper()}") for name in names}
    account = {name: value for name, value in given.items() if value}
    schema = f"trunkline_{uuid.uuid4().hex[:12]}"
    project = words(tmp_path, {"type": "snowflake", "threads": 4, **account, "schema": schema})
    here, there = both(project, account, schema, then=f"drop schema {schema}")
    assert there == here


def both(project: Path, account: dict[str, Any], schema: str, then: str = "select 1") -> tuple[Rows, Rows]:
    """The rows of the last model, built by dbt on DuckDB and on Snowflake; `then` is run there at the end."""
    for target in ("dev", "prod"):
        build(project, target)
    with duckdb.connect(project / "words.duckdb") as local:
        here = local.execute("select * from analytics.marked order by n").fetchall()
    names = ("account", "user", "password", "host", "port", "protocol", "database", "role", "warehouse")
    login = {name: account[name] for name in names if name in account}
    if "private_key_path" in account:  # the connector's name for it
        login["private_key_file"] = account["private_key_path"]
    with contextlib.closing(snowflake.connector.connect(**login, application="Trunkline")) as remote:
        there = remote.cursor().execute(f"select * from {schema}.marked order by n").fetchall()
        remote.cursor().execute(then)
    return here, [tuple(row) for row in there]


def golden(created: list[str], name: str, database: str, project: Path) -> None:
    """What dbt-snowflake wrote around our handler is pinned, but for blank lines and the database's name."""
    (sql,) = (sql for sql in created if f".analytics.{name} (" in sql and database in sql)
    before, body, after = sql.split("$$")
    function = next(function for function in find_functions(project) if function.name == name)
    assert body.strip() == handler_source(function).strip()
    head = re.sub(r"\s*\n\s*", "\n", re.sub(rf"\b{database}\b", "FLIGHTS", before)).strip() + "\n$$ … $$\n"
    assert not after.split("/*")[0].strip()
    file = GOLDEN / f"{name}.sql"
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        file.write_text(head, "utf-8")
    assert head == file.read_text("utf-8")


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_the_manifest_has_the_handler_and_changes_with_every_file(project: Path, target: str) -> None:
    def codes() -> dict[str, str]:
        with contextlib.chdir(project):
            functions = Dbt(project, target, project).parse()["functions"]
        return {function["name"]: function["raw_code"] for function in functions.values()}

    before = codes()
    assert before == {f.name: handler_source(f) for f in find_functions(project)}
    file = project / "lib" / "text.py"
    file.write_text(file.read_text().replace("casefold", "lower"))
    assert {name for name, code in codes().items() if code != before[name]} == {"label"}


@pytest.mark.parametrize("target", ["dev", "prod"])
def test_what_is_not_portable_is_refused_when_dbt_parses(project: Path, target: str) -> None:
    file = project / "functions" / "ratio.py"
    file.write_text("import socket\n\n" + file.read_text())
    with contextlib.chdir(project), pytest.raises(ProjectError, match="socket opens the network") as refused:
        Dbt(project, target, project).parse()
    assert refused.value.where == f"{file}:1"
