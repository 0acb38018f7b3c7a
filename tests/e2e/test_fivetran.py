"""The `fivetran` connector from the command line: the examples of its page, faults, and what the tables hold."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.e2e.conftest import Project
from tests.fivetran.environment import CONNECTORS, PYTHON, ROOT
from tests.fivetran.server import KEY, SECRET, serving

PAGE = (ROOT / "docs" / "fivetran.md").read_text("utf-8")
EVERY_TYPE = (
    "id integer, flag boolean, small smallint, whole integer, large bigint, amount decimal(38,9), single float, "
    "double double, day date, naive timestamp, utc timestamptz, data blob, xml varchar, text varchar, doc json, "
    "word json, nothing varchar"
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_FIVETRAN_PYTHON", str(PYTHON))
    monkeypatch.setenv("CRM_PASSWORD", "hush-7f3a")


def _block(file: str) -> str:
    """The example of the page that is this file."""
    (found,) = re.findall(rf"```\w+\n# {re.escape(file)}\n(.*?)```", PAGE, re.DOTALL)
    return found


def _write(project: Project, *files: str) -> None:
    for file in files:
        (project.root / file).parent.mkdir(parents=True, exist_ok=True)
        (project.root / file).write_text(_block(file))


def _customers(project: Project) -> list[tuple[int, str]]:
    return [(id_, name) for id_, name in project.sql("select id, name from lake.crm.customers order by id")]


def test_the_page_s_connector(fresh_shop: Project) -> None:
    _write(fresh_shop, "connectors/crm/connector.py", "models/crm.yml")
    out = fresh_shop.run("ingest", "crm").out
    shown = re.search(r"```\n\$ trunkline ingest crm\n(.*?)```", PAGE, re.DOTALL)
    assert shown is not None
    untimed = re.sub(r" +\d+\.\d s", "", shown[1]).splitlines()
    assert re.sub(r" +\d+\.\d s", "", out).splitlines()[: len(untimed)] == untimed
    rows = [(1, "renamed"), (3, "customer 3"), (4, "customer 4"), (5, "customer 5")]
    assert _customers(fresh_shop) == rows
    assert "nothing new" in fresh_shop.run("ingest", "crm").out
    fresh_shop.edit("models/crm.yml", 'customers: "5"', 'customers: "6"')
    assert "1 rows read = 1 loaded" in fresh_shop.run("ingest", "crm").out
    assert _customers(fresh_shop) == [*rows, (6, "customer 6")]
    states = fresh_shop.sql("select cursor->>'state' from lake.trunkline.cursors where unit = 'crm' order by saved_at")
    assert states == [('{"after":5}',), ('{"after":6}',)]
    assert "hush-7f3a" not in str(
        fresh_shop.sql("from lake.trunkline.cursors") + fresh_shop.sql("from lake.trunkline.loads")
    )


def _declare(project: Project, **configuration: str) -> None:
    """Our own connector, with tables for all that it sends."""
    shutil.copytree(CONNECTORS / "shop", project.root / "connectors" / "shop", dirs_exist_ok=True)
    given = ", ".join(f'{key}: "{value}"' for key, value in configuration.items())
    columns = "\n".join(
        f'          - {{name: {name}, data_type: "{type_}"}}'
        for name, _, type_ in (column.strip().partition(" ") for column in re.split(r", (?=[a-z])", EVERY_TYPE))
    )
    (project.root / "models" / "crm.yml").write_text(
        f"""
