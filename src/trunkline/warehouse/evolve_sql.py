"""Wider types for values that do not fit, as SQL for DuckDB."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from trunkline.warehouse import contract_sql
from trunkline.warehouse.marked_sql import Marked

_WIDEST = "DECIMAL(38,0)"
_EXACT = 2**53  # a DOUBLE holds every integer up to here
_SMALL = ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER")
_LARGE = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", _WIDEST)


def wider(type_: str) -> tuple[str, ...]:
    """The types a column of this (canonical) type may be widened to, the narrowest first."""
    if type_ in _SMALL:
        return "BIGINT", _WIDEST, "DOUBLE"
    if type_ in _LARGE:
        return (*((_WIDEST,) if type_ in ("BIGINT", "UBIGINT") else ()), "DOUBLE")
    if type_ == "FLOAT":
        return ("DOUBLE",)
    if (found := re.match(r"DECIMAL\((\d+),(\d+)\)\Z", type_)) and found[1] != "38":
        return (f"DECIMAL(38,{found[2]})",)
    return ()


def loses(type_: str, wide: str, column: str) -> str:
    """SQL that is true for a value of `column` that widening would change; "" where none can be."""
    return f"{column} > {_EXACT} or {column} < -{_EXACT}" if wide == "DOUBLE" and type_ in _LARGE else ""


def asked(marked: Marked, ladders: Mapping[int, Sequence[str]]) -> str:
    """A query for one row: for each column of `ladders`, and each of its types, whether the type takes all values that
    do not fit now; NULL where there is none. Rows that would not fit in any case do not count."""
    widest = [replace(c, type=ladders[i][-1]) if i in ladders else c for i, c in enumerate(marked.texts)]
    other = replace(marked, columns=tuple(widest))
    finite = " and ".join(f"coalesce(isfinite(try_cast(r{i} as double)), true)" for i in ladders)
    outside = [f"r{i} is not null and not ({_fits(f'r{i}', column.type)})" for i, column in enumerate(marked.columns)]
    answers = [
        f"bool_and({_fits(f'r{i}', type_)}) filter (where {outside[i]})"
        for i, types in ladders.items()
        for type_ in types
    ]
    return f"select {', '.join(answers)} from ({other.judged()}) where not {other.bad} and {finite}"


def chosen(row: Sequence[object], ladders: Mapping[int, Sequence[str]]) -> dict[int, list[str]]:
    """What `asked` answered: the types of each column that would do."""
    answers = iter(row)
    return {i: fit for i, types in ladders.items() if (fit := [type_ for type_ in types if next(answers)])}


def _fits(raw: str, type_: str) -> str:
    column = contract_sql.RawColumn("", type_, raw)
    return f"not coalesce({contract_sql.misplaced(column, raw, f'try_cast({raw} as {type_})')}, false)"
