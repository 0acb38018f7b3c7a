"""The emulator does what the tests that use it take for granted; each of these is what Snowflake documents."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from snowflake.connector import SnowflakeConnection, errors

from tests.emulator.running import Emulator

NAMES = ("account", "user", "password", "host", "port", "protocol", "database", "schema", "role", "warehouse")


Connect = Callable[..., SnowflakeConnection]


@pytest.fixture
def connect(snowflake: dict[str, Any]) -> Iterator[Connect]:
    opened: list[SnowflakeConnection] = []

    def one_more(**more: Any) -> SnowflakeConnection:
        settings = {name: snowflake[name] for name in NAMES}
        more = {"application": "Trunkline", "network_timeout": 20, **more}
        opened.append(SnowflakeConnection(**settings, **more))
        return opened[-1]

    yield one_more
    for connection in opened:
        connection.close()


def ask(connection: SnowflakeConnection, sql: str) -> list[Any]:
    return [tuple(row) for row in connection.cursor().execute(sql).fetchall()]


def test_a_transaction_is_undone_whole(connect: Connect) -> None:
    here = connect()
    ask(here, "create table t (id int, v int)")
    ask(here, "insert into t values (1, 1)")
    ask(here, "begin")
    source = "(select 1 as id, 9 as v union all select 7, 7) as s"
    merge = f"merge into t using {source} on t.id = s.id when matched then update set v = s.v "
    assert ask(here, merge + "when not matched then insert (id, v) values (id, v)") == [(1, 1)]
    assert ask(here, "select * from t order by id") == [(1, 9), (7, 7)]
    ask(here, "rollback")
    assert ask(here, "select * from t") == [(1, 1)]


def test_making_an_object_commits_what_came_before(connect: Connect) -> None:
    here = connect()
    ask(here, "create table t (id int)")
    ask(here, "begin")
    ask(here, "insert into t values (1)")
    ask(here, "create table other (id int)")
    ask(here, "rollback")
    assert ask(here, "select * from t") == [(1,)]


def test_the_later_of_two_updates_waits_for_the_first(connect: Connect) -> None:
    first, second = connect(), connect()
    ask(first, "create table turn (n int)")
    ask(first, "insert into turn values (0)")
    ask(first, "begin")
    ask(first, "update turn set n = n + 1")

    def later() -> None:
        ask(second, "begin")
        ask(second, "update turn set n = n + 1")
        ask(second, "commit")

    waiting = threading.Thread(target=later)
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    ask(first, "commit")
    waiting.join(10)
    assert ask(first, "select n from turn") == [(2,)]


def test_a_temporary_table_has_a_schema_and_goes_with_the_session(connect: Connect, snowflake: dict[str, Any]) -> None:
    here, name = connect(), f"{snowflake['database']}.analytics.landing"
    ask(here, f"create temporary table {name} as select 1 as a")
    assert ask(here, f"select a from {name}") == [(1,)]
    here.close()
    with pytest.raises(errors.ProgrammingError):
        ask(connect(), f"select a from {name}")


def test_missing_times_and_numbers_of_a_hash(connect: Connect) -> None:
    here = connect()
    times = "select cast(null as timestamp_ntz), cast(null as timestamp_tz), cast('1969-12-31 23:59:59.5' as datetime)"
    ((none, none_either, old),) = ask(here, times)
    assert (none, none_either, old.isoformat()) == (None, None, "1969-12-31T23:59:59.500000")
    assert ask(here, "select md5_number_lower64('Snowflake')") == [(9203306159527282910,)]


def test_a_large_result_comes_in_parts_that_can_be_read_elsewhere(connect: Connect) -> None:
    cursor = connect().cursor()
    cursor.execute("select seq4() as n from table(generator(rowcount => 120000))")
    batches = pickle.loads(pickle.dumps(cursor.get_result_batches()))
    assert len(batches) == 3
    assert sum(batch.to_arrow().num_rows for batch in batches) == 120_000
    assert cursor.fetch_arrow_all().num_rows == 120_000


def test_files_go_in_and_out(connect: Connect, tmp_path: Path) -> None:
    here = connect()
    pq.write_table(pa.table({"a": [1, 2, 3]}), tmp_path / "in.parquet")
    ask(here, "create temporary stage files")
    ask(here, f"put 'file://{tmp_path}/in.parquet' @files/run auto_compress = false")
    ask(here, "create table t (a int)")
    options = "file_format = (type = parquet) match_by_column_name = case_insensitive"
    ask(here, f"copy into t from @files/run files = ('in.parquet') {options}")
    assert ask(here, "select sum(a) from t") == [(6,)]
    out = "copy into @files/out/ from (select a, ')' as b from t) file_format = (type = parquet) header = true"
    assert ask(here, out)[0][0] == 3
    (tmp_path / "got").mkdir()
    ask(here, f"get @files/out/ 'file://{tmp_path}/got/' parallel = 2")
    assert pq.read_table(tmp_path / "got").to_pydict() == {"A": [1, 2, 3], "B": [")"] * 3}
    assert len(ask(here, "remove @files/out")) == 1
    with pytest.raises(errors.ProgrammingError, match="TIMESTAMP_TZ"):
        ask(here, "copy into @files/out/ from (select current_timestamp() as c) file_format = (type = parquet)")


def test_what_goes_wrong_on_request(connect: Connect, emulator: Emulator) -> None:
    here = connect()
    ask(here, "create table t (a int)")
    refusal = {"code": "000606", "sqlState": "57P03", "message": "No active warehouse selected"}
    emulator.fail([{"match": "values \\(1\\)", "error": refusal}])
    with pytest.raises(errors.ProgrammingError, match="No active warehouse") as refused:
        ask(here, "insert into t values (1)")
    assert refused.value.errno == 606
    # the client sends the request again, and it runs once
    emulator.fail([{"match": "values \\(2\\)", "drop": True, "when": "after"}])
    assert ask(here, "insert into t values (2)") == [(1,)]
    assert ask(here, "select a from t") == [(2,)]


def test_a_log_in_can_be_refused(connect: Connect, emulator: Emulator) -> None:
    wrong = {"code": "390100", "message": "Incorrect username or password was specified."}
    emulator.fail([{"match": "login-request", "error": wrong}])
    with pytest.raises(errors.DatabaseError, match="Incorrect username"):
        connect()


def test_the_log_has_every_statement_with_its_tag(
    connect: Connect, emulator: Emulator, snowflake: dict[str, Any]
) -> None:
    here = connect(session_parameters={"QUERY_TAG": "first"})
    mark = snowflake["database"]
    ask(here, f"select '{mark}'")
    ask(here, "alter session set query_tag = 'second''s'")
    ask(here, f"select '{mark}'")
    here.cursor().execute(f"select '{mark}'", _statement_params={"QUERY_TAG": "third"})
    said = [(one["application"], one["tag"]) for one in emulator.log() if one["sql"] == f"select '{mark}'"]
    assert said == [("Trunkline", "first"), ("Trunkline", "second's"), ("Trunkline", "third")]
