"""The SQL of a load: cast every column, tell good rows from bad, keep what is outside the contract.

One pass over the source. Every row goes into the target with its casts tried; a row that does not fit carries its
raw values in `_extra` under a mark no data can contain (it holds the load's own random id). Within the same
transaction marked rows are then moved to the quarantine with their errors, so nobody ever sees them in the target,
and a source that is slow to read is read only once.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trunkline.errors import ContractError
from trunkline.warehouse import literals

_INTEGERS = re.compile(r"^(u?(tiny|small|big|huge)?int(eger)?|int[1248]|long|short)$", re.IGNORECASE)
_TEXT = re.compile(r"^(varchar|text|string|char|bpchar|character varying)(\s*\(\s*\d+\s*\))?$", re.IGNORECASE)
_TYPE = re.compile(r"^[A-Za-z][A-Za-z0-9_ ]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?(\[\])?$")
_FRACTIONAL = ("FLOAT", "DOUBLE", "DECIMAL", "REAL", "NUMERIC")


TypeOf = Callable[[str], str]  # a type as written → in canonical spelling


@dataclass(frozen=True)
class RawColumn:
    """A column of the contract as the source has it: SQL for its raw value, and the type of that value."""

    name: str
    type: str
    raw: str
    raw_type: str = "VARCHAR"


def quote(name: str) -> str:
    """A SQL identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def check_type(column: str, type_: str) -> str:
    """A contract's type, if it is one a SQL type name can be. Raises `ContractError`."""
    if not _TYPE.match(type_.strip()):
        raise ContractError(f"column {column!r}: {type_!r} is not a SQL type")
    return type_.strip()


def mark(load_id: str) -> str:
    """The key under which a bad row of this load carries its errors."""
    return f"$reject-{load_id}"


@dataclass(frozen=True)
class RawRows:
    """The source of a load as SQL: a relation, and expressions over it.

    `extra` is the JSON of the columns outside the contract (NULL if none); `file` the name of the row's file;
    `bad_row` the reason why a whole row cannot be read (NULL if it can), or "" where every row can.
    """

    source: str
    columns: tuple[RawColumn, ...]
    extra: str
    file: str
    bad_row: str = ""


def select_rows(rows: RawRows, *, load_id: str, loaded_at: dt.datetime) -> str:
    """The SELECT of a load: cast columns, `_load_id`, `_loaded_at`, `_extra`.

    A bad row's `_extra` holds just its raw values: what is computed there is computed for every row, so the errors
    are worked out by `move_rejects`, for the bad rows alone.
    """
    columns = rows.columns
    raws = [f"{column.raw} as r{i}" for i, column in enumerate(columns)]
    casts = [f"try_cast(r{i} as {column.type}) as c{i}" for i, column in enumerate(columns)]
    around = [f"{rows.extra} as _x", f"{rows.file} as _f", f"{rows.bad_row or 'null'} as _w"]
    inner = f"select {', '.join([*raws, *around])} from {rows.source}"
    tests = [bad for i, column in enumerate(columns) if (bad := misfit(column, f"r{i}", f"c{i}"))]
    tests += ["_w is not null"] if rows.bad_row else []
    values = ", ".join(f"r{i}" for i in range(len(columns)))
    held = f"'why', _w, 'row', [{_texts(columns, values)}], 'extra', _x, 'file', _f"
    reject = f"json_object({literal(mark(load_id))}, 1, {held})"
    kept = f"case when {' or '.join(tests)} then {reject} else _x end" if tests else "_x"
    names = ", ".join(f"c{i} as {quote(column.name)}" for i, column in enumerate(columns))
    return (
        f"select {names}, {literal(load_id)} as _load_id, {timestamp(loaded_at)} as _loaded_at, "
        f"cast({kept} as json) as _extra from (select *, {', '.join(casts)} from ({inner}))"
    )


def timestamp(at: dt.datetime) -> str:
    """An aware time as SQL."""
    return f"timestamptz {literal(at.isoformat())}"


def inline(sql: str, values: Sequence[object]) -> str:
    """`sql` with each `?` outside quotes replaced by a value as a literal.

    DuckDB imports pandas (0.4 s) to bind a parameter. Raises `TypeError` for a value that is no SQL scalar, and
    `ValueError` if the numbers do not match.
    """
    return literals.inline(sql, values, _scalar, r"'(?:[^']|'')*'")


def _scalar(value: object) -> str:
    return literals.scalar(value, literal, timestamp)


def move_rejects(
    target: str, quarantine: str, *, table: str, columns: Sequence[tuple[str, str]], load_id: str
) -> tuple[str, str]:
    """Two statements: copy the marked rows of this load, with their errors, to the quarantine; delete them."""
    prefix = literal('{"' + mark(load_id) + '"')
    where = f"_load_id = {literal(load_id)} and starts_with(cast(_extra as varchar), {prefix})"
    raws = [f"json_extract_string(_extra, '$.row[{i}]') as r{i}" for i in range(len(columns))]
    errors = [
        f"case when {bad} then {_error(literal(name), f'r{i}', literal(f'does not cast to {type_}'))} end"
        for i, (name, type_) in enumerate(columns)
        if (bad := misfit(RawColumn(name, type_, f"r{i}"), f"r{i}", f"try_cast(r{i} as {type_})"))
    ]
    errors.append(f"case when why is not null then {_error('null', 'null', 'why')} end")
    row = ", ".join(f"{quote(name)} := r{i}" for i, (name, _) in enumerate(columns))
    marked = (
        f"select _load_id, _loaded_at, {', '.join(raws)}, json_extract_string(_extra, '$.why') as why, "
        "json_extract_string(_extra, '$.file') as file, "
        "coalesce(nullif(cast(json_extract(_extra, '$.extra') as varchar), 'null'), '{}') as extra "
        f"from {target} where {where}"
    )
    copy = (
        f"insert into {quarantine} (load_id, table_name, file, line, errors, raw, quarantined_at) "
        f"select _load_id, {literal(table)}, file, null, "
        f"to_json(list_filter([{', '.join(errors)}], lambda e: e is not null)), "
        f"json_merge_patch(to_json(struct_pack({row})), extra), _loaded_at from ({marked})"
    )
    return copy, f"delete from {target} where {where}"


def misfit(column: RawColumn, raw: str, cast: str) -> str | None:
    """SQL that is true where the raw value does not fit: it cannot be cast, or an integer would lose its fraction."""
    if _TEXT.match(column.type) and column.raw_type == "VARCHAR":
        return None
    failed = f"{cast} is null"
    if _INTEGERS.match(column.type):
        if column.raw_type == "VARCHAR":
            # a CASE, because AND may compute both sides: this cast costs microseconds
            loses = f"try_cast({raw} as decimal(38, 12)) is distinct from {cast}"
            failed += f" or case when contains({raw}, '.') then {loses} else false end"
        elif column.raw_type.upper().startswith(_FRACTIONAL):
            failed += f" or {raw} <> {cast}"
    return f"({raw} is not null and ({failed}))"


def _texts(columns: Sequence[RawColumn], values: str) -> str:
    if all(column.raw_type == "VARCHAR" for column in columns):
        return values
    return ", ".join(f"cast(r{i} as varchar)" for i in range(len(columns)))


def _error(column: str, value: str, reason: str) -> str:
    """An error as a struct; the casts give all of them one type, so that they fit into one list."""
    return (
        f'struct_pack("column" := cast({column} as varchar), "value" := cast({value} as varchar), '
        f"reason := cast({reason} as varchar))"
    )
