"""MySQL and MariaDB, as the `sql` connector asks them."""

from __future__ import annotations

import re
from pathlib import Path

from trunkline.ingest.sql_dialect import SourceColumn, SourceTable
from trunkline.warehouse.load_sql import literal

_NUMBER = re.compile(
    r"(u?(tiny|small|medium|big|huge)?int(eger)?|decimal|double|float|year|bit|boolean)\b", re.IGNORECASE
)
_DECIMAL = re.compile(r"decimal\((\d+)", re.IGNORECASE)
_SCALED = re.compile(r"decimal\((\d+),(\d+)\)")
_CHARACTERS = re.compile(r"(?:var)?char\((\d+)\)")
_WHOLE = re.compile(r"((tiny|small|medium|big)?int|year|bit)\Z")
_TYPES = {
    "float": "double",
    "double": "double",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamptz",
    "json": "json",
}
_FLAGS = re.compile(r"tinyint\(1\)|bit\b|boolean", re.IGNORECASE)  # a tinyint(1) may hold 2
_SHAPES = re.compile(r"(geometry|geometrycollection|(multi)?(point|linestring|polygon))\b", re.IGNORECASE)


class MySQL:
    """`Dialect`. Each statement is one stream and, in InnoDB, one snapshot."""

    kind = "mysql"
    nuls = True

    def session(self, dsn: str, timeout: float, root: Path) -> str:
        """As it is: DuckDB's sessions are in UTC, and a statement brings its own limit along."""
        return dsn

    def version(self) -> str | None:
        """MariaDB and MySQL limit statements in different words."""
        return "select version() as v"

    def ask(self, database: str, sql: str, *, timeout: float, version: str) -> str:
        """A prepared statement, read in MySQL's binary format."""
        if "mariadb" in version.lower():
            sql = f"set statement max_statement_time = {timeout:g} for {sql}"
        elif version:
            sql = re.sub(r"\Aselect\b", f"select /*+ MAX_EXECUTION_TIME({max(1, int(timeout * 1000))}) */", sql)
        return f"mysql_query({literal(database)}, {literal(sql)})"

    def quote(self, name: str) -> str:
        """`` `name` ``."""
        return "`" + name.replace("`", "``") + "`"

    def place(self, value: str, column: SourceColumn | None, *, number: bool) -> str:
        """A number as one: MySQL compares a text with a number as floating point."""
        numeric = column is not None and bool(_NUMBER.match(column.type)) and _is_number(value)
        return value if numeric else _literal(value)

    def tables(self, name: str | None) -> str:
        """From information_schema."""
        named = f" and lower(table_name) = lower({_literal(name)})" if name is not None else ""
        return (
            "select table_schema as s, table_name as n, 0 as parallel, "
            "case when table_schema = database() then 1 else 0 end as here from information_schema.tables "
            "where table_schema not in ('information_schema', 'mysql', 'performance_schema', 'sys')"
            f"{named} order by 4 desc, 1, 2"
        )

    def columns(self, table: SourceTable) -> str:
        """From information_schema."""
        return (
            "select column_name as n, cast(column_type as char) as t, is_nullable = 'NO' as r, "
            "case column_key when 'PRI' then ordinal_position else 0 end as p from information_schema.columns "
            f"where table_schema = {_literal(table.schema)} and table_name = {_literal(table.name)} "
            "order by ordinal_position"
        )

    def contract(self, column: SourceColumn) -> str:
        """A `time` is a span there; JSON is a text in MariaDB, and what is a flag may hold 2."""
        type_ = column.type.lower()
        name = type_.partition("(")[0].partition(" ")[0]
        if name == "bigint" and "unsigned" in type_:
            return "decimal(20,0)"
        if name == "decimal" and (found := _SCALED.match(type_)):
            return f"decimal({found[1]},{found[2]})" if int(found[1]) <= 38 else "varchar"
        if found := _CHARACTERS.match(type_):
            return f"varchar({found[1]})"
        return "bigint" if _WHOLE.match(name) else _TYPES.get(name, "varchar")

    def value(self, column: SourceColumn) -> str:
        """Numbers and bytes as they are, flags as numbers, a timestamp with its zone. The rest as text.

        A zero date is a value there and fails to be read in DuckDB; JSON and text of a binary collation would come as
        bytes.
        """
        name, type_ = self.quote(column.name), column.type.lower()
        if column.type.startswith("timestamp"):  # a table's; of a query's, DuckDB cannot tell which is one
            return f"concat(cast({name} as char), '+00:00')"
        if _SHAPES.match(type_):
            return f"st_astext({name})"
        if _FLAGS.match(type_):
            return f"{name} + 0"
        if type_ == "blob" and column.type == "BLOB":  # of a query: bytes, or text that is compared by its bytes
            return f"case charset({name}) when 'binary' then hex({name}) else cast({name} as char) end"
        wide = (found := _DECIMAL.match(type_)) and int(found[1]) > 38
        if wide or not (_NUMBER.match(type_) or "binary" in type_ or "blob" in type_):
            return f"cast({name} as char)"
        return name

    def misread(self, column: SourceColumn) -> str:
        """None is."""
        return ""

    def marked(self, expression: str) -> str:
        """Its text."""
        return f"concat('t', cast({expression} as char))"


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?(e[-+]?\d+)?", text, re.IGNORECASE) is not None


def _literal(text: str) -> str:
    return literal(text.replace("\\", "\\\\"))
