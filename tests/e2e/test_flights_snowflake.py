"""The flights example with `--target prod` on Snowflake's emulator, nothing else changed: same tables, same scores."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlglot
import yaml

from tests.e2e.conftest import Project
from tests.e2e.test_flights import MODELS, _flights, _sample
from tests.emulator.running import NO_ACCOUNT, account, connect

# https://docs.snowflake.com/en/sql-reference/reserved-keywords: what the emulator may take as a name and Snowflake not
RESERVED = (
    "account all alter and any as asof between by case cast check column connect connection constraint create cross "
    "current database delete distinct drop else exists false following for from full grant group having ilike in "
    "increment inner insert intersect into is issue join lateral left like localtime localtimestamp match_condition "
    "minus natural not null of on or order organization qualify regexp revoke right rlike row rows sample schema "
    "select set some start table tablesample then to trigger true try_cast union unique update using values view when "
    "whenever where with"
)


def _on_emulator(project: Project, target: dict[str, Any]) -> None:
    """Point the prod target at the emulator."""
    path = project.root / "profiles.yml"
    profiles = yaml.safe_load(path.read_text())
    profiles["flights"]["outputs"]["prod"] = target
    path.write_text(yaml.safe_dump(profiles))


def _ask(target: dict[str, Any], sql: str) -> list[Any]:
    with connect(target) as connection:
        return [tuple(row) for row in connection.cursor().execute(sql).fetchall()]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", ["emulator", "account"])
def test_the_whole_line_on_snowflake(tmp_path: Path, request: pytest.FixtureRequest, where: str) -> None:
    emulator = request.getfixturevalue("emulator") if where == "emulator" else None
    target = request.getfixturevalue("snowflake") if emulator else account("analytics")
    if target is None:
        pytest.skip(NO_ACCOUNT)
    target["query_tag"] = "flights"
    project = _flights(tmp_path)
    _on_emulator(project, target)
    written, damaged = _sample(project, {"4", "20"})
    ran = {step["step"]: step for step in project.run("run", "--target", "prod", "--json").data["ran"]}
    flights = ran["ingest:nyc.flights"]["output"]
    assert (flights["read"], flights["loaded"], flights["quarantined"]) == (written, written - damaged, damaged)
    assert {f"build:{name}" for name in MODELS} <= set(ran)
    assert project.run("run", "--target", "prod", "--json").data["ran"] == []

    project.run("run", "ingest", "build")
    parity = project.run("diff", "dev", "prod", "--json").data
    assert parity["same"]
    assert len(parity["tables"]) == 18

    gate = project.run("gate", "delay", "--target", "prod", "--json", check=False)
    assert gate.code in (0, 3)
    assert gate.data["metrics"]["roc_auc"][0] > 0.7
    some = ("--where", "origin = 'JFK' and scheduled_departure < '2013-01-25'")
    for more in ((), ("--in-warehouse", "--into", "analytics.scores_inside")):
        project.run("score", "models:/delay/1", "--target", "prod", *some, *more)
    worst = (
        "select count(*), max(abs(here.score - inside.score)) from delay_scores as here "
        "join scores_inside as inside using (flight_id)"
    )
    ((rows, difference),) = _ask(target, worst)
    assert rows > 500
    assert difference < 1e-6

    if emulator:
        said = [one for one in emulator.log() if target["database"] in one["sql"]]
        _is_snowflakes_sql([one["sql"] for one in said])
        tags = {one["tag"] for one in said}
        assert {"flights trunkline:build:flight_features", "flights trunkline:test:flight_features"} <= tags
        assert any(re.search(r"trunkline:ingest:nyc.flights$", tag) for tag in tags)


def _is_snowflakes_sql(statements: list[str]) -> None:
    """Each model that dbt made is SQL to a parser of Snowflake's dialect, and no name in it is a reserved word."""
    made = re.compile(r"\s*create\s+or\s+replace\s+(transient\s+)?(table|view)\b", re.IGNORECASE)
    models = [sql for sql in statements if made.match(re.sub(r"/\*.*?\*/", "", sql, flags=re.DOTALL))]
    assert len(models) >= 13
    for sql in models:
        tree = sqlglot.parse_one(sql, read="snowflake")
        assert not list(tree.find_all(sqlglot.exp.Command)), sql
        names = {name.name.lower() for name in tree.find_all(sqlglot.exp.Identifier) if not name.args.get("quoted")}
        assert not names & set(RESERVED.split()), sql
