"""Tables of real databases, loaded by the real driver: PostgreSQL, MariaDB and SQLite, natively, by ADBC and by dlt."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contract import servers
from tests.e2e.conftest import Project
from trunkline.context import Job, StepContext, StepResult
from trunkline.errors import SourceError, TransientError, TrunklineError
from trunkline.graph.step import Step
from trunkline.ingest import infer, streams
from trunkline.ingest import run as driver
from trunkline.ingest.steps import ingest_step
from trunkline.ledger.ledger import Ledger
from trunkline.project import yaml
from trunkline.project.secrets import Secrets
from trunkline.project.sources import read_sources, units
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.retry import again


@dataclass
class Work:
    """A project with one source table, `shop.t`, and its warehouse."""

    root: Path
    dsn: str
    patience: float = 0.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.warehouse = open_duckdb({"path": "local.duckdb"}, self.root)

    def load(self, columns: str, *, refresh: bool = False, **options: Any) -> StepResult:
        """`columns` are `name type, …`. What may pass is tried again for `patience` seconds."""
        step = self._step(columns, options)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(driver, "again", partial(again, patience=self.patience))
            return driver.run(Job(step, "", {}, refresh=refresh), self._context())

    def look(self, **options: Any) -> dict[str, tuple[str, bool, bool]]:
        """The first contract: by column its type, whether it is required, and of the key."""
        scratch = self.root / "scratch"
        scratch.mkdir(exist_ok=True)
        reach = driver.reach_of(
            self._step("x int", {"load": "replace", **options}), self._context(), self.warehouse, scratch
        )
        found = infer.sample(reach, "shop.t", {})
        return {guess.name: (guess.type, guess.required, guess.primary) for guess in found.columns}

    def _step(self, columns: str, options: dict[str, Any]) -> Step:
        listed = [column.strip().rpartition(" ")[::2] for column in columns.split(",")]
        meta = {"connector": "sql", "dsn": "env:SHOP", **options}
        table = {
            "name": "t",
            "config": {"meta": {"trunkline": meta}},
            "columns": [{"name": name, "data_type": type_.replace(";", ",")} for name, type_ in listed],
        }
        file = self.root / "sources.yml"
        file.write_text(json.dumps({"sources": [{"name": "shop", "schema": "raw", "tables": [table]}]}))
        (unit,) = units(list(read_sources(yaml.load(file))))
        return ingest_step(unit)

    def _context(self) -> StepContext:
        return StepContext(
            root=self.root,
            run_id="run_1",
            target="dev",
            warehouse=self.warehouse,
            ledger=Ledger(self.warehouse),
            registry=lambda: pytest.fail("a load asks for no registry"),
            progress=lambda text, done=None: self.told.append(text),
            vault_key=bytes,
            secrets=Secrets(self.root, {"SHOP": self.dsn}),
            who="test",
            git_commit=lambda: None,
        )

    def rows(self, columns: str = "*", tail: str = "order by all") -> list[tuple[Any, ...]]:
        """What the table holds."""
        return self.warehouse.query(f"select {columns} from raw.t {tail}")

    def ledger(self, table: str) -> list[dict[str, Any]]:
        """A table of the ledger."""
        return Ledger(self.warehouse).read(table, "order by load_id")


@pytest.fixture(scope="module")
def postgres() -> Iterator[servers.Postgres]:
    with servers.postgres() as server:
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[servers.MariaDB]:
    if reason := servers.without_mariadb():
        pytest.skip(reason)
    with servers.mariadb() as server:
        yield server


@dataclass
class On:
    """A database of a server's, new."""

    sql: Callable[..., Any]
    dsn: str
    name: str


@pytest.fixture
def pg(postgres: servers.Postgres) -> On:
    name = postgres.database(f"t{uuid.uuid4().hex[:12]}")
    postgres.sql(f"alter database {name} set log_statement = 'all'")
    sql = partial(postgres.sql, database=name)
    sql(f"alter default privileges grant select on tables to {postgres.user}")
    return On(sql, f"postgresql://{postgres.user}:{postgres.password}@127.0.0.1:{postgres.port}/{name}", name)


@pytest.fixture
def my(mariadb: servers.MariaDB) -> On:
    name = mariadb.database(f"t{uuid.uuid4().hex[:12]}")
    dsn = f"mysql://{mariadb.user}:{mariadb.password}@127.0.0.1:{mariadb.port}/{name}"
    return On(partial(mariadb.sql, database=name), dsn, name)


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Callable[..., Work]]:
    made: list[Work] = []

    def make(dsn: str, **more: Any) -> Work:
        made.append(Work(tmp_path, dsn, **more))
        return made[-1]

    yield make
    for one in made:
        one.warehouse.close()


ORDERS = """
create table orders (id bigint primary key, name text, amount numeric(12,2), updated_at timestamptz);
create index on orders (updated_at);
insert into orders select n, 'name ' || n, n / 4.0, timestamptz '2026-01-01' + n * interval '1 second'
from generate_series(1, 3500) n;
"""
COLUMNS = "id bigint, name varchar, amount decimal(12;2), updated_at timestamptz"
PAGED = """
create table paged (id bigint, name text, amount numeric(12,2)) with (fillfactor = 10);
insert into paged select n, repeat('x', 350), n / 4.0 from generate_series(1, 4500) n; analyze paged
"""
LARGE = "id bigint, name varchar, amount decimal(12;2)"


