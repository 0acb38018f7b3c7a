"""Plain dicts as columns: what a load of their JSON lines would read out of them, without the JSON.

Each column that the contract names holds the text that JSON has for the value (a text itself, `1.5`, `true`, nested
values as JSON), or an Arrow type whose text is the same. `$rest` is the JSON of the other keys. Rows that say more than
that (`$op`), or whose text the warehouse's JSON reader would spell in another way, stay JSON lines.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import uuid
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from operator import itemgetter
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from trunkline.ingest import encode
from trunkline.warehouse.load import REST, Column, Contract

Row = dict[str, Any]

_TEXT, _WHOLE, _REAL, _TRUTH = pa.string(), pa.int64(), pa.float64(), pa.bool_()
_TYPES = {
    _WHOLE: re.compile(r"u?(tiny|small|big|huge)?int(eger)?|int[1248]|(decimal|numeric)(\([\d, ]+\))?", re.IGNORECASE),
    _REAL: re.compile(r"double( precision)?|float8", re.IGNORECASE),
    _TRUTH: re.compile(r"bool(ean)?", re.IGNORECASE),
}
_KINDS: dict[pa.DataType, set[type]] = {_WHOLE: {int}, _REAL: {float}, _TRUTH: {bool}}
# of these orjson writes texts without commas and quotation marks
_FLAT = {int, float, Decimal, dt.date, dt.datetime, dt.time, uuid.UUID}
IMMUTABLE = frozenset({*_FLAT, str, bool, bytes, dt.timedelta, type(None)})
# between these every engine writes a float without an exponent
_SMALL, _LARGE = 1e-4, 1e15
# escapes and exponents, which DuckDB spells in its own way
_RESPELT = re.compile(rb"\\u|[:\[,]-?[\d.]+e")
_MISSES = 8  # chunks of JSON after which a table is JSON to the end: each may cost a scan of its own


class Unfit(Exception):
    """The rows have no place in columns."""


class Layout:
    """How rows of one table become columns. Once a column holds more than its type does, it is text to the end, so
    there are few layouts in one load."""

    def __init__(self, contract: Contract) -> None:
        names = [column.source_name for column in contract.columns]
        marker = contract.deleted if contract.key else None
        self._wanted = {name.lower() for name in names}
        self._types = {column.source_name.lower(): _type(column) for column in contract.columns}
        if marker and marker.lower() not in self._wanted:
            names.append(marker)
            self._types[marker.lower()] = _TEXT
        self._keys = {name.lower(): name for name in names}  # as the source spells them, once it did
        self._found: set[str] = set()
        self._outside: set[str] = set()
        self._misses = 0 if names and len(self._keys) == len(names) and REST not in self._keys else _MISSES

    @property
    def open(self) -> bool:
        """Whether rows may become columns."""
        return self._misses < _MISSES

    def table(self, rows: Sequence[Row]) -> pa.Table | None:
        """The rows as columns; None if they have to be JSON."""
        try:
            return self._table(rows)
        except (Unfit, TypeError, ValueError, ArithmeticError, RecursionError):  # whatever it is, JSON says it best
            self._misses += 1
            return None

    def _table(self, rows: Sequence[Row]) -> pa.Table:
        found = _columns(rows)
        keys: Set[Any] = found.keys() if found is not None else set().union(*rows)
        outside = self._met(keys)
        arrays = [
            self._array(name, _values(rows, found, key) if key in keys else None, len(rows))
            for name, key in self._keys.items()
        ]
        rest = [_rest(row, outside) for row in rows] if outside else [None] * len(rows)
        return pa.Table.from_arrays([*arrays, pa.array(rest, _TEXT)], names=[*self._keys.values(), REST])

    def _met(self, keys: Set[Any]) -> set[str]:
        """The keys that are no column's."""
        for key in keys - self._found - self._outside:
            if not isinstance(key, str) or key in ("$op", REST):
                raise Unfit
            name = key.lower()
            if name in self._keys and not any(other.lower() == name for other in self._found):
                self._keys[name] = key
                self._found.add(key)
            elif name in self._keys:  # spelt in two ways
                raise Unfit
            if name not in self._wanted:
                self._outside.add(key)
        if not self._found and keys:  # a load says so
            raise Unfit
        return {key for key in self._outside if key in keys}

    def _array(self, name: str, values: Sequence[Any] | None, length: int) -> pa.Array:
        type_ = self._types[name]
        if values is None:
            return pa.nulls(length, type_)
        kinds = set(map(type, values))
        kinds.discard(type(None))
        if type_ is not _TEXT:
            found = _typed(values, kinds, type_)
            if found is not None:
                return found
            self._types[name] = _TEXT
        return _texts(values, kinds)


