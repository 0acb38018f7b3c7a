"""From Arrow's columns, and from single values, to the float64 that the encoder rounds: one meaning for both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trunkline.errors import DatasetError, did_you_mean

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from trunkline.models.signature import Kind

__all__ = ["as_text", "cells", "days", "fill_images", "fill_vectors", "floats", "image_bytes", "lacks", "list_cells"]

_NAN = float("nan")
_DAY = 86_400_000_000.0  # microseconds
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE = datetime(2000, 1, 1)
_EPOCH_FROM_1970 = 946_684_800_000_000  # microseconds
_EXACT = 2**53  # integers up to here are float64s
_WORD = 18  # digits of a decimal that always fit into 64 bits


def days(value: str | date | None) -> float:
    """Days since 2000-01-01 UTC, from ISO 8601 text or a date; without an offset it is taken as UTC."""
    if value is None:
        return _NAN
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    past = moment - (_EPOCH_NAIVE if moment.tzinfo is None else _EPOCH)
    return float((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) / _DAY


def cells(value: object, kind: Kind, shape: tuple[int, ...]) -> npt.NDArray[np.floating[Any]]:
    """The first numbers of a vector or an image of a request; those after them are missing.

    Raises TypeError or ValueError for a value that is none, or of another size.
    """
    if value is None:
        return np.empty(0)
    if kind == "image":
        from trunkline.models.images import decode, from_base64

        return decode(from_base64(value) if isinstance(value, str) else cast("bytes", value), shape)
    numbers = np.array([_NAN if number is None else number for number in cast("list[float | None]", value)], np.float64)
    if numbers.ndim != 1 or len(numbers) > shape[0]:
        raise ValueError(f"is no list of at most {shape[0]:,} numbers")
    return numbers


def lacks(name: str, there: Sequence[str]) -> DatasetError:
    """The error for a column that a table has not."""
    return DatasetError(f"the table has no column {name!r}.{did_you_mean(name, there)}")


def as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """As Arrow's strings, small or large. Raises DatasetError for anything that is no text."""
    import pyarrow as pa

    kind = column.type
    if kind in (pa.string(), pa.large_string()):
        return column
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise _refuse(column, name, "category")
    return column.cast(pa.large_string())


def floats(column: pa.ChunkedArray, kind: Kind, name: str) -> npt.NDArray[np.floating[Any]]:
    """A column of any kind but category as floats [n] with NaN for null, which round to float32 as a request's do.

    Floats stay as wide as they are. Raises DatasetError for a type that does not hold that kind.
    """
    import pyarrow as pa

    if kind == "number" and column.type in (pa.float64(), pa.float32()):  # what SQL functions and most files hold
        return _with_nan(column)
    return _NUMERIC[kind](column, name)


def list_cells(column: pa.ChunkedArray, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.floating[Any]]]:
    """Lists of numbers as their lengths [n], 0 for null, and all their numbers, one list after the other.

    Raises DatasetError for a type that is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_null(kind):
        return np.zeros(len(column), np.int64), np.empty(0)
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise _refuse(column, name, "vector")
    lengths = pc.list_value_length(column).fill_null(0).to_numpy().astype(np.int64)
    cells = pa.chunked_array([chunk.flatten() for chunk in column.chunks], kind.value_type)
    return lengths, floats(cells, "number", name)


def fill_vectors(column: pa.ChunkedArray, out: npt.NDArray[np.float32], name: str, first: int = 0) -> None:
    """Write lists of numbers to `out`, float32 [n, width], NaN where a list is shorter or null.

    Raises DatasetError for a type that is none, and for a list that is longer; its row is counted from `first`.
    """
    lengths, cells = list_cells(column, name)
    width = out.shape[1]
    if len(cells) == out.size and bool((lengths == width).all()):
        out[:] = cells.reshape(out.shape)
        return
    longest = int(lengths.max(initial=0))
    if longest > width:
        raise DatasetError(
            f"column {name!r} has {longest:,} numbers in row {first + int(lengths.argmax()):,}; the longest list of the"
            f" training part has {width:,}",
            hint=f"cut longer ones in the dbt model: `list_slice({name}, 1, {width})`",
        )
    out[:] = _NAN
    out[np.arange(width) < lengths[:, None]] = cells


def fill_images(
    column: pa.ChunkedArray, shape: tuple[int, ...], out: npt.NDArray[np.float32], name: str, first: int = 0
) -> None:
    """Write the pixels of images of one shape to `out`, float32 [n, height * width * channels], NaN for null.

    Raises DatasetError for a type that is none, and for an image that cannot be read or has another size; its row is
    counted from `first`.
    """
    from trunkline.models.images import decode

    for row, content in enumerate(image_bytes(column, name)):
        try:
            out[row] = _NAN if content is None else decode(content, shape)
        except ValueError as exc:
            raise DatasetError(f"column {name!r} in row {first + row:,} {exc}") from exc


def image_bytes(column: pa.ChunkedArray, name: str) -> Iterator[bytes | None]:
    """The images of a column of bytes, or of base64 text (as JSON has them), as bytes.

    Raises DatasetError for a type that is neither, and for text that is no base64.
    """
    import pyarrow as pa

    from trunkline.models.images import from_base64

    kind = column.type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind) or _is_text(kind)):
        raise _refuse(column, name, "image")
    for chunk in column.chunks:
        for value in chunk:
            content = value.as_py()
            try:
                yield from_base64(content) if isinstance(content, str) else content
            except ValueError as exc:
                raise DatasetError(f"column {name!r} {exc}") from exc


def _refuse(column: pa.ChunkedArray, name: str, kind: Kind) -> DatasetError:
    return DatasetError(f"column {name!r} of type {column.type} does not hold what the signature calls a {kind}")


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """float64 with NaN for null. By way of float64 always, so that a request's floats round the same."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy().astype(np.float64, copy=False)  # type: ignore[no-any-return]
    if pa.types.is_decimal(kind):
        if (quick := _short_decimals(column)) is not None:
            return quick
        column = column.cast(pa.string())  # the cast by way of text is correctly rounded
    elif not pa.types.is_null(kind):
        raise _refuse(column, name, "number")
    return _with_nan(column.cast(pa.float64()))


