"""The macros of a new project in dbt itself, on DuckDB and on Snowflake's emulator: both give the same rows.

What Snowflake is sent is pinned in tests/golden/macros; `TRUNKLINE_GOLDEN=write` writes it anew.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import jinja2
import pytest
import sqlglot

from tests.emulator.running import account, connect

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
    "sales": """
        select 'x' as item, cast('2013-01-01 10:00:00' as datetime) as sold_at, 2 as quantity,
            cast('2013-01-01 11:00:00+00:00' as timestamptz) as _loaded_at
        union all select 'x', cast('2013-01-01' as datetime), 5, cast('2013-01-04 00:00:00+00:00' as timestamptz)
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
    "facts": """
        with numbers as ({{ trunkline_spine('hour', "'2013-01-01'", "'2013-01-21'") }}),
        hashed as (
            select {{ trunkline_hash([trunkline_clock_text('moment'), "'time'"]) }} as a,
                {{ trunkline_hash([trunkline_clock_text('moment'), "'rest'"]) }} as b
            from numbers
        )
        select
            'e' || cast(mod(b, 4) as varchar) as entity,
            {{ dateadd('minute', '30 * mod(a, 960)', "cast('2013-01-01' as datetime)") }} as happened_at,
            -- most arrive within the hour, some days later
            {{ dateadd('minute', '30 * mod(a, 960) + mod(a, 60) + case when mod(b, 5) = 0 then mod(a, 9000) else 0 end',
                       "cast('2013-01-01' as datetime)") }} as arrived_at,
            case when mod(b, 7) > 0 then cast(mod(a, 1000) as integer) - 300 end as amount
        from hashed
    """,
    "moments": """
        with hours as ({{ trunkline_spine('hour', "'2012-12-31'", "'2013-01-25'") }}),
        entities as (select distinct entity from {{ ref('facts') }} union all select 'nobody')
        select entity || ' ' || {{ trunkline_clock_text('moment') }} as id, entity, moment as asked_at
        from hours cross join entities
    """,
    "windows": """
        {{ trunkline_windows(
            moments=ref('moments'), key='id', at='asked_at', entity='entity',
            facts=ref('facts'), event_time='happened_at', loaded_at='arrived_at',
            features={
                'facts_2d': {'count': '*', 'window': '2 day'},
                'amounts_2d': {'count': 'amount', 'window': '2 day'},
                'paid_2d': {'sum': 'amount', 'window': '2 days'},
                'mean_6h': {'avg': 'amount', 'window': '6 hour'},
                'least_6h': {'min': 'amount', 'window': '6 hour'},
                'most_1w': {'max': 'amount', 'window': '1 week'},
            },
        ) }}
    """,
    "windows_of_all": """
        {{ trunkline_windows(
            moments=ref('moments'), key='id', at='asked_at', entity=['entity'],
            facts=ref('facts'), event_time='happened_at', tile='7 hour',
            features={'facts_2d': {'count': '*', 'window': '2 day'}, 'paid_2d': {'sum': 'amount', 'window': '2 day'}},
        ) }}
    """,
    "last": """
        select moments.id, known.happened_at, known.arrived_at
        from {{ ref('moments') }} as moments
        {{ trunkline_last_known(ref('facts'), 'known', at='moments.asked_at', on={'entity': 'moments.entity'},
                                event_time='happened_at', loaded_at='arrived_at') }}
    """,
}
PAGE = (Path(__file__).parents[3] / "docs" / "as-of.md").read_text(encoding="utf-8")
MODELS |= dict(re.findall(r"```sql\n-- models/(\w+).sql\n(.*?)```", PAGE, re.DOTALL))
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
    for path in (TEMPLATES / "blank/macros").iterdir():
        (root / "macros" / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    for name, sql in MODELS.items():
        (root / f"models/{name}.sql").write_text(sql, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", RUN], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [one for one in emulator.log() if schema in one["sql"]] if emulator else []
    yield Built(root, profile, said)
    with connect(profile) as connection:
        connection.cursor().execute(f"drop schema if exists {schema}")


@pytest.mark.parametrize("file", ["trunkline.sql", "trunkline_as_of.sql"])
def test_every_template_has_the_same_macros(file: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in TEMPLATES.glob(f"*/macros/{file}")]
    assert len(texts) == 2
    assert len(set(texts)) == 1


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


def test_the_models_of_the_page(built: Built) -> None:
    assert built.duckdb("order_prices") == [(1, "x", 10), (2, "x", None), (3, "y", None), (4, "x", 12)]
    # of the two sales before the first order one was not loaded yet
    assert built.duckdb("order_history") == [(1, 1, 2.0, 2), (2, 0, None, None), (3, 0, None, None), (4, 0, None, 5)]


@pytest.mark.parametrize("model", ["windows", "windows_of_all"])
def test_windows_hold_what_was_known_by_then_and_nothing_else(built: Built, model: str) -> None:
    """Every row again, by looking at each fact."""
    known = model == "windows"
    facts = built.duckdb("facts")
    length = {"2d": dt.timedelta(days=2), "6h": dt.timedelta(hours=6), "1w": dt.timedelta(weeks=1)}
    expected = []
    for id_, entity, at in built.duckdb("moments"):
        mine = [fact for fact in facts if fact[0] == entity and fact[1] < at and (not known or fact[2] < at)]
        within = {name: [fact for fact in mine if fact[1] >= at - time] for name, time in length.items()}
        amounts = {name: [f[3] for f in rows if f[3] is not None] for name, rows in within.items()}
        paid = float(sum(amounts["2d"])) if amounts["2d"] else None
        short, week = amounts["6h"], amounts["1w"]
        row: tuple[Any, ...] = (id_, len(within["2d"]), paid)
        if known:
            row = (id_, len(within["2d"]), len(amounts["2d"]), paid)
            row += (sum(short) / len(short) if short else None, min(short, default=None), max(week, default=None))
        expected.append(row)
    rows = built.duckdb(model)
    assert len({row[1] for row in rows}) > 10, "the facts are too few to tell anything"
    assert rows == _sorted(expected)


def test_the_last_known_fact_is_the_latest_of_those_that_had_arrived(built: Built) -> None:
    facts = built.duckdb("facts")
    expected, late = [], 0
    for id_, entity, at in built.duckdb("moments"):
        happened = [fact for fact in facts if fact[0] == entity and fact[1] < at]
        known = [(fact[1], fact[2]) for fact in happened if fact[2] < at]
        expected.append((id_, *(max(known) if known else (None, None))))
        late += max((fact[1] for fact in happened), default=None) != expected[-1][1]
    assert late > 100, "no fact came late"
    assert built.duckdb("last") == _sorted(expected)


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        ("{'median': 'amount', 'window': '1 day'}", "must be like {'sum': 'amount', 'window': '7 day'}"),
        ("{'sum': 'amount', 'window': '1 month'}", "'1 month' is no length of time"),
    ],
)
def test_a_feature_that_cannot_be_is_refused(tmp_path: Path, feature: str, told: str) -> None:
    macros = (TEMPLATES / "blank/macros/trunkline_as_of.sql").read_text(encoding="utf-8")
    call = "{{ trunkline_windows('m', 'id', 'at', 'e', 'f', 'at', {'x': " + feature + "}) }}"
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])

    def refuse(text: str) -> None:
        raise ValueError(text)

    def given(value: Any) -> Any:
        return value

    names = {"exceptions": {"raise_compiler_error": refuse}, "return": given, "datediff": lambda *_: "x"}
    with pytest.raises(ValueError, match=re.escape(told)):
        environment.from_string(macros + call).render(**names)
