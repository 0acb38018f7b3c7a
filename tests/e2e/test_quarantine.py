"""Rows that do not fit: shown, exported, mended, submitted again; and the audit of what became of them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests import warmed
from tests.e2e.conftest import Project, copy_of
from tests.emulator.running import connect

SOURCES = """\
sources:
  - name: depot
    schema: raw
    tables:
      - name: orders
        config: {meta: {trunkline: {connector: files, path: "data/orders*.csv"}}}
        columns:
          - {name: order_id, data_type: bigint, data_tests: [not_null]}
          - {name: ordered_at, data_type: timestamp}
          - {name: country, data_type: varchar, data_tests: [{accepted_values: {arguments: {values: [DE, FR]}}}]}
          - {name: items, data_type: integer}
      - name: customers
        config: {meta: {trunkline: {connector: files, path: "data/customers*.csv", load: merge, key: [id]}}}
        columns:
          - {name: id, data_type: integer}
          - {name: name, data_type: varchar, config: {meta: {trunkline: {from: full_name}}}}
          - {name: age, data_type: integer}
"""
ORDERS = """\
order_id,ordered_at,country,items,note
1,2025-01-01 10:00:00,DE,3,
2,2025-01-02 10:00:00,DE,NA,gift
3,2025-01-03 10:00:00,XX,1,
,2025-01-04 10:00:00,FR,1,
5,yesterday,IT,2,
6,2025-01-06 10:00:00,FR,4,
"""
CUSTOMERS = "id,full_name,age\n1,Ann,forty\n2,Bo,33\n3,Cy,twelve\n"


@pytest.fixture(scope="session")
def depot_done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two sources, loaded: 4 of 6 orders and 2 of 3 customers do not fit."""
    place = tmp_path_factory.mktemp("depot")
    Project(place).run("init", "depot")
    root = place / "depot"
    for part in ("ml", "deploy", "data"):
        shutil.rmtree(root / part)
    for file in ("order_features.sql", "order_features.yml"):
        (root / "models" / file).unlink()
    (root / "models" / "sources.yml").write_text(SOURCES)
    (root / "data").mkdir()
    (root / "data" / "orders_1.csv").write_text(ORDERS)
    (root / "data" / "customers_1.csv").write_text(CUSTOMERS)
    Project(root).run("ingest")
    return Project(root)


@pytest.fixture
def depot(depot_done: Project, tmp_path: Path) -> Project:
    return copy_of(depot_done, tmp_path / "depot")


def _orders(project: Project) -> list[tuple[Any, ...]]:
    return project.sql("select order_id, country, items, cast(_extra as varchar) from lake.raw.orders order by 1")


def _open(project: Project, table: str = "depot.orders") -> int:
    where = f"table_name = '{table}' and resolved_by is null"
    return int(project.sql(f"select count(*) from lake.trunkline.quarantine where {where}")[0][0])


def _adds_up(project: Project, table: str) -> dict[str, Any]:
    found: dict[str, Any] = project.run("audit", table, "--json").data
    assert found["differences"] == []
    return found


# -- ingest, list, show


def test_ingest_tells_what_was_set_aside_and_what_to_type_next(depot: Project) -> None:
    (depot.root / "data" / "orders_2.csv").write_text(ORDERS)
    outcome = depot.run("ingest", "depot.orders")
    assert "6 rows read = 2 loaded + 4 quarantined" in outcome.out
    assert "depot.orders: 4 rows quarantined" in outcome.out
    assert "country   : is not one of" in outcome.out
    assert "trunkline quarantine show depot.orders" in outcome.out
    (depot.root / "data" / "orders_3.csv").write_text(ORDERS)
    (table,) = depot.run("ingest", "--json").data["tables"]
    assert (table["source"], table["read"], table["loaded"], table["quarantined"]) == ("depot.orders", 6, 2, 4)
    assert {reason["column"]: reason["rows"] for reason in table["reasons"]} == {
        "country": 2,
        "items": 1,
        "order_id": 1,
        "ordered_at": 1,
    }
    assert depot.run("ingest").out.startswith("nothing to do")


def test_the_list_counts_rows_by_column_and_reason(depot: Project) -> None:
    found = depot.run("quarantine", "--json").data
    assert {table["table"]: table["open"] for table in found["tables"]} == {"depot.customers": 2, "depot.orders": 4}
    assert depot.run("quarantine", "list", "--json").data == found
    text = depot.run("quarantine").out
    assert "depot.orders: 4 rows open, of 1 load" in text
    assert "'IT', 'XX'" in text


