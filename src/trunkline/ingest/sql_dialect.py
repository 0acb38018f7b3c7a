"""What the databases that DuckDB scans differ in: how they are asked, and how no value is lost on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

WATCH = "trunkline misread"
_PART = re.compile(r'"((?:[^"]|"")+)"|`((?:[^`]|``)+)`|([^."`]+)')


@dataclass(frozen=True)
class SourceTable:
    """A table or view. `parallel` says that DuckDB itself reads it in several streams, all of one snapshot."""

    schema: str
    name: str
    parallel: bool = False


@dataclass(frozen=True)
class SourceColumn:
    """A column and its type: in the database's words for a table, in DuckDB's for a query.

    `required`: it holds no NULL. `key` is its place in the primary key, from 1; 0 outside it.
    """

    name: str
    type: str
    required: bool = False
    key: int = 0


class Dialect(Protocol):
    """One kind of database. Text only: `ask` makes DuckDB have the server run a SELECT."""

    kind: str
    """As `SourceReader.attached` knows it, and sqlglot."""

    nuls: bool
    """Whether a text may have a NUL character in it."""

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
        """A SELECT of what can be read, as (schema, name, parallel, here): only what is called `name`, in any case.

        `here` is 1 for what an unqualified name means.
        """
        ...

    def columns(self, table: SourceTable) -> str:
        """A SELECT of a table's columns, in order, as (name, type, whether it is required, place in the key)."""
        ...

    def contract(self, column: SourceColumn) -> str:
        """The type in which a contract holds a table's column; "" where only its values can tell."""
        ...

    def value(self, column: SourceColumn) -> str:
        """The column as an expression that DuckDB reads without loss."""
        ...

    def misread(self, column: SourceColumn) -> str:
        """A condition for the few values that DuckDB reads wrong where the column, read as it is, comes much faster.

        "" where it does not.
        """
        ...

    def marked(self, expression: str) -> str:
        """A cursor's value as text, with an `n` before it if it must be compared as a number, else a `t`."""
        ...


@dataclass(frozen=True)
class Selection:
    """What is read of `source`, and how: `exact`, or as fast as it goes as long as no value is misread."""

    dialect: Dialect
    columns: Sequence[SourceColumn]
    source: str
    exact: bool

    @property
    def watched(self) -> bool:
        """Whether rows say in a column `WATCH` that a value of theirs is misread."""
        return bool(self._misread)

    @property
    def _misread(self) -> str:
        found = [] if self.exact else [self.dialect.misread(column) for column in self.columns]
        return " or ".join(filter(None, found))

    def where(self, condition: str) -> str:
        """The SELECT of the rows for which the condition holds; of all without one."""
        values = [f"{self._value(column)} as {self.dialect.quote(column.name)}" for column in self.columns]
        if self.watched:
            values.append(f"case when {self._misread} then 1 end as {self.dialect.quote(WATCH)}")
        return f"select {', '.join(values)} from {self.source}{condition and f' where {condition}'}"

    def _value(self, column: SourceColumn) -> str:
        fast = not self.exact and self.dialect.misread(column)
        return self.dialect.quote(column.name) if fast else self.dialect.value(column)


def split_name(name: str) -> tuple[str, ...]:
    """The parts of `schema.table`; quotes of SQL hold a part together.

    >>> split_name('sales."odd.name"')
    ('sales', 'odd.name')
    """
    found = []
    for double, back, plain in _PART.findall(name):
        found.append(double.replace('""', '"') or back.replace("``", "`") or plain.strip())
    return tuple(found)
