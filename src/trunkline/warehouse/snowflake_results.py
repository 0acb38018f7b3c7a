"""Results of Snowflake as Arrow in canonical types.

Snowflake packs each batch as tightly as its own values allow: a column of numbers may be int8 in one batch and a
decimal in the next, and times come with nanoseconds. Here each column has one type in all batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trunkline.errors import EngineError
from trunkline.warehouse.snowflake_sql import exact, unfold

if TYPE_CHECKING:
    import pyarrow as pa

# The connector's type codes (snowflake.connector.constants.FIELD_TYPES).
_FIXED, _REAL, _DATE, _BINARY, _TIME, _BOOLEAN = 0, 1, 3, 11, 12, 13
_INSTANTS, _CLOCKS = (6, 7), (4, 8)


@dataclass(frozen=True)
class Part:
    """A `Batch`: the connector's, which can be pickled and downloads itself, and the schema all batches share."""

    rows: int
    source: Any
    schema: pa.Schema

    def read(self) -> pa.Table:
        """Download it. Raises `EngineError` if it cannot be (the links last some hours)."""
        try:
            table = self.source.to_arrow()
        except Exception as exc:  # the connector lets errors of several libraries through
            raise EngineError(f"a part of a result cannot be downloaded: {exc}", hint="run the query again") from exc
        return conform(table, self.schema)


def reader(cursor: Any, translated: Callable[[], AbstractContextManager[None]]) -> pa.RecordBatchReader:
    """The rows of an executed cursor."""
    import pyarrow as pa

    schema = schema_of(cursor.description)

    def stream() -> Iterator[pa.RecordBatch]:
        with translated():
            for table in cursor.fetch_arrow_batches():
                yield from conform(table, schema).to_batches()

    return pa.RecordBatchReader.from_batches(schema, stream())


def batches(cursor: Any) -> Sequence[Part]:
    """The parts of an executed cursor's result."""
    schema = schema_of(cursor.description)
    return [Part(int(batch.rowcount), batch, schema) for batch in cursor.get_result_batches() or () if batch.rowcount]


def schema_of(description: Sequence[Any]) -> pa.Schema:
    """The Arrow schema of a result in canonical types, names as projects write them."""
    import pyarrow as pa

    return pa.schema([(unfold(column.name), _type(column)) for column in description])


def _type(column: Any) -> pa.DataType:
    import pyarrow as pa

    if column.type_code == _FIXED:
        return pa.decimal128(column.precision or 38, column.scale) if column.scale else pa.int64()
    if column.type_code in _INSTANTS:
        return pa.timestamp("us", "UTC")
    if column.type_code in _CLOCKS:
        return pa.timestamp("us")
    simple = {
        _REAL: pa.float64(),
        _DATE: pa.date32(),
        _BINARY: pa.binary(),
        _TIME: pa.time64("us"),
        _BOOLEAN: pa.bool_(),
    }
    return simple.get(column.type_code, pa.string())


def without_zones(sql: str, description: Sequence[Any]) -> str:
    """The query with its instants as wall clocks of UTC; as it is if it has none."""
    if not any(column.type_code in _INSTANTS for column in description):
        return sql
    names = [(exact(column.name), column.type_code in _INSTANTS) for column in description]
    listed = ", ".join(f"cast(convert_timezone('UTC', {n}) as timestamp_ntz) as {n}" if at else n for n, at in names)
    return f"select {listed} from ({sql})"


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A batch with the shared schema. Raises `EngineError` for a whole number that 64 bits do not hold."""
    import pyarrow as pa

    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(column.cast(field.type, safe=not pa.types.is_temporal(field.type)))
        except pa.ArrowException as exc:
            hint = f"cast {field.name} to double or varchar in the model"
            raise EngineError(
                f"column {field.name!r} of the result does not fit {field.type}: {exc}", hint=hint
            ) from exc
    return pa.table(columns, schema=schema)
