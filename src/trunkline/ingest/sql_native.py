"""Databases that DuckDB scans itself: what to read, in which windows, and the scans for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from trunkline.errors import EngineError, SourceError, TransientError, did_you_mean
from trunkline.ingest import sql_postgres
from trunkline.ingest.portable import portable
from trunkline.ingest.protocol import Batch, Instead, Known, Piece, Reach, Since
from trunkline.ingest.sql_dialect import WATCH, Dialect, Selection, SourceColumn, SourceTable, split_name
from trunkline.ingest.sql_windows import Position, Value, Window, earlier, last_position, windows
from trunkline.project.durations import seconds
from trunkline.warehouse.load import QueryScan
from trunkline.warehouse.load_sql import literal, quote

MISREAD = "a numeric column holds NaN, which DuckDB reads as 0"
_NAMES = 500
_SAMPLE = 100_000


@dataclass(frozen=True)
class _Attached:
    """A database within DuckDB's reach."""

    reach: Reach
    dialect: Dialect
    name: str
    timeout: float

    @cached_property
    def version(self) -> str:
        """The server's, where it matters."""
        asked = self.dialect.version()
        return str(self.rows(asked)[0][0]) if asked else ""

    def ask(self, sql: str) -> str:
        """DuckDB's SQL for what the server answers to `sql`."""
        version = "" if sql == self.dialect.version() else self.version
        return self.dialect.ask(self.name, sql, timeout=self.timeout, version=version)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The server's answer."""
        return self.reach.reader().query(f"from {self.ask(sql)}")


class Native:
    """One source table through DuckDB's own scanner.

    What that reads wrong (`Dialect.misread`) never enters a table: the load finds it in the snapshot that it reads, and
    reads that batch again, exactly.
    """

    def __init__(self, reach: Reach, dialect: Dialect) -> None:
        self._reach = reach
        self._dialect = dialect
        self._table = reach.tables[0]
        self._options = self._table.options

    def batches(self, since: Since) -> Iterator[Batch]:
        """What is new, read while the database is attached; its connections are closed afterwards."""
        with self._opened() as rows:
            if self._options["cursor"]:
                yield from _Beyond(self._table.source, self._options, rows, since, self._table.load).batches()
            else:
                yield from self._whole(rows, since)

    def known(self) -> Sequence[Known]:
        """What the server's catalog says of the table, or the statement of the query."""
        with self._opened() as rows:
            return rows.known()

    @contextmanager
    def _opened(self) -> Iterator[_Rows]:
        timeout = seconds(self._options["statement_timeout"])
        dsn = self._dialect.session(str(self._reach.secret(self._options["dsn"])), timeout, self._reach.root)
        with ExitStack() as stack:
            name = self._attach(dsn, stack)
            database = _Attached(self._reach, self._dialect, name.strip('"'), timeout)
            yield _Query(database, self._options["query"]) if self._options["query"] else self._found(database)

    def _attach(self, dsn: str, stack: ExitStack) -> str:
        """The database's quoted name. What the session is asked for is nothing for a message to show."""
        try:
            return stack.enter_context(self._reach.reader().attached(self._dialect.kind, dsn))
        except (EngineError, SourceError) as exc:
            raise type(exc)(exc.what.replace(f"?{dsn.partition('?')[2]}", ""), hint=exc.hint) from None

    def _whole(self, rows: _Rows, since: Since) -> Iterator[Batch]:
        anew = since.refresh or self._table.load.startswith("replace")
        cursor: dict[str, Any] | None = None
        if self._options["changed"]:
            answer = rows.answer(self._options["changed"])
            if since.same_contract(self._table) and not since.refresh and (since.cursor or {}).get("changed") == answer:
                return
            cursor = {"changed": answer}
        exact = bool((since.cursor or {}).get("nan")) or self._reach.sample
        cursor = {"nan": True, **(cursor or {})} if exact else cursor
        parallel = None if exact else rows.parallel
        if parallel is None or (rows.misread and not self._in_transaction):
            batch = self._batch(rows.where(exact=exact), cursor, anew)
        else:
            batch = replace(self._batch(parallel, cursor, anew), check=rows.check if rows.misread else None)
        kept = {"nan": True, **(cursor or {})}  # so that the next load does not try in vain
        yield replace(batch, instead=_if_misread(lambda: self._batch(rows.where(exact=True), kept, anew)))

    @property
    def _in_transaction(self) -> bool:
        """Whether the rows are read in the transaction in which the batch is checked: then both see one snapshot."""
        same: object = self._reach.reader()
        return same is self._reach.warehouse and not self._table.contract.key

    def _batch(self, sql: str, cursor: Mapping[str, Any] | None, anew: bool) -> Batch:
        scan = QueryScan(sql, null_values=tuple(self._options["null_values"]), clean=not self._dialect.nuls)
        return Batch((Piece(self._table.source, scan, replace=anew),), cursor)

    def _found(self, database: _Attached) -> _Table:
        """The table, by its name. Raises `SourceError` with the closest name if there is none."""
        name = self._options["table"] or self._table.relation.name
        parts = split_name(name)
        wanted = [self._found_row(row) for row in database.rows(self._dialect.tables(parts[-1]))]
        schema = parts[-2].lower() if len(parts) > 1 else None
        fitting = [(t, here) for t, here in wanted if (t.schema.lower() == schema if schema else here)]
        exact = [t for t, _ in fitting if t.name == parts[-1] and (not schema or t.schema == parts[-2])]
        if len(fitting) == 1 or exact:
            return _Table(database, exact[0] if exact else fitting[0][0], alone=len(fitting) == 1)
        known = [self._found_row(row)[0] for row in database.rows(self._dialect.tables(None))[:_NAMES]]
        names = [f"{t.schema}.{t.name}" if schema or not here else t.name for t, here in wanted] or [
            f"{t.schema}.{t.name}" if schema else t.name for t in known
        ]
        raise SourceError(
            f"{self._table.source}: the {self._dialect.kind} database has no table {name!r} that this user may see."
            f"{did_you_mean(name, names)}",
            hint=f"tables: {', '.join(sorted(set(names))[:20])}" if names else "the database holds no tables",
        )

    @staticmethod
    def _found_row(row: tuple[Any, ...]) -> tuple[SourceTable, bool]:
        schema, name, parallel, here = row
        return SourceTable(str(schema), str(name), int(parallel) == 1), int(here) == 1