# -- PostgreSQL


def test_a_whole_table_is_scanned_in_parallel_from_one_snapshot(
    pg: On, postgres: servers.Postgres, work: Callable[..., Work]
) -> None:
    pg.sql(f"{ORDERS}; analyze orders; {PAGED}")
    here = work(pg.dsn)
    here.load(LARGE, table="paged", load="replace")
    assert here.rows("count(*), sum(id), sum(amount)", "") == [(4500, 10127250, 2531812.5)]
    log = _log(postgres)
    assert "WHERE ctid BETWEEN '(1000,0)'" in log
    assert "SET TRANSACTION SNAPSHOT" in log
    result = here.load(COLUMNS, table="orders", load="replace")
    assert result.summary == "3,500 rows read = 3,500 loaded + 0 quarantined"
    assert here.rows("count(*), sum(id), sum(amount), max(updated_at)::varchar", "") == [
        (3500, 6126750, 1531687.5, "2026-01-01 00:58:20+00")
    ]
    _closed(postgres, pg.name)


@pytest.mark.parametrize("load", ["replace", "merge", "append"])
@pytest.mark.parametrize("before", ["connecting", "binding", "reading"])
def test_no_nan_becomes_a_zero(
    pg: On, work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch, load: str, before: str
) -> None:
    """DuckDB's scan of a large table reads it as 0.00. It is committed before a statement of the load, by another."""
    pg.sql(PAGED)
    here = work(pg.dsn)
    begins = {"connecting": "", "binding": "select column_name", "reading": ("insert into", "copy (")}[before]
    run, done = here.warehouse.run, []

    def meanwhile(sql: str, what: str = "") -> list[tuple[Any, ...]]:
        if not done and sql.startswith(begins) and (not begins or "trunkline_source" in sql):
            done.append(pg.sql("insert into paged values (0, 'not a number', 'NaN')"))
        return run(sql, what)

    monkeypatch.setattr(here.warehouse, "run", meanwhile)
    more: dict[str, Any] = {"merge": {"key": ["id"]}, "append": {"cursor": "id", "start": 0}}.get(load, {})
    here.load(LARGE, table="paged", load=load, **more)
    assert done
    if here.ledger("quarantine"):
        (bad,) = here.ledger("quarantine")
        assert bad["raw"] == {"id": "0", "name": "not a number", "amount": "NaN"}
        assert [error["column"] for error in bad["errors"]] == ["amount"]
    else:  # the snapshot of the load's transaction was older
        assert load != "merge"
        assert before != "connecting"
    assert here.rows("count(*), min(id), min(amount)", "") == [(4500, 1, 0.25)]
    assert [load["rows_loaded"] for load in here.ledger("loads")] == [4500]
    if load != "append":
        assert here.ledger("cursors")[-1]["cursor"] == ({"nan": True} if here.ledger("quarantine") else None)
        here.load(LARGE, table="paged", load=load, **more)
        assert here.rows("count(*), min(id), min(amount)", "") == [(4500, 1, 0.25)]
        assert here.ledger("cursors")[-1]["cursor"] == {"nan": True}


def test_sessions_are_read_only_and_limited(pg: On, work: Callable[..., Work]) -> None:
    here = work(pg.dsn)
    settings = ("transaction_read_only", "statement_timeout", "application_name")
    listed = ", ".join(f"current_setting('{name}') as {name}" for name in settings)
    here.load(", ".join(f"{name} varchar" for name in settings), query=f"select {listed};", load="replace")
    assert here.rows(", ".join(settings)) == [("on", "30min", "trunkline")]
    pg.sql("create function drops() returns int language plpgsql as 'begin create table x (a int); return 1; end'")
    with pytest.raises(TrunklineError, match="read-only transaction"):
        here.load("a int", query="select drops() as a", load="replace")
    with pytest.raises(TrunklineError, match="statement timeout"):
        here.load("a varchar", query="select pg_sleep(60)::text as a", load="replace", statement_timeout="1 second")


TYPES = """
create type mood as enum ('good', 'bad'); create domain price as numeric(8,2); create type pair as (a int, b text);
create table odd (id int, long numeric, wide numeric(40,2), list int[], texts text[], span int4range, mood mood,
  j json, jb jsonb, ts timestamp, tz timestamptz, mo money, bytes bytea, ip inet, u uuid, price price, p pair,
  d date, r real, t time, bits bit(3));
insert into odd values (1, 123456789012345678901234567890.123456789, 12345678901234567890123456789012345678.25,
  '{1,2,null}', '{"a,b",null}', '[1,5)', 'good', '{"a": 1}', '{"b":[1]}', '2024-02-29 01:02:03.123456',
  '2024-03-31 02:30:00+02', 1234.5, '\\x00ff', '10.0.0.1/8', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 1.25, (1, 'x'),
  '2024-02-29', 0.1, '10:11:12.5', b'101'),
  (2, 'NaN', null, '{{1,2},{3,4}}', '{}', 'empty', 'bad', 'null', '"x"', 'infinity', '-infinity', -1, '', '::1', null,
  null, null, 'infinity', 'NaN', '24:00:00', b'000')
"""


