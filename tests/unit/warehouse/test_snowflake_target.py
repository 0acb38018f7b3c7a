"""A type that becomes wider on Snowflake: nothing written meanwhile is lost, and a kill in between does no harm."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.running import Emulator
from trunkline.errors import ContractError
from trunkline.testing.load_cases import Table
from trunkline.warehouse.load import Column, Contract, LoadCounts
from trunkline.warehouse.snowflake import Snowflake, open_snowflake

CONTRACT = Contract((Column("id", "integer"), Column("v", "integer")), policy="evolve")


@pytest.fixture
def warehouse(snowflake: dict[str, Any], tmp_path: Path) -> Iterator[Snowflake]:
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as opened:
        yield opened


@pytest.fixture
def table(warehouse: Snowflake, tmp_path: Path) -> Table:
    """A table with the row (1, 7)."""
    made = Table(warehouse, "raw", CONTRACT, tmp_path)
    made.csv([{"id": "1", "v": "7"}])
    return made


def test_a_table_is_not_written_anew_while_another_load_writes(
    table: Table, warehouse: Snowflake, snowflake: dict[str, Any], emulator: Emulator, tmp_path: Path
) -> None:
    """The other load's row came after ours began and before the table was swapped: it is there in the end."""
    turn = f'update "{snowflake["database"]}"."TRUNKLINE"."TURN"'
    taken = [one["sql"].startswith(turn) for one in emulator.log()].count(True)
    with contextlib.closing(open_snowflake(snowflake, tmp_path)) as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute(f"insert into {table.sql} (id, v) values (2, 8)")
            ours = pool.submit(table.csv, [{"id": "3", "v": "1.5"}])
            while [one["sql"].startswith(turn) for one in emulator.log()].count(True) < taken + 2 and not ours.done():
                other.query("select 1")  # one that is idle would be rolled back
            assert not ours.done(), ours.result()
        assert ours.result(60) == LoadCounts(1, 1, 0, evolved=(("v", "DOUBLE"),))
    assert table.rows() == [(1, 7.0), (2, 8.0), (3, 1.5)]
    assert table.type_of("v") == "DOUBLE"


def test_a_kill_after_a_type_became_wider(table: Table) -> None:
    """The table is wider, without a row of the load; the next one takes it as it is."""
    with pytest.raises(KeyboardInterrupt):
        table.csv([{"id": "2", "v": "1.5"}], fail=KeyboardInterrupt)
    assert (table.rows(), table.type_of("v")) == ([(1, 7.0)], "DOUBLE")
    assert table.csv([{"id": "2", "v": "1.5"}]) == LoadCounts(1, 1, 0)
    assert table.rows() == [(1, 7.0), (2, 1.5)]
    with pytest.raises(ContractError, match="'v' is DOUBLE in the table, integer in the contract"):
        table.held_to(policy="quarantine").csv([{"id": "3", "v": "2"}])


def test_what_was_widened_before_is_not_told_again(table: Table) -> None:
    """Snowflake has one type for integers: what the column holds tells that an earlier load took larger ones."""
    large = [{"id": "2", "v": "3000000000"}]
    assert table.csv(large) == LoadCounts(1, 1, 0, evolved=(("v", "BIGINT"),))
    assert table.csv(large) == LoadCounts(1, 1, 0)
    assert table.held_to(policy="quarantine").csv(large) == LoadCounts(1, 0, 1)
