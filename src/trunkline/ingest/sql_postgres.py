"""PostgreSQL, as the `sql` connector asks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode

from trunkline.ingest.sql_dialect import SourceColumn, SourceTable
from trunkline.warehouse.load_sql import literal
from trunkline.warehouse.load_sql import quote as quoted

_CONNECT_SECONDS = 10
# A precise numeric that DuckDB has a type for. Its scan makes 0 of NaN.
_DECIMAL = re.compile(r"(?:numeric|decimal)\((\d+),(\d+)\)\Z", re.IGNORECASE)
# With fewer pages a table is one stream to DuckDB: `pg_pages_per_task` is 1,000.
_PAGES = 2_000
_INEXACT = re.compile(r"(numeric|decimal)\b|double$", re.IGNORECASE)  # DuckDB's DOUBLE is a numeric's as well
_SCALE = 9
_SCALED = re.compile(r"numeric\((\d+),(-?\d+)\)\Z")
_CHARACTERS = re.compile(r"character(?: varying)?\((\d+)\)\Z")
_TYPES = {
    "smallint": "bigint",
    "integer": "bigint",
    "bigint": "bigint",
    "oid": "bigint",
    "real": "double",
    "double precision": "double",
    "money": "decimal(19,2)",
    "boolean": "boolean",
    "date": "date",
    "time without time zone": "time",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
}
_SHAPES = re.compile(r"(point|line|lseg|box|path|polygon|circle)\Z")


class Postgres:
    """`Dialect`. Whole plain tables are scanned by DuckDB itself, in parallel and from one exported snapshot."""

    kind = "postgres"
    nuls = False

    def session(self, dsn: str, timeout: float, root: Path) -> str:
        """By the options of the connection: they hold for each that DuckDB opens, and survive its DISCARD ALL."""
        settings = {
            "default_transaction_read_only": "on",
            "statement_timeout": str(max(1, int(timeout * 1000))),
            "TimeZone": "UTC",
            "DateStyle": "ISO",
            "extra_float_digits": "1",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        if "://" not in dsn.partition("=")[0]:
            return f"{dsn} options='{options}' connect_timeout={_CONNECT_SECONDS} application_name=trunkline"
        address, _, query = dsn.partition("?")
        given = dict(parse_qsl(query))
        given["options"] = f"{given.get('options', '')} {options}".strip()
        asked = {"connect_timeout": str(_CONNECT_SECONDS), "application_name": "trunkline"} | given
        return f"{address}?{urlencode(asked, quote_via=quote)}"

    def version(self) -> str | None:
        """Nothing differs."""
        return None

    def ask(self, database: str, sql: str, *, timeout: float, version: str) -> str:
        """One COPY in PostgreSQL's binary format."""
        return f"postgres_query({literal(database)}, {literal(sql)})"

    def quote(self, name: str) -> str:
        """`"name"`."""
        return quoted(name)

    def place(self, value: str, column: SourceColumn | None, *, number: bool) -> str:
        """A literal of no type yet takes the column's."""
        return _literal(value)

    def tables(self, name: str | None) -> str:
        """From pg_class.

        DuckDB's sessions share no snapshot on a standby, nor where it takes the server for Amazon's; it has but one
        with servers before version 14.
        """
        named = f" and lower(c.relname) = lower({_literal(name)})" if name is not None else ""
        return (
            f"select n.nspname::text as s, c.relname::text as n, (c.relkind in ('r', 'm') and c.relpages >= {_PAGES} "
            "and current_setting('server_version_num')::int >= 140000 and not pg_is_in_recovery() "
            "and not exists(select 1 from pg_settings where name like 'rds%'))::int as parallel, "
            "pg_table_is_visible(c.oid)::int as here from pg_class c join pg_namespace n on n.oid = c.relnamespace "
            "where c.relkind in ('r', 'v', 'm', 'f', 'p') and n.nspname not in ('pg_catalog', 'information_schema') "
            f"and n.nspname !~ '^pg_(toast|temp)'{named} order by 4 desc, 1, 2"
        )

    def columns(self, table: SourceTable) -> str:
        """From pg_attribute."""
        name = _literal(f"{quoted(table.schema)}.{quoted(table.name)}")
        # a domain is what it is made of
        return (
            "select a.attname::text as n, case when t.typtype = 'c' then 'record' else format_type("
            "coalesce(nullif(t.typbasetype, 0), a.atttypid), "
            "case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end)::text end as t, "
            "(a.attnotnull or t.typnotnull)::int as r, coalesce(array_position(k.conkey, a.attnum), 0) as p "
            "from pg_attribute a join pg_type t on t.oid = a.atttypid "
            "left join pg_constraint k on k.conrelid = a.attrelid and k.contype = 'p' "
            f"where a.attrelid = {name}::regclass and a.attnum > 0 "
            "and not a.attisdropped order by a.attnum"
        )

    def contract(self, column: SourceColumn) -> str:
        """Of a numeric without precision only its values can tell."""
        type_ = column.type.lower()
        if type_ == "numeric":
            return ""
        if found := _SCALED.match(type_):
            digits, scale = int(found[1]), int(found[2])
            return _decimal(max(digits, scale) - min(scale, 0), max(scale, 0))
        if type_.endswith("]") or type_ in ("record", "json", "jsonb"):
            return "json"
        if found := _CHARACTERS.match(type_):
            return f"varchar({found[1]})"
        return _TYPES.get(type_, "varchar")

    def value(self, column: SourceColumn) -> str:
        """Numbers that DuckDB has no exact type for as text, arrays and records as JSON."""
        name, type_ = quoted(column.name), column.type
        if type_.endswith("]") or type_ == "record":
            return f"to_json({name})::text"
        if type_ == "money":
            return f"{name}::numeric::text"
        return f"{name}::text" if _INEXACT.match(type_) or _SHAPES.match(type_) else name

    def misread(self, column: SourceColumn) -> str:
        """A NaN in a numeric that DuckDB has a type for: it comes as 0."""
        found = _DECIMAL.match(column.type)
        exact = found and int(found[1]) <= 38 and int(found[2]) <= int(found[1])
        return f"{quoted(column.name)} = 'NaN'" if exact else ""

    def marked(self, expression: str) -> str:
        """Its text."""
        return f"'t' || ({expression})::text"


def scales(columns: Sequence[SourceColumn], source: str, rows: int) -> str:
    """A SELECT of the most digits that each numeric has after its point, among the first rows."""
    listed = ", ".join(f"max(scale({quoted(column.name)})) as {quoted(column.name)}" for column in columns)
    return f"select {listed} from (select * from {source} limit {rows}) as sample"


def scaled(scale: int | None) -> str:
    """The type for such digits; None where there was no number to see."""
    scale = _SCALE if scale is None else scale
    return _decimal(38, scale) if scale <= 2 * _SCALE else "varchar"


def _decimal(digits: int, scale: int) -> str:
    return f"decimal({digits},{scale})" if digits <= 38 else "varchar"


def native(column: SourceColumn) -> bool:
    """Whether DuckDB's own scan of a whole table gives the column without loss, `misread` apart."""
    dialect = Postgres()
    return bool(dialect.misread(column)) or dialect.value(column) == quoted(column.name)


def _literal(text: str) -> str:
    """A text; an E before it, so that a backslash means the same whatever the server's settings say."""
    return literal(text) if "\\" not in text else "E" + literal(text.replace("\\", "\\\\"))