def test_rows_are_shown_with_their_place_and_what_mends_them(depot: Project) -> None:
    text = depot.run("quarantine", "show", "orders").out
    assert "data/orders_1.csv" in text
    assert 'if "NA" means NULL: null_values: ["NA"] (models/sources.yml:6)' in text
    assert 'if "IT" or "XX" is right: add it to accepted_values (models/sources.yml:10)' in text
    assert "take away what says it may not (not_null) (models/sources.yml:8)" in text
    found = depot.run("quarantine", "show", "orders", "--column", "country", "-n", "1", "--page", "2", "--json").data
    assert (found["open"], len(found["rows"]), found["page"]) == (2, 1, 2)
    found = depot.run("quarantine", "show", "orders", "--reason", "IS NULL", "--json").data
    assert [row["raw"]["ordered_at"] for row in found["rows"]] == ["2025-01-04 10:00:00"]
    refused = depot.run("quarantine", "show", "oders", check=False)
    assert (refused.code, "Did you mean 'orders'" in refused.err) == (2, True)


# -- resubmit


def test_rows_go_in_once_their_contract_was_mended(depot: Project) -> None:
    before = _orders(depot)
    unchanged = depot.run("quarantine", "resubmit", "orders", "--json").data
    assert (unchanged["loaded"], unchanged["load_id"], unchanged["open"]) == (0, None, 4)
    assert _orders(depot) == before
    depot.edit("models/sources.yml", '"data/orders*.csv"', '"data/orders*.csv", null_values: ["NA"]')
    depot.edit("models/sources.yml", "values: [DE, FR]", "values: [DE, FR, IT, XX]")
    done = depot.run("quarantine", "resubmit", "orders", "--json").data
    assert (done["read"], done["loaded"], done["quarantined"], done["open"]) == (4, 2, 2, 2)
    assert _orders(depot) == [
        (1, "DE", 3, None),
        (2, "DE", None, '{"note":"gift"}'),
        (3, "XX", 1, None),
        (6, "FR", 4, None),
    ]
    again = depot.run("quarantine", "resubmit", "orders", "--json").data
    assert (again["loaded"], again["load_id"]) == (0, None)
    loads = _adds_up(depot, "orders")["loads"]
    assert [(load["connector"], load["loaded"], load["quarantined"], load["open"]) for load in loads] == [
        ("files", 2, 4, 0),
        ("quarantine", 2, 2, 2),
    ]
    rows = depot.run("quarantine", "show", "orders", "--json").data["rows"]
    assert all(row["file"].endswith("data/orders_1.csv") for row in rows)  # not our scratch file
    plan = {step["step"]: step["reason"] for step in depot.run("plan", "ingest", "--json").data["steps"]}
    assert plan["ingest:depot.orders"] == "configuration changed"  # so what depends on the table is built again
    depot.run("ingest")
    assert len(_orders(depot)) == 4
    assert depot.run("plan", "ingest", "--json").data["stale"] == 0
    counts = {table["source"]: table for table in depot.run("summary", "--json").data["sources"]}["depot.orders"]
    assert (counts["read"], counts["loaded"], counts["quarantined"]) == (6, 4, 2)


def test_a_contract_that_asks_for_more_still_makes_the_table_anew(depot: Project) -> None:
    depot.edit("models/sources.yml", "{name: items, data_type: integer}", "{name: note, data_type: varchar}")
    depot.edit("models/sources.yml", "values: [DE, FR]", "values: [DE, FR, IT, XX]")
    assert depot.run("quarantine", "resubmit", "orders", "--json").data["loaded"] == 2
    depot.run("ingest")
    assert depot.sql("select order_id, note from lake.raw.orders order by 1") == [
        (1, None),
        (2, "gift"),
        (3, None),
        (6, None),
    ]
    assert _open(depot) == 2  # of the new load: those of the first wait no more
    _adds_up(depot, "orders")


@pytest.mark.parametrize("suffix", ["ndjson", "csv", "parquet"])
def test_mended_rows_go_in_from_a_file(depot: Project, suffix: str) -> None:
    file = depot.root / f"mend.{suffix}"
    assert depot.run("quarantine", "export", "orders", "--to", str(file), "--json").data["rows"] == 4
    rows = _read(file)
    assert {row["order_id"] for row in rows} == {"2", "3", None, "5"}
    for row in rows:
        row |= {"country": "DE", "items": "7"}
    _write(file, [row for row in rows if row["order_id"] != "3"])
    done = depot.run("quarantine", "resubmit", "orders", "--from", str(file), "--json").data
    assert (done["read"], done["loaded"], done["quarantined"], done["open"]) == (3, 1, 2, 3)
    assert (2, "DE", 7, '{"note":"gift"}') in _orders(depot)
    assert len(_orders(depot)) == 3