def test_no_value_is_lost_whatever_its_type(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(TYPES)
    here = work(pg.dsn)
    columns = (
        "id integer, long varchar, wide varchar, list json, texts json, span varchar, mood varchar, j json, jb json, "
        "ts timestamp, tz timestamptz, mo decimal(12;2), bytes varchar, ip varchar, u varchar, price decimal(8;2), "
        "p json, d date, r float, t varchar, bits varchar"
    )
    for source in ({"table": "odd"}, {"query": "select * from odd"}):
        if "query" in source:  # of a query PostgreSQL does not tell that a text was money, or a record
            columns = columns.replace("mo decimal(12;2)", "mo varchar").replace("p json", "p varchar")
        here.load(columns, load="replace", **source)
        first, second = (list(map(str, row[:21])) for row in here.rows("columns(*)::varchar", "order by id"))
        money = ["$1,234.50", "-$1.00"] if "query" in source else ["1234.50", "-1.00"]
        pair = "(1,x)" if "query" in source else '{"a":1,"b":"x"}'
        assert first == [
            *("1", "123456789012345678901234567890.123456789", "12345678901234567890123456789012345678.25"),
            *("[1,2,null]", '["a,b",null]', "[1,5)", "good", '{"a": 1}', '{"b": [1]}', "2024-02-29 01:02:03.123456"),
            *("2024-03-31 00:30:00+00", money[0], "\\x00\\xFF", "10.0.0.1/8", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            *("1.25", pair, "2024-02-29", "0.1", "10:11:12.5", "101"),
        ]
        assert second == [
            *("2", "NaN", "None", "[[1,2],[3,4]]", "[]", "empty", "bad", "null", '"x"', "infinity", "-infinity"),
            *(money[1], "", "::1/128", "None", "None", "None", "infinity", "nan", "24:00:00", "000"),
        ]


FIRST = """
id bigint, long varchar, wide varchar, list json, texts json, span varchar, mood varchar, j json, jb json,
ts timestamp, tz timestamptz, mo decimal(19;2), bytes varchar, ip varchar, u varchar, price decimal(8;2), p json,
d date, r double, t time, bits varchar, n decimal(5;5), m decimal(7;0), v varchar(20), o decimal(38;4)
"""
MORE = """
alter table odd alter mood set not null, add n numeric(3,5), add m numeric(5,-2), add v varchar(20), add o numeric;
update odd set o = 1.2345, price = 'NaN' where id = 1;
create table pairs (b char(3), a int, at time, primary key (a, b) include (at));
create view v as table odd
"""


def test_a_first_contract_is_what_the_server_says(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(f"{TYPES}; {MORE}")
    here = work(pg.dsn)
    found = here.look(table="odd")
    assert {name: type_ for name, (type_, _, _) in found.items()} == _types(FIRST)
    assert [name for name, (_, required, _) in found.items() if required] == ["mood"]
    assert here.look(table="v").keys() == found.keys()
    assert here.look(table="pairs") == {  # and it has no rows
        "b": ("varchar(3)", True, True),
        "a": ("bigint", True, True),
        "at": ("time", False, False),
    }
    query = "select id, price, long, j, now() as at from odd"
    assert [type_ for type_, _, _ in here.look(query=query).values()] == [
        *("bigint", "decimal(8,2)", "double", "varchar", "timestamptz")
    ]


def test_what_is_new_is_read_in_windows(pg: On, postgres: servers.Postgres, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    pg.sql("insert into orders values (0, 'without a time', 0, null)")
    here = work(pg.dsn)
    options = {"table": "orders", "cursor": "updated_at", "batch_rows": 1000}
    here.load(COLUMNS, **options)
    assert [load["rows_read"] for load in here.ledger("loads")] == [1001, 1000, 1000, 500]
    assert [row["cursor"]["value"] for row in here.ledger("cursors")] == [
        *("2026-01-01 00:16:40+00", "2026-01-01 00:33:20+00", "2026-01-01 00:50:00+00", "2026-01-01 00:58:20+00")
    ]
    assert here.load(COLUMNS, **options).summary == "nothing new"
    pg.sql("insert into orders select n, 'new', 1, timestamptz '2026-02-01' from generate_series(4001, 4003) n")
    assert here.load(COLUMNS, **options).summary.startswith("3 rows read = 3 loaded")
    assert here.rows("count(*), count(distinct id)", "") == [(3504, 3504)]
    read = [line for line in _log(postgres).splitlines() if "COPY" in line and "2026-01-01 00:58:20" in line]
    condition = "\"updated_at\" > '2026-01-01 00:58:20+00' and \"updated_at\" <= '2026-02-01 00:00:00+00'"
    assert condition in read[-1]  # the server's work, by its index
    assert "Index" in pg.sql(f"set enable_seqscan = off; explain select * from orders where {condition}")
    _closed(postgres, pg.name)


@pytest.mark.parametrize(
    ("type_", "first", "second", "kept"),
    [
        ("bigint", "9007199254740993", "9223372036854775807", "9223372036854775807"),
        ("date", "date '2024-02-29'", "date '2025-01-01'", "2025-01-01"),
        ("timestamp", "timestamp '2024-02-29 01:02:03.000001'", "'2024-02-29 01:02:03.000002'", None),
        ("text", "'a'", "'it''s \\ “ß”'", "it's \\ “ß”"),
        ("uuid", "'00000000-0000-0000-0000-000000000001'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", None),
        ("numeric", "1.000000000000000000001", "1.000000000000000000002", "1.000000000000000000002"),
    ],
)
def test_a_cursor_of_any_type_is_kept_exactly(
    pg: On, work: Callable[..., Work], type_: str, first: str, second: str, kept: str | None
) -> None:
    pg.sql(f"create table t (id int, c {type_}); insert into t values (1, {first})")
    here = work(pg.dsn)
    here.load("id int", cursor="c")
    assert here.load("id int", cursor="c").summary == "nothing new"
    pg.sql(f"insert into t values (2, {second})")
    here.load("id int", cursor="c")
    assert here.rows("id") == [(1,), (2,)]
    assert here.load("id int", cursor="c").summary == "nothing new"
    assert here.ledger("cursors")[-1]["cursor"] == {"column": "c", "value": kept or second.strip("'").split("'")[-1]}


def test_a_lag_finds_what_was_committed_late(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    here = work(pg.dsn)
    options = {"table": "orders", "cursor": "updated_at", "lag": "15 minutes", "load": "merge", "key": ["id"]}
    here.load(COLUMNS, **options)
    assert here.load(COLUMNS, **options).summary == "nothing new"  # the rows within the lag are the same
    pg.sql("insert into orders values (9000, 'late', 1, '2026-01-01 00:50:00+00')")
    pg.sql("update orders set name = 'changed late' where id = 3400")
    assert here.load(COLUMNS, **options).summary.startswith("901 rows read = 901 loaded")
    assert here.rows("id, name", "where name like '%late' order by id") == [(3400, "changed late"), (9000, "late")]
    assert here.rows("count(*), count(distinct id)", "") == [(3501, 3501)]
    assert here.load(COLUMNS, **options).summary == "nothing new"


def test_a_table_is_replaced_when_an_answer_changes(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    here = work(pg.dsn)
    options = {"table": "orders", "load": "replace-when-changed", "changed": "select count(*), max(id) from orders"}
    here.load(COLUMNS, **options)
    assert here.ledger("cursors")[-1]["cursor"] == {"changed": ["3500", "3500"]}
    assert here.load(COLUMNS, **options).summary == "nothing new"
    pg.sql("delete from orders where id > 5")
    assert here.load(COLUMNS, **options).summary.startswith("5 rows read")
    assert here.rows("count(*)", "") == [(5,)]
    assert here.load(f"{COLUMNS}, more varchar", **options).summary.startswith("5 rows read")  # another contract
    with pytest.raises(SourceError, match="`changed` gave 2 rows"):
        here.load(COLUMNS, **{**options, "changed": "select id from orders"})


def test_hostile_names(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(
        'create schema "sch.ema; --"; create table "sch.ema; --"."ta""b\'le" ("i d" int, "se""lect; drop" text, '
        '"it\'s" text, "Übergröße" int); insert into "sch.ema; --"."ta""b\'le" values (1, \'a\', \'b\', 2), (2, \'c\', '
        'null, null); grant all on schema "sch.ema; --" to team; '
        'grant all on "sch.ema; --"."ta""b\'le" to team'
    )
    here = work(pg.dsn)
    for more in ({"load": "replace"}, {"cursor": "i d", "start": 0}):
        here.load('i d int, se"lect; drop varchar', refresh=True, table='"sch.ema; --"."ta""b\'le"', **more)
        assert here.rows('"i d", "se""lect; drop", _extra::varchar') == [
            (1, "a", '{"it\'s":"b","Übergröße":2}'),
            (2, "c", None),
        ]


def test_the_table_or_its_column_is_not_there(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    here = work(pg.dsn)
    with pytest.raises(
        SourceError, match=r"no table 'ordres' that this user may see\. Did you mean 'orders'\?"
    ) as told:
        here.load("id int", table="ordres", load="replace")
    assert (told.value.file, told.value.line) == (here.root / "sources.yml", 1)
    with pytest.raises(SourceError, match=r"the cursor 'update_at' is no column .* Did you mean 'updated_at'\?"):
        here.load("id int", table="orders", cursor="update_at")
    with pytest.raises(SourceError, match=r'refuses the query: .*relation "nowhere" does not exist'):
        here.load("id int", query="select * from nowhere", load="replace")
    here.load("id int, nmae varchar", table="orders", load="replace")
    assert "did you mean" in here.ledger("quarantine")[0]["errors"][0]["reason"].lower()
    here.load("id int", table="orders", cursor="id", refresh=True)
    with pytest.raises(SourceError, match="went by the cursor"):
        here.load("id int", table="orders", cursor="updated_at")


def test_a_login_that_is_refused_shows_no_password(pg: On, work: Callable[..., Work]) -> None:
    here = work(pg.dsn.replace("not-for-the-log", "wrong-and-still-secret"))
    with pytest.raises(SourceError, match="password authentication failed") as caught:
        here.load("id int", table="orders", load="replace")
    assert "secret" not in str(caught.value)
    assert "statement_timeout" not in str(caught.value)
    here = work("oracle://scott:tiger@host/db")
    with pytest.raises(SourceError, match="begins with oracle:// is none that DuckDB scans") as caught:
        here.load("id int", load="replace")
    assert "through: adbc" in str(caught.value.hint)
    assert "tiger" not in str(caught.value)


def test_a_source_that_changes_in_the_middle(
    pg: On, work: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another column between two windows: what was committed stays, the rest comes with the next load."""
    pg.sql(ORDERS)
    here = work(pg.dsn)
    options = {"table": "orders", "cursor": "id", "batch_rows": 1000}
    commit = driver._Ingest.commit
    seen: list[int] = []

    def changing(self: Any, batch: Any) -> None:
        commit(self, batch)
        seen.append(1)
        if len(seen) == 2:
            pg.sql("alter table orders rename column name to title")

    monkeypatch.setattr(driver._Ingest, "commit", changing)
    with pytest.raises(TrunklineError, match='column "name" does not exist'):
        here.load(COLUMNS, **options)
    assert here.rows("count(*)", "") == [(2000,)]
    pg.sql("alter table orders rename column title to name; alter table orders add column colour text default 'red'")
    here.load(COLUMNS, **options)
    assert here.rows("count(*), count(distinct id), count(_extra)", "") == [(3500, 3500, 1500)]


# -- connections that break


@contextmanager
def cutting(port: int, after: int, cuts: int = 1) -> Iterator[int]:
    """A proxy whose first connections with more than `after` bytes from the server are cut there; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [cuts]

    def pump(one: socket.socket, other: socket.socket, counted: bool) -> None:
        passed = 0
        with one, other:
            while data := _received(one):
                passed += len(data)
                if counted and passed > after and left[0] > 0:
                    left[0] -= 1
                    for side in (one, other):
                        side.shutdown(socket.SHUT_RDWR)
                    return
                try:
                    other.sendall(data)
                except OSError:
                    return
            try:
                other.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=pump, args=(client.dup(), server.dup(), False), daemon=True).start()
            threading.Thread(target=pump, args=(server, client, True), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)
    assert left[0] <= 0, "nothing was cut"


def _received(one: socket.socket) -> bytes:
    try:
        return one.recv(65536)
    except OSError:
        return b""


@pytest.mark.parametrize("cursor", [None, "updated_at"])
def test_a_connection_that_is_cut_is_taken_up_again(
    pg: On, postgres: servers.Postgres, work: Callable[..., Work], cursor: str | None
) -> None:
    pg.sql(ORDERS)
    with cutting(postgres.port, 90_000 if cursor else 60_000) as port:
        here = work(pg.dsn.replace(f":{postgres.port}/", f":{port}/"))
        options: dict[str, Any] = {"cursor": cursor, "batch_rows": 1000} if cursor else {"load": "replace"}
        with pytest.raises(TransientError):
            here.load(COLUMNS, table="orders", **options)
        before = here.warehouse.query("select count(*) from information_schema.tables where table_name = 't'")
        here.patience = 30
        here.load(COLUMNS, table="orders", **options)
    assert here.rows("count(*), count(distinct id), sum(amount)", "") == [(3500, 3500, 1531687.5)]
    assert before == [(0,)] or cursor


def test_a_session_that_is_ended_in_the_middle(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    pg.sql("create view slow as select *, case when id % 1000 = 0 then pg_sleep(0.4)::text end as waited from orders")
    here = work(pg.dsn, patience=30)
    ended: list[str] = []

    def end() -> None:
        for _ in range(200):
            found = pg.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                f"where datname = '{pg.name}' and application_name = 'trunkline' and query like 'COPY%slow%'"
            )
            if "t" in found:
                ended.append(found)
                return
            time.sleep(0.05)

    thread = threading.Thread(target=end)
    thread.start()
    here.load(COLUMNS, table="slow", load="replace")
    thread.join()
    assert ended
    assert any("trying again" in text for text in here.told)
    assert here.rows("count(*), count(distinct id)", "") == [(3500, 3500)]


# -- MariaDB

MY_TYPES = """
create table odd (id int primary key, flag tinyint(1), big bigint unsigned, wide decimal(40,2), d decimal(10,3),
  da date, dt datetime(6), ts timestamp(3) null, ti time, vb varbinary(10), j json, e enum('a','b'), b1 bit(1),
  b5 bit(5),
  tx text character set utf8mb4 collate utf8mb4_bin, u uuid, g point, `we``ird; "col` int, f float)
"""


def test_no_value_is_lost_from_mariadb(my: On, work: Callable[..., Work]) -> None:
    my.sql(
        MY_TYPES,
        "insert into odd values (1, 2, 18446744073709551615, 12345678901234567890123456789012345678.25, 1.5,"
        " '2024-02-29', '2024-01-01 00:00:00.123456', '2024-01-01 00:00:00.5', '-838:59:59', x'00ff',"
        " '{\"a\": \"é\"}', 'a', b'1',"
        " b'10101', 'é☃', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', point(1,2), 5, 0.1)",
        "set statement sql_mode = '' for insert into odd (id, da, dt) values (2, '0000-00-00', '2024-00-00')",
    )
    here = work(my.dsn)
    columns = (
        "id int, flag int, big decimal(20;0), wide varchar, d decimal(10;3), da date, dt timestamp, ts timestamptz, "
        "ti varchar, vb blob, j json, e varchar, b1 boolean, b5 int, tx varchar, u varchar, g varchar, "
        'we`ird; "col int, f float'
    )
    here.load(columns, table="odd", load="replace")
    assert here.rows("columns(*)::varchar", "")[0][:19] == (
        *("1", "2", "18446744073709551615", "12345678901234567890123456789012345678.25", "1.500", "2024-02-29"),
        *("2024-01-01 00:00:00.123456", "2024-01-01 00:00:00.5+00", "-838:59:59", "\\x00\\xFF", '{"a": "é"}', "a"),
        *("true", "21", "é☃", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "POINT(1 2)", "5", "0.1"),
    )
    (bad,) = here.ledger("quarantine")
    assert [(error["column"], error["value"]) for error in bad["errors"]] == [
        ("da", "0000-00-00"),
        ("dt", "2024-00-00 00:00:00.000000"),
    ]
    here.load("id int, j json, tx varchar, da varchar", query="select id, j, tx, da from odd", load="replace")
    assert here.rows("id, j::varchar, tx, da") == [(1, '{"a": "é"}', "é☃", "2024-02-29"), (2, None, None, "0000-00-00")]


MY_FIRST = """
id bigint, flag bigint, big decimal(20;0), wide varchar, d decimal(10;3), da date, dt timestamp, ts timestamptz,
ti varchar, vb varchar, j varchar, e varchar, b1 bigint, b5 bigint, tx varchar, u varchar, g varchar,
we`ird; "col bigint, f double
"""


def test_a_first_contract_is_what_mariadb_says(my: On, work: Callable[..., Work]) -> None:
    my.sql(MY_TYPES, "create table pairs (b char(3), a int, at datetime not null, primary key (a, b))")
    here = work(my.dsn)
    found = here.look(table="odd")
    assert {name: type_ for name, (type_, _, _) in found.items()} == _types(MY_FIRST)
    assert here.look(table="pairs") == {
        "b": ("varchar(3)", True, True),
        "a": ("bigint", True, True),
        "at": ("timestamp", True, False),
    }


def test_what_is_new_in_mariadb(my: On, mariadb: servers.MariaDB, work: Callable[..., Work]) -> None:
    my.sql(
        "create table orders (id bigint primary key, name varchar(40), amount decimal(12,2), updated_at timestamp(6), "
        "key (updated_at))",
        "insert into orders select seq, concat('name ', seq), seq / 4, timestamp('2026-01-01') + interval seq second "
        "from seq_1_to_3500",
    )
    here = work(my.dsn)
    options = {"table": "orders", "cursor": "updated_at", "lag": "1 minute", "load": "merge", "key": ["id"]}
    here.load(COLUMNS, batch_rows=1000, **options)
    assert [load["rows_read"] for load in here.ledger("loads")] == [1000, 1000, 1000, 500]
    assert here.load(COLUMNS, **options).summary == "nothing new"
    my.sql("insert into orders values (9000, 'late', 1, '2026-01-01 00:58:00'), (9001, 'new', 1, '2026-01-02')")
    assert here.load(COLUMNS, **options).summary.startswith("62 rows read = 62 loaded")
    assert here.rows("count(*), sum(id)", "") == [(3502, 6126750 + 18001)]
    reads = [line for line in mariadb.log.splitlines() if "`updated_at` > '2026-01-01T" in line or "00:57:20" in line]
    assert "max_statement_time = 1800 for select" in reads[-1]
    assert "`updated_at` <= '2026-01-02 00:00:00.000000'" in reads[-1]
    last = [line for line in mariadb.log.splitlines() if line.strip()][-1]
    assert last.split()[-1] == "Quit"  # the load's connection is closed
    with pytest.raises(TrunklineError, match="max_statement_time exceeded|the time was up"):
        here.load("a int", query="select sleep(30) as a", load="replace", statement_timeout="1 second")


def test_mariadb_refuses(my: On, mariadb: servers.MariaDB, work: Callable[..., Work]) -> None:
    here = work(my.dsn.replace("nor-for-the-log", "wrong-and-still-secret"))
    with pytest.raises(SourceError, match="Access denied") as caught:
        here.load("id int", load="replace")
    assert "secret" not in str(caught.value)
    here = work(my.dsn.replace(f":{mariadb.port}/", f":{servers.free_port()}/"))
    with pytest.raises(TransientError, match="Can't connect"):
        here.load("id int", load="replace")
    my.sql("create table orders (id int)")
    with pytest.raises(SourceError, match="Did you mean 'orders'"):
        work(my.dsn).load("id int", table="order", load="replace")


def test_a_connection_to_mariadb_that_is_cut(my: On, mariadb: servers.MariaDB, work: Callable[..., Work]) -> None:
    my.sql(
        "create table orders (id bigint primary key, name varchar(100))",
        "insert into orders select seq, concat(md5(seq), md5(seq + 1)) from seq_1_to_20000",
    )
    with cutting(mariadb.port, 200_000) as port:
        here = work(my.dsn.replace(f":{mariadb.port}/", f":{port}/"), patience=30)
        here.load("id bigint, name varchar", table="orders", load="replace")
    assert any("trying again" in text for text in here.told)
    assert here.rows("count(*), count(distinct id)", "") == [(20000, 20000)]


# -- SQLite, and what comes as Arrow


@pytest.fixture
def lite(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "app.sqlite")) as connection, connection:
        connection.execute('create table orders (id integer primary key, at text, amount double, "any;thing" blob)')
        connection.executemany(
            "insert into orders values (?, ?, ?, ?)",
            [
                (n, f"2026-01-01T00:{n // 60:02}:{n % 60:02}", n / 10, b"\x00\xff" if n % 2 else n)
                for n in range(1, 301)
            ],
        )
        connection.execute("insert into orders values (301, null, 'much', 'text')")
    return tmp_path / "app.sqlite"


LITE = "id int, at timestamp, amount double, any;thing varchar"


DECLARED = """
create table t (id integer primary key, zip varchar(5) not null, price decimal(8,2), day text, born date, flag boolean,
  n numeric, much integer);
insert into t values (1, '01234', 1.25, '2024-01-01', '2001-01-31', 1, 2, 'a lot'),
  (2, '99999', null, '2024-01-02', '2001-01-30', 0, 3, 4);
"""


@pytest.mark.parametrize("through", [{}, {"through": "adbc", "driver": "sqlite"}, {"through": "dlt"}], ids=str)
def test_a_first_contract_is_what_sqlite_declares(tmp_path: Path, work: Callable[..., Work], through: Any) -> None:
    with closing(sqlite3.connect(tmp_path / "app.sqlite")) as connection, connection:
        connection.executescript(DECLARED if not through else DECLARED.replace("'a lot'", "5"))
    found = work("sqlite:///app.sqlite").look(table="t", **through)
    assert [name for name, (_, required, _) in found.items() if required] == ["id", "zip"]
    assert [name for name, (_, _, primary) in found.items() if primary] == ["id"]
    types = [type_ for type_, _, _ in found.values()]
    assert types[0] == "bigint"
    if not through:
        assert types[1:] == ["varchar(5)", "decimal(8,2)", "date", "date", "boolean", "bigint", "varchar"]


def test_sqlite(lite: Path, work: Callable[..., Work]) -> None:
    """Any value may be in any column: one that does not fit goes to quarantine."""
    here = work("sqlite:///app.sqlite")
    columns = LITE.replace("any;thing varchar", "other varchar")
    here.load(columns, table="orders", cursor="id", batch_rows=100)
    assert [(one["rows_read"], one["rows_quarantined"]) for one in here.ledger("loads")] == [(100, 100)] * 3 + [(1, 1)]
    here.load("id int, at timestamp, amount double", table="orders", load="replace")
    assert here.rows('count(*), sum(id), round(sum(amount), 6), max("at")::varchar', "") == [
        (300, 45150, 4515.0, "2026-01-01 00:05:00")
    ]
    assert here.rows("amount, _extra::varchar", "where id = 3") == [(0.3, '{"any;thing":"00FF"}')]
    (bad,) = here.ledger("quarantine")[-1:]
    assert bad["raw"]["amount"] == "much"
    options = {"table": "orders", "cursor": "at", "lag": "10 seconds", "load": "merge", "key": ["id"], "refresh": True}
    here.load("id int, at timestamp, amount varchar", **options)
    assert here.rows("count(*)", "") == [(301,)]
    with pytest.raises(SourceError, match="there is no SQLite database"):
        work("sqlite:///nowhere.sqlite").load("id int", load="replace")


@pytest.fixture
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load commits at each checkpoint."""
    monkeypatch.setattr(streams, "Limits", partial(streams.Limits, batch_bytes=1))


@pytest.mark.usefixtures("_small_batches")
@pytest.mark.parametrize("through", [{"through": "adbc", "driver": "sqlite"}, {"through": "dlt"}], ids=["adbc", "dlt"])
def test_sqlite_as_arrow(lite: Path, work: Callable[..., Work], through: dict[str, str]) -> None:
    if through["through"] == "dlt":
        with closing(sqlite3.connect(lite)) as connection, connection:  # typed values only: it has a schema to keep to
            connection.execute("update orders set amount = 30.1, at = '2026-01-01T00:05:01' where id = 301")
            connection.execute('update orders set "any;thing" = null')
    else:
        with closing(sqlite3.connect(lite)) as connection, connection:
            connection.execute(
                "update orders set amount = 30.1, \"any;thing\" = null, at = '2026-01-01T00:05:01' where id = 301"
            )
            connection.execute('update orders set "any;thing" = null')
    here = work("sqlite:///app.sqlite")
    columns = "id int, at timestamp, amount double"
    here.load(columns, table="orders", cursor="at", **through)
    assert here.rows("count(*), count(distinct id), round(sum(amount), 6)", "") == [(301, 301, 4545.1)]
    assert here.load(columns, table="orders", cursor="at", **through).summary == "nothing new"
    with closing(sqlite3.connect(lite)) as connection, connection:
        connection.execute("insert into orders values (400, '2026-01-02T00:00:00', 1, null)")
    assert here.load(columns, table="orders", cursor="at", **through).summary.startswith("1 rows read = 1 loaded")
    assert here.ledger("cursors")[-1]["cursor"]["state"] == {"column": "at", "value": "2026-01-02T00:00:00"}
    here.load(columns, table="orders", load="replace", refresh=True, **through)
    assert here.rows("count(*)", "") == [(302,)]
    with pytest.raises(SourceError, match="no such table: ordres|Did you mean 'orders'"):
        here.load(columns, table="ordres", load="replace", **through)
    changed = {"load": "replace-when-changed", "changed": "select count(*) from orders"}
    here.load(columns, table="orders", **changed, **through)
    assert here.load(columns, table="orders", **changed, **through).summary == "nothing new"


@pytest.mark.usefixtures("_small_batches")
def test_postgres_through_adbc(pg: On, work: Callable[..., Work]) -> None:
    pg.sql(ORDERS)
    pg.sql("update orders set updated_at = '2026-01-01 00:10:00+00' where id between 500 and 700")  # ties
    pg.sql("update orders set updated_at = null where id = 7")
    here = work(pg.dsn)
    options = {"table": "orders", "through": "adbc", "driver": "postgresql", "cursor": "updated_at"}
    here.load(COLUMNS, **options)
    assert here.rows("count(*), count(distinct id), sum(amount)", "") == [(3500, 3500, 1531687.5)]
    assert here.load(COLUMNS, **options).summary == "nothing new"
    pg.sql("insert into orders values (9000, 'new', 1, '2026-03-01')")
    assert here.load(COLUMNS, **options).summary.startswith("1 rows read")
    options |= {"lag": "1 minute", "load": "merge", "key": ["id"]}
    pg.sql("insert into orders values (9001, 'late', 1, '2026-02-28 23:59:30+00')")
    assert here.load(COLUMNS, **options).summary.startswith("2 rows read")
    assert here.load(COLUMNS, **options).summary == "nothing new"
    pg.sql("create sequence s; grant all on sequence s to team")
    with pytest.raises(SourceError, match="read-only transaction"):
        here.load("a int", query="select nextval('s') as a", through="adbc", driver="postgresql", load="replace")
    wrong = work(pg.dsn.replace("not-for-the-log", "wrong-and-still-secret"))
    with pytest.raises(SourceError, match="cannot connect with the ADBC driver 'postgresql'") as caught:
        wrong.load(COLUMNS, **options)
    assert "secret" not in str(caught.value)
    with pytest.raises(SourceError, match="ADBC driver 'nosuch'") as caught:
        here.load("a int", through="adbc", driver="nosuch", load="replace")
    assert caught.value.hint == "pip install adbc-driver-nosuch"


# -- the page


PROFILE = """
shop:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: ":memory:"
      database: lake
      schema: main
      extensions: [ducklake, sqlite_scanner]
      attach:
        - {path: "ducklake:sqlite:warehouse/catalog.sqlite", alias: lake, options: {data_path: warehouse/data}}
"""


def test_the_page(pg: On, lite: Path) -> None:
    """docs/databases.md, by the command line: what it declares is loaded, and a second time nothing is new."""
    page = (Path(__file__).parent.parent.parent / "docs" / "databases.md").read_text("utf-8")
    shop, crm = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    root = lite.parent
    (root / "models").mkdir()
    (root / "dbt_project.yml").write_text("name: shop\nprofile: shop\nversion: '1.0'\n")
    (root / "profiles.yml").write_text(PROFILE)
    (root / "models" / "sources.yml").write_text(shop)
    (root / "models" / "crm.yml").write_text(crm)
    with closing(sqlite3.connect(lite)) as connection, connection:
        connection.executescript("create table accounts as select id from orders; create table contacts (id integer);")
        connection.execute("insert into contacts select id from orders")
    pg.sql(ORDERS)
    pg.sql("create table customers as select n as id, 'Bern' as city from generate_series(1, 10) n")
    environ = {"SHOP": pg.dsn, "CRM": "sqlite:///app.sqlite"}
    project = Project(root)
    project.run("ingest", **environ)
    counted = "select count(*), max(id) from lake.raw"
    found = {name: project.sql(f"{counted}.{name}") for name in ("customers", "orders", "accounts", "contacts")}
    assert found == {
        "customers": [(10, 10)],
        "orders": [(3500, 3500)],
        "accounts": [(301, 301)],
        "contacts": [(301, 301)],
    }
    pg.sql("insert into orders values (9000, 'late', 1, '2026-01-01 00:58:00')")
    again_ = project.run("ingest", "--json", **environ)
    assert project.sql(f"{counted}.orders") == [(3501, 9000)]
    assert "not-for-the-log" not in again_.out + again_.err + project.run("plan", **environ).out
    for file in root.rglob("*"):
        assert not file.is_file() or b"not-for-the-log" not in file.read_bytes(), file


def _types(listed: str) -> dict[str, str]:
    pairs = [column.split() for column in listed.split(",")]
    return {" ".join(words[:-1]): words[-1].replace(";", ",") for words in pairs}


def _log(postgres: servers.Postgres) -> str:
    return (Path(postgres.sql("show data_directory")).parent / "log").read_text("utf-8", "replace")


def _closed(postgres: servers.Postgres, database: str) -> None:
    asked = f"select count(*) from pg_stat_activity where datname = '{database}' and application_name = 'trunkline'"
    for _ in range(50):
        if (count := postgres.sql(asked)) == "0":
            return
        time.sleep(0.1)
    pytest.fail(f"{count} connections are open")
