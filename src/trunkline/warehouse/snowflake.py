"""Snowflake, through the official connector and the target of the user's dbt profile.

What the warehouse lacks for files on this machine is brought to it: DuckDB writes them as Parquet (`landing.py`), PUT
uploads those, COPY INTO lands them in a temporary table, and one transaction casts, inserts, quarantines and records. A
statement that makes a table commits by itself here, so tables are made before the transaction begins.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import snowflake.connector
from snowflake.connector import errors as connector_errors

from trunkline.errors import EngineError, TransientError
from trunkline.warehouse import landing, snowflake_load, snowflake_login, snowflake_results, snowflake_sql
from trunkline.warehouse.load import LoadCounts, LoadRequest
from trunkline.warehouse.protocol import Batch, PythonFunction, Tell, Written
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.snowflake_errors import translate
from trunkline.warehouse.snowflake_sql import literal, quote

if TYPE_CHECKING:
    import pyarrow as pa

    from trunkline.warehouse.duckdb import DuckDB

_SCHEMA = "trunkline"  # of our own objects: the ledger, stages, kept snapshots
_UPLOADS = 4
_ROWS_A_STATEMENT = 4_000


def open_snowflake(settings: Mapping[str, Any], root: Path) -> Snowflake:
    """Open the target of a dbt-snowflake profile. Raises `EngineError` with what Snowflake says and what mends it."""
    try:
        connection = snowflake.connector.connect(**snowflake_login.arguments(settings, root))
    except connector_errors.Error as exc:
        raise translate(exc, settings, f"cannot log in to Snowflake account {settings.get('account')}") from exc
    return Snowflake(connection, settings, root)


class Snowflake:
    """A `Warehouse` on one Snowflake session."""

    name = "snowflake"

    def __init__(
        self,
        connection: snowflake.connector.SnowflakeConnection,
        settings: Mapping[str, Any],
        root: Path = Path("."),
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._root = root
        self._database = str(settings["database"])
        self._in_transaction = False
        self._turn_ready = self._schema_ready = False
        self._local: DuckDB | None = None

    # -- Warehouse

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        with self._cursor(sql, parameters) as cursor:
            return [tuple(row) for row in cursor.fetchall()]

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; rows changed."""
        with self._cursor(sql, parameters) as cursor:
            changed = [column.name for column in cursor.description or () if column.name.startswith("number of rows")]
            return int(cursor.rowcount or 0) if changed else 0

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN … COMMIT. The first statement takes the writers' turn: an update of one row, which others wait for."""
        if self._in_transaction:
            yield
            return
        turn = self._turn()
        self.execute("begin")
        self._in_transaction = True
        try:
            self.execute(f"update {turn} set {quote('taken_at')} = current_timestamp()")
            yield
            self.execute("commit")
        except BaseException:
            with contextlib.suppress(EngineError):  # the first error is the one to tell; a lost session rolls back
                self.execute("rollback")
            raise
        finally:
            self._in_transaction = False

    def quote(self, name: str) -> str:
        """`"NAME"`, folded as Snowflake folds what is not quoted."""
        return quote(name)

    def sql(self, relation: Relation) -> str:
        """`"DATABASE"."SCHEMA"."NAME"`."""
        return ".".join(quote(part) for part in (relation.database or self._database, relation.schema, relation.name))

    def columns(self, relation: Relation) -> list[tuple[str, str]]:
        """Names as projects write them, and canonical types."""
        rows = self.query(
            "select column_name, data_type, numeric_precision, numeric_scale "
            f"from {quote(relation.database or self._database)}.information_schema.columns "
            "where table_schema = ? and table_name = ? order by ordinal_position",
            [snowflake_sql.fold(relation.schema), snowflake_sql.fold(relation.name)],
        )
        return [
            (snowflake_sql.unfold(str(name)), snowflake_sql.told_type(str(type_), precision, scale))
            for name, type_, precision, scale in rows
        ]

    def relations(self) -> set[tuple[str, str]]:
        """Tables and views of the target's database."""
        there = f"{quote(self._database)}.information_schema"
        rows = self.query(
            f"select lower(table_schema), lower(table_name) from {there}.tables "
            "where table_schema <> 'INFORMATION_SCHEMA' "
            f"union select lower(table_schema), lower(table_name) from {there}.views "
            "where table_schema <> 'INFORMATION_SCHEMA'"
        )
        return {(str(schema), str(name)) for schema, name in rows}

    def close(self) -> None:
        """End the session; temporary tables and stages go with it."""
        if self._local is not None:
            self._local.close()
        with contextlib.suppress(connector_errors.Error):  # the server ends it by itself
            self._connection.close()

    # -- Tagged

    def tag(self, text: str) -> None:
        """The session's query tag: account_usage.query_history has it with each statement's cost."""
        own = str(self._settings.get("query_tag") or "")
        self.execute(f"alter session set query_tag = {literal(snowflake_sql.tagged(own, text))}")

    # -- Records

    def several(self) -> str:
        """See `Records`."""
        return "JSON"

    def create(self, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
        """CREATE TABLE IF NOT EXISTS, and the columns it lacks."""
        self.execute(f"create schema if not exists {self.schema(relation)}")
        there = {name for name, _ in self.columns(relation)}
        if not there:
            self.execute(snowflake_sql.create_table(self.sql(relation), columns))
        self.add_columns(relation, [column for column in columns if there and column[0].lower() not in there])

    def insert(self, relation: Relation, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
        """INSERT … SELECT … FROM VALUES: only a SELECT may parse JSON."""
        names = ", ".join(quote(name) for name, _ in columns)
        values = ", ".join(_value(f"column{i}", type_) for i, (_, type_) in enumerate(columns, start=1))
        for start in range(0, len(rows), _ROWS_A_STATEMENT):
            listed = ", ".join(
                f"({', '.join(_plain(value) for value in row)})" for row in rows[start : start + _ROWS_A_STATEMENT]
            )
            self.execute(f"insert into {self.sql(relation)} ({names}) select {values} from values {listed}")

    @contextlib.contextmanager
    def appending(
        self, relation: Relation, columns: Sequence[tuple[str, str]], file: Path, *, key: str | None = None
    ) -> Iterator[Callable[[], int]]:
        """The file lands in a temporary table; then one INSERT, with a key of the rows that are not there."""
        names = ", ".join(quote(name) for name, _ in columns)
        values = ", ".join(_value(quote(name), type_) for name, type_ in columns)
        with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch, self.temporary("table") as table:
            files = landing.land_records(self.engine(), columns, file, Path(scratch) / "files")
            landed = [(name, landing.record_type(type_)) for name, type_ in columns]
            self.execute(snowflake_sql.create_table(table, landed, verb="create temporary table"))
            self.upload(files, table, lambda text, done=None: None)
            new = ""
            if key is not None:
                id_ = quote(key)
                new = (
                    f"where {id_} not in (select {id_} from {self.sql(relation)} where {id_} is not null) "
                    f"qualify row_number() over (partition by {id_} order by {id_}) = 1"
                )
            insert = f"insert into {self.sql(relation)} ({names}) select {values} from {table} {new}"
            yield lambda: self.execute(insert)

    # -- Loader

    def reader(self) -> DuckDB:
        """The DuckDB in this process that reads what Snowflake cannot."""
        return self.engine()

    def staged(self, request: LoadRequest, tell: Tell) -> contextlib.AbstractContextManager[Callable[[], LoadCounts]]:
        """What is read here goes there as Parquet (`snowflake_load.py`)."""
        return snowflake_load.staged(self, request, tell)

    # -- Snapshots

    def snapshot(self, relation: Relation) -> str:
        """`time-travel:` and the time where the table's history is kept, else `clone:` and the name of a clone.

        A view has no history: it is copied.
        """
        place = f"in schema {self.schema(relation)}"
        name = snowflake_sql.fold(relation.name)
        with self._cursor(f"show tables like {literal(name)} {place}") as cursor:  # `_` is any character there
            names = [column.name for column in cursor.description]
            tables = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        tables = [table for table in tables if table["name"] == name]
        now = self.query("select current_timestamp()")[0][0].astimezone(dt.UTC)
        if tables and str(tables[0].get("retention_time") or "0") not in ("", "0"):
            return f"time-travel:{now.isoformat()}"
        clone = snowflake_sql.clone_name(relation, now, secrets.token_hex(3))
        self.execute(f"create schema if not exists {self.schema(Relation(_SCHEMA, ''))}")
        how = f"clone {self.sql(relation)}" if tables else f"as select * from {self.sql(relation)}"
        self.execute(f"create transient table {self.sql(Relation(_SCHEMA, clone))} {how}")
        return f"clone:{clone}"

    def at(self, relation: Relation, snapshot: str) -> str:
        """Time travel, or the clone."""
        kind, _, value = snapshot.partition(":")
        if kind == "clone":
            return self.sql(Relation(_SCHEMA, value))
        travel = f" at (timestamp => cast({literal(value)} as timestamp_tz))" if kind == "time-travel" else ""
        return self.sql(relation) + travel

    def kept(self) -> dict[str, dt.datetime]:
        """The clones."""
        names = [name for schema, name in self.relations() if schema == _SCHEMA]
        return {f"clone:{name}": at for name in names if (at := snowflake_sql.cloned_at(name))}

    def release(self, snapshot: str) -> None:
        """DROP TABLE of a clone."""
        kind, _, name = snapshot.partition(":")
        if kind == "clone" and snowflake_sql.cloned_at(name):
            self.execute(f"drop table if exists {self.sql(Relation(_SCHEMA, name))}")

    # -- ArrowReader, BatchReader, ParquetWriter, Unloader

    def read_arrow(self, sql: str) -> pa.RecordBatchReader:
        """The connector downloads ahead in threads; batches come in the result's order."""
        cursor = self._run(sql)
        return snowflake_results.reader(cursor, self._translated)

    def batches(self, sql: str) -> Sequence[Batch]:
        """The result's own parts. Each knows where to download itself from, for some hours."""
        cursor = self._run(sql)
        with self._translated():
            return snowflake_results.batches(cursor)

    def write_parquet(self, sql: str, path: Path, *, key: bytes | None = None) -> Written:
        """The result as Arrow, written by DuckDB here as if it were the warehouse."""
        return self.engine().write_arrow(self.read_arrow(sql), path, key=key)

    def content(self, path: Path) -> str:
        """By DuckDB, which wrote it."""
        return self.engine().content(path)

    def read_sealed(self, path: Path, key: bytes) -> pa.Table:
        """Read by DuckDB here: the file is on this machine."""
        return self.engine().read_sealed(path, key)

    def unload(self, sql: str, folder: Path | str, tell: Tell) -> int:
        """COPY INTO a stage, then GET. A `folder` that begins with `@` is a stage of the user's: nothing comes here.

        Snowflake unloads no times with a zone as Parquet: they become wall clocks of UTC.
        """
        options = "file_format = (type = parquet) header = true max_file_size = 160000000"
        with self._translated():
            described = self._connection.cursor().describe(sql)
        sql = snowflake_results.without_zones(sql, described)
        if str(folder).startswith("@"):
            return self._unloaded(f"copy into {folder} from ({sql}) {options}")
        with self.temporary("stage") as stage:
            self.execute(f"create temporary stage {stage}")
            tell("unloading")
            rows = self._unloaded(f"copy into @{stage}/rows from ({sql}) {options}")
            Path(folder).mkdir(parents=True, exist_ok=True)
            tell("downloading")
            self.query(f"get @{stage} {literal(f'file://{folder}/')} parallel = {_UPLOADS}")
        return rows

    def _unloaded(self, statement: str) -> int:
        with self._cursor(statement) as cursor:
            names = [column.name for column in cursor.description]
            return int(cursor.fetchall()[0][names.index("rows_unloaded")])

    # -- FunctionHost

    def create_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """Its files on a stage, its source in CREATE FUNCTION. `call` is for engines in this process."""
        self.execute(f"create schema if not exists {self.schema(function.relation)}")
        imports = []
        if function.files:
            schema = self.schema(Relation(_SCHEMA, ""))
            self.execute(f"create schema if not exists {schema}")
            stage = snowflake_sql.bare(self._database, _SCHEMA, "functions")
            self.execute(f"create stage if not exists {stage}")
            for file in function.files:
                self._put(file, f"@{stage}")
                imports.append(f"@{stage}/{file.name}")
        self.execute(snowflake_sql.create_function(self.sql(function.relation), function, imports))

    def try_function(self, function: PythonFunction, call: Callable[..., pa.Array], rows: Path) -> list[Any]:
        """A temporary function over a temporary table, with their files on a temporary stage."""
        with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch, contextlib.ExitStack() as stack:
            table, stage = stack.enter_context(self.temporary("table")), stack.enter_context(self.temporary("stage"))
            self.execute(f"create temporary stage {stage}")
            for file in function.files:
                self._put(file, f"@{stage}")
            imports = [f"@{stage}/{file.name}" for file in function.files]
            columns = landing.land_arguments(self.engine(), function.arguments, rows, Path(scratch) / "rows")
            self.execute(snowflake_sql.create_table(table, columns, verb="create temporary table"))
            self.upload(sorted(Path(scratch, "rows").iterdir()), table, lambda text, done=None: None)
            name, kinds = f"{table}_function", ", ".join(snowflake_sql.column_type(t) for _, t in function.arguments)
            made = snowflake_sql.create_function(name, function, imports, "create or replace temporary function")
            stack.callback(self.execute, f"drop function if exists {name}({kinds})")
            self.execute(made)
            types = [(argument, "JSON" if type_.endswith("[]") else type_) for argument, type_ in function.arguments]
            given = ", ".join(_value(quote(argument), type_) for argument, type_ in types)
            scored = f"select {name}({given}) from {table} order by {quote(landing.PLACE)}"
            return [row[0] for row in self.query(scored)]

    def number(self, several: str, place: int) -> str:
        """Out of a VARIANT that holds an array."""
        return f"get({several}, {place})::float"

    # -- inside

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> snowflake.connector.cursor.SnowflakeCursor:
        text = snowflake_sql.inline(sql, parameters) if parameters else sql
        with self._translated():
            cursor = self._connection.cursor()
            cursor.execute(text)
            return cursor

    @contextlib.contextmanager
    def _cursor(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
        cursor = self._run(sql, parameters)
        try:
            with self._translated():
                yield cursor
        finally:
            cursor.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except connector_errors.Error as exc:
            raise translate(exc, self._settings) from exc

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the writers' turn for a statement that makes a table, which would end a transaction of this session: in
        one of another session, so with a log-in of its own."""
        other = open_snowflake(self._settings, self._root)
        with contextlib.closing(other), other.transaction():
            yield

    def schema(self, relation: Relation) -> str:
        """The quoted name of its schema."""
        return f"{quote(relation.database or self._database)}.{quote(relation.schema)}"

    def _turn(self) -> str:
        """The table whose one row writers take turns to update."""
        table = Relation(_SCHEMA, "turn")
        if not self._turn_ready:
            self.create(table, (("taken_at", "TIMESTAMP WITH TIME ZONE"),))
            held = f"select count(*) as n from {self.sql(table)}"
            self.execute(f"insert into {self.sql(table)} select null from ({held}) where n = 0")
            self._turn_ready = True
        return self.sql(table)

    def add_columns(self, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
        """ALTER TABLE ADD COLUMN for each."""
        for name, type_ in columns:
            added = f"{quote(name)} {snowflake_sql.column_type(type_)}"
            self.execute(f"alter table {self.sql(relation)} add column if not exists {added}")

    @contextlib.contextmanager
    def temporary(self, kind: Literal["table", "stage"]) -> Iterator[str]:
        """A name for a table or a stage that goes at the end, or with the session if that is cut off."""
        if not self._schema_ready:
            self.execute(f"create schema if not exists {self.schema(Relation(_SCHEMA, ''))}")
            self._schema_ready = True
        name = snowflake_sql.bare(self._database, _SCHEMA, f"temporary_{secrets.token_hex(6)}")
        try:
            yield name
        finally:
            with contextlib.suppress(EngineError):  # a lost session has dropped it already
                self.execute(f"drop {kind} if exists {name}")

    def upload(self, files: Sequence[Path], table: str, tell: Tell) -> None:
        """PUT, several at a time, then one COPY INTO of all of them."""
        with self.temporary("stage") as stage:
            self.execute(f"create temporary stage {stage}")
            total = sum(file.stat().st_size for file in files) or 1
            done = 0
            with ThreadPoolExecutor(_UPLOADS) as pool:
                puts = {pool.submit(self._put, file, f"@{stage}"): file for file in files}
                for put in as_completed(puts):
                    put.result()
                    done += puts[put].stat().st_size
                    tell(f"uploading {done / 1e6:,.0f} of {total / 1e6:,.0f} MB", done / total)
            tell("copying into Snowflake")
            self.query(snowflake_sql.copy_into(table, f"@{stage}"))

    def _put(self, file: Path, stage: str) -> None:
        where = literal(f"file://{file}")
        rows = self.query(f"put {where} {stage} auto_compress = false overwrite = true parallel = {_UPLOADS}")
        statuses = {str(row[6]).upper() for row in rows if len(row) > 6}
        if statuses - {"UPLOADED", "SKIPPED"}:
            raise TransientError(f"cannot upload {file.name}: {', '.join(sorted(statuses))}", hint="run it again")

    def engine(self) -> DuckDB:
        """DuckDB in this process, for what concerns files on this machine."""
        if self._local is None:
            from trunkline.warehouse.duckdb import open_duckdb

            self._local = open_duckdb({"path": ":memory:", "extensions": ["icu"]}, self._root)
        return self._local


def _plain(value: object) -> str:
    """A value for VALUES, which takes no casts: times as text."""
    return literal(value.isoformat()) if isinstance(value, dt.datetime) else snowflake_sql.scalar(value)


def _value(column: str, type_: str) -> str:
    if type_.upper() == "JSON":
        return f"parse_json({column})"
    return f"cast({column} as {snowflake_sql.column_type(type_)})"
