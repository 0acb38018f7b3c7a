"""Values as SQL, for engines that differ only in how they spell a text and a time."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Sequence


def scalar(value: object, literal: Callable[[str], str], timestamp: Callable[[dt.datetime], str]) -> str:
    """A value as SQL. Raises `TypeError` for what is no SQL scalar."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, dt.datetime):
        return timestamp(value)
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, float):
        return f"cast({literal(repr(value))} as double)"
    raise TypeError(f"{type(value).__name__} is no SQL scalar")


def inline(sql: str, values: Sequence[object], spell: Callable[[object], str], text: str) -> str:
    """`sql` with each `?` outside quotes replaced by a value. `text` is the expression that matches the engine's texts.

    Raises `ValueError` if the numbers do not match.
    """
    left = list(values)

    def put(found: re.Match[str]) -> str:
        if found.group() != "?":
            return found.group()
        if not left:
            raise ValueError("more places than values")
        return spell(left.pop(0))

    written = re.sub(rf"{text}|\"(?:[^\"]|\"\")*\"|\?", put, sql)
    if left:
        raise ValueError("more values than places")
    return written
