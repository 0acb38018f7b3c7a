"""From typed columns to the one float32 matrix that models are trained on and served with.

number -> its value; boolean -> 0 or 1; datetime -> days since 2000-01-01 UTC; all three NaN where missing.
category -> a code: 1, 2, … by descending count in the training part, then by name; 0 where missing, unseen or rare.

The encoder is data only and travels in the bundle, so that training and serving cannot disagree: `encode` (Arrow
tables) and `encode_rows` (requests) give the same bits for the same values.
"""

from __future__ import annotations

import operator
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trunkline.errors import DatasetError, IntegrityError, RequestError, did_you_mean
from trunkline.models.signature import Kind, Signature

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa
    import pyarrow.compute as pc

__all__ = ["EncodedColumn", "Encoder"]

_NAN = float("nan")
_DAY = 86_400_000_000.0  # microseconds
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_NAIVE = datetime(2000, 1, 1)
_EPOCH_FROM_1970 = 946_684_800_000_000  # microseconds


@dataclass(frozen=True)
class EncodedColumn:
    """One column of the matrix.

    `cardinality` is the number of codes, 0 included, of a category and 0 for any other kind. `mean` and `std` are
    those of the training part's finite values (0 and 1 for a category, or where there is nothing to measure).
    """

    name: str
    kind: Kind
    cardinality: int = 0
    mean: float = 0.0
    std: float = 1.0


class Encoder:
    """Turns rows into the matrix a model takes: float32 [n, d], one column an input. Immutable, so thread-safe."""

    def __init__(self, columns: Iterable[EncodedColumn], categories: Mapping[str, Sequence[str]]) -> None:
        self.columns = tuple(columns)
        self.categories = {name: tuple(values) for name, values in categories.items()}

    @classmethod
    def fit(cls, table: pa.Table, signature: Signature, *, min_count: int = 20) -> Encoder:
        """Learn categories and scales from the training part; values seen fewer than `min_count` times are rare."""
        columns, categories = [], {}
        for field in signature.inputs:
            if field.name not in table.column_names:
                raise _lacks(field.name, table.column_names)
            column = table.column(field.name)
            if field.kind == "category":
                categories[field.name] = _frequent(_as_text(column, field.name), min_count)
                columns.append(EncodedColumn(field.name, field.kind, len(categories[field.name]) + 1))
            else:
                mean, std = _scale(_NUMERIC[field.kind](column, field.name))
                columns.append(EncodedColumn(field.name, field.kind, mean=mean, std=std))
        return cls(columns, categories)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the matrix's columns, in order."""
        return tuple(column.name for column in self.columns)

    def subset(self, names: Iterable[str]) -> Encoder:
        """The encoder of only `names`, in that order."""
        known = {column.name: column for column in self.columns}
        picked = [known[name] for name in names]
        return Encoder(picked, {c.name: self.categories[c.name] for c in picked if c.kind == "category"})

    def encode(self, table: pa.Table) -> npt.NDArray[np.float32]:
        """The matrix of a table that has (at least) this encoder's columns. Raises DatasetError for one that lacks."""
        there = dict(zip(reversed(table.column_names), reversed(table.columns), strict=True))
        for name in self.names:
            if name not in there:
                raise _lacks(name, table.column_names)
        return self.encode_columns([there[name] for name in self.names])

    def encode_columns(self, columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.float32]:
        """The matrix of columns in this encoder's order and of one length."""
        import pyarrow as pa

        double = pa.float64()
        matrix = np.empty((len(columns[0]), len(self.columns)), dtype=np.float32)
        with np.errstate(over="ignore"):  # beyond float32's range is infinite, here as in encode_rows
            for index, (column, values) in enumerate(zip(self.columns, columns, strict=True)):
                if column.kind == "number" and values.type == double:  # what a SQL function gets, without a call
                    matrix[:, index] = values.to_numpy()
                elif column.kind == "category":
                    matrix[:, index] = self._codes(_as_text(values, column.name), column.name)
                else:
                    matrix[:, index] = _NUMERIC[column.kind](values, column.name)
        return matrix

    def _codes(self, column: pa.ChunkedArray, name: str) -> npt.NDArray[np.int32]:
        import pyarrow.compute as pc

        known = pc.index_in(column, options=self._lookups[name, column.type])
        return known.fill_null(-1).to_numpy() + np.int32(1)  # type: ignore[no-any-return]

    @cached_property
    def _lookups(self) -> dict[tuple[str, pa.DataType], pc.SetLookupOptions]:
        """The categories as Arrow looks them up, made once: batches may be small."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return {
            (name, text): pc.SetLookupOptions(pa.array(values, text))
            for name, values in self.categories.items()
            for text in (pa.string(), pa.large_string())
        }

    def encode_rows(self, rows: Sequence[Mapping[str, object]]) -> npt.NDArray[np.float32]:
        """The matrix of rows that passed `Signature.check_rows`. Raises RequestError for a value it cannot encode."""
        pick, converters = self._row_plan
        width = len(self.columns)
        cells = array("f")
        for index, row in enumerate(rows):
            try:
                values = list(pick(row))
                for position, convert in converters:
                    values[position] = convert(values[position])
                try:
                    cells.extend(values)
                except TypeError:  # a missing number, or a value that is none
                    del cells[index * width :]
                    cells.extend([_NAN if value is None else value for value in values])
            except (KeyError, OverflowError, TypeError, ValueError):
                raise self._refuse_row(row, index) from None
        if not rows:
            return np.empty((0, width), dtype=np.float32)
        return np.frombuffer(cells, dtype=np.float32).reshape(len(rows), width)

    @cached_property
    def _row_plan(self) -> tuple[Callable[..., Iterable[Any]], list[tuple[int, Callable[[Any], float]]]]:
        """How to pick a row's values in one call, and what to do with those that are not plain numbers."""
        names = self.names
        pick: Callable[[Mapping[str, Any]], Iterable[Any]]
        # itemgetter of several keys gives a tuple, in one call; of one key it gives the bare value.
        pick = operator.itemgetter(*names) if len(names) > 1 else lambda row: [row[name] for name in names]
        converters = [
            (index, self._converter(column))
            for index, column in enumerate(self.columns)
            if column.kind in ("category", "datetime")
        ]
        return pick, converters

    def _converter(self, column: EncodedColumn) -> Callable[[Any], float]:
        if column.kind == "datetime":
            return _days
        codes = {value: float(code) for code, value in enumerate(self.categories[column.name], start=1)}
        return lambda value: codes.get(value, 0.0)

    def _refuse_row(self, row: Mapping[str, Any], index: int) -> RequestError:
        """Which field of a row it was that could not be encoded."""
        converters = dict(self._row_plan[1])
        for position, column in enumerate(self.columns):
            try:
                value = row[column.name]
                if value is not None:
                    array("f", [converters[position](value) if position in converters else value])
            except (KeyError, OverflowError, TypeError, ValueError):
                what = f"field {column.name!r} of row {index} cannot be encoded as a {column.kind}"
                return RequestError(what, field=column.name, row=index)
        return RequestError(f"row {index} cannot be encoded", row=index)

    def to_json(self) -> dict[str, Any]:
        """The encoder as plain data."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "categories": {name: list(values) for name, values in self.categories.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Encoder:
        """The encoder of `to_json`'s data. Raises IntegrityError when the data is anything else."""
        try:
            encoder = cls([EncodedColumn(**item) for item in data["columns"]], data["categories"])
            sizes = [len(encoder.categories[c.name]) + 1 for c in encoder.columns if c.kind == "category"]
        except (AttributeError, KeyError, TypeError) as exc:
            raise IntegrityError(f"encoder.json does not hold an encoder: {exc}") from exc
        if sizes != [column.cardinality for column in encoder.columns if column.kind == "category"]:
            raise IntegrityError("encoder.json's categories and cardinalities disagree")
        return encoder


