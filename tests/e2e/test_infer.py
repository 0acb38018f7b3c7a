"""`trunkline ingest --infer`: first contracts from files, a database and a generator, and rows that then fit."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Project
from trunkline.errors import ProjectError
from trunkline.ingest.infer import Sample
from trunkline.orchestration.infer import Proposal, write

SOURCES = """\
# ours
sources:
  - name: crm  # all of it
    schema: raw
    tables:
      - name: people
        config: {meta: {trunkline: {connector: sql, dsn: "sqlite:///crm.db", load: replace}}}
      - name: visits
        config: {meta: {trunkline: {connector: python, function: "sources/visits.py:visits"}}}

      - name: orders  # by mail
        config: {meta: {trunkline: {connector: files, path: "data/orders*.csv"}}}
"""
VISITS = """\
import trunkline as tl


@tl.source
def visits():
    for i in range(5):
        yield {"id": i, "at": f"2025-01-0{i + 1}T10:00:00Z", "page": {"path": "/"}, "seconds": 1.5 if i else None}
"""


@pytest.fixture
def crm(tmp_path: Path) -> Project:
    Project(tmp_path).run("init", "crm")
    root = tmp_path / "crm"
    for part in ("ml", "deploy", "models"):
        shutil.rmtree(root / part)
    (root / "models").mkdir()
    (root / "models" / "sources.yml").write_text(SOURCES)
    (root / "models" / "sources.yml").chmod(0o640)
    (root / "sources").mkdir()
    (root / "sources" / "visits.py").write_text(VISITS)
    with closing(sqlite3.connect(root / "crm.db")) as database, database:
        database.execute("create table people (id integer primary key, name text, born date)")
        database.execute("insert into people values (1, 'Ann', '2001-01-31'), (2, 'Bo', null)")
    return Project(root)


def test_first_contracts_and_rows_that_fit_them(crm: Project) -> None:
    file = crm.root / "models" / "sources.yml"
    refused = crm.run("plan", check=False)
    assert (refused.code, "trunkline ingest --infer crm.people" in refused.err) == (2, True)
    dry = crm.run("ingest", "--infer", "crm.people", "--dry-run", "--json").data
    assert [column["data_type"] for column in dry["tables"][0]["added"]] == ["bigint", "varchar", "date"]
    assert file.read_text() == SOURCES
    outcome = crm.run("ingest", "--infer")
    text = file.read_text()
    assert [line for line in text.splitlines() if line in SOURCES.splitlines()] == SOURCES.splitlines()
    assert "- {name: id, data_type: bigint, constraints: [{type: primary_key}], data_tests: [not_null]}\n" in text
    assert "- {name: at, data_type: timestamptz}\n          - {name: page, data_type: json}" in text
    assert "never empty there: id, at, page\n" in text
    assert file.stat().st_mode & 0o777 == 0o640
    assert "crm.visits: 4 columns written to models/sources.yml" in outcome.out
    tables = crm.run("ingest", "--json").data["tables"]
    loaded = {table["source"]: (table["loaded"], table["quarantined"]) for table in tables}
    assert (loaded["crm.people"], loaded["crm.visits"]) == ((2, 0), (5, 0))
    assert loaded["crm.orders"][0] == 2400


def test_a_declared_type_that_the_sample_does_not_fit_is_told(crm: Project) -> None:
    columns = (
        "        columns:\n          - {name: order_id, data_type: date}\n          - {name: gone, data_type: date}\n"
    )
    (crm.root / "models" / "sources.yml").write_text(SOURCES + columns)
    (table,) = crm.run("ingest", "--infer", "orders", "--json").data["tables"]
    assert table["differences"] == [
        "order_id (sources.yml:14): 2,400 of 2,400 rows do not cast to date; the sample says bigint",
        "gone (sources.yml:15) is not in the sample",
    ]
    assert "order_id" not in [column["name"] for column in table["added"]]


def test_a_file_that_somebody_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "sources.yml"
    file.write_text("a: 1\n")
    proposal = Proposal("s.t", file, "a: 1\n", "a: 2\n", (), (), (), Sample((), 0))
    write(proposal)
    assert file.read_text() == "a: 2\n"
    with pytest.raises(ProjectError, match="was changed while the sample was taken"):
        write(replace(proposal, after="a: 3\n"))
    assert file.read_text() == "a: 2\n"
