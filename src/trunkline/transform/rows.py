"""Rows that try a function out: random ones by type, with the values at which functions tend to differ."""

from __future__ import annotations

import ast
import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trunkline.transform.functions import arrow_type
from trunkline.transform.portable import Function

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

__all__ = ["random_rows"]

_EDGES: Mapping[str, tuple[Any, ...]] = {
    "BIGINT": (0, 1, -1, 7, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)),
    "DOUBLE": (
        *(0.0, -0.0, 1.0, -1.0, 0.1, 2.5, 360.0, float("nan"), float("inf"), float("-inf")),
        *(1.7976931348623157e308, -1.7976931348623157e308, 5e-324, 2.0**53 + 2),
    ),
    "BOOLEAN": (True, False),
    "VARCHAR": (
        *("", " ", "a", "A", "0", "NULL", "nan", "it's", "two\nlines", "tab\t", " around ", "\N{NO-BREAK SPACE}"),
        *("Straße", "İstanbul", "e\N{COMBINING ACUTE ACCENT}", "日本語", "👩‍👩‍👧", "x" * 1000),
    ),
    "DATE": tuple(
        dt.date(*day)
        for day in (
            *((1970, 1, 1), (1969, 12, 31), (2000, 2, 29), (1900, 2, 28), (2024, 2, 29), (2013, 12, 31)),
            *((1, 1, 1), (1582, 10, 15), (1677, 9, 21), (2262, 4, 12), (9999, 12, 31)),
        )
    ),
    "TIMESTAMP": tuple(
        dt.datetime(*moment)
        for moment in (
            *((1970, 1, 1), (1969, 12, 31, 23, 59, 59, 999_999), (2000, 2, 29, 12, 0, 0, 1), (2024, 2, 29, 23, 59, 59)),
            *((1, 1, 1), (1677, 9, 21), (2262, 4, 12), (9999, 12, 31, 23, 59, 59, 999_999)),
        )
    ),
}
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz ABCXYZ0123456789-_.,äöüéß中")


def random_rows(function: Function, rows: int, seed: int) -> pa.Table:
    """One column `c0`, `c1`, … an argument. The same seed gives the same rows.

    The first row is all NULL and the next ones pair the edges of the types; after them a value is NULL in one case of
    ten, an edge in two, a constant of the function's own text in three, and else random. So the tables that it looks
    values up in are found.
    """
    import numpy as np
    import pyarrow as pa

    generator = np.random.default_rng(seed)
    columns: dict[str, pa.Array] = {}
    for place, (_, kind) in enumerate(function.arguments):
        edges, constants = _EDGES[kind], _constants(function, kind)
        ahead = [None, *(edges[(row + row // len(edges) * place) % len(edges)] for row in range(4 * len(edges)))]
        drawn = [_draw(generator, kind, edges, constants) for _ in range(rows)]
        columns[f"c{place}"] = pa.array([*ahead, *drawn][:rows], type=arrow_type(kind), from_pandas=False)
    return pa.table(columns)


def _draw(generator: np.random.Generator, kind: str, edges: Sequence[Any], constants: Sequence[Any]) -> Any:
    draw = generator.random()
    if draw < 0.1:
        return None
    if draw < 0.3:
        return edges[int(generator.integers(len(edges)))]
    if draw < 0.6 and constants:
        return constants[int(generator.integers(len(constants)))]
    return _RANDOM[kind](generator)


def _constants(function: Function, kind: str) -> list[Any]:
    texts = [text for _, text in function.sources.values()]
    nodes = (node for text in texts for node in ast.walk(ast.parse(text)))
    found: list[Any] = [node.value for node in nodes if isinstance(node, ast.Constant)]
    if kind == "VARCHAR":
        return sorted({value for value in found if isinstance(value, str) and len(value) <= 40 and "\n" not in value})
    if kind == "DOUBLE":
        return sorted({float(value) for value in found if type(value) in (int, float) and abs(value) < 2**63})
    if kind == "BIGINT":
        return sorted({value for value in found if type(value) is int and abs(value) < 2**63})
    return []


def _integer(generator: np.random.Generator) -> int:
    return int(generator.integers(-(10 ** int(generator.integers(1, 18))), 10 ** int(generator.integers(1, 18))))


def _number(generator: np.random.Generator) -> float:
    return float(generator.normal() * 10.0 ** int(generator.integers(-3, 6)))


def _word(generator: np.random.Generator) -> str:
    return "".join(generator.choice(_LETTERS, size=int(generator.integers(1, 12))))


def _moment(generator: np.random.Generator) -> dt.datetime:
    return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(generator.integers(-(2**51), 2**52)))


_RANDOM: Mapping[str, Callable[[Any], Any]] = {
    "BIGINT": _integer,
    "DOUBLE": _number,
    "BOOLEAN": lambda generator: bool(generator.integers(2)),
    "VARCHAR": _word,
    "DATE": lambda generator: _moment(generator).date(),
    "TIMESTAMP": _moment,
}
