"""Names, texts, times and types as SQL, as DuckDB spells them."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence

from trunkline.errors import ContractError
from trunkline.warehouse import literals

_TYPE = re.compile(r"^[A-Za-z][A-Za-z0-9_ ]*(\(\s*\d+\s*(,\s*\d+\s*)?\))?(\[\])?$")


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
