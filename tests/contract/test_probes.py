"""The leakage probes say the same of the same rows in DuckDB and in Snowflake."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

from tests.unit.datasets.building import build, context, declared
from trunkline.datasets.findings import Finding, read_findings
from trunkline.datasets.run import folder
from trunkline.project import split
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import Warehouse
from trunkline.warehouse.snowflake import open_snowflake

TYPES = {
    "id": "varchar",
    "at": "timestamp",
    "a": "integer",
    "amount": "double",
    "price": "decimal(9,2)",
    "city": "varchar",
    "flag": "boolean",
    "seen": "timestamp with time zone",
    "day": "date",
    "cleared": "double",
    "customer": "varchar",
    "late": "boolean",
    "kind": "varchar",
    "minutes": "double",
}
FEATURES = {"all": ["a", "amount", "price", "city", "flag", "seen", "day", "cleared"]}
ROWS = 360


def _row(i: int, dice: random.Random) -> str:
    late = dice.random() < 0.4
    key = f"'k{i}'" if i != 350 else "' K7'"
    at = f"2025-01-{1 + i // 12:02} {i % 12:02}:00:00"
    amount = "null" if i % 10 == 0 else f"{(10 if late else 0) + dice.random():.6f}"
    cleared = "null" if late else f"{dice.random():.6f}"
    seen = f"'2025-01-{1 + i // 12:02} {(i % 12) + (2 if i == 5 else 0):02}:00:00+00:00'"
    kind = dice.choice(["red", "it''s", "green"])
    customer = f"{'Ann' if i % 2 else 'ann'} {i % 30}"
    return (
        f"({key}, '{at}', {i}, {amount}, {dice.randrange(900)}.25, 'city {dice.randrange(9)}', {i % 3 == 0}, "
        f"{seen}, '{at[:10]}', {cleared}, '{customer}', {late}, '{kind}', {amount if i % 10 else 0.5})"
    )


def _fill(warehouse: Warehouse) -> None:
    dice = random.Random(7)
    warehouse.execute("create schema if not exists shop")
    columns = ", ".join(f"{warehouse.quote(name)} {type_}" for name, type_ in TYPES.items())
    warehouse.execute(f"create table shop.mart ({columns})")
    listed = ", ".join(f"cast(column{n} as {type_})" for n, type_ in enumerate(TYPES.values(), 1))
    names = ", ".join(f"column{n}" for n in range(1, len(TYPES) + 1))
    rows = ", ".join(_row(i, dice) for i in range(ROWS))
    warehouse.execute(f"insert into shop.mart select {listed} from (values {rows}) as v({names})")


def _findings(warehouse: Warehouse, root: Path, **changes: Any) -> tuple[Finding, ...]:
    ctx = context(warehouse, root)
    probes = {"shared_groups": {"columns": ["customer"]}}
    told: list[Finding] = []
    # of a second dataset there is an earlier snapshot
    for fingerprint in ("1" * 64, "2" * 64)[: 2 if changes["target"] == "late" else 1]:
        data = declared(groups=FEATURES, probes=probes, **changes)
        build(ctx, data, fingerprint, "shop")
        told = list(read_findings(folder(ctx.state, "mart", fingerprint)))
        warehouse.execute("update shop.mart set amount = amount + 1 where a < 200")
    return tuple(told)


BY_TIME = split.by_time(validation="2025-01-18", test="2025-01-25")


def _both(tmp_path: Path, snowflake: dict[str, Any], **changes: Any) -> tuple[tuple[Finding, ...], ...]:
    found = []
    for name in ("duckdb", "snowflake"):
        (root := tmp_path / name).mkdir()
        opened = open_duckdb({"path": "l.duckdb"}, root) if name == "duckdb" else open_snowflake(snowflake, root)
        with contextlib.closing(opened) as warehouse:
            _fill(warehouse)
            found.append(_findings(warehouse, root, **changes))
            warehouse.execute("drop table shop.mart")
    return tuple(found)


def _same(here: Finding, there: Finding) -> bool:
    if here.value is None or there.value is None:
        return here == there
    return (here.probe, here.outcome, here.column) == (there.probe, there.outcome, there.column) and abs(
        here.value - there.value
    ) < 1e-6


def test_both_say_the_same(tmp_path: Path, snowflake: dict[str, Any]) -> None:
    for target in ("late", "kind", "minutes"):
        (root := tmp_path / target).mkdir()
        here, there = _both(root, snowflake, target=target, split=BY_TIME)
        names = {finding.probe for finding in here if finding.outcome == "warn"}
        if target == "late":
            assert names >= {"single_feature", "missing_with_label", "after_prediction", "shared_keys", "shared_groups"}
            assert "as_of_change" in {finding.probe for finding in there if finding.outcome == "warn"}
        of_tables = [f for f in here if f.probe != "as_of_change"], [f for f in there if f.probe != "as_of_change"]
        assert [f for f, g in zip(*of_tables, strict=True) if not _same(f, g)] == []
