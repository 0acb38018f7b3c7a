"""SQL that Snowflake takes and fakesnow 0.12.1 does not, each lack with its name and what the real thing does."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

import duckdb
import fakesnow.arrow as fakesnow_arrow
import fakesnow.copy_into as fakesnow_copy
import fakesnow.cursor as fakesnow_cursor
import numpy as np
import pyarrow as pa
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.transforms import show, stage
from fakesnow.transforms.merge import operations
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

_COMMENTS = re.compile(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", re.S)
_NAME = r'(?:"[^"]+"|[\w$]+)'

# Statements about an account's security and compute, of which the emulator has none: they succeed.
_ADMINISTRATION = re.compile(
    r"(grant|revoke)\b"
    r"|(create|alter|drop)\s+(or\s+replace\s+)?(warehouse|role|user|resource\s+monitor)\b"
    r"|use\s+secondary\s+roles\b"
    r"|comment\s+on\s+(function|procedure|stage)\b"
    r"|alter\s+session\s+(set|unset)\s+(?!timezone|autocommit|quoted_identifiers_ignore_case)",
    re.I,
)
_DDL = re.compile(r"(create|alter|drop|undrop|comment)\b", re.I)
_BEGINS = re.compile(r"(begin|start\s+transaction)\b", re.I)
_ENDS = re.compile(r"(commit|rollback)\b", re.I)
_TAG = re.compile(r"alter\s+session\s+(?:set\s+query_tag\s*=\s*'((?:[^']|'')*)'|unset\s+query_tag)", re.I)
_USE = re.compile(rf"use\s+(role|warehouse)\s+({_NAME})", re.I)
_TEMPORARY = re.compile(
    rf"\A(create\s+(?:or\s+replace\s+)?)(?:local\s+|global\s+)?(?:temporary|temp)\s+(table|view)"
    rf"(\s+if\s+not\s+exists)?\s+({_NAME}(?:\s*\.\s*{_NAME})+)",
    re.I,
)
_CHANGES = re.compile(rf"(?:update|delete\s+from|merge\s+into)\s+({_NAME}(?:\s*\.\s*{_NAME})*)", re.I)


def head(sql: str) -> str:
    """The statement without the comments before it."""
    return _COMMENTS.sub("", sql)


def worded(text: str) -> str:
    """An error as Snowflake words it, where clients read it: which object is not there."""
    missing = re.search(r"(?:Table|View) with name (\S+) does not exist!", text)
    return f"SQL compilation error:\nObject '{missing[1]}' does not exist or not authorized." if missing else text


def is_ddl(statement: str) -> bool:
    """Whether the statement is about objects and not about rows."""
    return bool(_DDL.match(statement))


def is_conflict(error: BaseException) -> bool:
    """Whether DuckDB refused the later of two changes at once."""
    return isinstance(error, duckdb.TransactionException)


class Locks:
    """UPDATE, DELETE and MERGE hold their table until the transaction ends, and others wait for it, as in Snowflake.

    DuckDB would refuse the later one instead. (Like DuckDB's, and unlike Snowflake's, a transaction sees the rows of
    the moment when it first touched the database: the first statement of a transaction should be the one that waits.)
    """

    TIMEOUT = 60.0  # Snowflake: LOCK_TIMEOUT, twelve hours unless the session says otherwise

    def __init__(self) -> None:
        self._free = Condition()
        self._held: dict[str, State] = {}
        self._waits: dict[State, str] = {}

    def take(self, table: str, state: State) -> None:
        """Wait for the table; hold it if the session is in a transaction."""
        with self._free:
            self._waits[state] = table
            granted = self._free.wait_for(lambda: self._held.get(table, state) is state, self.TIMEOUT)
            del self._waits[state]
            if not granted:
                text = f"Statement was aborted because the lock on {table} was not granted in time."
                raise ProgrammingError(msg=text, errno=625, sqlstate="57014")
            if state.in_transaction:
                self._held[table] = state

    def in_the_way(self, state: State) -> State | None:
        """Who holds the table that a session waits for."""
        return self._held.get(self._waits.get(state, ""))

    def release(self, state: State) -> None:
        """The end of a transaction."""
        with self._free:
            self._held = {table: holder for table, holder in self._held.items() if holder is not state}
            self._free.notify_all()


LOCKS = Locks()


def begins(sql: str) -> bool:
    """Whether the statement begins a transaction."""
    return bool(_BEGINS.match(head(sql)))


@dataclass(eq=False)
class State:
    """What a session has said about itself, and what it must clean up."""

    role: str
    warehouse: str | None
    user: str
    tag: str = ""
    last_query: str = ""
    in_transaction: bool = False
    temporary: list[tuple[str, str]] = field(default_factory=list)  # (TABLE or VIEW, qualified name)

    def before(self, statement: str, connection: Any) -> None:
        """A DDL statement ends the open transaction first: in Snowflake it is a transaction of its own."""
        if _DDL.match(statement) and self.in_transaction:
            connection._duck_conn.execute("COMMIT")
            self.in_transaction = False
            LOCKS.release(self)
        elif _BEGINS.match(statement):
            self.in_transaction = True
        elif changed := _CHANGES.match(statement):
            LOCKS.take(_table(changed[1], connection), self)

    def after(self, statement: str) -> None:
        """What a statement leaves behind, however it went."""
        if _ENDS.match(statement):
            self.in_transaction = False
            LOCKS.release(self)

    def takes(self, statement: str) -> bool:
        """Whether the statement is about the session or the account only, and is done with."""
        if tag := _TAG.match(statement):
            self.tag = (tag[1] or "").replace("''", "'")
            return True
        if use := _USE.match(statement):
            setattr(self, use[1].lower(), use[2].strip('"') if use[2].startswith('"') else use[2].upper())
            return True
        return bool(_ADMINISTRATION.match(statement))

    def end(self, connection: Any) -> None:
        """What the end of a session undoes."""
        LOCKS.release(self)
        if self.in_transaction:
            connection._duck_conn.execute("ROLLBACK")
        for kind, name in self.temporary:
            connection.cursor().execute(f"drop {kind} if exists {name}")


def _table(name: str, connection: Any) -> str:
    """A table's full name in one spelling."""
    parts = [part[1:-1] if part[0] == '"' else part.upper() for part in re.findall(_NAME, name)]
    return ".".join([*[str(connection.database), str(connection.schema)][: 3 - len(parts)], *parts])


