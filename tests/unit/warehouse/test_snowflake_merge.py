"""Rows of one key in one load do on Snowflake what they would do one by one; the emulator runs the statements."""

from __future__ import annotations

import contextlib
import datetime as dt
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trunkline.warehouse.snowflake import Snowflake, open_snowflake
from trunkline.warehouse.snowflake_load_sql import Landed
from trunkline.warehouse.snowflake_merge_sql import Changes

AT = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
CONTRACT = (("id", "integer"), ("name", "varchar"), ("score", "double"))
TARGET, LANDED = "ANALYTICS.T", "ANALYTICS.LANDED"
KEYS = 300

Values = tuple[str | None, float | None, int | None]  # name, score, `_extra`


@pytest.fixture
def warehouse(snowflake: dict[str, Any], tmp_path: Path) -> Iterator[Snowflake]:
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as opened:
        yield opened


def _events(chance: random.Random, *, updates: bool) -> list[tuple[int, str | None, str | None, list[Any]]]:
    """Rows as they come: key, what it does, which columns an update has, and (name, score, extra)."""
    found = []
    for _ in range(KEYS * 4):
        what = chance.choice([None, None, "update", "delete"] if updates else [None, None, "delete"])
        values = [chance.choice([None, f"n{chance.random()}"]), chance.choice([None, chance.random()])]
        has = f"1{chance.choice('01')}{chance.choice('01')}" if what == "update" else None
        told = [value if what is None or (has and has[i + 1] == "1") else None for i, value in enumerate(values)]
        found.append((chance.randrange(KEYS), what, has, [*told, chance.choice([None, chance.randrange(9)])]))
    return found


def _one_by_one(
    rows: dict[int, Values], events: list[tuple[int, str | None, str | None, list[Any]]]
) -> dict[int, Values]:
    rows = dict(rows)
    for key, what, has, (name, score, extra) in events:
        if what == "delete":
            rows.pop(key, None)
        elif what == "update":
            assert has is not None
            old = rows.get(key, (None, None, None))
            rows[key] = (
                name if has[1] == "1" else old[0],
                score if has[2] == "1" else old[1],
                old[2] if extra is None else extra,
            )
        else:
            rows[key] = (name, score, extra)
    return rows


def _sql(value: object) -> str:
    return "null" if value is None else f"'{value}'"


def _extra(value: int | None) -> str:
    return _sql(None if value is None else f'{{"x": {value}}}')


def _fill(warehouse: Snowflake, rows: dict[int, Values], landed: Landed, events: list[Any]) -> None:
    warehouse.execute("create schema if not exists analytics")
    warehouse.execute(
        f"create table {TARGET} (id number(38,0), name varchar, score float, _load_id varchar, "
        "_loaded_at timestamp_tz, _extra variant)"
    )
    listed = ", ".join(f"({key}, {_sql(name)}, {_sql(score)}, {_extra(x)})" for key, (name, score, x) in rows.items())
    warehouse.execute(
        f"insert into {TARGET} select column1, column2, cast(column3 as float), 'old', null, try_parse_json(column4) "
        f"from values {listed}"
    )
    warehouse.execute(landed.create())
    came = ", ".join(
        f"('{key}', {_sql(name)}, {_sql(score)}, {_extra(extra)}, {n}, {_sql(what)}, {_sql(has)})"
        for n, (key, what, has, (name, score, extra)) in enumerate(events)
    )
    warehouse.execute(
        f"insert into {LANDED} select column1, column2, column3, column4, null, null, null, null, column5, column6, "
        f"column7 from values {came}"
    )


@pytest.mark.parametrize("updates", [False, True], ids=["upserts and deletions", "updates too"])
def test_one_by_one_or_at_once(warehouse: Snowflake, updates: bool) -> None:
    chance = random.Random(20260101 + updates)
    before: dict[int, Values] = {
        key: (f"old{key}", chance.random(), chance.choice([None, 5])) for key in range(0, KEYS + 9, 2)
    }
    events = _events(chance, updates=updates)
    landed = Landed(LANDED, CONTRACT)
    _fill(warehouse, before, landed, events)
    changes = Changes("ANALYTICS.CHANGES", landed, ("ID",), patches=updates)
    warehouse.execute(changes.create())
    for statement in changes.apply(TARGET, "load_1", AT):
        warehouse.execute(statement)
    extra = "cast(get_path(_extra, 'x') as number(38,0))"
    there = {
        int(key): (name, score, None if extra is None else int(extra))
        for key, name, score, extra in warehouse.query(f"select id, name, score, {extra} from {TARGET}")
    }
    expected = _one_by_one(before, events)
    assert there == expected
    ((rows, mine),) = warehouse.query(f"select count(*), count_if(_load_id = 'load_1') from {TARGET}")
    assert rows == len(expected)
    assert mine == len({key for key, *_ in events} & set(expected))
