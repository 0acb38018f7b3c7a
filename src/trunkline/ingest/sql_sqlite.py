"""SQLite, as the `sql` connector asks it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from trunkline.ingest.sql_dialect import SourceColumn, SourceTable
from trunkline.warehouse.load_sql import literal, quote

_SCALED = re.compile(r"(?:decimal|numeric)\s*\((\d+)(?:\s*,\s*(\d+))?\)\Z")
_CHARACTERS = re.compile(r"n?(?:var)?char(?:acter)?(?: varying)?\s*\((\d+)\)\Z")
_TYPES = (
    ("int", "bigint"),
    ("bool", "boolean"),
    ("timestamp", "timestamp"),
    ("datetime", "timestamp"),
    ("date", "date"),
    ("json", "json"),
    ("char", "varchar"),
    ("clob", "varchar"),
    ("text", "varchar"),
    ("blob", "varchar"),
    ("real", "double"),
    ("floa", "double"),
    ("doub", "double"),
)


class SQLite:
    """`Dialect`. Any column may hold a value of any kind, so all of them come as text and the contract decides."""

    kind = "sqlite"
    nuls = True

    def session(self, dsn: str, timeout: float, root: Path) -> str:
        """The file, relative to the project. There is no server to be careful with."""
        path = unquote(dsn.partition("?")[0].removeprefix("sqlite:///")) if "://" in dsn else dsn
        return str(root / path)

    def version(self) -> str | None:
        """Nothing differs: DuckDB brings SQLite along."""
        return None

    def ask(self, database: str, sql: str, *, timeout: float, version: str) -> str:
        """SQLite itself runs it."""
        return f"sqlite_query({literal(database)}, {literal(sql)})"

    def quote(self, name: str) -> str:
        """`"name"`."""
        return quote(name)

    def place(self, value: str, column: SourceColumn | None, *, number: bool) -> str:
        """As it was: SQLite never takes a text for a number unless the column's declared type asks for it."""
        return value if number else literal(value)

    def tables(self, name: str | None) -> str:
        """From sqlite_master."""
        named = f" and lower(name) = lower({literal(name)})" if name is not None else ""
        return (
            "select 'main' as s, name as n, 0 as parallel, 1 as here from sqlite_master "
            f"where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'{named} order by 2"
        )

    def columns(self, table: SourceTable) -> str:
        """From the table's own description."""
        return (
            'select name as n, type as t, "notnull" <> 0 or pk > 0 as r, pk as p '
            f"from pragma_table_xinfo({literal(table.name)}) where hidden <> 1"
        )

    def contract(self, column: SourceColumn) -> str:
        """By the declared type, which SQLite hardly heeds: whoever asks looks whether the values are of it."""
        type_ = column.type.lower().strip()
        if found := _SCALED.match(type_):
            return f"decimal({found[1]},{found[2] or 0})" if int(found[1]) <= 38 else ""
        if found := _CHARACTERS.match(type_):
            return f"varchar({found[1]})"
        return next((meant for word, meant in _TYPES if word in type_), "")

    def value(self, column: SourceColumn) -> str:
        """As text: a blob in hexadecimal."""
        name = quote(column.name)
        return f"case typeof({name}) when 'blob' then hex({name}) when 'real' then {_real(name)} else {_text(name)} end"

    def misread(self, column: SourceColumn) -> str:
        """None is."""
        return ""

    def marked(self, expression: str) -> str:
        """Its text, and whether it is a number."""
        number = f"typeof({expression}) in ('integer', 'real')"
        exact = f"case typeof({expression}) when 'real' then {_real(expression)} else {_text(expression)} end"
        return f"case when {number} then 'n' else 't' end || {exact}"


def _text(expression: str) -> str:
    return f"cast({expression} as text)"


def _real(expression: str) -> str:
    """With as many digits as it takes to be the same number again."""
    short = _text(expression)
    return f"case when cast({short} as real) = {expression} then {short} else printf('%!.17g', {expression}) end"
