"""The SQL of a load: cast every column, tell good rows from bad, keep what is outside the contract.

One pass over the source. Every row goes into the target with its casts tried; a row that does not fit carries its
errors and raw values in `_extra` under a mark no data can contain (it holds the load's own random id). Within the
same transaction marked rows are then moved to the quarantine, so nobody ever sees them in the target, and a source
that can be read only once, or is slow to read, is read only once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trunkline.errors import ContractError

_INTEGERS = re.compile(r"^(u?(tiny|small|big|huge)?int(eger)?|int[1248]|long|short)$", re.IGNORECASE)
_TEXT = re.compile(r"^(varchar|text|string|char|bpchar|character varying)(\s*\(\s*\d+\s*\))?$", re.IGNORECASE)
_TYPE = re.compile(r"^[A-Za-z][A-Za-z0-9_ ]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?(\[\])?$")
_FRACTIONAL = ("FLOAT", "DOUBLE", "DECIMAL", "REAL", "NUMERIC")


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


def select_rows(rows: RawRows, *, load_id: str) -> str:
    """The SELECT of a load: cast columns, `_load_id`, `_loaded_at` (a parameter), `_extra`."""
    columns = rows.columns
    raws = [f"{column.raw} as {quote('r' + str(i))}" for i, column in enumerate(columns)]
    casts = [f"try_cast(r{i} as {c.type}) as {quote('c' + str(i))}" for i, c in enumerate(columns)]
    bads = {i: bad for i, column in enumerate(columns) if (bad := _bad(column, f"r{i}", f"c{i}"))}
    around = [f"{rows.extra} as _x", f"{rows.file} as _f", f"{rows.bad_row or 'null'} as _w"]
    inner = f"select {', '.join([*raws, *around])} from {rows.source}"
    tried = f"select *, {', '.join(casts)} from ({inner})"
    tests = [*bads.values(), *(["_w is not null"] if rows.bad_row else [])]
    kept = f"case when {' or '.join(tests)} then {_reject(columns, bads, load_id)} else _x end" if tests else "_x"
    names = ", ".join(f"c{i} as {quote(column.name)}" for i, column in enumerate(columns))
    return (
        f"select {names}, {literal(load_id)} as _load_id, $loaded_at as _loaded_at, cast({kept} as json) as _extra "
        f"from ({tried})"
    )


def _bad(column: RawColumn, raw: str, cast: str) -> str | None:
    """SQL that is true where the raw value does not fit: it cannot be cast, or an integer would lose its fraction."""
    if _TEXT.match(column.type) and column.raw_type == "VARCHAR":
        return None
    failed = f"{cast} is null"
    if _INTEGERS.match(column.type):
        if column.raw_type == "VARCHAR":
            failed += f" or (contains({raw}, '.') and try_cast({raw} as decimal(38, 12)) is distinct from {cast})"
        elif column.raw_type.upper().startswith(_FRACTIONAL):
            failed += f" or {raw} <> {cast}"
    return f"({raw} is not null and ({failed}))"


def _reject(columns: Sequence[RawColumn], bads: dict[int, str], load_id: str) -> str:
    errors = [
        f'case when {bad} then struct_pack("column" := {literal(columns[i].name)}, '
        f'"value" := cast(r{i} as varchar), reason := {literal(f"does not cast to {columns[i].type}")}) end'
        for i, bad in bads.items()
    ]
    nothing = '"column" := null::varchar, "value" := null::varchar'
    whole = f"case when _w is not null then struct_pack({nothing}, reason := _w) end"
    row = ", ".join(f"{quote(column.name)} := cast(r{i} as varchar)" for i, column in enumerate(columns))
    listed = ", ".join([*errors, whole])
    return (
        f"json_object({literal(mark(load_id))}, list_filter([{listed}], lambda e: e is not null), "
        f"'row', struct_pack({row}), 'extra', _x, 'file', _f)"
    )


def move_rejects(target: str, quarantine: str, *, table: str, load_id: str) -> tuple[str, str]:
    """Two statements: copy the marked rows of this load to the quarantine, then delete them from the target."""
    where = f"_load_id = {literal(load_id)} and starts_with(cast(_extra as varchar), {literal(_prefix(load_id))})"
    path = literal(f'$."{mark(load_id)}"')
    copy = (
        f"insert into {quarantine} (load_id, table_name, file, line, errors, raw, quarantined_at) "
        f"select _load_id, {literal(table)}, json_extract_string(_extra, '$.file'), null, "
        f"json_extract(_extra, {path}), "
        "json_merge_patch(coalesce(json_extract(_extra, '$.row'), '{}'), "
        "coalesce(nullif(cast(json_extract(_extra, '$.extra') as varchar), 'null'), '{}')), _loaded_at "
        f"from {target} where {where}"
    )
    return copy, f"delete from {target} where {where}"


def _prefix(load_id: str) -> str:
    return '{"' + mark(load_id) + '"'
