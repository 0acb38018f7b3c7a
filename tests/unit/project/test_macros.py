"""The macros of a new project in dbt itself, on DuckDB and on Snowflake's emulator: both give the same rows.

What Snowflake is sent is pinned in tests/golden/macros; `TRUNKLINE_GOLDEN=write` writes it anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot

from tests.emulator.running import account, connect

pytestmark = pytest.mark.xdist_group("macros")

TEMPLATES = Path(__file__).parents[3] / "src" / "trunkline" / "project" / "templates"
GOLDEN = Path(__file__).parents[2] / "golden" / "macros"
MODELS = {
    "hours": """{{ trunkline_spine('hour', "'2013-03-09 10:30:00'", "'2013-03-12 00:45:00'") }}""",
    "no_days": """select * from ({{ trunkline_spine('day', "'2013-03-09'", "'2013-03-01'") }}) as days""",
    "clocks": """
        {{ config(query_tag='{"team": "ops"}') }}
        select
            moment,
            {{ trunkline_clock_text('moment') }} as as_text,
            {{ trunkline_day_of_week('moment') }} as day_of_week,
            {{ trunkline_change_zone('moment', "'UTC'", "'America/New_York'") }} as new_york,
            {{ trunkline_change_zone('moment', "'Asia/Kathmandu'", "'UTC'") }} as utc_of_kathmandu
        from {{ ref('hours') }}
    """,
    "instants": """
        select {{ trunkline_utc("cast('2013-07-01 12:00:00+02:00' as timestamptz)") }} as utc
    """,
    "hashes": """
        with things as (
            select 1 as n, 'Snowflake' as a, cast(1 as bigint) as b, true as c, cast('2013-01-31' as date) as d
            union all select 2, null, -7, false, null
            union all select 3, '', null, null, cast('1999-12-31' as date)
            union all select 4, 'é¥😀''/', 9223372036854775807, true, cast('2020-02-29' as date)
            union all select 5, '-', 0, null, null
        )
        select n, {{ trunkline_hash('a') }} as one, {{ trunkline_hash(['a', 'b', 'c', 'd']) }} as four from things
    """,
    "samples": """
        with minutes as ({{ trunkline_spine('minute', "'2013-01-01'", "'2013-01-08'") }}),
        keys as (select {{ trunkline_clock_text('moment') }} as key from minutes)
        select
            key,
            {{ trunkline_sample('key', 0.25) }} as quarter,
            {{ trunkline_sample(['key'], 0.5) }} as half
        from keys
    """,
    "prices": """
        select 'x' as item, cast('2013-01-01' as datetime) as valid_from, 10 as price
        union all select 'x', cast('2013-01-02' as datetime), 11
        union all select 'x', cast('2013-01-03' as datetime), 12
    """,
    "orders": """
        select 1 as n, 'x' as item, cast('2013-01-02' as datetime) as ordered_at
        union all select 2, 'x', cast('2012-01-02' as datetime)
        union all select 3, 'y', cast('2013-01-02' as datetime)
        union all select 4, 'x', cast('2013-02-01' as datetime)
    """,
    "known": """
        select orders.n, prices.price, any_price.price as any_price
        from {{ ref('orders') }} as orders
        {{ trunkline_asof_join(ref('prices'), 'prices', 'orders.ordered_at > prices.valid_from',
                               on='orders.item = prices.item') }}
        {{ trunkline_asof_join(ref('prices'), 'any_price', 'orders.ordered_at >= any_price.valid_from') }}
    """,
}
RUN = """
import sys
from dbt.cli.main import dbtRunner
for target in ("dev", "prod"):
    done = dbtRunner().invoke(["run", "--project-dir", ".", "--profiles-dir", ".", "--target", target,
                               "--target-path", f"target-{target}", "--quiet"])
    if not done.success:
        sys.exit(f"{target}: {done.exception or [r.message for r in done.result if r.status != 'success']}")