class _Rows(ABC):
    """What is read, as the server's SQL (`source`) with its columns."""

    def __init__(self, database: _Attached) -> None:
        self.database = database
        self.dialect = database.dialect

    @property
    @abstractmethod
    def source(self) -> str:
        """What stands after FROM."""

    @property
    @abstractmethod
    def columns(self) -> Sequence[SourceColumn]:
        """Its columns."""

    @abstractmethod
    def known(self) -> Sequence[Known]:
        """What is known of them."""

    @property
    def parallel(self) -> str | None:
        """The scan of all rows by DuckDB itself in several streams, if it can be had."""
        return None

    def where(self, condition: str = "", *, also: str = "", exact: bool = False) -> str:
        """The scan of the rows for which `condition` holds on the server, and of those for which `also` does.

        It fails with `MISREAD` where DuckDB reads a value wrong, unless it is `exact`, and slower.
        """
        selection = Selection(self.dialect, self.columns, self.source, exact)
        sql = selection.where(condition)
        if also:
            sql += f" union all {selection.where(also)}"
        if not selection.watched:
            return f"select * from {self.database.ask(sql)}"
        watch = quote(WATCH)
        fails = f"case when {watch} = 1 then error({literal(MISREAD)}) else true end"
        return f"select * exclude ({watch}) from {self.database.ask(sql)} where {fails}"

    @cached_property
    def misread(self) -> str:
        """A condition for rows that `parallel` reads wrong; "" if there can be none."""
        return " or ".join(filter(None, map(self.dialect.misread, self.columns)))

    def check(self) -> None:
        """Raises `SourceError` if there is such a row, in the snapshot of the transaction that goes on."""
        asked = f"select case when exists(select 1 from {self.source} where {self.misread}) then 1 else 0 end as n"
        if int(self.database.rows(asked)[0][0]):
            raise SourceError(MISREAD)

    def column(self, name: str) -> SourceColumn:
        """The column of that name. Raises `SourceError`."""
        exact = [column for column in self.columns if column.name == name]
        found = exact or [column for column in self.columns if column.name.lower() == name.lower()]
        if not found:
            names = [column.name for column in self.columns]
            raise SourceError(
                f"the cursor {name!r} is no column of the source.{did_you_mean(name, names)}",
                hint=f"columns: {', '.join(names[:40])}",
            )
        return found[0]

    def answer(self, sql: str) -> list[str | None]:
        """The one row that a query of the project gives, as text."""
        query = _Query(self.database, sql)
        texts = ", ".join(f"{quote(column.name)}::varchar" for column in query.columns)
        rows = self.database.reach.reader().query(f"select {texts} from ({query.where(exact=True)}) limit 2")
        if len(rows) != 1:
            raise SourceError(
                f"`changed` gave {len(rows) or 'no'} rows, and its answer must be one",
                hint="ask for sums: select count(*), max(updated_at) from …",
            )
        return list(rows[0])


