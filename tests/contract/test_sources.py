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
