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
# A precise numeric that DuckDB has a type for. Its scan makes 0 of NaN, so that such a column is looked at first.
_DECIMAL = re.compile(r"numeric\((\d+),(\d+)\)\Z")
_INEXACT = re.compile(r"(numeric|decimal)\b|double$", re.IGNORECASE)  # DuckDB's DOUBLE is a numeric's as well
_SHAPES = re.compile(r"(point|line|lseg|box|path|polygon|circle)\Z")


class Postgres:
    """`Dialect`. Whole plain tables are scanned by DuckDB itself, in parallel and from one exported snapshot."""

    kind = "postgres"

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
        """From pg_class."""
        named = f" and lower(c.relname) = lower({_literal(name)})" if name is not None else ""
        return (
            "select n.nspname::text as s, c.relname::text as n, (c.relkind in ('r', 'm'))::int as plain, "
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
            "case when t.typbasetype = 0 then a.atttypmod else t.typtypmod end)::text end as t from pg_attribute a "
            f"join pg_type t on t.oid = a.atttypid where a.attrelid = {name}::regclass and a.attnum > 0 "
            "and not a.attisdropped order by a.attnum"
        )

    def value(self, column: SourceColumn) -> str:
        """Numbers that DuckDB has no exact type for as text, arrays and records as JSON."""
        name, type_ = quoted(column.name), column.type
        if type_.endswith("]") or type_ == "record":
            return f"to_json({name})::text"
        if type_ == "money":
            return f"{name}::numeric::text"
        return f"{name}::text" if _INEXACT.match(type_) or _SHAPES.match(type_) else name

    def marked(self, expression: str) -> str:
        """Its text."""
        return f"'t' || ({expression})::text"


def native(column: SourceColumn) -> bool:
    """Whether DuckDB's own scan of a whole table gives the column without loss (`unsafe` apart)."""
    if found := _DECIMAL.match(column.type):
        return int(found[1]) <= 38 and int(found[2]) <= int(found[1])
    return Postgres().value(column) == quoted(column.name)


def unsafe(columns: Sequence[SourceColumn], source: str) -> str:
    """A SELECT that is 1 where DuckDB's own scan of a whole table would go wrong.

    Its sessions share one snapshot, but on a standby each has its own; and a NaN in a precise numeric is read as 0.
    """
    tests = [f"{quoted(column.name)} = 'NaN'" for column in columns if _DECIMAL.match(column.type)]
    nan = f"exists(select 1 from {source} where {' or '.join(tests)})" if tests else "false"
    return f"select case when pg_is_in_recovery() then true else {nan} end::int as n"


def _literal(text: str) -> str:
    """A text; an E before it, so that a backslash means the same whatever the server's settings say."""
    return literal(text) if "\\" not in text else "E" + literal(text.replace("\\", "\\\\"))
