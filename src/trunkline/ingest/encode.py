"""Rows as sources give them, as Arrow: dicts become JSON lines, typed data stays typed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa

from trunkline.errors import SourceError

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY
_SAFE = 2**63  # integers beyond 64 bits go as text, which SQL casts exactly
LINES = pa.schema([("line", pa.string())])


def line(row: Mapping[str, Any]) -> bytes:
    """A row as one JSON object.

    Numbers, texts, booleans, None, lists and dicts are JSON's own. Exact as text are Decimal, integers beyond 64 bits,
    date, time, datetime (ISO 8601), timedelta (`26:03:04.5`), UUID, infinity (`Infinity`), and bytes (`\\x00\\xFF`, as
    SQL casts to BLOB). NaN, NaT and pandas.NA are NULL. Sets are lists in order; dataclasses, named tuples and pydantic
    models are objects; enums are their values; numpy scalars and arrays are numbers and lists.

    Raises `TypeError` for anything else.
    """
    try:
        done = orjson.dumps(row, default=_plain, option=_OPTIONS)
    except (TypeError, ValueError):  # orjson's own error is a TypeError
        return _slowly(row)
    # orjson writes infinity as null: only a row with a null can hold one
    return _slowly(row) if b"null" in done and _infinite(row) else done


def dumps(values: Sequence[Any]) -> bytes:
    """Values as a JSON list; for those that `line` treats with care (infinity, integers beyond 64 bits) it may fail."""
    return orjson.dumps(values, default=_plain, option=_OPTIONS)


def lines(rows: Sequence[bytes]) -> pa.Table:
    """JSON lines as a table with the one column `line`. A line that is not UTF-8 becomes a JSON text that says so."""
    try:
        column = pa.array(rows, pa.string())
    except (pa.ArrowInvalid, UnicodeDecodeError):
        column = pa.array([_valid(text) for text in rows], pa.string())
    return pa.Table.from_arrays([column], schema=LINES)


def tables(data: Any) -> Iterator[pa.Table] | None:
    """Typed data as Arrow tables: pyarrow's own, DataFrames, and all that has an Arrow stream; None if it is not.

    Raises `SourceError` for a DataFrame that has a column twice.
    """
    if isinstance(data, pa.Table):
        return iter([data])
    if isinstance(data, pa.RecordBatch):
        return iter([pa.Table.from_batches([data])])
    if isinstance(data, pa.RecordBatchReader):
        return (pa.Table.from_batches([batch]) for batch in data)
    if type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "columns"):
        return _pandas(data)
    if hasattr(data, "__arrow_c_stream__"):
        return (pa.Table.from_batches([batch]) for batch in pa.RecordBatchReader.from_stream(data))
    return None


def _pandas(frame: Any) -> Iterator[pa.Table] | None:
    """A DataFrame without its index; None where a column holds values of several types, which only JSON can say."""
    if not frame.columns.is_unique:
        twice = sorted({str(name) for name in frame.columns[frame.columns.duplicated()]})
        raise SourceError(f"a DataFrame has the column {twice[0]!r} twice")
    try:
        return iter([pa.Table.from_pandas(frame.rename(columns=str), preserve_index=False)])
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None


def slices(table: pa.Table, size: int) -> Iterator[pa.Table]:
    """The table in parts of about `size` bytes, none of them copied."""
    if table.nbytes <= size or table.num_rows <= 1:
        yield table
        return
    step = max(1, table.num_rows * size // table.nbytes)
    for start in range(0, table.num_rows, step):
        yield table.slice(start, step)


def _plain(value: Any) -> Any:
    """What orjson does not know, as something it does."""
    if isinstance(value, Decimal):
        return None if value.is_nan() else str(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return None if value != value else value.isoformat()  # NaT is a datetime, and not itself
    if isinstance(value, dt.timedelta):
        return duration(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return "".join(f"\\x{byte:02X}" for byte in bytes(value))
    if isinstance(value, set | frozenset):
        return _ordered(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _object(value)


def _object(value: Any) -> Any:
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump()
    if hasattr(value, "_asdict"):  # a named tuple
        return value._asdict()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(value)
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):  # an array that orjson cannot read: of another byte order, of objects
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__module__}.{type(value).__qualname__} has no place in a row")


def _ordered(values: Any) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def duration(value: dt.timedelta) -> str:
    """A timedelta as hours, minutes and seconds: what SQL casts to INTERVAL."""
    micros = abs(value) // dt.timedelta(microseconds=1)
    seconds, rest = divmod(micros, 1_000_000)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    sign = "-" if value < dt.timedelta(0) else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{fraction}"


def _infinite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, Mapping):
        return any(_infinite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(_infinite(item) for item in value)
    return _may_hold_floats(value)


def _may_hold_floats(value: Any) -> bool:
    """Whether it is a dataclass, or numpy's floats or objects."""
    dtype = getattr(value, "dtype", None)
    return dataclasses.is_dataclass(value) or (dtype is not None and getattr(dtype, "kind", "") in "fO")


def _slowly(row: Mapping[str, Any]) -> bytes:
    """A row with what orjson refuses: infinity, integers beyond 64 bits, keys that are no texts, half a surrogate pair.

    The last is no text in any encoding: escaped, it is JSON that the warehouse refuses, with the row.
    """
    return json.dumps(_walked(row), ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()


def _walked(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value) if -_SAFE <= value < _SAFE else str(int(value))
    if isinstance(value, float):
        return ("Infinity" if value > 0 else "-Infinity") if math.isinf(value) else None if math.isnan(value) else value
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(_walked(key)): _walked(item) for key, item in value.items()}
    if isinstance(value, list | tuple) and not hasattr(value, "_asdict"):
        return [_walked(item) for item in value]
    if _may_hold_floats(value):
        return _walked(_plain(value))
    try:
        return orjson.loads(orjson.dumps(value, option=_OPTIONS))
    except TypeError:
        return _walked(_plain(value))


def _valid(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return json.dumps("not UTF-8: " + text.decode("utf-8", "backslashreplace"))
