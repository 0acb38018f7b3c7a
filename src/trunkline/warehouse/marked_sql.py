"""Rows that do not fit, on their way through a table: they carry their raw values under a mark.

A load is one pass over the source. Every row goes on with its casts tried; in place of `_extra` a row that does not fit
carries its raw values as JSON under a key that no data can contain (it holds the load's own random id). What is done
with such rows (why do they not fit, is there a wider type, off to the quarantine) is worked out for them alone, so a
clean source costs no more than its casts, and a source that is slow to read is read once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.warehouse import contract_sql
from trunkline.warehouse.contract_sql import RawColumn, RawRows
from trunkline.warehouse.load_sql import literal, quote, timestamp

QUARANTINE = ("load_id", "table_name", "file", "line", "errors", "raw", "quarantined_at", "quarantine_id")


def mark(load_id: str) -> str:
    """The key under which a row of this load that does not fit carries its raw values."""
    return f"$reject-{load_id}"


def marking(rows: RawRows, load_id: str) -> str:
    """SQL over `contract_sql.judged`: `_extra` as JSON, or the mark."""
    bad = contract_sql.bad(rows)
    if not bad:
        return "_x"
    texts = ", ".join(contract_sql.text(column, i) for i, column in enumerate(rows.columns))
    held = f"'why', _w, 'row', [{texts}], 'extra', _x, 'file', _f, 'op', _o, 'present', _p"
    return f"case when {bad} then json_object({literal(mark(load_id))}, 1, {held}) else _x end"


def select_rows(rows: RawRows, *, load_id: str, loaded_at: dt.datetime) -> str:
    """The SELECT of a load that appends: cast columns, `_load_id`, `_loaded_at`, `_extra` or the mark."""
    names = ", ".join(f"c{i} as {quote(column.name)}" for i, column in enumerate(rows.columns))
    return (
        f"select {names}, {literal(load_id)} as _load_id, {timestamp(loaded_at)} as _loaded_at, "
        f"cast({marking(rows, load_id)} as json) as _extra from ({contract_sql.judged(rows)})"
    )


@dataclass(frozen=True)
class Marked:
    """The marked rows of `relation`, whose column `extra` holds the marks. `columns` are as the source has them."""

    relation: str
    extra: str
    columns: tuple[RawColumn, ...]
    load_id: str
    ops: bool = False
    kept: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """SQL that is true for a marked row."""
        prefix = literal('{"' + mark(self.load_id) + '"')
        return f"starts_with(cast({self.extra} as varchar), {prefix})"

    @property
    def texts(self) -> tuple[RawColumn, ...]:
        """The columns as they are here."""
        return contract_sql.as_texts(self.columns)

    @property
    def bad(self) -> str:
        """SQL over `judged` that is true for a row that does not fit."""
        rows = RawRows("", self.texts, "", "", bad_row="_w", op="_o" if self.ops else "")
        return f"coalesce({contract_sql.bad(rows)}, false)"

    def judged(self, columns: Sequence[RawColumn] = ()) -> str:
        """A SELECT of the marked rows as `contract_sql.judged` has them, and the columns that are `kept`."""
        held = [f"json_extract_string(x, '$.row[{i}]') as r{i}" for i in range(len(self.columns))]
        named = {"_w": "why", "_f": "file", "_o": "op", "_p": "present"}
        held += [f"json_extract_string(x, '$.{name}') as {as_}" for as_, name in named.items()]
        held.append("cast(nullif(cast(json_extract(x, '$.extra') as varchar), 'null') as json) as _x")
        rows = f"select *, cast({self.extra} as varchar) as x from {self.relation} where {self.where}"
        inner = f"select {', '.join([*self.kept, *held])} from ({rows})"
        return f"select *, {contract_sql.casts(columns or self.texts)} from ({inner})"

    def quarantine(self, quarantine: str, table: str, at: dt.datetime) -> str:
        """The statement that copies those that do not fit to the quarantine."""
        errors = contract_sql.errors(self.texts, ops=self.ops)
        raw = contract_sql.raw_row(self.texts, ops=self.ops)
        rows = (
            f"select _f as file, cast(null as bigint) as line, {errors} as errors, {raw} as raw "
            f"from ({self.judged()}) where {self.bad}"
        )
        return into_quarantine(quarantine, rows, (self.load_id, table, at))

    def examples(self, limit: int = 3) -> str:
        """The errors of the first few rows that do not fit, as JSON texts."""
        errors = contract_sql.errors(self.texts, ops=self.ops)
        return f"select cast({errors} as varchar) from ({self.judged()}) where {self.bad} limit {limit}"


def into_quarantine(quarantine: str, rows: str, load: tuple[str, str, dt.datetime]) -> str:
    """INSERT of `rows` (file, line, errors, raw) for a load: its id, the table's name, the time."""
    load_id, table, at = load
    return (
        f"insert into {quarantine} ({', '.join(QUARANTINE)}) select {literal(load_id)}, {literal(table)}, file, line, "
        f"errors, raw, {timestamp(at)}, cast(uuid() as varchar) from ({rows})"
    )
