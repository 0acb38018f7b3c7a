"""The conformance suite on every connector."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests import api
from tests.contract import origins, servers
from trunkline.errors import TrunklineError
from trunkline.ingest import streams
from trunkline.testing import source_line
from trunkline.testing.source_line import Line, Origin, rows
from trunkline.testing.source_suite import SourceSuite


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch at each checkpoint."""
    monkeypatch.setattr(streams, "Limits", partial(streams.Limits, batch_bytes=1, block_bytes=1))


class TestFiles(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return origins.CsvFiles(tmp_path)


class TestPostgres(SourceSuite):
    @pytest.fixture
    def origin(self, postgres: servers.Postgres, fresh: str) -> Origin:
        return origins.PostgresTable(postgres, postgres.database(fresh))


class TestMariaDB(SourceSuite):
    @pytest.fixture
    def origin(self, mariadb: servers.MariaDB, fresh: str) -> Origin:
        return origins.MariaTable(mariadb, mariadb.database(fresh))


class TestSqlite(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return origins.SqliteTable(tmp_path)


@pytest.mark.usefixtures("_small_batches")
class TestPython(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return origins.Script(tmp_path, origins.PYTHON)


@pytest.mark.usefixtures("_small_batches")
class TestDlt(SourceSuite):
    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return origins.Script(tmp_path, origins.DLT, "dlt")


@pytest.mark.usefixtures("_small_batches")
class TestRest(SourceSuite):
    @pytest.fixture
    def origin(self, server: api.Api) -> Origin:
        return origins.HttpApi(server)

    @pytest.fixture
    def server(self) -> Iterator[api.Api]:
        with api.serving() as started:
            yield started


@pytest.mark.usefixtures("_small_batches")
class TestFivetran(SourceSuite):
    """Its tables have a key, so all of its loads are merges."""

    @pytest.fixture
    def origin(self, tmp_path: Path) -> Origin:
        return origins.Script(tmp_path, origins.FIVETRAN, "fivetran")


@pytest.fixture
def line(postgres: servers.Postgres, fresh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A table of PostgreSQL whose owner changes it while it is read."""
    made = Line(tmp_path, origins.PostgresTable(postgres, postgres.database(fresh)), monkeypatch)
    made.origin.add(rows(1, 60))
    yield made
    made.warehouse.close()


VIEW = "drop view t; create view t as select {} from kept; grant select on t to team"


def test_a_type_that_changes_in_the_middle_is_cast_all_the_same(line: Line) -> None:
    _load_and_change(line, "id, version, name, amount::text as amount")
    assert line.rows() == rows(1, 60)


def test_a_column_that_goes_in_the_middle_loses_no_row(line: Line) -> None:
    """Rows without it are set aside with the reason, or the load ends and names it; once it is back, all are there."""
    said = _load_and_change(line, "id, version, name, amount as amout")
    kept = line.rows()
    assert 0 < len(kept) < 60
    said += str([row["errors"] for row in line.ledger("quarantine")])
    assert "amount" in said, said
    line.origin.run(VIEW.format("id, version, name, amount"))  # type: ignore[attr-defined]
    line.load(refresh=bool(line.ledger("quarantine")))
    assert line.rows() == rows(1, 60)


def _load_and_change(line: Line, columns: str) -> str:
    """Load, and after the first batch have other columns; the error that it ended with, if it did."""
    assert isinstance(line.origin, origins.PostgresTable)
    try:
        line.load(meanwhile=partial(line.origin.run, VIEW.format(columns)))
    except TrunklineError as exc:
        return str(exc)
    return ""


MARKING = """
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op


def schema(configuration):
    return [{"table": "t", "primary_key": ["id"]}]


def update(configuration, state):
    if not state:
        for n in range(1, 5):
            op.upsert("t", {"id": n, "name": f"row {n}"})
    else:
        for n in (1, 77):
            op.delete("t", {"id": n})
        op.upsert("t", {"id": 5, "name": "five"})
    if state.get("at") == 2:
        op.truncate("t")
        op.delete("t", {"id": 88})
        op.upsert("t", {"id": 2, "name": "again"})
    op.checkpoint({"at": state.get("at", 0) + 1})


connector = Connector(update=update, schema=schema)
"""


def test_fivetran_marks_rows_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted, or truncated, is marked; a key that the table has not stays out of it, as at Fivetran."""
    monkeypatch.setattr(source_line, "COLUMNS", (*source_line.COLUMNS, ("_fivetran_deleted", "BOOLEAN")))
    line = Line(tmp_path, origins.Script(tmp_path, MARKING, "fivetran"), monkeypatch)
    seen = []
    for _ in range(3):
        line.load("merge")
        seen.append(line.warehouse.query("select id, name, _fivetran_deleted from raw.t order by id"))
    five = (5, "five", False)
    assert seen[0] == [(n, f"row {n}", False) for n in range(1, 5)]
    assert seen[1] == [(1, "row 1", True), *seen[0][1:], five]
    gone = [(id_, name, True) for id_, name, _ in seen[1]]
    assert seen[2] == [gone[0], (2, "again", False), *gone[2:]]
    line.warehouse.close()


HINTED = """@dlt.resource(write_disposition="merge", primary_key="id",
              columns={"version": {"dedup_sort": "desc"}, "gone": {"hard_delete": True}})
def t(folder, page, token):
    for found in reversed(list(_pages(folder, page, token, 0))):
        yield [{**row, "gone": row["name"] == "gone"} for row in reversed(found)]
"""


def test_what_a_dlt_resource_says_of_a_merge_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The greatest `dedup_sort` of a key wins, whenever it came, and what `hard_delete` marks goes."""
    origin = origins.Script(tmp_path, origins.DLT.partition("@dlt.resource")[0] + HINTED, "dlt")
    line = Line(tmp_path, origin, monkeypatch)
    origin.add([*rows(1, 3), *rows(1, 1, version=8, name="new"), *rows(2, 2, version=7, name="newer")])
    line.load("merge")
    assert line.rows() == [*rows(1, 1, version=8, name="new"), *rows(2, 2, version=7, name="newer"), *rows(3, 3)]
    origin.add([(3, 9, "gone", 0.0)])
    line.load("merge")
    assert [row[0] for row in line.rows()] == [1, 2]
    line.warehouse.close()
