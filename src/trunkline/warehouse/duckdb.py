"""DuckDB, with DuckLake or a database file, opened exactly as the user's dbt-duckdb profile says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from trunkline.errors import ContractError, EngineError, SourceError, TransientError
from trunkline.project.redact import redact
from trunkline.warehouse import catalog, load_sql, profile_sql, scan
from trunkline.warehouse.arrow_functions import Code, give
from trunkline.warehouse.load import LoadCounts, LoadRequest
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import PythonFunction, Tell, Written
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.retry import again

if TYPE_CHECKING:
    import pyarrow as pa

_AUDIT = (("_load_id", "VARCHAR"), ("_loaded_at", "TIMESTAMP WITH TIME ZONE"), ("_extra", "JSON"))
_TURN_SECONDS, _FIRST_USE_SECONDS = 600.0, 30.0
_HANDED = "trunkline_handed_rows"
_ARROW_ROWS = 122_880  # DuckDB's own row group
_COMMITS = "pg_advisory_xact_lock(8424637207)"  # any numbers that nobody else takes
_BUILDS = "pg_advisory_xact_lock(8424637, hashtext({schema}))"
_NETWORK = (
    "connection to server",
    "server closed the connection",
    "Could not establish connection",
    "Could not connect",
    "Connection refused",
    "timed out",
)


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
        raise _translate(exc, f"cannot open {path}") from exc
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
        self._server = ""  # the PostgreSQL database behind the catalog, as this connection knows it
        self._schema = "main"
        self._depth = 0
        self._in_transaction = False

    def prepare(self, settings: Mapping[str, Any], root: Path) -> None:
        """Extensions, secrets, settings and attachments, in dbt-duckdb's order."""
        self._schema = str(settings.get("schema") or self._schema)
        for extension in settings.get("extensions") or []:
            load_extension(self._connection, extension if isinstance(extension, str) else str(extension["name"]))
        self.execute("set timezone = 'UTC'")
        self.execute("set preserve_insertion_order = false")
        for key, value in (settings.get("settings") or {}).items():
            self.execute(f"set {quote(str(key))} = {profile_sql.option(value)}")
        with _redacted("the profile's secrets", settings):
            for secret in profile_sql.secrets(settings):
                self.execute(secret)
        for attachment in catalog.attachments(settings):
            file = catalog.local_file(root, str(attachment["path"]))
            with _redacted(f"cannot attach {attachment['path']}", settings, file):
                self._attach(attachment, file)
        kinds = dict(self.query("select database_name, type from duckdb_databases()"))
        if self._database not in kinds:
            raise EngineError(
                f"the profile's database {self._database!r} is not attached",
                hint=f"attached: {', '.join(map(str, kinds))}; see `attach:` in profiles.yml",
            )
        self._lake = kinds[self._database] == "ducklake"
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
            if not own and not _refused(exc.what):
                raise

        def attach() -> None:
            with self.writing() if own else contextlib.nullcontext():
                self.execute(sql)

        # another first use was making the catalog: its file was there, its tables were not
        again(attach, lambda text, done=None: None, patience=_FIRST_USE_SECONDS)

    # -- Warehouse

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self._run(load_sql.inline(sql, parameters) if parameters else sql)

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement; rows changed."""
        return _changed(self.query(sql, parameters))

    def _run(self, sql: str, what: str = "") -> list[tuple[Any, ...]]:
        try:
            with _interruptible():
                return self._connection.execute(sql).fetchall()
        except duckdb.Error as exc:
            raise _translate(exc, what) from exc

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
        from filelock import FileLock, Timeout

        self._file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{self._file}.lock")
        try:
            lock.acquire(timeout=_TURN_SECONDS)
        except Timeout as exc:
            raise TransientError(
                f"another process has been writing to {self._file} for {_TURN_SECONDS:.0f} s",
                hint="wait for it, or end it, and run the same command again",
            ) from exc
        try:
            yield
        finally:
            lock.release()

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
            if _refused(exc.what):
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
        """Names and types, from DuckDB's own catalog."""
        rows = self.query(
            "select column_name, data_type from duckdb_columns() where lower(database_name) = lower(?) "
            "and lower(schema_name) = lower(?) and lower(table_name) = lower(?) order by column_index",
            [relation.database or self._database, relation.schema, relation.name],
        )
        return [(str(name), str(type_)) for name, type_ in rows]

    def relations(self) -> set[tuple[str, str]]:
        """Tables and views of the target's database."""
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

    # -- Records

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
        self.execute("set preserve_insertion_order = true")
        try:
            options = [
                "format parquet",
                "compression zstd",
                f"row_group_size {_ARROW_ROWS}",
                *([sealed] if sealed else []),
            ]
            rows = self.execute(f"copy ({sql}) to {literal(str(path))} ({', '.join(options)})")
        finally:
            self.execute("set preserve_insertion_order = false")
        content = f"select coalesce(bit_xor(hash(t)), 0) from {_parquet(path, sealed)} t"
        return Written(rows, format(int(self.query(content)[0][0]), "016x"))

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
        names = ", ".join(quote(argument) for argument, _ in function.arguments)
        values = ", ".join(f"cast({quote(argument)} as {type_})" for argument, type_ in function.arguments)
        code = quote(_code_name(function))
        self.execute(f"create schema if not exists {quote(self._database)}.{quote(function.relation.schema)}")
        self.execute(f"create or replace macro {self.sql(function.relation)}({names}) as {code}({values})")

    # -- FunctionRecall

    def recall_function(self, function: PythonFunction, call: Callable[..., pa.Array]) -> None:
        """`call` as the Arrow function `__py_<schema>.<name>` of this connection."""
        types = [type_ for _, type_ in function.arguments]
        give(self._connection, Code(_code_name(function), call, types, function.returns, function.deterministic))

    # -- Loader

    @contextlib.contextmanager
    def staged(self, request: LoadRequest, tell: Tell) -> Iterator[Callable[[], LoadCounts]]:
        """Nothing to bring: DuckDB reads the files where they are, and makes tables inside transactions."""
        yield lambda: self._load_files(request)

    def _load_files(self, request: LoadRequest) -> LoadCounts:
        """Cast and insert in one pass per file layout, then move rejected rows to the quarantine."""
        contract = tuple((name, load_sql.check_type(name, type_)) for name, type_ in request.contract.types)
        plans = scan.readings(request.scan, contract, self.query)
        self._create_target(request, contract)
        target, quarantine = self.sql(request.target), self.sql(request.quarantine)
        inserted = refused = 0
        for reading in plans:
            self._drop_reject_tables()
            select = load_sql.select_rows(reading.rows, load_id=request.load_id, loaded_at=request.loaded_at)
            names = ", ".join(quote(name) for name, _ in (*contract, *_AUDIT))
            statement = f"insert into {target} ({names}) {select}"
            inserted += _changed(self._run(statement, f"cannot load {request.name}"))
            if reading.rejects:
                refused += self._keep_refused(request, quarantine)
        copy, delete = load_sql.move_rejects(
            target, quarantine, table=request.name, columns=contract, load_id=request.load_id
        )
        rejected = self.execute(copy)
        if rejected:
            self.execute(delete)
        return LoadCounts(read=inserted + refused, loaded=inserted - rejected, quarantined=rejected + refused)

    def _create_target(self, request: LoadRequest, contract: tuple[tuple[str, str], ...]) -> None:
        target = self.sql(request.target)
        self.execute(f"create schema if not exists {quote(self._database)}.{quote(request.target.schema)}")
        if request.replace:
            self.execute(f"drop table if exists {target}")
        there = {name.lower(): type_ for name, type_ in self.columns(request.target)}
        wanted = (*contract, *_AUDIT)
        if not there:
            columns = ", ".join(f"{quote(name)} {type_}" for name, type_ in wanted)
            self.execute(f"create table {target} ({columns})")
            return
        for name, type_ in wanted:
            if name.lower() not in there:
                self.execute(f"alter table {target} add column {quote(name)} {type_}")
            elif there[name.lower()] != self._canonical(type_) and name.lower() not in dict(_AUDIT):
                raise ContractError(
                    f"{request.name}: column {name!r} is {there[name.lower()]} in the table, {type_} in the contract",
                    hint=f"`drop table {request.target}` to load it anew, or change data_type back",
                )

    def _canonical(self, type_: str) -> str:
        return str(self.query(f"select typeof(null::{type_})")[0][0])

    def _drop_reject_tables(self) -> None:
        for table in (scan.REJECTS, scan.REJECT_SCANS):
            self.execute(f"drop table if exists temp.{table}")

    def _keep_refused(self, request: LoadRequest, quarantine: str) -> int:
        """Rows the CSV reader itself refused (ragged, bad quotes, bad encoding), one quarantine row for each."""
        return self.execute(
            f"insert into {quarantine} (load_id, table_name, file, line, errors, raw, quarantined_at) "
            f"select {literal(request.load_id)}, {literal(request.name)}, any_value(s.file_path), r.line, "
            'to_json(list(struct_pack("column" := r.column_name, "value" := null::varchar, '
            "reason := lower(cast(r.error_type as varchar)) || ': ' || r.error_message))), "
            "json_object('line', ltrim(any_value(r.csv_line), chr(10))), "
            f"{load_sql.timestamp(request.loaded_at)} "
            f"from temp.{scan.REJECTS} r join temp.{scan.REJECT_SCANS} s using (scan_id, file_id) "
            "group by r.scan_id, r.file_id, r.line, r.line_byte_position"
        )


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
                f"DuckDB's extension {name!r} cannot be loaded: {_first_line(exc)}",
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
        raise _translate(exc, what) from exc