class _Table(_Rows):
    def __init__(self, database: _Attached, table: SourceTable, *, alone: bool) -> None:
        super().__init__(database)
        self._table = table
        self._alone = alone  # DuckDB cannot tell two names apart that differ in case only

    @property
    def source(self) -> str:
        parts = [self._table.schema, self._table.name]
        return ".".join(self.dialect.quote(part) for part in parts)

    @cached_property
    def columns(self) -> Sequence[SourceColumn]:
        rows = self.database.rows(self.dialect.columns(self._table))
        return tuple(
            SourceColumn(str(name), str(type_), int(required) == 1, int(key)) for name, type_, required, key in rows
        )

    def known(self) -> Sequence[Known]:
        types = {column.name: self.dialect.contract(column) for column in self.columns}
        open_ = [column for column in self.columns if not types[column.name]]
        if open_ and self.dialect.kind == "postgres":
            (found,) = self.database.rows(sql_postgres.scales(open_, self.source, _SAMPLE))
            types |= {column.name: sql_postgres.scaled(scale) for column, scale in zip(open_, found, strict=True)}
        return [
            Known(column.name, type_, column.required, column.key, self.dialect.kind == "sqlite" or column in open_)
            for column, type_ in zip(self.columns, types.values(), strict=True)
        ]

    @property
    def parallel(self) -> str | None:
        """PostgreSQL's large tables, where nothing is lost that way but what `check` finds."""
        names = {column.name.lower() for column in self.columns}
        simple = self._table.parallel and self._alone and len(names) == len(self.columns)
        if not simple or not all(map(sql_postgres.native, self.columns)):
            return None
        parts = [self.database.name, self._table.schema, self._table.name]
        return f"select * from {'.'.join(map(quote, parts))}"


class _Query(_Rows):
    """A SELECT of the project. Raises `SourceError` for anything else, and for one that the server refuses."""

    def __init__(self, database: _Attached, sql: str) -> None:
        super().__init__(database)
        self._sql = one_select(sql, database.dialect.kind)

    @property
    def source(self) -> str:
        return f"(\n{self._sql}\n) as trunkline_query"  # a line of its own: the query may end in a comment

    @cached_property
    def columns(self) -> Sequence[SourceColumn]:
        sql = f"select * from {self.database.ask(f'select * from {self.source}')}"
        try:
            found = self.database.reach.reader().describe(sql)
        except TransientError:
            raise
        except EngineError as exc:
            raise SourceError(f"the database refuses the query: {exc.what}", hint="try it there by hand") from exc
        return tuple(SourceColumn(name, type_) for name, type_ in found)

    def known(self) -> Sequence[Known]:
        if self.dialect.kind == "sqlite":  # of an expression it declares no type
            return ()
        return [Known(column.name, portable(column.type)) for column in self.columns]