def _short_decimals(column: pa.ChunkedArray) -> npt.NDArray[np.float64] | None:
    """Decimals whose digits are exact in float64, as is the power of ten: one division rounds them correctly.

    None where there may be other ones. Fifty times as quick as by way of text.
    """
    import pyarrow as pa

    kind = column.type
    if not pa.types.is_decimal128(kind) or kind.precision > _WORD or not 0 <= kind.scale <= 22:
        return None
    values = np.empty(len(column))
    at = 0
    for chunk in column.chunks:
        words = np.frombuffer(chunk.buffers()[1] or b"", np.int64)  # 128 bits each, the low word first
        digits = words[2 * chunk.offset : 2 * (chunk.offset + len(chunk)) : 2]
        if chunk.null_count:
            digits = np.where(chunk.is_null().to_numpy(zero_copy_only=False), 0, digits)
        if len(digits) and max(int(digits.max()), -int(digits.min())) > _EXACT:
            return None
        part = values[at : at + len(chunk)]
        np.divide(digits, 10.0**kind.scale, out=part)
        if chunk.null_count:
            part[chunk.is_null().to_numpy(zero_copy_only=False)] = _NAN
        at += len(chunk)
    return values


def _booleans(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    if not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type)):
        raise _refuse(column, name, "boolean")
    return _with_nan(column.cast(pa.uint8()).cast(pa.float64()))


def _datetimes(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_null(kind):
        return _with_nan(column.cast(pa.float64()))
    if _is_text(kind):
        return _parsed(column, name)
    if pa.types.is_date(kind):
        column = column.cast(pa.timestamp("us"))
    elif not pa.types.is_timestamp(kind):
        raise _refuse(column, name, "datetime")
    # Arrow keeps zoned timestamps in UTC, so the zone can go; sub-microseconds go as fromisoformat drops them.
    per_microsecond = 1_000 if getattr(column.type, "unit", "us") == "ns" else 1
    if per_microsecond == 1:
        column = column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)))
    ticks = column.cast(pa.int64())
    past = ticks.fill_null(0).to_numpy() // per_microsecond - _EPOCH_FROM_1970
    passed = past.astype(np.float64) / _DAY
    if ticks.null_count:
        passed[ticks.is_null().to_numpy()] = _NAN
    return cast("npt.NDArray[np.float64]", passed)


def _parsed(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """Datetimes that came as ISO 8601 text (MLflow's JSON does that): each distinct text is parsed once."""
    encoded = column.combine_chunks().dictionary_encode()
    try:
        distinct = np.array([*map(days, encoded.dictionary.to_pylist()), _NAN])
    except ValueError as exc:
        raise DatasetError(f"column {name!r} must hold dates or times in ISO 8601: {exc}") from exc
    return cast("npt.NDArray[np.float64]", distinct[encoded.indices.fill_null(len(distinct) - 1).to_numpy()])


_NUMERIC: Mapping[str, Callable[[pa.ChunkedArray, str], npt.NDArray[np.float64]]] = {
    "number": _numbers,
    "boolean": _booleans,
    "datetime": _datetimes,
}


def _with_nan(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return column.to_numpy()  # type: ignore[no-any-return]  # nulls of a float column become NaN


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