def _code_name(function: PythonFunction) -> str:
    return f"__py_{function.relation}"  # with its schema: another may have a function of the same name


def _parquet(path: Path, sealed: str) -> str:
    options = f", {sealed.replace(' ', ' = ', 1)}" if sealed else ""
    return f"read_parquet({literal(str(path))}{options})"


def _changed(rows: list[tuple[Any, ...]]) -> int:
    one = len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], int)
    return int(rows[0][0]) if one else 0


@contextlib.contextmanager
def _redacted(what: str, settings: Mapping[str, Any], file: Path | None = None) -> Iterator[None]:
    """Errors that quote the profile, without its passwords: in the message, and in no traceback either."""
    try:
        yield
    except TransientError as exc:
        raise TransientError(redact(f"{what}: {exc.what}", settings), hint=exc.hint) from None
    except EngineError as exc:
        hint = "`attach:` and `secrets:` in profiles.yml say where the catalog is and how it is reached"
        if file is not None:
            hint = "is it a DuckLake catalog, and whole? `attach:` in profiles.yml names it"
        raise EngineError(redact(f"{what}: {exc.what}", settings), file=file, hint=hint) from None


def _refused(message: str) -> bool:
    """Another writer came first, and nothing of this transaction was done."""
    words = ("database is locked", "onflict", "ducklake_max_retry_count", "lock timeout")
    made = "Failed to initialize DuckLake" in message and ("duplicate key" in message or "already exists" in message)
    return made or any(word in message for word in words)


def _lost(message: str) -> bool:
    """A server cannot be reached, and may be reached again later."""
    if "FATAL" in message:
        return "the database system is" in message or "too many" in message or "terminating connection" in message
    return any(word in message for word in _NETWORK)


def _translate(exc: duckdb.Error, what: str = "") -> EngineError | SourceError:
    message = _first_line(exc)
    text = f"{what}: {message}" if what else message
    if any(word in message for word in ("No space left", "disk is full", "File too large")):
        return EngineError(text, hint="make room on the disk, and run the same command again")
    if _refused(message):
        return TransientError(text, hint="another process is writing; run the same command again")
    if _lost(message):
        return TransientError(text, hint="the server cannot be reached now; run the same command again")
    if isinstance(exc, duckdb.InvalidInputException) and "CSV" in message:
        return SourceError(text)
    return EngineError(text)


def _first_line(exc: Exception) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()]
    with contextlib.suppress(ValueError, AttributeError, IndexError):
        return str(json.loads(lines[0])["exception_message"])
    if len(lines) > 1 and lines[0].endswith("Failed to commit DuckLake transaction."):
        return lines[1]  # why
    return lines[0] if lines else type(exc).__name__