def test_a_mended_file_goes_in_once_and_an_export_overwrites_nothing(depot: Project) -> None:
    file = depot.root / "mend.csv"
    depot.run("quarantine", "export", "orders", "--column", "items", "--to", str(file))
    assert depot.run("quarantine", "export", "orders", "--to", str(file), check=False).code == 2
    _write(file, [row | {"items": "1"} for row in _read(file)])
    first = depot.run("quarantine", "resubmit", "orders", "--from", str(file), "--json").data
    twice = depot.run("quarantine", "resubmit", "orders", "--from", str(file), "--json").data
    assert [(done["read"], done["loaded"]) for done in (first, twice)] == [(1, 1), (0, 0)]
    assert len(_orders(depot)) == 3
    _adds_up(depot, "orders")


def _read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        found: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        return found
    with file.open(newline="") as lines:
        if file.suffix == ".ndjson":
            return [json.loads(line) for line in lines]
        return [{name: value or None for name, value in row.items()} for row in csv.DictReader(lines)]


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
        return
    with file.open("w", newline="", encoding="utf-8-sig") as out:  # as a spreadsheet writes it
        if file.suffix == ".ndjson":
            out.write("\n".join(json.dumps(row) for row in rows))
        else:
            writer = csv.DictWriter(out, rows[0])
            writer.writeheader()
            writer.writerows(rows)


def test_a_line_that_could_not_be_read_is_written_by_hand(depot: Project) -> None:
    (depot.root / "data" / "orders_2.csv").write_text("order_id,ordered_at,country,items,note\n7,2025-01-07\n")
    depot.run("ingest", "depot.orders")
    file = depot.root / "mend.csv"
    depot.run("quarantine", "export", "orders", "--reason", "missing columns", "--to", str(file))
    (row,) = _read(file)
    assert row["line"] == "7,2025-01-07"
    _write(file, [row | {"order_id": "7", "ordered_at": "2025-01-07", "country": "FR", "items": "1"}])
    assert depot.run("quarantine", "resubmit", "orders", "--from", str(file), "--json").data["loaded"] == 1
    assert (7, "FR", 1, None) in _orders(depot)


def test_an_old_row_does_not_replace_a_newer_one(depot: Project) -> None:
    assert depot.sql("select id, name, age from lake.raw.customers") == [(2, "Bo", 33)]
    (depot.root / "data" / "customers_2.csv").write_text("id,full_name,age\n1,Ann B.,41\n")
    depot.run("ingest", "depot.customers")
    file = depot.root / "mend.csv"
    depot.run("quarantine", "export", "customers", "--to", str(file))
    _write(file, [row | {"age": "12"} for row in _read(file)])
    done = depot.run("quarantine", "resubmit", "customers", "--from", str(file), "--json").data
    assert (done["read"], done["loaded"], done["older"], done["open"]) == (2, 2, 1, 0)
    assert depot.sql("select id, name, age from lake.raw.customers order by 1") == [
        (1, "Ann B.", 41),
        (2, "Bo", 33),
        (3, "Cy", 12),
    ]
    _adds_up(depot, "customers")


def test_a_kill_leaves_nothing_half_done(depot: Project) -> None:
    lines = [f"{i},2025-01-01,{'XX' if i % 2 else 'DE'},1," for i in range(1000, 9000)]
    (depot.root / "data" / "orders_2.csv").write_text("\n".join([ORDERS.splitlines()[0], *lines]))
    depot.run("ingest", "depot.orders")
    depot.edit("models/sources.yml", "values: [DE, FR]", "values: [DE, FR, IT, XX]")
    before, after = (4002, 4004), (8003, 3)
    started = time.monotonic()
    copied = copy_of(depot, depot.root.parent / "undisturbed")
    copied.run("quarantine", "resubmit", "orders")
    whole = time.monotonic() - started
    assert (len(_orders(copied)), _open(copied)) == after
    for part in (0.4, 0.65, 0.85):
        with (depot.root / "out.txt").open("w") as out:
            process = warmed.start(
                ["-m", "trunkline", "quarantine", "resubmit", "orders"], depot.root, out=out, err=out
            )
            time.sleep(whole * part)
            process.kill()
            process.wait(60)
        found = len(_orders(depot)), _open(depot)
        assert found in (before, after)
    depot.run("quarantine", "resubmit", "orders", check=False)
    assert (len(_orders(depot)), _open(depot)) == after
    assert _orders(depot) == _orders(copied)
    _adds_up(depot, "orders")


# -- audit


def test_an_audit_notices_what_somebody_else_did(depot: Project) -> None:
    catalog = f"attach 'ducklake:sqlite:{depot.root}/warehouse/catalog.sqlite' as other"
    depot.sql(
        f"{catalog} (data_path '{depot.root}/warehouse/data', override_data_path true); "
        "delete from other.raw.orders where order_id = 1; "
        "insert into other.raw.orders (order_id) values (99)"
    )
    outcome = depot.run("audit", "orders", check=False)
    assert outcome.code == 1
    assert "should have 2 rows in the table, but has 1" in outcome.out
    assert "1 rows of the table carry no load's id" in outcome.out


