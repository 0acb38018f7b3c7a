"""The load suite on every kind of warehouse."""

from __future__ import annotations

import contextlib
import traceback
from pathlib import Path

import pytest

from tests.contract import servers
from tests.contract.connections import OnEmulator, OnFile, OnSqlite
from trunkline.errors import EngineError, SourceError, TransientError
from trunkline.testing.load_suite import LoadSuite
from trunkline.warehouse.duckdb import open_duckdb


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the databases lie that the tests of a class share: each test has a schema of its own."""
    return tmp_path_factory.mktemp("loads")


class TestDuckLakeOnSqlite(OnSqlite, LoadSuite):
    pass


class TestDuckDBFile(OnFile, LoadSuite):
    pass


class TestSnowflakeEmulator(OnEmulator, LoadSuite):
    database = "LOADS"


def test_a_source_on_a_server_is_left_as_it_was(folder: Path, postgres: servers.Postgres, fresh: str) -> None:
    """No row is changed, nothing stays attached, and no message or traceback has the password, whatever goes wrong."""
    name = postgres.database(fresh)
    postgres.sql("create table t as select i as id from generate_series(1, 9) i; grant all on t to team", name)
    dsn = f"postgresql://{postgres.user}:{postgres.password}@127.0.0.1:{postgres.port}/{name}"
    libpq = f"host=127.0.0.1 port={postgres.port} dbname={name} user={postgres.user} password='{postgres.password}'"
    with contextlib.closing(open_duckdb({"path": f"{fresh}.duckdb"}, folder)) as warehouse:
        for one in (dsn, libpq, dsn.replace("postgresql:", "postgresql+psycopg2:")):
            with warehouse.reader().attached("postgres", one) as attached:
                assert warehouse.query(f"select sum(id) from {attached}.public.t") == [(45,)]
        wrong = dsn.replace(postgres.password, "wr/ng#p@ss")
        for bad, error in ((wrong, SourceError), (dsn.replace(str(postgres.port), "1"), TransientError)):
            with pytest.raises(error) as caught:
                warehouse.attached("postgres", bad).__enter__()
            shown = "".join(traceback.format_exception(caught.value))
            assert not any(secret in shown for secret in (postgres.password, "wr/ng", "wr%2Fng", "ng#p", "ss@"))
        with warehouse.attached("postgres", dsn) as attached, pytest.raises(EngineError) as refused:
            warehouse.execute(f"delete from {attached}.public.t")
        assert postgres.password not in "".join(traceback.format_exception(refused.value))
        assert warehouse.query("select count(*) from duckdb_databases() where database_name like 'trunkline%'") == [
            (0,)
        ]
    assert postgres.sql("select count(*) from t", name) == "9"
