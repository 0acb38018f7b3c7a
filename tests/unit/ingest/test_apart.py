"""Dicts as columns: a load takes from them what it would take from their JSON lines, to the letter."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.errors import TrunklineError
from trunkline.ingest.apart import Layout, frozen
from trunkline.ingest.blocks import Block, Filling
from trunkline.ingest.gather import Gathered
from trunkline.testing.load_cases import Table
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.load import REST, Column, Contract

COLUMNS = ("id", "n", "x", "Name", "when")
TYPES = ("bigint", "integer", "tinyint", "double", "float", "decimal(10,2)", "boolean", "varchar", "varchar(4)", "date",
         "timestamp", "timestamptz", "json", "hugeint", "time", "uuid", "blob")  # fmt: skip

_moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1))
_floats = st.floats() | st.sampled_from([1e-7, 1.5e-5, 1e15, 1e16, 1e21, -0.0, 0.1, 2.0, 1.23456789e20, 5e-324])
_texts = st.sampled_from(["1.5", "2.0", "7", "true", "a", "", " 1 ", "2024-02-29", "x\0y", 'q"\\\n\x1f€', "1e3"])
_nested = st.recursive(
    st.none() | st.booleans() | st.integers() | _floats | _texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab$"), inner, max_size=2),
    max_leaves=4,
).filter(lambda value: isinstance(value, list | dict))
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "small": st.integers(-3, 300),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "huge": st.integers(-(2**70), 2**70),
    "real": _floats,
    "plain": st.floats(0.001, 1000),
    "both": st.integers(0, 9) | st.floats(0, 9),
    "text": _texts | st.text(max_size=5),
    "truth": st.booleans(),
    "exact": st.decimals(allow_nan=True, allow_infinity=True, places=3) | st.just(Decimal("1E+3")),
    "day": st.dates(dt.date(1900, 1, 1), dt.date(2200, 1, 1)),
    "moment": _moments,
    "aware": st.builds(lambda at, hours: at.replace(tzinfo=dt.timezone(dt.timedelta(hours=hours))), _moments,
                       st.integers(-9, 9)),
    "nested": _nested,
    "odd": st.sampled_from([b"\x00\xff", uuid.UUID(int=5), dt.time(1, 2, 3), dt.timedelta(hours=30), {3, 1}, (1, "a")]),
}  # fmt: skip


ODD: list[dict[Any, Any]] = [{"ID": 5}, {"$op": "upsert"}, {"gone": True}, {7: 1}, {"n": "\ud800"}]


@st.composite
def _rows(draw: st.DrawFn) -> list[dict[Any, Any]]:
    """Rows whose columns mostly have one kind of value each; some values and keys are not there."""
    keys = [*COLUMNS, "other", "Deep"]
    kinds = {key: KINDS[draw(st.sampled_from(sorted(KINDS)))] for key in keys}
    messy = draw(st.booleans())
    absent = draw(st.sets(st.sampled_from(keys), max_size=3))
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        row = {key: draw(kinds[key]) for key in keys if key not in absent}
        if messy:
            row |= draw(st.dictionaries(st.sampled_from(keys), st.none() | st.one_of(*KINDS.values()), max_size=2))
            row |= draw(
                st.sampled_from([*[{}] * 9, {"ID": 5}, {"$op": "upsert"}, {"gone": True}, {7: 1}, {"n": "\ud800"}])
            )
        rows.append(row)
    return rows


@st.composite
def _contracts(draw: st.DrawFn) -> Contract:
    columns = [Column(name, draw(st.sampled_from(TYPES)), required=draw(st.booleans())) for name in COLUMNS]
    if draw(st.booleans()):
        columns[1] = Column("n", columns[1].type, accepted=("1", "7", "true"))
    keyed = draw(st.booleans())
    return Contract(
        tuple(columns),
        key=("id",) if keyed else (),
        deleted="Gone" if keyed and draw(st.booleans()) else None,
        policy=draw(st.sampled_from(["quarantine", "evolve"])),
    )


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDB]:
    warehouse = open_duckdb({"path": ":memory:"}, tmp_path_factory.mktemp("engine"))
    yield warehouse
    warehouse.close()


def _blocks(rows: Sequence[Any], layout: Layout | None, most: int = 1_000_000) -> list[Block]:
    blocks: list[Block] = []
    filling = Filling("s.t", layout, most, blocks.append)
    for row in rows:
        filling.row(row)
    filling.flush()
    return blocks


def _loaded(engine: DuckDB, table: Table, blocks: Sequence[Block]) -> Any:
    """What a load of the blocks leaves, or its error."""
    gathered = Gathered(table.folder)
    for block in blocks:
        gathered.add(block, ordered=bool(table.contract.key))
    try:
        with ExitStack() as stack:
            for scan, _ in gathered.scans(engine, stack).get("s.t", []):
                table.scan(scan)
    except TrunklineError as exc:
        return type(exc)
    sql = f"select columns(*)::varchar from {table.sql}"
    rows = sorted(engine.query(sql.replace("columns(*)", "columns(* exclude (_loaded_at, _load_id))")), key=str)
    return engine.columns(table.relation), rows, table.set_aside()


NUMBERS = itertools.count()


@settings(max_examples=25)
@given(rows=_rows(), contract=_contracts(), often=st.booleans())
def test_columns_say_what_json_lines_say(
    engine: DuckDB, tmp_path_factory: pytest.TempPathFactory, rows: list[Any], contract: Contract, often: bool
) -> None:
    """`often`: in many blocks, whose columns may be of several types."""
    number = next(NUMBERS)
    folder = tmp_path_factory.mktemp("apart")
    apart = Table(engine, f"a{number}", contract, folder, "t")
    lines = Table(engine, f"b{number}", contract, folder, "t")
    blocks = [] if often else _blocks(rows, Layout(contract))
    if often:
        rows = [{key: value for key, value in row.items() if key != "ID"} for row in rows]  # of one spelling
        layout = Layout(contract)
        blocks = [block for row in rows for block in _blocks([row], layout)]
    assert _loaded(engine, apart, blocks) == _loaded(engine, lines, _blocks(rows, None))
    for table in (apart, lines):
        engine.execute(f"drop schema if exists {table.schema} cascade")


def _contract(**types: str) -> Contract:
    return Contract(tuple(Column(name, type_) for name, type_ in types.items()))


def _types(blocks: Sequence[Block]) -> list[dict[str, str]]:
    return [{field.name: str(field.type) for field in block.rows.schema} for block in blocks]


def test_a_column_is_typed_until_a_value_has_no_place_in_the_type() -> None:
    layout = Layout(_contract(id="bigint", x="double", flag="boolean", t="varchar"))
    good = {"id": 1, "x": 0.5, "flag": True, "t": "a", "more": 1}
    later: list[dict[str, Any]] = [{"id": None}, good | {"x": 1e300}, good, good | {"id": 2**63}, good]
    blocks = [block for row in [good, *later] for block in _blocks([row], layout)]
    assert [block.shape for block in blocks] == ["apart"] * 6
    typed = {"id": "int64", "x": "double", "flag": "bool", "t": "string", REST: "string"}
    wider = typed | {"x": "string"}
    assert _types(blocks) == [typed, typed, wider, wider, *[wider | {"id": "string"}] * 2]
    assert blocks[2].rows.to_pylist()[0]["x"] == "1e300"
    assert [row[REST] for block in blocks for row in block.rows.to_pylist()] == [
        '{"more":1}',
        None,
        *['{"more":1}'] * 4,
    ]


@pytest.mark.parametrize(
    "row",
    [
        {"id": 1, "$op": "update"},
        {"id": "\ud800"},
        {"id": 1, "x": "\udc00"},
        {"id": 1, "ID": 2},
        {"id": [1e300]},
        {"b": 1},
    ],
)
def test_what_only_json_can_say_stays_json(row: dict[str, Any]) -> None:
    assert [block.shape for block in _blocks([row], Layout(_contract(id="bigint")))] == ["json"]


def test_a_table_whose_rows_change_their_layout_again_and_again_is_json_in_the_end() -> None:
    layout = Layout(_contract(id="bigint"))
    shapes = [_blocks([{"id": 1, "$op": "update"} if n % 2 else {"id": 1}], layout)[0].shape for n in range(100)]
    assert shapes.count("apart") < 10
    assert set(shapes[20:]) == {"json"}


def test_rows_of_one_key_stay_in_order_among_columns_and_lines(engine: DuckDB, tmp_path: Path) -> None:
    contract = Contract((Column("id", "integer"), Column("n", "integer")), key=("id",))
    rows: list[dict[str, Any]] = [{"id": 1, "n": 1}, {"id": 1, "n": 2, "$op": "update"}, {"id": 1, "n": 3}]
    rows += [{"id": 2, "n": 1}, {"id": 2, "$op": "delete"}, {"id": 3, "n": 1}, {"id": 3, "$op": "update"}]
    layout = Layout(contract)
    blocks = [block for row in rows for block in _blocks([row], layout)]
    assert {block.shape for block in blocks} == {"apart", "json"}
    table = Table(engine, "ordered", contract, tmp_path)
    _loaded(engine, table, blocks)
    assert table.rows() == [(1, 3), (3, 1)]


@pytest.mark.parametrize("layout", [True, False])
def test_a_row_is_what_it_was_when_it_was_given(layout: bool) -> None:
    row: dict[str, Any] = {"id": 0, "j": []}

    def given() -> Iterator[dict[str, Any]]:
        for number in range(3):
            row["id"] = number
            row["j"].append(number)
            yield row

    (block,) = _blocks(given(), Layout(_contract(id="bigint", j="json")) if layout else None)  # type: ignore[arg-type]
    found = block.rows.to_pylist()
    if not layout:
        found = [json.loads(row["line"]) for row in found]
    assert [(row["id"], json.loads(str(row["j"]))) for row in found] == [(0, [0]), (1, [0, 1]), (2, [0, 1, 2])]
    assert frozen({"a": math.inf, "b": None}) == {"a": math.inf, "b": None}


def test_pages_become_few_blocks_of_bounded_size() -> None:
    blocks: list[Block] = []
    filling = Filling("s.t", Layout(_contract(id="bigint", t="varchar")), 100_000, blocks.append)
    for page in range(100):
        filling.rows([{"id": page * 100 + n, "t": "x" * (10 if page < 50 else 1000)} for n in range(100)])
    filling.flush()
    assert pa.concat_tables(block.rows for block in blocks)["id"].to_pylist() == list(range(10_000))
    assert max(block.rows.nbytes for block in blocks) < 400_000
    assert len(blocks) < 60
    assert filling.waiting == 0