def test_a_row_leads_to_its_load_and_file(depot: Project) -> None:
    (depot.root / "data" / "orders_2.csv").write_text(ORDERS.replace("\n6,", "\n66,"))
    depot.run("ingest", "depot.orders")
    (origin,) = depot.run("audit", "orders", "--load-of", "order_id=66", "--json").data["origins"]
    assert [Path(file["path"]).name for file in origin["load"]["files"]] == ["orders_2.csv"]
    found = depot.run("audit", "orders", "--row", "country = 'DE' and items = 3", "--json").data["origins"]
    assert [origin["rows"] for origin in found] == [1, 1]
    aside = depot.run("audit", "orders", "--load-of", "order_id=5").out
    assert "in the quarantine" in aside
    assert "orders_1.csv" in aside
    refused = depot.run("audit", "orders", "--row", "nonsense = 1", check=False)
    assert (refused.code, "Traceback" in refused.err) == (2, False)
    files = depot.run("audit", "orders", "--files").out
    assert "data/orders_2.csv" in files


def test_files_of_killed_loads_are_found_and_removed(depot: Project) -> None:
    orphan = depot.root / "warehouse" / "data" / "raw" / "orders" / "ducklake-orphan.parquet"
    orphan.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"order_id": [1]}), orphan)
    size = orphan.stat().st_size
    os.utime(orphan, (time.time() - 864_000,) * 2)
    before = _orders(depot)
    found = depot.run("audit", "--orphans", "--json").data
    assert [Path(file["path"]).name for file in found["files"]] == [orphan.name]
    assert depot.run("audit", "--orphans", "--older-than", "30d", "--json").data["files"] == []
    assert depot.run("audit", "--orphans", "--delete", "--json").data["bytes"] == size
    assert not orphan.exists()
    assert _orders(depot) == before


# -- full refresh


def test_a_full_refresh_asks_before_rows_are_lost(depot: Project) -> None:
    (depot.root / "data" / "orders_2.csv").write_text(ORDERS.replace("\n1,", "\n11,"))
    depot.run("ingest", "depot.orders")
    first = _orders(depot)
    depot.run("ingest", "depot.orders", "--full-refresh")  # all files are there: nothing is lost
    assert _orders(depot) == first
    (depot.root / "data" / "orders_1.csv").unlink()
    refused = depot.run("ingest", "depot.orders", "--full-refresh", check=False)
    assert (refused.code, "orders_1.csv is no longer there" in refused.err) == (2, True)
    assert "--yes" in refused.err
    assert _orders(depot) == first
    depot.run("ingest", "depot.orders", "--full-refresh", "--yes")
    assert [row[0] for row in _orders(depot)] == [6, 11]
    assert _open(depot) == 4
    _adds_up(depot, "orders")


# -- the same on Snowflake


def test_the_quarantine_on_snowflake(depot_done: Project, tmp_path: Path, snowflake: dict[str, Any]) -> None:
    project = copy_of(depot_done, tmp_path / "depot")
    profiles = yaml.safe_load((project.root / "profiles.yml").read_text())
    profiles["depot"]["outputs"]["prod"] = snowflake
    (project.root / "profiles.yml").write_text(yaml.safe_dump(profiles))
    prod = ("--target", "prod")
    told = project.run("ingest", *prod).out
    assert "depot.orders: 4 rows quarantined" in told
    found = project.run("quarantine", *prod, "--json").data
    assert {table["table"]: table["open"] for table in found["tables"]} == {"depot.customers": 2, "depot.orders": 4}
    shown = project.run("quarantine", "show", "orders", "--column", "country", *prod, "--json").data
    assert sorted(row["raw"]["country"] for row in shown["rows"]) == ["IT", "XX"]
    project.edit("models/sources.yml", "values: [DE, FR]", "values: [DE, FR, IT, XX]")
    done = project.run("quarantine", "resubmit", "orders", *prod, "--json").data
    assert (done["read"], done["loaded"], done["quarantined"], done["open"]) == (4, 1, 3, 3)
    with connect(snowflake) as connection:
        rows = connection.cursor().execute("select order_id, country from raw.orders order by 1").fetchall()
    assert [tuple(row) for row in rows] == [(1, "DE"), (3, "XX"), (6, "FR")]
    left = project.run("quarantine", "show", "orders", *prod, "--json").data["rows"]
    assert all(row["file"] and row["file"].endswith("orders_1.csv") for row in left)
    file = project.root / "mend.csv"
    project.run("quarantine", "export", "customers", "--to", str(file), *prod)
    _write(file, [row | {"age": "12"} for row in _read(file)])
    assert project.run("quarantine", "resubmit", "customers", "--from", str(file), *prod, "--json").data["loaded"] == 2
    for table in ("orders", "customers"):
        assert project.run("audit", table, *prod, "--json").data["differences"] == []
