"""Result batches with one type a column, whatever Snowflake packed each of them as."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pytest
from snowflake.connector.cursor import ResultMetadata

from trunkline.errors import EngineError
from trunkline.warehouse.snowflake_results import conform, schema_of, without_zones


def column(name: str, code: int, precision: int | None = None, scale: int | None = None) -> ResultMetadata:
    return ResultMetadata(name, code, None, None, precision, scale, True)


DESCRIPTION = [column("ID", 0, 38, 0), column("PRICE", 0, 10, 2), column("AT", 8, 0, 9), column("Odd Name", 2)]


def test_every_batch_gets_the_schema_of_the_result() -> None:
    schema = schema_of(DESCRIPTION)
    assert schema == pa.schema(
        [("id", pa.int64()), ("price", pa.decimal128(10, 2)), ("at", pa.timestamp("us")), ("Odd Name", pa.string())]
    )
    small = pa.table(
        {
            "ID": pa.array([1], pa.int8()),
            "PRICE": pa.array([Decimal("1.50")], pa.decimal128(38, 2)),
            "AT": pa.array([1_500], pa.timestamp("ns")),
            "Odd Name": ["a"],
        }
    )
    large = small.set_column(0, "ID", pa.array([Decimal(2**40)], pa.decimal128(38, 0)))
    joined = pa.concat_tables([conform(small, schema), conform(large, schema)])
    assert joined["id"].to_pylist() == [1, 2**40]
    assert joined["at"].cast(pa.int64()).to_pylist() == [1, 1]


def test_a_whole_number_beyond_64_bits_is_told() -> None:
    table = pa.table({"ID": pa.array([Decimal(2**64)], pa.decimal128(38, 0))})
    with pytest.raises(EngineError, match="'id' of the result does not fit int64") as caught:
        conform(table, schema_of(DESCRIPTION[:1]))
    assert "cast id" in (caught.value.hint or "")


def test_instants_are_unloaded_as_wall_clocks_of_utc() -> None:
    assert without_zones("select 1", DESCRIPTION) == "select 1"
    assert without_zones("select * from t", [column("SEEN", 7), column("Odd Name", 2)]) == (
        'select cast(convert_timezone(\'UTC\', "SEEN") as timestamp_ntz) as "SEEN", "Odd Name" from (select * from t)'
    )
