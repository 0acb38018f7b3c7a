"""What the databases that DuckDB scans differ in: how they are asked, and how no value is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_PART = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|([^."`]+)')


@dataclass(frozen=True)
class SourceTable:
    """A table or view. `plain` says that its rows lie in pages of its own: no view, no partitions."""

    schema: str
    name: str
    plain: bool = False


@dataclass(frozen=True)
class SourceColumn:
    """A column and its type: in the database's words for a table, in DuckDB's for a query."""

    name: str
    type: str


class Dialect(Protocol):
    """One kind of database. Text only: `ask` makes DuckDB have the server run a SELECT."""

    kind: str
    """As `SourceReader.attached` knows it, and sqlglot."""

    def session(self, dsn: str, timeout: float, root: Path) -> str:
        """The DSN with what every session of ours is: read-only, in UTC, no statement longer than `timeout` seconds."""
        ...

    def version(self) -> str | None:
        """A SELECT whose answer `ask` wants to know, if it wants any."""
        ...

    def ask(self, database: str, sql: str, *, timeout: float, version: str) -> str:
        """DuckDB's table function that has the server behind the attached `database` run `sql`."""
        ...

    def quote(self, name: str) -> str:
        """A name in the database's SQL."""
        ...

    def place(self, value: str, column: SourceColumn | None, *, number: bool) -> str:
        """A value of a cursor in the database's SQL, so that it is compared as the column's own are."""
        ...

    def tables(self, name: str | None) -> str:
        """A SELECT of what can be read, as (schema, name, plain, here): only what is called `name`, in any case.

        `here` is 1 for what an unqualified name means.
        """
        ...

    def columns(self, table: SourceTable) -> str:
        """A SELECT of a table's columns, in order, as (name, type)."""
        ...

    def value(self, column: SourceColumn) -> str:
        """The column as an expression that DuckDB reads without loss."""
        ...

    def marked(self, expression: str) -> str:
        """A cursor's value as text, with an `n` before it if it must be compared as a number, else a `t`."""
        ...


def select(dialect: Dialect, columns: Sequence[SourceColumn], source: str, where: str = "") -> str:
    """All columns of `source`, each so that nothing is lost."""
    values = ", ".join(f"{dialect.value(column)} as {dialect.quote(column.name)}" for column in columns)
    return f"select {values} from {source}{where and f' where {where}'}"


def split_name(name: str) -> tuple[str, ...]:
    """The parts of `schema.table`; quotes of SQL hold a part together.

    >>> split_name('sales."odd.name"')
    ('sales', 'odd.name')
    """
    found = []
    for double, back, plain in _PART.findall(name):
        found.append(double.replace('""', '"') or back.replace("``", "`") or plain.strip())
    return tuple(found)
