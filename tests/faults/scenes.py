"""The sources that are killed and disturbed, each on its first load or on one after changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.api import Api
from tests.contract import servers
from tests.faults import ingesting
from tests.faults.ingesting import Source, rows
from tests.fivetran.environment import PYTHON as SDK_PYTHON

FILES = {"connector": "files", "path": "data/*.csv.gz"}
SQL = {"connector": "sql", "dsn": "env:DSN", "table": "t", "cursor": "version", "batch_rows": ingesting.PAGE}
SQLITE = {"DSN": "sqlite:///{root}/shop.sqlite"}
MERGE = {"load": "merge", "key": ["id"]}


def _files(root: Path, name: str, found: list[dict[str, Any]]) -> None:
    ingesting.write_csv(root / "data" / f"{name}.csv.gz", found)


def _more(root: Path) -> None:
    """Half of the rows have changed, and some are new."""
    _files(root, "2", rows(1000, 30, 75))
    _files(root, "3", rows(2000, 40, 45))


def _others(root: Path) -> None:
    _files(root, "1", rows(1000, 11, 50))


SOURCES = [
    Source("files appended", FILES, lambda root: [_files(root, str(n), rows(n * 100)) for n in range(3)] and None),
    Source("files merged", {**FILES, **MERGE}, lambda root: _files(root, "1", rows()), _more),
    Source("files replaced", {**FILES, "load": "replace"}, lambda root: _files(root, "1", rows()), _others),
    Source(
        "sql appended",
        SQL,
        lambda root: ingesting.write_sqlite(root, rows(0, 1, 10)),
        lambda root: ingesting.write_sqlite(root, rows(0, 11, 70)),
        environ=SQLITE,
    ),
    Source(
        "sql merged",
        {**SQL, **MERGE},
        lambda root: ingesting.write_sqlite(root, rows()),
        lambda root: ingesting.write_sqlite(root, rows(1000, 20, 70)),
        environ=SQLITE,
    ),
    Source(
        "python appended",
        {"connector": "python", "function": "sources/rows.py:t"},
        lambda root: ingesting.write_script(root, ingesting.PYTHON, rows()),
    ),
    Source(
        "python merged",
        {"connector": "python", "function": "sources/rows.py:t", **MERGE},
        lambda root: ingesting.write_script(root, ingesting.PYTHON, rows()),
        lambda root: ingesting.write_script(root, ingesting.PYTHON, rows() + rows(1000, 30, 75)),
    ),
    Source(
        "dlt merged",
        {"connector": "dlt", "source": "sources/rows.py:t", **MERGE},
        lambda root: ingesting.write_script(root, ingesting.DLT, rows()),
        lambda root: ingesting.write_script(root, ingesting.DLT, rows() + rows(1000, 30, 75)),
    ),
]


def named(name: str) -> Source:
    """The source of that name."""
    return next(source for source in SOURCES if source.name == name)


def postgres(server: servers.Postgres, database: str, slow: bool = False) -> Source:
    """A table of a PostgreSQL server, merged; half of it has changed. `slow` is a view that waits for each row."""
    values = "id bigint primary key, version bigint, name text, amount text"

    def write(found: list[dict[str, Any]]) -> None:
        listed = ", ".join(str((row["id"], row["version"], row["name"], row["amount"])) for row in found)
        update = "version = excluded.version, name = excluded.name, amount = excluded.amount"
        server.sql(f"insert into kept values {listed} on conflict (id) do update set {update}", database)

    def make(root: Path) -> None:
        wait = " where pg_sleep(0.02)::text is not null" if slow else ""  # volatile: asked for each row
        server.sql(f"create table kept ({values})", database)
        server.sql(f"create view t as select * from kept{wait}", database)
        server.sql(f"grant select on t to {server.user}", database)
        write(rows())

    dsn = f"postgresql://{server.user}:{server.password}@127.0.0.1:{server.port}/{database}"
    return Source("postgres merged", {**SQL, **MERGE}, make, lambda root: write(rows(1000, 20, 70)), {"DSN": dsn})


def rest(api: Api) -> Source:
    """An API of three pages."""

    def make(root: Path) -> None:
        api.page, api.cursor, api.tables["t"] = ingesting.PAGE, "version", rows()

    incremental = {"cursor_path": "version", "initial_value": 0, "row_order": "asc"}
    options = {
        "connector": "rest",
        "client": {"base_url": api.url, "paginator": {"type": "json_link", "next_url_path": "next"}},
        "endpoint": {
            "path": "t",
            "data_selector": "data",
            "params": {"since": "{incremental.start_value}"},
            "incremental": incremental,
        },
    }
    return Source("rest appended", options, make)


def fivetran() -> Source:
    """A connector of Fivetran's SDK, with a checkpoint after each page."""
    sdk = {"connector": "fivetran", "sdk": "sources", "python": str(SDK_PYTHON)}

    def make(root: Path) -> None:
        ingesting.write_script(root, "", rows())
        (root / "sources" / "connector.py").write_text(ingesting.CONNECTOR)

    return Source("fivetran merged", {**sdk, **MERGE}, make, kills=6)
