"""What the sources of the suite read from: files, servers, databases and scripts, in a test's hands."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.api import Api
from tests.contract import servers
from tests.fivetran import environment
from trunkline.ingest import files
from trunkline.project.connectors import (
    DltOptions,
    FilesOptions,
    FivetranOptions,
    PythonOptions,
    RestOptions,
    SqlOptions,
    TableOptions,
)
from trunkline.project.files import FileState, digests
from trunkline.project.sources import SourceTable
from trunkline.testing.source_line import COLUMNS, KEY, Row

NAMES = tuple(name for name, _ in COLUMNS)
PAGE = 5


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as objects."""
    return [dict(zip(NAMES, row, strict=True)) for row in rows]


@dataclass
class Plain:
    """What most origins have nothing to say about."""

    connector = ""
    batches = 1

    def environ(self) -> Mapping[str, str]:
        return {}

    def files(self) -> Sequence[FileState]:
        return ()


@dataclass
class CsvFiles(Plain):
    """Gzipped CSV files, one for each addition."""

    root: Path
    made: list[Path] = field(default_factory=list)
    connector = "files"
    _broken: tuple[Path, bytes] | None = None

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        return FilesOptions(connector="files", load=load, key=key, path="data/*.csv.gz")

    def files(self) -> Sequence[FileState]:
        options: Any = self.options("append", ())
        table = SourceTable("suite", "t", None, "raw", (), options, self.root / "sources.yml", 1, 1, "t")
        return digests(self.root, files.find(self.root, table))

    def add(self, more: Sequence[Row]) -> None:
        self.made.append(self.root / "data" / f"{len(self.made)}.csv.gz")
        text = io.StringIO()
        csv.writer(text).writerows([NAMES, *more])
        self.made[-1].parent.mkdir(exist_ok=True)
        self.made[-1].write_bytes(gzip.compress(text.getvalue().encode()))

    change = add

    def put(self, all_: Sequence[Row]) -> None:
        for file in self.made:
            file.unlink(missing_ok=True)
        self.add(all_)

    def break_after(self, count: int | None) -> None:
        if count is None:
            assert self._broken is not None
            self._broken[0].write_bytes(self._broken[1])
        else:
            whole = self.made[-1].read_bytes()
            self._broken = (self.made[-1], whole)
            self.made[-1].write_bytes(whole[: len(whole) * count // 40])


@dataclass
class PostgresTable(Plain):
    """A table of a PostgreSQL server, behind a view that can fail."""

    server: servers.Postgres
    database: str
    connector = "sql"
    batches = 2
    password: str = ""

    def __post_init__(self) -> None:
        self.password = self.server.password
        self.run("create table kept (id bigint, version bigint, name text, amount float8)")
        self.break_after(None)
        self.run(f"grant all on kept, t to {self.server.user}")

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        cursor = None if load == "replace" else "version"
        return SqlOptions(connector="sql", dsn="env:DSN", table="t", cursor=cursor, load=load, key=key, batch_rows=15)

    def environ(self) -> Mapping[str, str]:
        place = f"127.0.0.1:{self.server.port}/{self.database}"
        return {"DSN": f"postgresql://{self.server.user}:{self.password}@{place}"}

    def add(self, more: Sequence[Row]) -> None:
        if more:
            listed = ", ".join(f"({id_}, {version}, {_text(name)}, {n})" for id_, version, name, n in more)
            self.run(f"insert into kept values {listed}")

    def put(self, all_: Sequence[Row]) -> None:
        self.run("truncate kept")
        self.add(all_)

    def change(self, changed: Sequence[Row]) -> None:
        self.run(f"delete from kept where id in ({', '.join(str(row[0]) for row in changed)})")
        self.add(changed)

    def break_after(self, count: int | None) -> None:
        name = "name" if count is None else f"case when id > {count} then (1 / (id - id))::text else name end as name"
        self.run(f"create or replace view t as select id, version, {name}, amount from kept")

    def refuse(self) -> str:
        self.password = "wrong-and-still-secret"
        return self.password

    def connections(self) -> int:
        users = f"datname = '{self.database}' and usename = '{self.server.user}'"
        return int(self.server.sql(f"select count(*) from pg_stat_activity where {users}"))

    def run(self, sql: str) -> None:
        """Run a statement as the owner."""
        self.server.sql(sql, self.database)


@dataclass
class MariaTable(Plain):
    """A table of a MariaDB server."""

    server: servers.MariaDB
    database: str
    connector = "sql"
    batches = 2
    password: str = ""

    def __post_init__(self) -> None:
        self.password = self.server.password
        self._run("create table t (id bigint, version bigint, name text, amount double)")

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        cursor = None if load == "replace" else "version"
        return SqlOptions(connector="sql", dsn="env:DSN", table="t", cursor=cursor, load=load, key=key, batch_rows=15)

    def environ(self) -> Mapping[str, str]:
        place = f"127.0.0.1:{self.server.port}/{self.database}"
        return {"DSN": f"mariadb://{self.server.user}:{self.password}@{place}"}

    def add(self, more: Sequence[Row]) -> None:
        self._run(*self._added(more))

    def put(self, all_: Sequence[Row]) -> None:
        self._run("truncate t", *self._added(all_))

    def change(self, changed: Sequence[Row]) -> None:
        ids = ", ".join(str(row[0]) for row in changed)
        self._run(f"delete from t where id in ({ids})", *self._added(changed))

    def refuse(self) -> str:
        self.password = "wrong-and-still-secret"
        return self.password

    def _added(self, more: Sequence[Row]) -> list[str]:
        listed = ", ".join(f"({id_}, {version}, {_text(name)}, {n})" for id_, version, name, n in more)
        return [f"insert into t values {listed}"] if listed else []

    def _run(self, *statements: str) -> None:
        self.server.sql(*statements, database=self.database)


@dataclass
class SqliteTable(Plain):
    """A table of an SQLite file."""

    root: Path
    connector = "sql"
    batches = 2

    def __post_init__(self) -> None:
        self._run("create table t (id integer, version integer, name text, amount real)")

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        cursor = None if load == "replace" else "version"
        return SqlOptions(connector="sql", dsn="env:DSN", table="t", cursor=cursor, load=load, key=key, batch_rows=15)

    def environ(self) -> Mapping[str, str]:
        return {"DSN": f"sqlite:///{self.root / 'shop.sqlite'}"}

    def add(self, more: Sequence[Row]) -> None:
        for row in more:
            self._run("insert into t values (?, ?, ?, ?)", row)

    def put(self, all_: Sequence[Row]) -> None:
        self._run("delete from t")
        self.add(all_)

    def change(self, changed: Sequence[Row]) -> None:
        for row in changed:
            self._run("delete from t where id = ?", row[:1])
        self.add(changed)

    def _run(self, sql: str, values: Sequence[Any] = ()) -> None:
        with closing(sqlite3.connect(self.root / "shop.sqlite")) as connection, connection:
            connection.execute("pragma synchronous = off")
            connection.execute(sql, values)


@dataclass
class Script(Plain):
    """Rows in a JSON file, in the order of their versions, read by a function of the project."""

    root: Path
    text: str
    connector: str = "python"
    batches: int = 8
    rows: list[Row] = field(default_factory=list)
    token: str = "let-me-in"

    def __post_init__(self) -> None:
        (self.root / "sources").mkdir()
        file = "connector.py" if self.connector == "fivetran" else "rows.py"
        (self.root / "sources" / file).write_text(self.text)
        self.break_after(None)
        self.add(())

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        if self.connector == "fivetran":
            given = {"token": "env:TOKEN", "page": str(PAGE)}
            python = str(environment.PYTHON)
            return FivetranOptions(
                connector="fivetran", sdk="sources", load=load, key=KEY, configuration=given, python=python
            )
        if self.connector == "dlt":
            return DltOptions(connector="dlt", source="sources/rows.py:t", load=load, key=key, arguments=self._given)
        return PythonOptions(
            connector="python", function="sources/rows.py:t", load=load, key=key, arguments=self._given
        )

    @property
    def _given(self) -> dict[str, Any]:
        return {"folder": str(self.root / "sources"), "page": PAGE, "token": "env:TOKEN"}

    def environ(self) -> Mapping[str, str]:
        return {"TOKEN": self.token}

    def add(self, more: Sequence[Row]) -> None:
        self.put([*self.rows, *more])

    def put(self, all_: Sequence[Row]) -> None:
        self.rows = sorted(all_, key=lambda row: row[1])
        (self.root / "sources" / "rows.json").write_text(json.dumps(as_json(self.rows)))

    def change(self, changed: Sequence[Row]) -> None:
        ids = {row[0] for row in changed}
        self.put([*(row for row in self.rows if row[0] not in ids), *changed])

    def break_after(self, count: int | None) -> None:
        (self.root / "sources" / "broken.json").write_text(json.dumps(count))

    def refuse(self) -> str:
        self.token = "wrong-and-still-secret"
        return self.token


PYTHON = """
import json
from pathlib import Path

import trunkline as tl

def _pages(folder, page, token, after):
    if token != "let-me-in":
        raise PermissionError(f"the token {token} is not known")
    rows = [row for row in json.loads((Path(folder) / "rows.json").read_text()) if row["version"] > after]
    last = json.loads((Path(folder) / "broken.json").read_text())
    for first in range(0, len(rows), page):
        found = rows[first:first + page]
        if last is not None and found[-1]["version"] > last:
            raise ConnectionResetError("the server has gone")
        yield found


@tl.source
def t(folder, page, token, since=None):
    for found in _pages(folder, page, token, (since or {"after": 0})["after"]):
        yield found
        yield tl.Checkpoint({"after": found[-1]["version"]})
"""

DLT = (
    PYTHON.split("@tl.source")[0]
    + """
import dlt


@dlt.resource
def t(folder, page, token, version=dlt.sources.incremental("version", initial_value=0, row_order="asc")):
    yield from _pages(folder, page, token, version.last_value)
"""
)


FIVETRAN = (
    """
import json
from pathlib import Path

from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op
"""
    + PYTHON[PYTHON.index("def _pages") : PYTHON.index("@tl.source")]
    + """
def schema(configuration):
    columns = {"id": "LONG", "version": "LONG", "name": "STRING", "amount": "DOUBLE"}
    return [{"table": "t", "primary_key": ["id"], "columns": columns}]


def update(configuration, state):
    here, page = Path(__file__).parent, int(configuration["page"])
    for found in _pages(here, page, configuration["token"], state.get("after", 0)):
        for row in found:
            op.upsert("t", row)
        op.checkpoint({"after": found[-1]["version"]})


connector = Connector(update=update, schema=schema)
"""
)


@dataclass
class HttpApi(Plain):
    """A paginated API over HTTP."""

    api: Api
    connector = "rest"
    batches = 8
    token: str = "let-me-in"
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.api.token, self.api.page, self.api.cursor = self.token, PAGE, "version"
        self.put(())

    def options(self, load: Any, key: tuple[str, ...]) -> TableOptions:
        since = {"params": {"since": "{incremental.start_value}"}} if load != "replace" else {}
        incremental = {"cursor_path": "version", "initial_value": 0, "row_order": "asc"}
        return RestOptions(
            connector="rest",
            load=load,
            key=key,
            client={
                "base_url": self.api.url,
                "auth": {"type": "bearer", "token": "env:TOKEN"},
                "paginator": {"type": "json_link", "next_url_path": "next"},
            },
            endpoint={
                "path": "t",
                "data_selector": "data",
                **since,
                **({"incremental": incremental} if since else {}),
            },
            retries=0,
        )

    def environ(self) -> Mapping[str, str]:
        return {"TOKEN": self.token}

    def add(self, more: Sequence[Row]) -> None:
        self.put([*self.rows, *more])

    def put(self, all_: Sequence[Row]) -> None:
        self.rows = sorted(all_, key=lambda row: row[1])
        self.api.tables["t"] = as_json(self.rows)

    def change(self, changed: Sequence[Row]) -> None:
        ids = {row[0] for row in changed}
        self.put([*(row for row in self.rows if row[0] not in ids), *changed])

    def break_after(self, count: int | None) -> None:
        self.api.faults.clear()
        if count is not None:
            self.api.fault(f"page={count // PAGE + 1}", times=100, drop=True)

    def refuse(self) -> str:
        self.token = "wrong-and-still-secret"
        return self.token


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
