"""The rows in which two tables differ: found by hashes over buckets, fetched a few thousand at a time.

Rows meet by the table's key, or, where none is known, by all their exact columns together. Within such a meeting equal
rows cancel out, then rows whose floating-point values are within the tolerance; what is left differs.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from trunkline.warehouse.compare_sql import TOLERANCE, Form, Hashed

Row = tuple[Any, ...]
Rows = list[Row]

_BUCKET_ROWS, _MOST_BUCKETS, _CHUNK_ROWS, _NEIGHBOURS = 64, 65_536, 20_000, 50


@dataclass(frozen=True)
class RowDifference:
    """One row that differs: what it is known by, and (column, left, right) of each value that is not equal.

    `only` says that the row is on one side alone; then the other side's values are None.
    """

    key: tuple[tuple[str, Any], ...]
    values: tuple[tuple[str, Any, Any], ...]
    only: Literal["left", "right"] | None = None


@dataclass(frozen=True)
class Found:
    """What a search found. `close` are rows equal within the tolerance only; `complete` says that nothing was left."""

    rows: tuple[RowDifference, ...] = ()
    close: int = 0
    complete: bool = True

    @property
    def columns(self) -> frozenset[str]:
        """Columns with unequal values in rows that are on both sides."""
        return frozenset(name for row in self.rows if row.only is None for name, _, _ in row.values)


@dataclass(frozen=True)
class Pair:
    """The same table twice. `names` and `forms` are its common columns'; `ask` runs a query on each side at once."""

    names: Sequence[str]
    forms: Sequence[Form]
    left: Hashed
    right: Hashed
    ask: Callable[[str, str], tuple[Rows, Rows]]

    def both(self, sql: Callable[[Hashed], str]) -> tuple[Rows, Rows]:
        """The same query on each side."""
        return self.ask(sql(self.left), sql(self.right))


def find(pair: Pair, key: Sequence[int], rows: int, limit: int) -> Found:
    """The first `limit` differing rows of tables of about `rows` rows, in no particular order between buckets."""
    meet = list(key) or [i for i, form in enumerate(pair.forms) if form.exact]
    count = min(_MOST_BUCKETS, max(1, rows // _BUCKET_ROWS))
    left, right = pair.both(lambda side: side.buckets(meet, count))
    chunks = list(_chunks(_sizes(left), _sizes(right), together=not meet))
    found: list[RowDifference] = []
    close = 0
    for number, chunk in enumerate(chunks, start=1):
        fetched = pair.both(lambda side, chunk=chunk: side.rows(meet, count, chunk))  # type: ignore[misc]
        differing, within = _compare(pair, meet, *fetched)
        found += differing
        close += within
        if len(found) >= limit:
            return Found(tuple(found[:limit]), close, number == len(chunks) and len(found) == limit)
    return Found(tuple(found), close)


def _sizes(rows: Rows) -> dict[int, tuple[int, str]]:
    return {int(bucket): (int(count), str(total)) for bucket, count, total in rows}


def _chunks(
    left: Mapping[int, tuple[int, str]], right: Mapping[int, tuple[int, str]], *, together: bool
) -> Iterator[list[int]]:
    """Buckets that differ, as many at a time as fit. Rows that meet by all their values are in any two: `together`."""
    chunk: list[int] = []
    size = 0
    for bucket in sorted(left.keys() | right.keys()):
        if left.get(bucket) == right.get(bucket):
            continue
        rows = max(side[bucket][0] for side in (left, right) if bucket in side)
        if chunk and size + rows > _CHUNK_ROWS and not together:
            yield chunk
            chunk, size = [], 0
        chunk.append(bucket)
        size += rows
    if chunk:
        yield chunk


def _compare(pair: Pair, meet: Sequence[int], left: Rows, right: Rows) -> tuple[list[RowDifference], int]:
    groups: dict[Row, tuple[Rows, Rows]] = {}
    for side, rows in enumerate((left, right)):
        for row in rows:
            plain = tuple("nan" if isinstance(value, float) and math.isnan(value) else value for value in row)
            groups.setdefault(tuple(plain[i] for i in meet), ([], []))[side].append(plain)
    found: list[RowDifference] = []
    close = 0
    for by in sorted(groups, key=str):
        one, other, within = _cancel(*groups[by])
        close += within
        found += _differences(pair, meet, one, other)
    return found, close


def _cancel(left: Rows, right: Rows) -> tuple[Rows, Rows, int]:
    """What neither equals nor comes close to a row of the other side, and how many came close."""
    counts = Counter(left), Counter(right)
    one = sorted((counts[0] - counts[1]).elements(), key=_order)
    other = sorted((counts[1] - counts[0]).elements(), key=_order)
    places = [_order(row) for row in other]
    alone: Rows = []
    for row in one:
        place = bisect_left(places, _order(row))  # what is close in value is close in order
        near = range(max(0, place - _NEIGHBOURS), min(len(other), place + _NEIGHBOURS))
        match = next((i for i in near if not _unequal(row, other[i])), None)
        if match is None:
            alone.append(row)
        else:
            other.pop(match)
            places.pop(match)
    return alone, other, len(one) - len(alone)


def _order(row: Row) -> tuple[Any, ...]:
    return tuple((value is not None, isinstance(value, str), value) for value in row)


def _differences(pair: Pair, meet: Sequence[int], left: Rows, right: Rows) -> Iterator[RowDifference]:
    for one, other in zip(left, right, strict=False):
        values = tuple(
            (pair.names[i], _shown(pair, i, one[i]), _shown(pair, i, other[i])) for i in _unequal(one, other)
        )
        yield RowDifference(_key(pair, meet, one), values)
    paired = min(len(left), len(right))
    for row in left[paired:]:
        values = tuple((name, _shown(pair, i, row[i]), None) for i, name in enumerate(pair.names))
        yield RowDifference(_key(pair, meet, row), values, "left")
    for row in right[paired:]:
        values = tuple((name, None, _shown(pair, i, row[i])) for i, name in enumerate(pair.names))
        yield RowDifference(_key(pair, meet, row), values, "right")


def _unequal(one: Row, other: Row) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if not _equal(a, b)]


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=TOLERANCE)
    return bool(a == b)


def _key(pair: Pair, meet: Sequence[int], row: Row) -> tuple[tuple[str, Any], ...]:
    return tuple((pair.names[i], _shown(pair, i, row[i])) for i in meet)


def _shown(pair: Pair, i: int, value: Any) -> Any:
    return pair.forms[i].shown(value)
