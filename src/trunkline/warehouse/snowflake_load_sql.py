"""The SQL of a load on Snowflake: from a landing table of texts into the target, or into the quarantine.

DuckDB has judged the rows already, by the same code as when it is the warehouse itself (`landing.py`): a text that fits
is spelt in one way (ISO 8601, plain numbers), and a row that does not fit carries its errors. What is left to Snowflake
is to cast, and to set aside what its own types cannot hold. Text only: nothing here opens a connection.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.warehouse.load_sql import check_type
from trunkline.warehouse.snowflake_sql import AUDIT, canonical, column_type, literal, quote, timestamp

QUARANTINED = (
    "load_id",
    "table_name",
    "file",
    "line",
    "errors",
    "raw",
    "quarantined_at",
    "quarantine_id",
)


@dataclass(frozen=True)
class Landed:
    """A landing table: one text column `R0`… for each column of the contract, and what else is known of a row.

    `X` is the JSON of columns outside the contract, `F` the file, `L` the line, `E` the errors as a JSON array (NULL:
    it fits), `Q` the raw row as JSON where it has errors, `N` when the row came, `P` what it does ("update", "delete";
    NULL: it is there as told), `A` which columns an update has: "1" or "0" for each. In a query the table is `L`, since
    a target's columns may have any of these names.
    """

    table: str
    columns: tuple[tuple[str, str], ...]

    def create(self) -> str:
        """The statement that makes it; it goes with the session."""
        texts = ", ".join(f"R{i} varchar" for i in range(len(self.columns)))
        around = "X varchar, F varchar, L number(38,0), E varchar, Q varchar, N number(38,0), P varchar, A varchar"
        return f"create temporary table {self.table} ({texts}, {around})"

    @property
    def bad(self) -> str:
        """SQL that is true for a row that goes to the quarantine."""
        return " or ".join(["L.E is not null", *(test for _, test in self._refused())])

    def _refused(self) -> list[tuple[int, str]]:
        """The columns of which Snowflake may refuse a value that DuckDB took, and SQL that is true where it does."""
        tests = [(i, cast(f"L.R{i}", type_)) for i, (_, type_) in enumerate(self.columns)]
        return [(i, f"(L.R{i} is not null and {value} is null)") for i, value in tests if value != f"L.R{i}"]

    def count(self) -> str:
        """Rows, rows that do not fit, and rows that fit and delete, and that fit and update."""
        doing = [f"count_if(L.P = '{what}' and not ({self.bad}))" for what in ("delete", "update")]
        return f"select count(*), count_if({self.bad}), {', '.join(doing)} from {self.table} as L"

    def apply(self, target: str, load_id: str, loaded_at: dt.datetime) -> list[str]:
        """The rows that fit, cast, into the target."""
        return [f"insert into {target} ({self.names()}) {self.select(load_id, loaded_at)}"]

    def names(self) -> str:
        """The target's columns that a load fills."""
        return ", ".join(quote(name) for name, _ in (*self.columns, *AUDIT))

    def select(self, load_id: str, loaded_at: dt.datetime) -> str:
        """The rows that fit, cast, with the audit columns."""
        values = [cast(f"L.R{i}", type_) for i, (_, type_) in enumerate(self.columns)]
        listed = named([*values, *audit("L.X", load_id, loaded_at)], (*self.columns, *AUDIT))
        return f"select {listed} from {self.table} as L where not ({self.bad})"

    def errors(self) -> str:
        """A row's errors, each an object of column, value and reason: DuckDB's, else Snowflake's own."""
        own = ", ".join(f"iff({test}, {self._error(i)}, null)" for i, test in self._refused())
        return f"coalesce(parse_json(L.E), array_construct_compact({own}))" if own else "parse_json(L.E)"

    def _error(self, i: int) -> str:
        name, type_ = self.columns[i]
        reason = literal(f"does not cast to Snowflake's {column_type(type_)}")
        return f"object_construct_keep_null('column', {literal(name)}, 'value', L.R{i}, 'reason', {reason})"

    def quarantine(self, quarantine: str, *, table: str, load_id: str, at: dt.datetime) -> str:
        """The rows that do not fit, with the column, the value and the reason, into the quarantine."""
        row = ", ".join(f"{literal(name)}, L.R{i}" for i, (name, _) in enumerate(self.columns))
        return (
            f"insert into {quarantine} ({', '.join(map(quote, QUARANTINED))}) "
            f"select {literal(load_id)}, {literal(table)}, L.F, L.L, {self.errors()}, "
            f"coalesce(try_parse_json(L.Q), object_construct_keep_null({row})), {timestamp(at)}, uuid_string() "
            f"from {self.table} as L where {self.bad}"
        )

    def examples(self, limit: int) -> str:
        """A few errors of rows that do not fit, as JSON arrays."""
        errors = f"cast({self.errors()} as varchar)"
        return f"select {errors} from {self.table} as L where {self.bad} order by L.N limit {limit}"


def audit(extra: str, load_id: str, loaded_at: dt.datetime) -> list[str]:
    """The values of the audit columns, as SQL; `extra` is SQL for the text of `_extra`."""
    return [literal(load_id), timestamp(loaded_at), f"try_parse_json({extra})"]


def named(values: Sequence[str], columns: Sequence[tuple[str, str]]) -> str:
    """Values with the names of a target's columns, for a SELECT."""
    return ", ".join(f"{value} as {quote(name)}" for value, (name, _) in zip(values, columns, strict=True))


def cast(text: str, type_: str) -> str:
    """SQL for a landed text as a value of the contract's type; NULL where Snowflake has no such value."""
    name = column_type(canonical(check_type(text, type_)))
    if name == "VARCHAR":
        return text
    if name == "VARIANT":
        return f"try_parse_json({text})"
    if name == "BINARY":
        return f"try_to_binary({text}, 'HEX')"
    return f"try_cast({text} as {name})"
