"""The `sql` connector through dlt: any database that SQLAlchemy knows, its rows as Arrow."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pyarrow as pa

from trunkline.errors import ProjectError, SourceError, TransientError, did_you_mean
from trunkline.ingest.protocol import Batch, Known, Reach, Since
from trunkline.ingest.sql_dialect import split_name
from trunkline.ingest.sql_native import one_select
from trunkline.ingest.sql_stream import Streamed
from trunkline.ingest.sql_windows import Value, Window

_CHUNK_ROWS = 50_000


class DltSql:
    """`connector: sql` with `through: dlt`. `dsn` is a URL of SQLAlchemy's."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._options = reach.tables[0].options
        if self._options["query"]:
            raise SourceError(
                "`through: dlt` reads tables and views, no queries", hint="make the query a view in that database"
            )

    def batches(self, since: Since) -> Iterator[Batch]:
        """What is new."""
        return Streamed(self._reach, self._connect).batches(since)

    def known(self) -> Sequence[Known]:
        """What SQLAlchemy reflects of the table's key and NULLs. The types are those of the rows."""
        with self._connect() as database:
            return database.known()

    @contextmanager
    def _connect(self) -> Iterator[_Connected]:
        try:
            import sqlalchemy as sa
            from dlt.sources.sql_database import sql_table
        except ImportError as exc:
            raise ProjectError(
                "`through: dlt` needs dlt and SQLAlchemy", hint="pip install 'dlt[sql_database]'"
            ) from exc
        dsn = str(self._reach.secret(self._options["dsn"]))
        try:
            engine = sa.create_engine(_url(dsn, self._reach))
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ImportError) as exc:
            raise SourceError(
                f"SQLAlchemy cannot use this `dsn`: {_first_line(exc)}",
                hint="pip install what SQLAlchemy's page on that database names; the URL is dialect+driver://…",
            ) from None
        try:
            yield _Connected(sa, sql_table, engine, self._options["table"] or self._reach.tables[0].relation.name)
        except sa.exc.OperationalError as exc:
            lost = bool(exc.connection_invalidated) or any(
                w in str(exc).lower() for w in ("refused", "timed out", "lost")
            )
            kind = TransientError if lost else SourceError
            raise kind(f"the database refuses: {_first_line(exc)}") from None
        except sa.exc.SQLAlchemyError as exc:
            raise SourceError(f"the database refuses: {_first_line(exc)}") from None
        finally:
            engine.dispose()


class _Connected:
    """`Database`, in SQLAlchemy's expressions; rows by dlt's `sql_table`."""

    def __init__(self, sa: Any, sql_table: Any, engine: Any, name: str) -> None:
        self._sa = sa
        self._sql_table = sql_table
        self._engine = engine
        parts = split_name(name)
        self._name, self._schema = parts[-1], (parts[-2] if len(parts) > 1 else None)
        inspector = sa.inspect(engine)
        there = [*inspector.get_table_names(self._schema), *inspector.get_view_names(self._schema)]
        if self._name not in there:
            raise SourceError(
                f"the database has no table {name!r}.{did_you_mean(self._name, there)}",
                hint=f"tables: {', '.join(sorted(there)[:20])}",
            )
        self._table = sa.Table(self._name, sa.MetaData(), schema=self._schema, autoload_with=engine)

    def columns(self) -> list[str]:
        """As reflected."""
        return [str(column.name) for column in self._table.columns]

    def known(self) -> Sequence[Known]:
        """As reflected."""
        key = [column.name for column in self._table.primary_key.columns]
        return [
            Known(str(one.name), "", not one.nullable, key.index(one.name) + 1 if one.name in key else 0)
            for one in self._table.columns
        ]

    def greatest(self, column: str) -> Any:
        """MAX."""
        with self._engine.connect() as connection:
            return connection.execute(self._sa.select(self._sa.func.max(self._table.c[column]))).scalar()

    def read(self, column: str | None, window: Window | None) -> Iterator[pa.Table]:
        """dlt's chunks."""

        def narrowed(query: Any, table: Any, *_: Any) -> Any:
            if column is None:
                return query
            one = table.c[column]
            if window is None:
                return query.where(one.is_(None))
            for value, test in (
                (window.above, one.__gt__),
                (window.start, one.__ge__),
                (window.until, one.__le__),
            ):
                query = query.where(test(_typed(value, one))) if value is not None else query
            return query.order_by(one)

        resource = self._sql_table(
            credentials=self._engine,
            table=self._name,
            schema=self._schema,
            backend="pyarrow",
            chunk_size=_CHUNK_ROWS,
            reflection_level="full_with_precision",
            query_adapter_callback=narrowed,
        )
        for chunk in resource:
            yield chunk if isinstance(chunk, pa.Table) else pa.Table.from_batches([chunk])

    def answer(self, sql: str) -> list[tuple[Any, ...]]:
        """The query as it is."""
        with self._engine.connect() as connection:
            return [tuple(row) for row in connection.execute(self._sa.text(one_select(sql, ""))).fetchmany(2)]


def _typed(value: Value, column: Any) -> Any:
    """A cursor's text as what SQLAlchemy binds to the column."""
    try:
        kind = column.type.python_type
    except NotImplementedError:
        return value.text
    if kind is dt.datetime:
        return dt.datetime.fromisoformat(value.text)
    if kind is dt.date:
        return dt.date.fromisoformat(value.text)
    return kind(value.text) if kind in (int, float, Decimal) else value.text


def _url(dsn: str, reach: Reach) -> str:
    """A SQLite file is relative to the project."""
    if dsn.startswith("sqlite:///"):
        return f"sqlite:///{reach.root / dsn.removeprefix('sqlite:///')}"
    return dsn


def _first_line(exc: Exception) -> str:
    return next((line for line in str(exc).splitlines() if line.strip()), type(exc).__name__)