"""


@dataclass(frozen=True)
class Built:
    """Both targets after `dbt run`."""

    root: Path
    profile: dict[str, Any]
    log: list[dict[str, Any]]

    def duckdb(self, model: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.root / "dev.duckdb"), read_only=True) as connection:
            return _sorted(connection.execute(f"select * from {model}").fetchall())

    def snowflake(self, model: str) -> list[tuple[Any, ...]]:
        with connect(self.profile) as connection:
            return _sorted(connection.cursor().execute(f"select * from {model}").fetchall())

    def compiled(self, model: str) -> str:
        text = (self.root / f"target-prod/compiled/mini/models/{model}.sql").read_text(encoding="utf-8")
        return text.replace(self.profile["database"], "DB").replace(self.profile["schema"], "mini").strip() + "\n"


@pytest.fixture(scope="module", params=["emulator", *(["account"] if account("") else [])])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    root, schema = tmp_path_factory.mktemp("mini"), f"macros_{uuid.uuid4().hex[:12]}"
    if request.param == "emulator":
        emulator = request.getfixturevalue("emulator")
        profile = emulator.profile(schema.upper(), schema=schema)
    else:
        emulator, profile = None, account(schema)
    assert profile is not None
    profile["query_tag"] = "mine"
    outputs = {"dev": {"type": "duckdb", "path": "dev.duckdb"}, "prod": profile}
    project = {"name": "mini", "version": "1.0", "profile": "mini", "models": {"mini": {"+materialized": "table"}}}
    for folder in ("models", "macros"):
        (root / folder).mkdir()
    # YAML reads JSON
    (root / "dbt_project.yml").write_text(json.dumps(project))
    (root / "profiles.yml").write_text(json.dumps({"mini": {"target": "dev", "outputs": outputs}}))
    (root / "macros/trunkline.sql").write_text((TEMPLATES / "blank/macros/trunkline.sql").read_text())
    for name, sql in MODELS.items():
        (root / f"models/{name}.sql").write_text(sql, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", RUN], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [one for one in emulator.log() if schema in one["sql"]] if emulator else []
    yield Built(root, profile, said)
    with connect(profile) as connection:
        connection.cursor().execute(f"drop schema if exists {schema}")


def test_every_template_has_the_same_macros() -> None:
    texts = {path.read_text(encoding="utf-8") for path in TEMPLATES.glob("*/macros/trunkline.sql")}
    assert len(texts) == 1


@pytest.mark.parametrize("model", sorted(MODELS))
def test_both_warehouses_give_the_same_rows(built: Built, model: str) -> None:
    rows = built.duckdb(model)
    assert built.snowflake(model) == rows
    assert rows or model == "no_days"


@pytest.mark.parametrize("model", sorted(MODELS))
def test_what_snowflake_is_sent(built: Built, model: str) -> None:
    compiled, golden = built.compiled(model), GOLDEN / f"{model}.sql"
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(compiled, encoding="utf-8")
    assert golden.read_text(encoding="utf-8") == compiled
    tree = sqlglot.parse_one(compiled, read="snowflake")
    assert not list(tree.find_all(sqlglot.exp.Command))


def test_a_spine_begins_with_its_start_and_ends_before_its_stop(built: Built) -> None:
    hours = [moment for (moment,) in built.duckdb("hours")]
    assert (str(hours[0]), str(hours[-1]), len(hours)) == ("2013-03-09 10:30:00", "2013-03-12 00:30:00", 63)


def test_a_hash_is_63_bits_of_md5(built: Built) -> None:
    hashes = {n: (one, four) for n, one, four in built.duckdb("hashes")}
    digest = int(hashlib.md5(b"9:Snowflake").hexdigest()[16:], 16)
    assert hashes[1][0] == digest % 2**63
    assert hashes[2][0] == int(hashlib.md5(b"-").hexdigest()[16:], 16) % 2**63  # null is not '-'
    assert len({value for row in hashes.values() for value in row}) == 10


def test_a_sample_has_its_share_and_holds_the_smaller_ones(built: Built) -> None:
    rows = built.duckdb("samples")
    quarter, half = ({row[0] for row in rows if row[column]} for column in (1, 2))
    assert len(rows) == 7 * 24 * 60
    assert quarter < half
    assert 0.23 < len(quarter) / len(rows) < 0.27
    assert 0.48 < len(half) / len(rows) < 0.52


def test_an_asof_join_finds_what_was_known_and_keeps_every_row(built: Built) -> None:
    assert built.duckdb("known") == [(1, 10, 11), (2, None, None), (3, None, 11), (4, 12, 12)]


def test_statements_carry_the_step_after_the_users_own_tag(built: Built) -> None:
    if not built.log:
        pytest.skip("an account's own history comes an hour later")
    tags = {said["tag"] for said in built.log if "create or replace" in said["sql"]}
    assert "mine trunkline:build:hours" in tags
    assert '{"team": "ops", "trunkline": "build:clocks"}' in tags
    assert len(tags) == len(MODELS)


def _sorted(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=lambda row: [str(value) for value in row])