sources:
  - name: crm
    config: {{meta: {{trunkline: {{connector: fivetran, sdk: connectors/shop, configuration: {{{given}}}}}}}}}
    tables:
      - name: customers
        config: {{meta: {{trunkline: {{load: merge, key: [id]}}}}}}
        columns:
          - {{name: id, data_type: bigint}}
          - {{name: name, data_type: varchar}}
          - {{name: points, data_type: "decimal(9,2)"}}
      - name: visits
        columns:
          - {{name: customer, data_type: bigint}}
      - name: notes
        config: {{meta: {{trunkline: {{load: merge, key: [_fivetran_id]}}}}}}
        columns:
          - {{name: text, data_type: varchar}}
          - {{name: _fivetran_id, data_type: varchar}}
      - name: never
        columns:
          - {{name: id, data_type: bigint}}
      - name: every_type
        config: {{meta: {{trunkline: {{load: merge, key: [id]}}}}}}
        columns:
{columns}
"""
    )


def _tables(project: Project) -> dict[str, list[tuple[object, ...]]]:
    names = ("customers", "visits", "notes", "never", "every_type")
    audit = "columns(* exclude (_load_id, _loaded_at))"
    return {name: sorted(project.sql(f"select {audit} from lake.crm.{name}"), key=str) for name in names}


def test_a_sync_killed_at_any_moment_is_as_one_that_was_not(fresh_shop: Project) -> None:
    """The connector raises, then the command is killed: in the end the tables are those of a quiet sync."""
    _declare(fresh_shop, raise_after="3")
    failed = fresh_shop.run("ingest", "crm", check=False)
    assert failed.code == 2
    assert "the connector failed: ValueError: the source is closed" in failed.err
    assert re.search(r"connectors/shop/connector\.py:\d+ in trouble: raise ValueError", failed.err)
    assert [id_ for id_, _ in _customers(fresh_shop)] == [1, 2]
    _declare(fresh_shop, hang_after="5")
    command = [sys.executable, "-m", "trunkline", "ingest", "crm"]
    with subprocess.Popen(command, cwd=fresh_shop.root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        hosts: list[int] = []
        while not hosts:  # the connector has come to where it hangs
            hosts = [pid for pid in _children(process.pid) for _ in _children(pid)]
        process.send_signal(signal.SIGKILL)
    assert [id_ for id_, _ in _customers(fresh_shop)] in ([1, 2], [1, 2, 3, 4])  # what it had committed
    _declare(fresh_shop)
    fresh_shop.run("ingest", "crm")
    interrupted = _tables(fresh_shop)
    fresh_shop.run("ingest", "crm", "--full-refresh", "--yes")
    assert interrupted == _tables(fresh_shop)
    assert [row[:3] for row in interrupted["customers"]] == [
        (number, f"customer {number}", Decimal(number) / 4) for number in range(1, 7)
    ]
    assert interrupted["never"] == []
    assert [row[0] for row in interrupted["notes"]] == ["once", "twice"]
    utc = dt.datetime(2007, 12, 3, 8, 15, 30, 123000, tzinfo=dt.UTC)
    assert interrupted["every_type"][0][4:-1] == (
        2**53 + 1, Decimal("12345678901234567890.123456789"), pytest.approx(0.1), 123456.7890123, dt.date(2007, 12, 3),
        dt.datetime(2007, 12, 3, 10, 15, 30, 123456), utc, b"\x00\xffA", '<a>ä &amp; "b"</a>',
        "line\nfeed, \t tab, 'quote' \\ ☃", '{"a":[1,null,"ü"],"b":{"c":1.5}}', '"a JSON text"', None,
    )  # fmt: skip


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for task in os.listdir(f"/proc/{pid}/task")
                for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()]  # fmt: skip
    except OSError:
        return []


def test_the_page_s_connection(fresh_shop: Project) -> None:
    _write(fresh_shop, "models/shop.yml")
    fresh_shop.edit("models/shop.yml", "- name: shop\n", "- name: store\n")  # the project has a shop

    def land() -> None:
        with duckdb.connect() as connection:
            connection.execute("load icu; load ducklake; load sqlite_scanner")
            lake = f"attach 'ducklake:sqlite:{fresh_shop.root}/warehouse/catalog.sqlite' as lake"
            connection.execute(f"{lake} (data_path '{fresh_shop.root}/warehouse/data', override_data_path true)")
            connection.execute("create schema lake.shop_postgres")
            connection.execute(
                "create table lake.shop_postgres.orders as "
                "select i as id, cast(i as decimal(12, 3)) as amount, now() as _fivetran_synced from range(40) t(i)"
            )

    with serving() as fivetran:
        fresh_shop.edit(
            "models/shop.yml", "connection: warm_tea\n", f"connection: warm_tea\n          api_url: {fivetran.url}\n"
        )
        fivetran.on_sync = land
        fivetran.script = [{"succeeded_at": "2026-11-23T09:00:00.000000Z", "sync_state": "scheduled"}]
        done = fresh_shop.run("ingest", "store", "--json", FIVETRAN_API_KEY=KEY, FIVETRAN_API_SECRET=SECRET)
    (step,) = done.data["ran"]
    assert step["output"]["notes"] == [
        "store.orders.amount is DECIMAL(12,3) in the table, DECIMAL(12,2) in the contract"
    ]
    assert fivetran.data["schedule_type"] == "manual"
    ((mode, connector, rows),) = fresh_shop.sql("select mode, connector, rows_loaded from lake.trunkline.loads")
    assert (mode, connector, rows) == ("registered", "fivetran", 40)
    assert SECRET not in done.out + done.err
