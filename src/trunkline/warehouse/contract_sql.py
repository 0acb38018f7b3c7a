"""The judgement of a load as SQL for DuckDB: cast every column, tell rows that fit from others, and say why.

A row is judged where it is read, in the same pass. Which errors it has is worked out for rows that do not fit alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trunkline.warehouse.load_sql import literal

_INTEGERS = re.compile(r"^(u?(tiny|small|big|huge)?int(eger)?|int[1248]|long|short)$", re.IGNORECASE)
_WHOLE = re.compile(r"^(decimal|numeric)\(\s*\d+\s*(,\s*0\s*)?\)$", re.IGNORECASE)
_FLOATS = re.compile(r"^(float4?|real)$", re.IGNORECASE)
_TEXT = re.compile(r"^(varchar|text|string|char|bpchar|character varying)(\s*\(\s*(\d+)\s*\))?$", re.IGNORECASE)
_FRACTIONAL = ("FLOAT", "DOUBLE", "DECIMAL", "REAL", "NUMERIC")
_SHOWN = 10  # of the accepted values, in a reason


@dataclass(frozen=True)
class RawColumn:
    """A column of the contract as the source has it: SQL for its raw value, and the type of that value.

    `source` is what the source calls it. `missing` is the reason why no row fits: the source lacks the column. Where it
    is `clean`, whoever reads the rows refuses those with a NUL character in it.
    """

    name: str
    type: str
    raw: str
    raw_type: str = "VARCHAR"
    required: bool = False
    key: bool = False
    accepted: tuple[str, ...] = ()
    source: str = ""
    missing: str = ""
    clean: bool = False


@dataclass(frozen=True)
class RawRows:
    """The source of a load as SQL: a relation, and expressions over it.

    `extra` is the JSON of the columns outside the contract (NULL if none); `file` the name of the row's file;
    `bad_row` the reason why a whole row cannot be read (NULL if it can), or "" where every row can.

    `op` is what the row does to its key: 'upsert', 'update' or 'delete', or "" where every row is an upsert. `present`
    is, for an update, a text with "1" for each column of the contract that the row has and "0" for the others.
    """

    source: str
    columns: tuple[RawColumn, ...]
    extra: str
    file: str
    bad_row: str = ""
    op: str = ""
    present: str = ""


def judged(rows: RawRows) -> str:
    """A SELECT of all rows: raw values `r0`…, casts `c0`…, `_x` (extra), `_f` (file), `_w` (why the whole row is bad),
    `_o` (what it does), `_p` (columns an update has)."""
    raws = [f"{column.raw} as r{i}" for i, column in enumerate(rows.columns)]
    around = {"_x": rows.extra, "_f": rows.file, "_w": rows.bad_row, "_o": rows.op, "_p": rows.present}
    listed = [*raws, *(f"{value or 'cast(null as varchar)'} as {name}" for name, value in around.items())]
    return f"select *, {casts(rows.columns)} from (select {', '.join(listed)} from {rows.source})"


def casts(columns: Sequence[RawColumn]) -> str:
    """`c0`… from `r0`…."""
    return ", ".join(f"try_cast(r{i} as {column.type}) as c{i}" for i, column in enumerate(columns))


def bad(rows: RawRows) -> str:
    """SQL over `judged` that is true for a row that does not fit; "" where every row fits."""
    tests = [test for i, column in enumerate(rows.columns) if (test := misfit(column, i, ops=bool(rows.op)))]
    return " or ".join([*tests, *(["_w is not null"] if rows.bad_row else [])])


def misfit(column: RawColumn, i: int, *, ops: bool = False) -> str:
    """SQL over `judged` that is true where column `i` does not fit; "" where it always does.

    With `ops` only the key of a deletion is judged, and an update may leave a required column out.
    """
    tests = [test for test, _ in _tests(column, i, ops=ops)]
    if not tests:
        return ""
    test = f"({' or '.join(tests)})"
    return f"(_o <> 'delete' and {test})" if ops and not column.key else test


def errors(columns: Sequence[RawColumn], *, ops: bool = False) -> str:
    """SQL over `judged`: the errors of a row as JSON, each an object of column, value and reason."""
    found = []
    for i, column in enumerate(columns):
        tests = _tests(column, i, ops=ops)
        if not tests:
            continue
        reasons = " ".join(f"when {test} then {literal(reason)}" for test, reason in tests)
        error = _error(literal(column.name), f"r{i}", f"case {reasons} end")
        found.append(f"case when _w is null and {misfit(column, i, ops=ops)} then {error} end")
    found.append(f"case when _w is not null then {_error('null', 'null', '_w')} end")
    return f"to_json(list_filter([{', '.join(found)}], lambda e: e is not null))"


def raw_row(columns: Sequence[RawColumn], *, ops: bool = False) -> str:
    """SQL over `judged`: the row as the source has it, as JSON. `_x` is JSON."""
    held = [
        f"{literal(column.source or column.name)}, {text(column, i)}"
        for i, column in enumerate(columns)
        if not column.missing
    ]
    known = f"cast(json_object({', '.join(held)}) as varchar)"
    if ops:
        known = f"left({known}, -1) || ', \"$op\": \"' || _o || '\"}}'"
    # joined as text: json_merge_patch takes a text that is no object for an answer
    whole = f"case when _x is null then {known} else left({known}, -1) || ',' || substr(cast(_x as varchar), 2) end"
    return f"cast(case when _w is null then {whole} else coalesce(cast(_x as varchar), '{{}}') end as json)"


def text(column: RawColumn, i: int) -> str:
    """The raw value of column `i` as text."""
    return f"r{i}" if column.raw_type == "VARCHAR" else f"cast(r{i} as varchar)"


def as_texts(columns: Sequence[RawColumn]) -> tuple[RawColumn, ...]:
    """The columns as they are once their raw values are kept as text."""
    return tuple(replace(column, raw=f"r{i}", raw_type="VARCHAR") for i, column in enumerate(columns))


def _tests(column: RawColumn, i: int, *, ops: bool) -> list[tuple[str, str]]:
    """SQL that is true where the value does not fit, and the reason why; the first that is true counts."""
    if column.missing:
        return [("true", column.missing)]
    raw, cast = f"r{i}", f"c{i}"
    lost = misplaced(column, raw, cast)
    tests = [(f"({lost})", f"does not cast to {column.type}")] if lost else []
    if column.raw_type == "VARCHAR" and _TEXT.match(column.type) and not column.clean:
        tests.append((f"contains({raw}, chr(0))", "holds a NUL character"))
    if column.required or column.key:
        absent = f"{raw} is null"
        if ops and not column.key:
            absent = f"({absent} and not (_o = 'update' and _p[{i + 1}] = '0'))"
        tests.append((absent, "is null"))
    if column.accepted:
        listed = ", ".join(literal(value) for value in column.accepted)
        shown = ", ".join(column.accepted[:_SHOWN]) + (", …" if len(column.accepted) > _SHOWN else "")
        tests.append((f"(cast({cast} as varchar) not in ({listed}))", f"is not one of {shown}"))
    return tests


def misplaced(column: RawColumn, raw: str, cast: str) -> str:
    """SQL that is true where a raw value has no place in the type: it does not cast, or would lose what it says.

    False or NULL where the raw value is NULL.
    """
    if found := _TEXT.match(column.type):
        return f"length({cast}) > {found[3]}" if found[3] else ""
    if column.raw_type.upper() == column.type.upper():
        return ""
    failed = [f"({cast} is null) <> ({raw} is null)"]  # the cheapest of the ways to say it
    if _INTEGERS.match(column.type) or _WHOLE.match(column.type):
        if column.raw_type == "VARCHAR":
            # a CASE, because AND may compute both sides: this cast costs microseconds
            loses = f"try_cast({raw} as decimal(38, 12)) is distinct from {cast}"
            failed.append(f"case when contains({raw}, '.') then {loses} else false end")
        elif column.raw_type.upper().startswith(_FRACTIONAL):
            failed.append(f"{raw} <> {cast}")
    if _FLOATS.match(column.type):
        failed.append(f"isinf({cast}) and not isinf(try_cast({raw} as double))")
    return " or ".join(failed)


def _error(column: str, value: str, reason: str) -> str:
    """An error as a struct; the casts give all of them one type, so that they fit into one list."""
    return (
        f'struct_pack("column" := cast({column} as varchar), "value" := cast({value} as varchar), '
        f"reason := cast({reason} as varchar))"
    )