def _days(value: str | date | None) -> float:
    """Days since 2000-01-01 UTC, from ISO 8601 text or a date; without an offset it is taken as UTC."""
    if value is None:
        return _NAN
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    past = moment - (_EPOCH_NAIVE if moment.tzinfo is None else _EPOCH)
    return float((past.days * 86_400 + past.seconds) * 1_000_000 + past.microseconds) / _DAY


def _lacks(name: str, there: Sequence[str]) -> DatasetError:
    return DatasetError(f"the table has no column {name!r}.{did_you_mean(name, there)}")


def _refuse(column: pa.ChunkedArray, name: str, kind: Kind) -> DatasetError:
    return DatasetError(f"column {name!r} of type {column.type} does not hold what the signature calls a {kind}")


def _numbers(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """float64 with NaN for null. By way of float64 always, so that a request's floats round the same."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.to_numpy().astype(np.float64, copy=False)  # type: ignore[no-any-return]
    if pa.types.is_decimal(kind):
        column = column.cast(pa.string())  # the cast by way of text is correctly rounded
    elif not pa.types.is_null(kind):
        raise _refuse(column, name, "number")
    return _with_nan(column.cast(pa.float64()))


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
    days = past.astype(np.float64) / _DAY
    if ticks.null_count:
        days[ticks.is_null().to_numpy()] = _NAN
    return cast("npt.NDArray[np.float64]", days)


def _parsed(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.float64]:
    """Datetimes that came as ISO 8601 text (MLflow's JSON does that): each distinct text is parsed once."""
    encoded = column.combine_chunks().dictionary_encode()
    try:
        days = np.array([*map(_days, encoded.dictionary.to_pylist()), _NAN])
    except ValueError as exc:
        raise DatasetError(f"column {name!r} must hold dates or times in ISO 8601: {exc}") from exc
    return cast("npt.NDArray[np.float64]", days[encoded.indices.fill_null(len(days) - 1).to_numpy()])


_NUMERIC: dict[str, Callable[[pa.ChunkedArray, str], npt.NDArray[np.float64]]] = {
    "number": _numbers,
    "boolean": _booleans,
    "datetime": _datetimes,
}


def _with_nan(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return column.to_numpy()  # type: ignore[no-any-return]  # nulls of a float column become NaN


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _as_text(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """As Arrow's strings, small or large."""
    import pyarrow as pa

    kind = column.type
    if kind in (pa.string(), pa.large_string()):
        return column
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    if not _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind):
        raise _refuse(column, name, "category")
    return column.cast(pa.large_string())


def _frequent(column: pa.ChunkedArray, min_count: int) -> tuple[str, ...]:
    """The texts seen at least `min_count` times, most frequent first, equals by name."""
    import pyarrow.compute as pc

    counts = pc.value_counts(column.drop_null())
    pairs = zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)
    kept = [(text, count) for text, count in pairs if count >= min_count]
    return tuple(text for text, _ in sorted(kept, key=lambda pair: (-pair[1], pair[0])))


def _scale(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of the finite values, measured as the float32 that models see."""
    with np.errstate(over="ignore"):
        seen = values.astype(np.float32)
    finite = seen[np.isfinite(seen)].astype(np.float64)
    if not finite.size:
        return 0.0, 1.0
    std = float(finite.std())
    return float(finite.mean()), std if std > 0 else 1.0