def frozen(row: Mapping[str, Any]) -> Row:
    """The row as it is now, whatever becomes of the lists and dicts in it. Raises `TypeError` as `encode.line` does."""
    if IMMUTABLE.issuperset(map(type, row.values())):
        return dict(row)
    return {key: value if type(value) in IMMUTABLE else orjson.Fragment(_json(value)) for key, value in row.items()}


def _type(column: Column) -> pa.DataType:
    return next((type_ for type_, names in _TYPES.items() if names.fullmatch(column.type.strip())), _TEXT)


def _columns(rows: Sequence[Row]) -> dict[str, tuple[Any, ...]] | None:
    """The values by key, where all rows have the same keys."""
    keys = list(rows[0])
    if len(keys) < 2 or set(map(len, rows)) != {len(keys)}:
        return None
    try:
        return dict(zip(keys, zip(*map(itemgetter(*keys), rows), strict=True), strict=True))
    except KeyError:
        return None


def _values(rows: Sequence[Row], found: Mapping[str, tuple[Any, ...]] | None, key: str) -> Sequence[Any]:
    return found[key] if found is not None else [row.get(key) for row in rows]


def _rest(row: Row, outside: set[str]) -> bytes | None:
    rest = {key: value for key, value in row.items() if key in outside}
    if not rest:
        return None
    done = encode.line(rest)
    if b"\\ud" in done:  # half a surrogate pair
        raise Unfit
    return done


def _typed(values: Sequence[Any], kinds: set[type], type_: pa.DataType) -> pa.Array | None:
    if not kinds <= _KINDS[type_]:
        return None
    try:
        found = pa.array(values, type_)
    except (OverflowError, pa.ArrowInvalid):
        return None
    return found if type_ is not _REAL or _plain(found) else None


def _plain(numbers: pa.Array) -> bool:
    """Whether all engines write these floats alike: none is infinite, NaN, or needs an exponent."""
    size = pc.abs(numbers)
    fit = pc.or_(pc.and_(pc.greater_equal(size, _SMALL), pc.less_equal(size, _LARGE)), pc.equal(size, 0.0))
    return bool(pc.all(fit, min_count=0).as_py())


def _texts(values: Sequence[Any], kinds: set[type]) -> pa.Array:
    if kinds <= {str}:
        return pa.array(values, _TEXT)
    if kinds == {bool}:
        return pa.array(values, _TRUTH).cast(_TEXT)
    parts = _flat(values) if kinds <= _FLAT else None
    return pa.array(parts or [_text(value) for value in values], _TEXT)


def _flat(values: Sequence[Any]) -> list[str | None] | None:
    """The texts of all values in one go; None where one of them asks for care."""
    try:
        done = encode.dumps(values)
    except TypeError:  # an integer beyond 64 bits
        return None
    if b"e" in done or math.inf in values or -math.inf in values:
        return None
    parts = done[1:-1].replace(b'"', b"").decode().split(",")
    return [None if part == "null" else part for part in parts] if "null" in parts else list(parts)


def _text(value: Any) -> str | None:
    if value is None or type(value) is str:
        return value
    done = _json(value)
    if done[:1] == b'"':
        return str(orjson.loads(done))
    if done == b"null":
        return None
    if done[:1] in b"[{":
        if _RESPELT.search(done):
            raise Unfit
    elif b"e" in done and done not in (b"true", b"false"):
        return _spelt(float(done))
    return done.decode()


def _json(value: Any) -> bytes:
    return encode.line({"": value})[4:-1]


def _spelt(number: float) -> str:
    """A float as DuckDB's JSON reader writes it: with an exponent from 1e21 on, and below a millionth."""
    if 1e-6 <= abs(number) < 1e21:
        plain = format(Decimal(repr(number)), "f")
        return plain if "." in plain else f"{plain}.0"
    digits, _, exponent = repr(number).partition("e")
    return f"{digits}e{int(exponent)}"
