"""The `sql` connector through ADBC: any database that has a driver, its rows as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from trunkline.errors import ProjectError, SourceError, TransientError
from trunkline.ingest.protocol import Batch, Known, Reach, Since
from trunkline.ingest.sql_dialect import split_name
from trunkline.ingest.sql_native import one_select
from trunkline.ingest.sql_postgres import Postgres
from trunkline.ingest.sql_stream import Streamed
from trunkline.ingest.sql_windows import Value, Window
from trunkline.project.durations import seconds
from trunkline.warehouse.load_sql import literal

_BACKTICKS = ("bigquery", "mysql", "databricks", "spark")
_AWAY = (
    "connection refused",
    "could not connect",
    "timed out",
    "closed the connection",
    "connection reset",
    "no route",
)


class Adbc:
    """`connector: sql` with `through: adbc`. `driver` is a package `adbc_driver_…`, or what the manager finds."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._options = reach.tables[0].options

    def batches(self, since: Since) -> Iterator[Batch]:
        """What is new."""
        return Streamed(self._reach, self._connect).batches(since)

    def known(self) -> Sequence[Known]:
        """What the driver tells of the table's key and NULLs. Its types are those of the rows."""
        if self._options["query"]:
            return ()
        with self._connect() as database:
            return database.known(*reversed(split_name(self._name)))

    @contextmanager
    def _connect(self) -> Iterator[_Connected]:
        try:
            from adbc_driver_manager import dbapi
        except ImportError as exc:
            raise ProjectError(
                "`through: adbc` needs ADBC's driver manager", hint="pip install 'trunkline[adbc]'"
            ) from exc
        driver = str(self._options["driver"])
        module = f"adbc_driver_{driver.removeprefix('adbc_driver_')}"
        found = import_module(module)._driver_path() if find_spec(module) else driver
        given = {"uri": self._uri(driver)} | dict(self._reach.secret(self._options["driver_options"]))
        try:
            connection = dbapi.connect(driver=found, db_kwargs=given, autocommit=True)
        except dbapi.Error as exc:
            raise _told(
                exc, f"cannot connect with the ADBC driver {driver!r}", f"pip install {module.replace('_', '-')}"
            ) from None
        with connection:
            yield _Connected(connection, dbapi.Error, self._source(driver), driver in _BACKTICKS)

    def _uri(self, driver: str) -> str:
        dsn = str(self._reach.secret(self._options["dsn"]))
        if driver == "postgresql":
            return Postgres().session(dsn, seconds(self._options["statement_timeout"]), self._reach.root)
        if driver == "sqlite" and dsn.startswith("sqlite:///"):
            file = self._reach.root / Path(dsn.removeprefix("sqlite:///"))
            if not file.is_file():
                raise SourceError(f"there is no SQLite database {file}", hint="is the path in `dsn` right?")
            return f"file:{file}?mode=ro"
        return dsn

    def _source(self, driver: str) -> str:
        if self._options["query"]:
            return f"(\n{one_select(self._options['query'], '')}\n) trunkline_query"
        return ".".join(_quoted(part, driver in _BACKTICKS) for part in split_name(self._name))

    @property
    def _name(self) -> str:
        return str(self._options["table"] or self._reach.tables[0].relation.name)


class _Connected:
    """`Database`, in SQL that most databases understand."""

    def __init__(self, connection: Any, error: type[Exception], source: str, backticks: bool) -> None:
        self._connection = connection
        self._error = error
        self._source = source
        self._backticks = backticks

    def columns(self) -> list[str]:
        """From an empty result."""
        return [str(name) for name in self._one(f"select * from {self._source} where 1 = 0").schema.names]

    def known(self, table: str, schema: str | None = None, *_: str) -> Sequence[Known]:
        """By ADBC's GetObjects; nothing from a driver without it, or where several tables have that name."""
        try:
            asked = {"depth": "all", "table_name_filter": table, "db_schema_filter": schema}
            catalogs = self._connection.adbc_get_objects(**asked).read_all().to_pylist()
        except (self._error, OSError, pa.ArrowException):
            return ()
        schemas = [one for catalog in catalogs for one in catalog["catalog_db_schemas"] or ()]
        tables = [one for found in schemas for one in found["db_schema_tables"] or () if one["table_name"] == table]
        if len(tables) != 1:
            return ()
        keys = [one for one in tables[0]["table_constraints"] or () if one["constraint_type"] == "PRIMARY KEY"]
        key = list(keys[0]["constraint_column_names"]) if keys else []
        return [
            Known(name, "", column["xdbc_is_nullable"] == "NO", key.index(name) + 1 if name in key else 0)
            for column in tables[0]["table_columns"] or ()
            for name in (str(column["column_name"]),)
        ]

    def greatest(self, column: str) -> Any:
        """MAX."""
        name = _quoted(column, self._backticks)
        rows = self._one(f"select max({name}) as v from {self._source}")
        return rows.column(0)[0].as_py() if rows.num_rows else None

    def read(self, column: str | None, window: Window | None) -> Iterator[pa.Table]:
        """A stream of record batches."""
        sql = f"select * from {self._source}"
        if column is not None:
            name = _quoted(column, self._backticks)
            sql += f" where {_condition(name, window)} order by {name}" if window else f" where {name} is null"
        yield from self._tables(sql)

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        """The query as it is."""
        rows = self._one(one_select(sql, ""))
        return [tuple(row.values()) for row in rows.slice(0, 2).to_pylist()]

    def _one(self, sql: str) -> pa.Table:
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetch_arrow_table()

    def _tables(self, sql: str) -> Iterator[pa.Table]:
        with self._connection.cursor() as cursor:
            with self._translated():
                cursor.execute(sql)
                batches = cursor.fetch_record_batch()
            while True:
                with self._translated():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield pa.Table.from_batches([batch])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (self._error, OSError, pa.ArrowException) as exc:
            raise _told(exc, "the database refuses") from None


def _condition(name: str, window: Window) -> str:
    pairs = ((">", window.above), (">=", window.start), ("<=", window.until))
    return " and ".join(f"{name} {operator} {_place(value)}" for operator, value in pairs if value is not None)


def _place(value: Value) -> str:
    return value.text if value.number else literal(value.text)


def _quoted(name: str, backticks: bool) -> str:
    return "`" + name.replace("`", "``") + "`" if backticks else '"' + name.replace('"', '""') + '"'


def _told(exc: Exception, what: str, hint: str | None = None) -> SourceError | TransientError:
    message = next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
    if any(word in str(exc).lower() for word in _AWAY):
        return TransientError(f"{what}: {message}", hint="the server cannot be reached now; run the same command again")
    return SourceError(f"{what}: {message}", hint=hint)
