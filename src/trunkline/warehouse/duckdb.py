"""DuckDB, with DuckLake or a database file, opened exactly as the user's dbt-duckdb profile says."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from trunkline.errors import ContractError, EngineError, SourceError, TransientError
from trunkline.warehouse import catalog, load_sql, scan
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import LoadCounts, LoadRequest, Relation

if TYPE_CHECKING:
    import pyarrow as pa

_AUDIT = (("_load_id", "VARCHAR"), ("_loaded_at", "TIMESTAMP WITH TIME ZONE"), ("_extra", "JSON"))
_TURN_SECONDS = 600.0


def open_duckdb(settings: Mapping[str, Any], root: Path) -> DuckDB:
    """Open the target of a dbt-duckdb profile: `path`, `database`, `schema`, `extensions`, `attach`, `settings`."""
    path = str(settings.get("path") or ":memory:")
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "python_enable_replacements": False,
    }
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
        self._depth = 0
        self._in_transaction = False

    def prepare(self, settings: Mapping[str, Any], root: Path) -> None:
        """Extensions, attachments and settings, in dbt-duckdb's order."""
        for extension in settings.get("extensions") or []:
            load_extension(self._connection, extension if isinstance(extension, str) else str(extension["name"]))
        self.execute("set timezone = 'UTC'")
        self.execute("set preserve_insertion_order = false")
        for key, value in (settings.get("settings") or {}).items():
            self.execute(f"set {quote(str(key))} = {_option(value)}")
        for attachment in catalog.attachments(settings):
            self._attach(attachment, root)
        kinds = dict(self.query("select database_name, type from duckdb_databases()"))
        if self._database not in kinds:
            raise EngineError(
                f"the profile's database {self._database!r} is not attached",
                hint=f"attached: {', '.join(map(str, kinds))}; see `attach:` in profiles.yml",
            )
        self._lake = kinds[self._database] == "ducklake"
        self.execute(f"use {quote(self._database)}")

    def _attach(self, attachment: Mapping[str, Any], root: Path) -> None:
        path, alias = str(attachment["path"]), catalog.alias_of(attachment)
        file = catalog.local_file(root, path)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        options = [f"{key} {_option(value)}" for key, value in (attachment.get("options") or {}).items()]
        if attachment.get("type"):
            options.insert(0, f"type {attachment['type']}")
        if attachment.get("read_only"):
            options.append("read_only")
        own = file is not None and file == self._file
        if own and path.startswith("ducklake:sqlite:") and not attachment.get("read_only"):
            options.append("meta_journal_mode 'WAL'")  # so that a reader does not hold up the writer
        rendered = f" ({', '.join(options)})" if options else ""
        new = own and file is not None and not file.exists()
        try:
            with self.writing() if new else contextlib.nullcontext():  # two first uses must not both make the catalog
                self.execute(f"attach if not exists {literal(path)} as {quote(alias)}{rendered}")
        except TransientError:
            raise
        except EngineError as exc:
            hint = "is it a DuckLake catalog, and whole? `attach:` in profiles.yml names it"
            raise EngineError(f"cannot attach {path}: {exc.what}", file=file, hint=hint) from exc

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
        """Hold the lock file beside the catalog: SQLite catalogs and database files take one writer at a time."""
        if self._file is None or self._depth:
            yield
            return
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
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            lock.release()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN … COMMIT under the writers' turn; ROLLBACK on any exception, Ctrl-C included."""
        if self._in_transaction:
            yield
            return
        with self.writing():
            self.execute("begin transaction")
            self._in_transaction = True
            try:
                yield
                self.execute("commit")
            except BaseException:
                with contextlib.suppress(duckdb.Error):
                    self._connection.execute("rollback")
                raise
            finally:
                self._in_transaction = False

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

    def snapshot(self) -> str:
        """DuckLake's snapshot id; a database file has none."""
        return str(self.query(f"from {quote(self._database)}.current_snapshot()")[0][0]) if self._lake else ""

    def at(self, relation: Relation, snapshot: str) -> str:
        """DuckLake reads the table as of the snapshot; a database file only as it is."""
        version = f" at (version => {int(snapshot)})" if self._lake and snapshot else ""
        return self.sql(relation) + version

    # -- ParquetWriter

    def write_parquet(self, sql: str, path: Path, *, key: bytes | None = None) -> int:
        """COPY … TO, in the query's own order."""
        self.execute("set preserve_insertion_order = true")
        try:
            options = ["format parquet", "compression zstd", "row_group_size 122880"]
            if key is not None:
                options.append(f"encryption_config {{footer_key: {literal(self._add_key(key))}}}")
            return self.execute(f"copy ({sql}) to {literal(str(path))} ({', '.join(options)})")
        finally:
            self.execute("set preserve_insertion_order = false")

    def read_sealed(self, path: Path, key: bytes) -> pa.Table:
        """Decrypt and read. A wrong key is an `EngineError`."""
        name = self._add_key(key)
        sql = f"from read_parquet({literal(str(path))}, encryption_config = {{footer_key: {literal(name)}}})"
        try:
            return self._connection.sql(sql).to_arrow_table()
        except duckdb.Error as exc:
            raise _translate(exc, f"cannot open the sealed file {path.name}") from exc

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

    # -- FileLoader

    def load_files(self, request: LoadRequest) -> LoadCounts:
        """Cast and insert in one pass per file layout, then move rejected rows to the quarantine."""
        contract = tuple((name, load_sql.check_type(name, type_)) for name, type_ in request.columns)
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

    def append_new(self, target: Relation, columns: Sequence[tuple[str, str]], file: Path, *, key: str) -> int:
        """An anti-join, narrowed to the file's range of keys so that the target's old Parquet files are skipped."""
        types = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in columns)
        names = ", ".join(quote(name) for name, _ in columns)
        rows = f"read_json({literal(str(file))}, format='newline_delimited', columns={{{types}}})"
        id_ = quote(key)
        held = f"select {id_} from {self.sql(target)} where {id_} >= (select min({id_}) from {rows})"
        return self.execute(
            f"insert into {self.sql(target)} ({names}) select {names} from {rows} "
            f"where {id_} not in ({held}) qualify row_number() over (partition by {id_}) = 1"
        )

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
    try:
        with _interruptible():
            connection.execute(f"load {name}")
        return
    except duckdb.Error:
        pass  # not installed yet: the two ways to install it follow
    try:
        from duckdb_extensions import import_extension

        with _interruptible():
            import_extension(name, force_install=True, con=connection)  # also over one that a kill left half copied
            connection.execute(f"load {name}")
    except (ImportError, OSError, RuntimeError, ValueError, duckdb.Error):
        try:
            with _interruptible():
                connection.execute(f"install {name}")
                connection.execute(f"load {name}")
        except duckdb.Error as exc:
            raise EngineError(
                f"DuckDB's extension {name!r} cannot be loaded: {_first_line(exc)}",
                hint=f"pip install duckdb-extension-{name.replace('_', '-')}=={duckdb.__version__}",
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


def _changed(rows: list[tuple[Any, ...]]) -> int:
    one = len(rows) == 1 and len(rows[0]) == 1 and isinstance(rows[0][0], int)
    return int(rows[0][0]) if one else 0


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else literal(str(value))


def _translate(exc: duckdb.Error, what: str = "") -> EngineError | SourceError:
    message = _first_line(exc)
    text = f"{what}: {message}" if what else message
    if any(word in message for word in ("No space left", "disk is full", "File too large")):
        return EngineError(text, hint="make room on the disk, and run the same command again")
    if "database is locked" in message or "onflict" in message:
        return TransientError(text, hint="another process is writing; run the same command again")
    if isinstance(exc, duckdb.InvalidInputException) and "CSV" in message:
        return SourceError(text)
    return EngineError(text)


def _first_line(exc: Exception) -> str:
    lines = [line for line in str(exc).splitlines() if line.strip()]
    with contextlib.suppress(ValueError, AttributeError, IndexError):
        return str(json.loads(lines[0])["exception_message"])
    return lines[0] if lines else type(exc).__name__
