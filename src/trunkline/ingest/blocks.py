"""Rows of one table on their way into blocks of Arrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from trunkline.errors import SourceError
from trunkline.ingest import apart, encode
from trunkline.ingest.apart import Layout, Row

Shape = Literal["columns", "json", "apart"]

_CHUNK = 2048  # rows that become columns together: as many as DuckDB takes in one go
_FEW = 64  # rows of a page that become columns by themselves; fewer wait for others
_SAMPLE = 16  # of so many rows that wait, one is measured


@dataclass(frozen=True)
class Block:
    """Rows of one table as Arrow, in one of `QueryScan`'s shapes. `truncate`: all rows before are gone."""

    table: str
    rows: pa.Table
    shape: Shape
    truncate: bool = False


class Filling:
    """Rows of one table, given to `put` in blocks of about `most` bytes. `layout`: how dicts become columns, if they
    may."""

    def __init__(self, table: str, layout: Layout | None, most: int, put: Callable[[Block], None]) -> None:
        self._table = table
        self._layout = layout
        self._most = most
        self._put = put
        self._rows: list[Row] = []  # dicts as they came
        self._lines: list[bytes] = []  # JSON
        self._parts: list[pa.Table] = []  # columns
        self._bytes = self._weight = 0
        self._step = _FEW

    @property
    def waiting(self) -> int:
        """How many rows are in no block yet."""
        return len(self._rows) + len(self._lines) + sum(int(part.num_rows) for part in self._parts)

    def row(self, row: Mapping[str, Any]) -> None:
        """Add a row. It may change afterwards."""
        if self._layout is None or not self._layout.open:
            self._line(self._encoded(row))
            return
        try:
            self._rows.append(apart.frozen(row))
        except (TypeError, ValueError):
            self.line(self._encoded(row))
            return
        if len(self._rows) % _SAMPLE == 0:
            self._weight += len(self._encoded(row)) * _SAMPLE
            if len(self._rows) >= self._step or self._weight > self._most:
                self._take_rows()

    def rows(self, rows: Sequence[Any]) -> bool:
        """Add many rows; false if they are too few, or not all of them dicts."""
        if self._layout is None or not self._layout.open or len(rows) < _FEW or set(map(type, rows)) != {dict}:
            return False
        self._take_rows()
        start = 0
        while start < len(rows):
            chunk = rows[start : start + self._step]
            self._chunk(chunk)
            start += len(chunk)
        return True

    def line(self, text: bytes) -> None:
        """Add a row as JSON."""
        self._take_rows()
        self._line(text)

    def flush(self) -> None:
        """Give all that is here."""
        self._take_rows()
        self._give()

    def _give(self) -> None:
        lines, parts, self._lines, self._parts, self._bytes = self._lines, self._parts, [], [], 0
        if lines:
            self._put(Block(self._table, encode.lines(lines), "json"))
        if parts:
            self._put(Block(self._table, pa.concat_tables(parts).combine_chunks(), "apart"))

    def _take_rows(self) -> None:
        rows, self._rows, self._weight = self._rows, [], 0
        if rows:
            self._chunk(rows)

    def _chunk(self, rows: Sequence[Row]) -> None:
        assert self._layout is not None
        table = self._layout.table(rows) if self._layout.open else None
        if table is None:
            for row in rows:
                self._line(self._encoded(row))
            return
        if self._lines or (self._parts and not self._parts[-1].schema.equals(table.schema)):
            self._give()
        self._parts.append(table)
        size = table.nbytes
        self._bytes += size
        # rows may be large, so their number grows step by step
        self._step = max(1, min(_CHUNK, 4 * self._step, self._most * len(rows) // max(1, size)))
        if self._bytes > self._most:
            self._give()

    def _line(self, text: bytes) -> None:
        if self._parts:
            self._give()
        self._lines.append(text)
        self._bytes += len(text)
        if self._bytes > self._most:
            self._give()

    def _encoded(self, row: Mapping[str, Any]) -> bytes:
        try:
            return encode.line(row)
        except (TypeError, ValueError) as exc:
            column = next((str(key) for key, value in row.items() if not _encodes(value)), "")
            raise SourceError(f"{self._table}: column {column!r}: {exc}") from exc


def _encodes(value: Any) -> bool:
    try:
        encode.line({"": value})
    except (TypeError, ValueError):
        return False
    return True