def rewrite(sql: str, state: State) -> str:
    """The statement as fakesnow takes it."""
    for shim in (
        _qualified_temporary_tables,
        _scoped_temporary,
        _session_functions,
        _query_tag_parameter,
        _escaped_patterns,
    ):
        sql = shim(sql, state)
    return sql


def _qualified_temporary_tables(sql: str, state: State) -> str:
    """A temporary table may have a schema in Snowflake; DuckDB keeps all in one of its own. They become plain tables
    that go with the session. (Unlike Snowflake's, other sessions see them.)"""
    statement = head(sql)
    found = _TEMPORARY.match(statement)
    if not found:
        return sql
    create, kind, unless, name = found.groups()
    state.temporary.append((kind, name))
    return f"{create}{kind}{unless or ''} {name}{statement[found.end() :]}"


def _scoped_temporary(sql: str, state: State) -> str:
    """Snowpark says `SCOPED TEMPORARY` for what goes with a session or a procedure."""
    return re.sub(r"(?i)\bscoped\s+temporary\b", "temporary", sql)


def _session_functions(sql: str, state: State) -> str:
    """Context functions of which fakesnow knows none."""
    sql = re.sub(r"(?i)\blast_query_id\s*\(\s*\)", f"'{state.last_query}'", sql)
    if "current_" not in sql.lower():
        return sql
    values = {"role": state.role, "warehouse": state.warehouse, "user": state.user, "account": "EMULATOR"}
    values |= {"region": "LOCAL", "organization_name": "TESTS", "account_name": "EMULATOR", "secondary_roles": ""}
    for name, value in values.items():
        text = "null" if value is None else "'" + value.replace("'", "''") + "'"
        sql = re.sub(rf"(?i)\bcurrent_{name}\s*\(\s*\)", lambda _, text=text: text, sql)
    return sql


def _query_tag_parameter(sql: str, state: State) -> str:
    """`SHOW PARAMETERS LIKE 'QUERY_TAG' IN SESSION`, from which dbt learns what to set back."""
    if not re.match(r"(?i)show\s+parameters\s+like\s+'query_tag'", head(sql)):
        return sql
    tag = state.tag.replace("'", "''")
    return f"""select 'QUERY_TAG' as "key", '{tag}' as "value", '' as "default", 'SESSION' as "level" """


def _escaped_patterns(sql: str, state: State) -> str:
    """In `SHOW … LIKE` a backslash makes an underscore itself; fakesnow hands the pattern to a plain ILIKE."""
    return sql.replace("\\\\_", "_").replace("\\_", "_") if re.match(r"(?i)show\s", head(sql)) else sql


def install() -> None:
    """Change what fakesnow does with a statement after it has parsed it. Before the first FakeSnow is made."""
    fakesnow_cursor.transforms.merge = lambda expression: [expression]
    FakeSnowflakeCursor._execute = _native_merge(FakeSnowflakeCursor._execute)
    FakeSnowflakeCursor._transform = _also(FakeSnowflakeCursor._transform, _big_endian_md5, _asof_join)
    fakesnow_cursor.transforms.to_timestamp = _tried_timestamps(fakesnow_cursor.transforms.to_timestamp)
    fakesnow_arrow.timestamp_to_sf_struct = _nullable_timestamps
    fakesnow_copy._source_urls = _files_of_internal_stages(fakesnow_copy._source_urls)
    # No history is kept here, so tables say that they have none (Snowflake's default is a day).
    for name in ("SQL_CREATE_VIEW_SHOW_OBJECTS", "SQL_CREATE_VIEW_SHOW_TABLES"):
        text = getattr(show, name)
        for said in ("1 as 'retention_time'", "1 as retention_time"):
            text = text.replace(said, said.replace("1", "0", 1))
        setattr(show, name, text)


