"""DuckDB, with DuckLake or a database file, opened exactly as the user's dbt-duckdb profile says."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from trunkline.errors import EngineError, SourceError, TransientError
from trunkline.project.lock import locked
from trunkline.project.redact import redact
from trunkline.warehouse import attach_sql, catalog, duckdb_load, lake_sql, load_sql, profile_sql
from trunkline.warehouse.arrow_functions import Code, give
from trunkline.warehouse.duckdb_errors import first_line, redacted, refused, translate
from trunkline.warehouse.load import FileScan, LoadCounts, LoadRequest, Scan
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import PythonFunction, Tell, Written
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.retry import again

if TYPE_CHECKING:
    import pyarrow as pa

_TURN_SECONDS, _FIRST_USE_SECONDS = 600.0, 30.0
_HANDED = "trunkline_handed_rows"
_ARROW_ROWS = 122_880  # DuckDB's own row group
_WIDE_ROWS = 4_096  # of a Parquet row group, where there are lists or images
_COMMITS = "pg_advisory_xact_lock(8424637207)"  # any numbers that nobody else takes
_BUILDS = "pg_advisory_xact_lock(8424637, hashtext({schema}))"


def open_duckdb(settings: Mapping[str, Any], root: Path) -> DuckDB:
    """Open the target of a dbt-duckdb profile: `path`, `database`, `extensions`, `secrets`, `settings`, `attach`."""
    path = str(settings.get("path") or ":memory:")
    # a file is one instance for us and for dbt in this process, and DuckDB wants one configuration for it: dbt's
    config = dict(settings.get("config_options") or {})
    if path == ":memory:":
        config |= {"autoinstall_known_extensions": False, "python_enable_replacements": False}
    try:
        connection = duckdb.connect(path if path == ":memory:" else str(root / path), config=config)
    except duckdb.Error as exc:
        raise translate(exc, f"cannot open {path}") from exc
    warehouse = DuckDB(connection, catalog.database_name(settings), catalog.catalog_file(settings, root))
    try:
        warehouse.prepare(settings, root)
    except BaseException:
        connection.close()
        raise
    return warehouse


class DuckDB:
    """A `Warehouse` with all capabilities of the protocol, on one DuckDB connection."""

    name = "duckdb"

    def __init__(self, connection: duckdb.DuckDBPyConnection, database: str, file: Path | None) -> None:
        self._connection = connection
        self._database = database
        self._file = file
        self._lake = False
        self._plain = False  # a DuckLake whose metadata lies in the file of the profile, and nowhere else in it
        self._server = ""  # the PostgreSQL database behind the catalog, as this connection knows it
        self._schema = "main"
        self._depth = 0
        self._in_transaction = False
        self._reading = False  # a source: a file of it may be at fault
        self._scratch = Path(".trunkline") / "tmp"
        self._hidden: dict[str, list[str]] = {}  # by attached source: what no message may show

    def prepare(self, settings: Mapping[str, Any], root: Path) -> None:
        """Extensions, secrets, settings and attachments, in dbt-duckdb's order."""
        self._schema = str(settings.get("schema") or self._schema)
        self._scratch = root / ".trunkline" / "tmp"
        for extension in settings.get("extensions") or []:
            load_extension(self._connection, extension if isinstance(extension, str) else str(extension["name"]))
        self.execute("set timezone = 'UTC'")
        self.execute("set preserve_insertion_order = false")
        if str(settings.get("path") or ":memory:") == ":memory:":  # a file spills beside itself
            with contextlib.suppress(OSError):  # the engine makes its own folder, but not the one above it
                self._scratch.mkdir(parents=True, exist_ok=True)
            self.execute(f"set temp_directory = {literal(str(self._scratch.absolute() / f'duckdb-{os.getpid()}'))}")
        for key, value in (settings.get("settings") or {}).items():
            self.execute(f"set {quote(str(key))} = {profile_sql.option(value)}")
        with redacted("the profile's secrets", settings):
            for secret in profile_sql.secrets(settings):
                self.execute(secret)
        for attachment in catalog.attachments(settings):
            file = catalog.local_file(root, str(attachment["path"]))
            with redacted(f"cannot attach {attachment['path']}", settings, file):
                self._attach(attachment, file)
        kinds = dict(self.query("select database_name, type from duckdb_databases()"))
        if self._database not in kinds:
            raise EngineError(
                f"the profile's database {self._database!r} is not attached",
                hint=f"attached: {', '.join(map(str, kinds))}; see `attach:` in profiles.yml",
            )
        self._lake = kinds[self._database] == "ducklake"
        self._plain = self._lake and self._file is not None and not catalog.moved(settings)
        if self._lake and self.query(f"select catalog_type from ducklake_settings({literal(self._database)})") == [
            ("postgres",)
        ]:
            self._server = f"__ducklake_metadata_{self._database}"  # as DuckLake calls it
        self.execute(f"use {quote(self._database)}")

    def _attach(self, attachment: Mapping[str, Any], file: Path | None) -> None:
        path, alias = str(attachment["path"]), catalog.alias_of(attachment)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        own = file is not None and file == self._file
        more = []
        if own and path.startswith("ducklake:sqlite:") and not attachment.get("read_only"):
            more.append("meta_journal_mode 'WAL'")  # so that a reader does not hold up the writer
        new = own and file is not None and not file.exists()
        sql = profile_sql.attach(attachment, alias, *more)
        try:
            with self.writing() if new else contextlib.nullcontext():  # two first uses must not both make the catalog
                self.execute(sql)
            return
        except TransientError as exc:
            if not own and not refused(exc.what):
                raise

        def attach() -> None:
            with self.writing() if own else contextlib.nullcontext():
                self.execute(sql)

        # another first use was making the catalog: its file was there, its tables were not
        again(attach, lambda text, done=None: None, patience=_FIRST_USE_SECONDS)

    # -- Warehouse

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.run(load_sql.inline(sql, parameters) if parameters else sql)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; rows changed."""
        return _changed(self.query(sql, parameters))

    def run(self, sql: str, what: str = "") -> list[tuple[Any, ...]]:
        """`query`, whose errors begin with `what` it was for. No error shows a password of an attached source."""
        try:
            with _interruptible():
                return self._connection.execute(sql).fetchall()
        except duckdb.Error as exc:
            error = translate(exc, what, reading=self._reading)
            if not self._hidden:
                raise error from exc
        hidden = {"password": [text for texts in self._hidden.values() for text in texts]}
        raise type(error)(redact(error.what, hidden), hint=error.hint)  # out here: not even its context tells

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock file beside the catalog: SQLite catalogs and database files take one writer at a time.

        A PostgreSQL catalog takes many, and only those who build into the same schema wait for each other.
        """
        if self._depth or not (self._file or self._server):
            yield
            return
        builds = _BUILDS.format(schema=literal(self._schema.lower()))
        with self._lock_on_server(builds) if self._server else self._lock_file():
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1

    @contextlib.contextmanager
    def _lock_file(self) -> Iterator[None]:
        assert self._file is not None  # asked by `writing`
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(Path(f"{self._file}.lock"), _TURN_SECONDS))
            except TimeoutError as exc:
                raise TransientError(
                    f"another process has been writing to {self._file} for {_TURN_SECONDS:.0f} s",
                    hint="wait for it, or end it, and run the same command again",
                ) from exc
            yield

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN … COMMIT under the writers' turn; ROLLBACK on any exception, Ctrl-C included."""
        if self._in_transaction:
            yield
            return
        with self._lock_on_server(_COMMITS) if self._server else self.writing():
            self.execute("begin transaction")
            self._in_transaction = True
            try:
                yield
                self._commit()
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.execute("rollback")
                raise
            finally:
                self._in_transaction = False

    @contextlib.contextmanager
    def _lock_on_server(self, lock: str) -> Iterator[None]:
        """A lock in the PostgreSQL catalog, on a connection of its own: a transaction must begin after it is held.

        DuckLake itself takes any number of writers, and two that append never hinder each other. But who looks what is
        loaded already and then loads the rest must be alone.
        """
        side = self._connection.cursor()
        try:
            with _interruptible(), _translated("another process is writing"):
                side.execute("begin transaction")
                for ask in (f"set_config('lock_timeout', '{_TURN_SECONDS:.0f}s', true)", lock):
                    text = literal(f"select {ask}::text")
                    side.execute(f"from postgres_query({literal(self._server)}, {text})").fetchall()
            yield
        finally:
            side.close()  # its transaction, and the lock with it, ends here

    def _commit(self) -> None:
        try:
            self.execute("commit")
        except TransientError as exc:
            if refused(exc.what):
                raise
            raise EngineError(
                f"the connection was lost while a transaction was being committed: {exc.what}",
                hint="run the same command again: the ledger says what was committed",
            ) from exc

    def quote(self, name: str) -> str:
        """`"name"`."""
        return quote(name)

    def sql(self, relation: Relation) -> str:
        """`"database"."schema"."name"`."""
        return ".".join(quote(part) for part in (relation.database or self._database, relation.schema, relation.name))

    def columns(self, relation: Relation) -> list[tuple[str, str]]:
        """As DESCRIBE tells them: `duckdb_columns()` would read the catalog of every attached database."""
        with _interruptible(), _translated():
            try:
                rows = self._connection.execute(_described(f"from {self.sql(relation)}")).fetchall()
            except duckdb.CatalogException:  # there is no such relation
                return []
        return [(str(name), str(type_)) for name, type_ in rows]

    def relations(self) -> set[tuple[str, str]]:
        """Tables and views of the target's database."""
        if self._plain and not self._in_transaction:
            return {(str(schema), str(name)) for schema, name in self.query(lake_sql.relations(self._database))}
        here = literal(self._database)
        rows = self.query(
            f"select lower(schema_name), lower(table_name) from duckdb_tables() where database_name = {here} union all "
            f"select lower(schema_name), lower(view_name) from duckdb_views() where database_name = {here}"
        )
        return {(str(schema), str(name)) for schema, name in rows}

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    # -- Snapshots

    def snapshot(self, relation: Relation) -> str:
        """`version:` and DuckLake's snapshot id; a database file has none."""
        if not self._lake:
            return ""
        return f"version:{self.query(f'from {quote(self._database)}.current_snapshot()')[0][0]}"

    def at(self, relation: Relation, snapshot: str) -> str:
        """DuckLake reads the table as of the snapshot; a database file only as it is."""
        version = f" at (version => {int(snapshot.removeprefix('version:'))})" if self._lake and snapshot else ""
        return self.sql(relation) + version

    def kept(self) -> dict[str, dt.datetime]:
        """None: the catalog keeps them all, until the user expires them."""
        return {}

    def release(self, snapshot: str) -> None:
        """Nothing to give back."""

    # -- Records

    def several(self) -> str:
        """See `Records`."""
        return "DOUBLE[]"

    def create(self, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
        """CREATE TABLE IF NOT EXISTS, and the columns it lacks."""
        with self.transaction():
            self._create(relation, columns)

    def _create(self, relation: Relation, columns: Sequence[tuple[str, str]]) -> None:
        there = {name.lower() for name, _ in self.columns(relation)}
        if not there:
            self.execute(f"create schema if not exists {quote(self._database)}.{quote(relation.schema)}")
            listed = ", ".join(f"{quote(name)} {type_}" for name, type_ in columns)
            self.execute(f"create table if not exists {self.sql(relation)} ({listed})")
        for name, type_ in columns if there else ():
            if name.lower() not in there:
                self.execute(f"alter table {self.sql(relation)} add column if not exists {quote(name)} {type_}")

    def insert(self, relation: Relation, columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> None:
        """INSERT … VALUES."""
        listed = ", ".join(quote(name) for name, _ in columns)
        place = "(" + ", ".join("?" for _ in columns) + ")"
        values = [value for row in rows for value in row]
        self.execute(f"insert into {self.sql(relation)} ({listed}) values {', '.join([place] * len(rows))}", values)

    @contextlib.contextmanager
    def appending(
        self, relation: Relation, columns: Sequence[tuple[str, str]], file: Path, *, key: str | None = None
    ) -> Iterator[Callable[[], int]]:
        """Nothing to bring. With a key an anti-join, narrowed to the file's keys so that old files are skipped."""
        names = ", ".join(quote(name) for name, _ in columns)
        if file.suffix == ".parquet":
            rows = f"read_parquet({literal(str(file))})"
        else:
            types = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in columns)
            rows = f"read_json({literal(str(file))}, format='newline_delimited', columns={{{types}}})"
        new = ""
        if key is not None:
            id_ = quote(key)
            held = f"select {id_} from {self.sql(relation)} where {id_} >= (select min({id_}) from {rows})"
            new = f"where {id_} not in ({held}) qualify row_number() over (partition by {id_}) = 1"
        yield lambda: self.execute(f"insert into {self.sql(relation)} ({names}) select {names} from {rows} {new}")

    # -- ArrowReader

    def read_arrow(self, sql: str) -> pa.RecordBatchReader:
        """The rows, 122,880 at a time."""
        with _interruptible(), _translated():
            return self._connection.sql(sql).to_arrow_reader(_ARROW_ROWS)

    # -- ParquetWriter

    def write_parquet(self, sql: str, path: Path, *, key: bytes | None = None) -> Written:
        """COPY … TO, in the query's own order; the content hash is read back from the file."""
        sealed = f"encryption_config {{footer_key: {literal(self._add_key(key))}}}" if key is not None else ""
        options = [
            "format parquet",
            "compression snappy",
            f"row_group_size {self._group_rows(sql)}",
            *([sealed] if sealed else []),
        ]
        with self.in_order():
            rows = self.execute(f"copy ({sql}) to {literal(str(path))} ({', '.join(options)})")
        return Written(rows, self._content(_parquet(path, sealed)))

    def _group_rows(self, sql: str) -> int:
        """Rows of a group: few where they are wide, as readers that stream hold whole groups, twice."""
        with _translated():
            types = [str(type_) for type_ in self._connection.sql(sql).types]
        return _WIDE_ROWS if any(type_ == "BLOB" or type_.endswith("]") for type_ in types) else _ARROW_ROWS

    def content(self, path: Path) -> str:
        """The sum of the rows' hashes."""
        return self._content(_parquet(path, ""))

    def _content(self, rows: str) -> str:
        # a sum: in an exclusive or, two equal rows would cancel each other
        return format(int(self.query(f"select coalesce(sum(hash(t)), 0) from {rows} t")[0][0]), "032x")

    def write_arrow(self, rows: pa.RecordBatchReader, path: Path, *, key: bytes | None = None) -> Written:
        """Rows that another engine hands over, as `write_parquet` would write them."""
        self._connection.register(_HANDED, rows)
        try:
            return self.write_parquet(f"select * from {_HANDED}", path, key=key)
        finally:
            self._connection.unregister(_HANDED)

    def read_sealed(self, path: Path, key: bytes) -> pa.Table:
        """Decrypt and read. A wrong key is an `EngineError`."""
        sealed = f"encryption_config {{footer_key: {literal(self._add_key(key))}}}"
        with _translated(f"cannot open the sealed file {path.name}"):
            return self._connection.sql(f"from {_parquet(path, sealed)}").to_arrow_table()

    def _add_key(self, key: bytes) -> str:
        import base64
        import hashlib

        load_extension(self._connection, "httpfs")  # its OpenSSL: DuckDB alone only reads encrypted Parquet
        name = f"vault_{hashlib.sha256(key).hexdigest()[:16]}"
        self.execute(f"pragma add_parquet_key({literal(name)}, {literal(base64.b64encode(key).decode())})")
        return name

    # -- Observable

    def progress(self) -> float | None:
        """DuckDB's own estimate for the running query."""
        percent = self._connection.query_progress()
        return percent / 100 if percent >= 0 else None

    # -- FunctionHost

    def create_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """A macro gives the connection's Arrow function its SQL name and types."""
        self.recall_function(function, call)
        self.execute(f"create schema if not exists {quote(self._database)}.{quote(function.relation.schema)}")
        self.execute(f"create or replace macro {self.sql(function.relation)}{_macro(function)}")

    def try_function(self, function: PythonFunction, call: Callable[..., pa.Array], rows: Path) -> list[Any]:
        """The same macro as a temporary one."""
        self.recall_function(function, call)
        name = f"temp.main.{quote(f'trunkline_{function.relation.name}')}"
        given = ", ".join(quote(argument) for argument, _ in function.arguments)
        self.execute(f"create or replace temp macro {name}{_macro(function)}")
        try:
            with self.in_order():
                return [row[0] for row in self.query(f"select {name}({given}) from read_parquet({literal(str(rows))})")]
        finally:
            self.execute(f"drop macro if exists {name}")

    def number(self, several: str, place: int) -> str:
        """Lists count from 1."""
        return f"{several}[{place + 1}]"

    # -- FunctionRecall

    def recall_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """`call` as the Arrow function `__py_<schema>.<name>` of this connection."""
        types = [type_ for _, type_ in function.arguments]
        give(self._connection, Code(_code_name(function), call, types, function.returns, function.deterministic))

    # -- Loader

    def staged(self, request: LoadRequest, tell: Tell) -> AbstractContextManager[Callable[[], LoadCounts]]:
        """DuckDB reads sources where they are, and makes tables inside transactions (`duckdb_load.py`)."""
        return duckdb_load.staged(self, request)

    @contextlib.contextmanager
    def reaching(self, source: Scan) -> Iterator[None]:
        """What a scan needs to be read: for files behind URLs the extension, and their secret."""
        remote = source.files if isinstance(source, FileScan) else ()
        for extension in sorted({profile_sql.extension_for(file) for file in remote if "://" in file}):
            load_extension(self._connection, extension)
        secret = source.secret if isinstance(source, FileScan) else {}
        before, self._reading = self._reading, True
        try:
            with self._storage(secret) if secret else contextlib.nullcontext():
                yield
        finally:
            self._reading = before

    @contextlib.contextmanager
    def _storage(self, secret: Mapping[str, Any]) -> Iterator[None]:
        name = f"trunkline_files_{secrets.token_hex(4)}"
        self._hidden[name] = [str(value) for value in secret.values()]
        try:
            self.run(profile_sql.secret(secret, name), "`storage` of the source")
            yield
        finally:
            self.execute(f"drop temporary secret if exists {quote(name)}")
            del self._hidden[name]

    @contextlib.contextmanager
    def in_order(self) -> Iterator[None]:
        """Rows keep the order in which their source has them."""
        self.execute("set preserve_insertion_order = true")
        try:
            yield
        finally:
            self.execute("set preserve_insertion_order = false")

    def scratch(self) -> Path:
        """A folder for what is there for a moment."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def reader(self) -> DuckDB:
        """This very connection. What a query of a scan reads must stay attached until the scan is loaded."""
        return self

    # -- SourceReader

    @contextlib.contextmanager
    def attached(self, kind: str, dsn: str) -> Iterator[str]:
        """ATTACH … (READ_ONLY) under a name of its own; DETACH at the end, whatever happened."""
        database = attach_sql.attachment(kind, dsn, f"trunkline_source_{secrets.token_hex(4)}")
        load_extension(self._connection, attach_sql.EXTENSIONS[kind])
        self._hidden[database.name] = list(database.secrets)
        try:
            self._attach_source(database)
            yield quote(database.name)
        finally:
            for statement in database.after:
                with contextlib.suppress(EngineError):  # the error that ended it is the one to tell
                    self.execute(statement)
            del self._hidden[database.name]

    def _attach_source(self, database: attach_sql.Attachment) -> None:
        if database.file and not Path(database.file).is_file():
            raise SourceError(f"there is no SQLite database {database.file}", hint="is the path in `dsn` right?")
        try:
            for statement in (*database.before, database.attach):
                self.run(statement, f"cannot reach the {database.kind} database")
        except TransientError:
            raise
        except EngineError as exc:
            raise SourceError(exc.what, hint="check host, name, user and password of `dsn`") from None

    @contextlib.contextmanager
    def handed(self, rows: pa.Table) -> Iterator[str]:
        """Registered under a name of its own."""
        name = f"{_HANDED}_{secrets.token_hex(4)}"
        self._connection.register(name, rows)
        try:
            yield quote(name)
        finally:
            self._connection.unregister(name)

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """DESCRIBE."""
        rows = self.query(_described(sql))
        return [(str(name), str(type_)) for name, type_ in rows]

    def extension(self, name: str) -> None:
        """LOAD, installed first where it is not."""
        load_extension(self._connection, name)


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """LOAD an extension; if it is not installed, take it from its PyPI package, else from DuckDB's repository."""
    package = profile_sql.extension_package(name)
    try:
        with _interruptible():
            connection.execute(f"load {name}")
        return
    except duckdb.Error:
        pass  # not installed yet: the two ways to install it follow
    try:
        from duckdb_extensions import import_extension

        with _interruptible():
            import_extension(package, force_install=True, con=connection)  # also over one that a kill left half copied
            connection.execute(f"load {name}")
    except (ImportError, OSError, RuntimeError, ValueError, duckdb.Error):
        try:
            with _interruptible():
                connection.execute(f"install {name}")
                connection.execute(f"load {name}")
        except duckdb.Error as exc:
            raise EngineError(
                f"DuckDB's extension {name!r} cannot be loaded: {first_line(exc)}",
                hint=f"pip install duckdb-extension-{package.replace('_', '-')}=={duckdb.__version__}",
            ) from exc


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C as what it is: DuckDB stops a running statement with a bare RuntimeError."""
    try:
        yield
    except RuntimeError as exc:
        if "interrupted" in str(exc).lower():
            raise KeyboardInterrupt from exc
        raise


@contextlib.contextmanager
def _translated(what: str = "") -> Iterator[None]:
    try:
        yield
    except duckdb.Error as exc:
        raise translate(exc, what) from exc


def _described(sql: str) -> str:
    return f"select column_name, column_type from (describe {sql})"


def _macro(function: PythonFunction) -> str:
    """A macro's parameters and what it is: the connection's function, of values of its types."""
    names = ", ".join(quote(argument) for argument, _ in function.arguments)
    values = ", ".join(f"cast({quote(argument)} as {type_})" for argument, type_ in function.arguments)
    return f"({names}) as {quote(_code_name(function))}({values})"


def _code_name(function: PythonFunction) -> str:
    return f"__py_{function.relation}"  # with its schema: another may have a function of the same name


def _parquet(path: Path, sealed: str) -> str:
    options = f", {sealed.replace(' ', ' = ', 1)}" if sealed else ""
    return f"read_parquet({literal(str(path))}{options})"


def _changed(rows: list[tuple[Any, ...]]) -> int:
    one = len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], int)
    return int(rows[0][0]) if one else 0