class _Beyond:
    """The rows beyond a cursor's last value, window by window."""

    def __init__(self, source: str, options: Mapping[str, Any], rows: _Rows, since: Since, load: str) -> None:
        self._source = source
        self._options = options
        self._rows = rows
        self._since = since
        self._load = load
        self._column = rows.column(options["cursor"])
        self._name = rows.dialect.quote(self._column.name)

    def batches(self) -> Iterator[Batch]:
        """The greatest value first, so that what comes later is left to the next load; then what lies before it."""
        last = None if self._since.refresh else last_position(self._since.cursor, self._column.name)
        until = self._greatest()
        value = until or (last.value if last else None)
        end = Position(self._column.name, value)
        if self._options["lag"] is not None and value is not None:
            end = replace(end, tail=self._tail(value))
        if last is not None and last == end:
            return
        first = self._first(last, until)
        all_windows = list(windows(first, self._bounds(first)))
        for number, window in enumerate(all_windows, start=1):
            done = number == len(all_windows)
            position = end if done else Position(self._column.name, window.until)
            batch = partial(self._batch, window, position, self._since.refresh and number == 1)
            yield replace(
                batch(exact=self._rows.database.reach.sample), instead=_if_misread(partial(batch, exact=True))
            )

    def _batch(self, window: Window, position: Position, anew: bool, *, exact: bool) -> Batch:
        also = f"{self._name} is null" if window.nulls else ""
        sql = self._rows.where(self._condition(window), also=also, exact=exact)
        clean = not self._rows.dialect.nuls
        scan = QueryScan(sql, null_values=tuple(self._options["null_values"]), clean=clean)
        return Batch((Piece(self._source, scan, replace=anew),), cursor=position.to_json())

    def _first(self, last: Position | None, until: Value | None) -> Window:
        """All that is new, as one window."""
        start = self._options["start"]
        if last is None:
            given = Value(str(start), isinstance(start, int)) if start is not None else None
            return Window(until, start=given, nulls=given is None)
        if last.value is None or self._options["lag"] is None:
            return Window(until, above=last.value)
        return Window(until, above=earlier(last.value, self._options["lag"]))

    def _greatest(self) -> Value | None:
        # not max(): PostgreSQL has none for a uuid
        marked = self._rows.dialect.marked(self._name)
        sql = (
            f"select {marked} as v from {self._rows.source} where {self._name} is not null "
            f"order by {self._name} desc limit 1"
        )
        rows = self._rows.database.rows(sql)
        return Value.read(str(rows[0][0])) if rows else None

    def _bounds(self, window: Window) -> list[Value]:
        """Values that cut a window into parts of about `batch_rows` rows: none if it has no more than that."""
        most, where = int(self._options["batch_rows"]), self._condition(window)
        few = (
            f"select count(*) as n from (select 1 as one from {self._rows.source} where {where} limit {most + 1}) as w"
        )
        if int(self._rows.database.rows(few)[0][0]) <= most:
            return []
        # one pass, by the column's index if it has one; a window after the other by OFFSET would read it many times
        numbered = f"select {self._name} as c, row_number() over (order by {self._name}) as n from {self._rows.source}"
        sql = (
            f"select n, {self._rows.dialect.marked('c')} as v from ({numbered} where {where}) as w where n % {most} = 0"
        )
        return [Value.read(str(marked)) for _, marked in sorted((int(n), v) for n, v in self._rows.database.rows(sql))]

    def _condition(self, window: Window) -> str:
        tests = [
            f"{self._name} {operator} {self._rows.dialect.place(value.text, self._column, number=value.number)}"
            for operator, value in ((">", window.above), (">=", window.start), ("<=", window.until))
            if value is not None
        ]
        return " and ".join(tests or [f"{self._name} is not null"])

    def _tail(self, value: Value) -> str:
        """What the rows within the lag before `value` are.

        It is asked before they are loaded: what comes between is loaded now, and once more the next time.
        """
        window = Window(value, above=earlier(value, self._options["lag"]))
        scan = self._rows.where(self._condition(window), exact=True)
        ((rows, content),) = self._rows.database.reach.reader().query(
            f"select count(*), sum(hash(t)::hugeint) from ({scan}) t"
        )
        return f"{rows}:{int(content or 0) % 2**64:016x}"


def _if_misread(exact: Callable[[], Batch]) -> Instead:
    """The exact batch, in place of one that was read wrong."""
    return lambda error: exact() if MISREAD in error.what else None


def one_select(sql: str, kind: str) -> str:
    """A query without its last semicolon. Raises `SourceError` if it is not one SELECT."""
    import sqlglot
    from sqlglot import exp

    try:
        statements = [statement for statement in sqlglot.parse(sql, read=kind) if statement is not None]
    except sqlglot.errors.SqlglotError:
        return sql.strip().rstrip(";")  # words that only the server knows: it reads them inside a FROM ( … )
    changes = (exp.Insert, exp.Update, exp.Delete, exp.Merge, exp.Into)
    if len(statements) != 1 or not isinstance(statements[0], exp.Query) or statements[0].find(*changes):
        raise SourceError("a query must be one SELECT", hint="what it reads is loaded; it changes nothing")
    return sql.strip().rstrip(";").strip()