def _tried_timestamps(transform: Callable[[exp.Expression], exp.Expression]) -> Callable[..., exp.Expression]:
    """TRY_CAST gives NULL where a text is no timestamp; fakesnow makes a cast of it that fails."""

    def keep(expression: exp.Expression) -> exp.Expression:
        return expression if isinstance(expression, exp.TryCast) else transform(expression)

    return keep


def _native_merge(execute: Callable[..., None]) -> Callable[..., None]:
    """MERGE is one statement in Snowflake; fakesnow makes several over a temporary table of it, which finds names of
    the source ambiguous and cannot run in a transaction. DuckDB has a MERGE of its own by now."""

    def run(self: Any, transformed: exp.Expression, params: Any = None) -> None:
        if not isinstance(transformed, exp.Merge):
            execute(self, transformed, params)
            return
        asked = {kind: bool(indices) for kind, indices in operations(transformed).items()}
        merged = transformed.copy()
        merged.set("returning", None)
        self._conn.cursor()
        actions = f"{merged.sql(dialect='duckdb')} RETURNING merge_action"
        done = Counter(action for (action,) in self._duck_conn.execute(actions, params or []).fetchall())
        counted = {"inserted": done["INSERT"], "updated": done["UPDATE"], "deleted": done["DELETE"]}
        columns = [f'{counted[kind]} as "number of rows {kind}"' for kind, present in asked.items() if present]
        counts = exp.select(*columns, dialect="duckdb")
        counts.set("merge_counts", True)
        execute(self, counts)

    return run


def _also(transform: Callable[..., exp.Expression], *rules: Callable[..., Any]) -> Callable[..., exp.Expression]:
    """fakesnow's rewriting of a parsed statement, and these rules after it."""

    def run(self: Any, expression: exp.Expression, params: Any) -> exp.Expression:
        changed = transform(self, expression, params)
        for rule in rules:
            changed = changed.transform(rule, copy=False)
        return changed

    return run


def _big_endian_md5(node: exp.Expression) -> exp.Expression:
    """MD5_NUMBER_LOWER64 reads the digest's last eight bytes in their order; DuckDB's function reads them backwards."""
    if not isinstance(node, exp.MD5NumberLower64 | exp.MD5NumberUpper64):
        return node
    start = 17 if isinstance(node, exp.MD5NumberLower64) else 1
    digits = f"('0x' || substr(md5({node.this.sql(dialect='duckdb')}), {start}, 16))"
    number = exp.cast(exp.maybe_parse(digits, dialect="duckdb"), "ubigint", dialect="duckdb")
    return exp.cast(number, "decimal(38,0)")


def _asof_join(node: exp.Expression) -> exp.Expression:
    """Snowflake's ASOF JOIN keeps every row of the left side and has its inequality in MATCH_CONDITION; DuckDB's has
    it in ON, and says LEFT."""
    if isinstance(node, exp.Join) and (match := node.args.get("match_condition")):
        node.set("on", exp.and_(node.args.get("on"), match))
        node.set("match_condition", None)
        node.set("side", "LEFT")
    return node


def _nullable_timestamps(times: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A missing time is a missing struct; fakesnow sends a struct of nothing, which clients read as some time."""
    if isinstance(times, pa.ChunkedArray):
        times = times.combine_chunks()
    a_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[times.type.unit]
    ticks = times.cast(pa.int64()).fill_null(0).to_numpy()
    epoch = pa.array(np.floor_divide(ticks, a_second))
    fraction = pa.array((np.mod(ticks, a_second) * (10**9 // a_second)).astype("int32"))
    columns, names = [epoch, fraction], [("epoch", pa.int64()), ("fraction", pa.int32())]
    if times.type.tz:
        columns.append(pa.array([1440] * len(times), pa.int32()))  # minutes from UTC, plus a day
        names.append(("timezone", pa.int32()))
    fields = [pa.field(name, type_, nullable=False) for name, type_ in names]
    return pa.StructArray.from_arrays(columns, fields=fields, mask=times.is_null())


def _files_of_internal_stages(urls: Callable[[str, list[str]], list[str]]) -> Callable[[str, list[str]], list[str]]:
    """`COPY INTO … FILES = (…)` names files of an internal stage too; fakesnow takes only those of a bucket."""

    def run(source: str, files: list[str]) -> list[str]:
        return [f"{source.rstrip('/')}/{file}" for file in files] if stage.is_internal(source) else urls(source, files)

    return run
