"""SQLite, as the `sql` connector asks it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from trunkline.ingest.sql_dialect import SourceColumn, SourceTable
from trunkline.warehouse.load_sql import literal, quote


class SQLite:
    """`Dialect`. Any column may hold a value of any kind, so all of them come as text and the contract decides."""

    kind = "sqlite"

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
            "select 'main' as s, name as n, 0 as plain, 1 as here from sqlite_master "
            f"where type in ('table', 'view') and name not like 'sqlite\\_%' escape '\\'{named} order by 2"
        )

    def columns(self, table: SourceTable) -> str:
        """From the table's own description."""
        return f"select name as n, type as t from pragma_table_xinfo({literal(table.name)}) where hidden <> 1"

    def value(self, column: SourceColumn) -> str:
        """As text: a blob in hexadecimal."""
        name = quote(column.name)
        return f"case typeof({name}) when 'blob' then hex({name}) when 'real' then {_real(name)} else {_text(name)} end"

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
