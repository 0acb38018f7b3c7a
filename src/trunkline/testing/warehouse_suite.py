"""What every `Warehouse` must do, as pytest tests. Our own tests are this suite times our adapters.

A test of a capability is skipped, with the reason, on an adapter that lacks the capability. What an adapter (or the
emulator behind it) is known not to do is named in `lacks` and expected to fail: a table of both is what
`docs/warehouses.md` shows.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import multiprocessing
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest

from trunkline.errors import ContractError, EngineError, SourceError, TransientError
from trunkline.testing import warehouse_cases as cases
from trunkline.warehouse.compare_sql import Hashed, form_of, kind_of
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.load import LoadCounts
from trunkline.warehouse.protocol import (
    ArrowReader,
    BatchReader,
    FunctionHost,
    FunctionRecall,
    Loader,
    Observable,
    ParquetWriter,
    PythonFunction,
    Records,
    Snapshots,
    Tagged,
    Turns,
    Unloader,
    Warehouse,
)
from trunkline.warehouse.relation import Relation

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Lack:
    """Why a test must fail on a warehouse: by the nature of the warehouse, or only of its emulator."""

    reason: str
    emulator: bool = False


def behaviours(suite: type) -> dict[str, tuple[str, tuple[type, ...]]]:
    """The tests of a suite in order: name → what it shows in words, and the capabilities it is about."""
    return {
        name: (str(test.__doc__), getattr(test, "needs", ()))
        for name, test in vars(suite).items()
        if name.startswith("test_")
    }


def needs(*capabilities: type) -> Callable[[F], F]:
    """Mark a test of the suite with the capabilities it is about."""

    def mark(function: F) -> F:
        function.needs = capabilities  # type: ignore[attr-defined]  # read by `WarehouseSuite.fitting` and the docs
        return function

    return mark


class Suite:
    """What suites share. Override the fixture `connect`; `lacks` maps names of tests to why they must fail."""

    lacks: Mapping[str, Lack] = {}

    @pytest.fixture
    def connect(self) -> Callable[[], Warehouse]:
        """Opens a connection to the database under test. The same database within a test; it may be used by others."""
        raise NotImplementedError("override the fixture `connect`")

    @pytest.fixture
    def warehouse(self, connect: Callable[[], Warehouse]) -> Iterator[Warehouse]:
        """The warehouse under test."""
        with contextlib.closing(connect()) as opened:
            yield opened

    @pytest.fixture
    def other(self, connect: Callable[[], Warehouse]) -> Iterator[Warehouse]:
        """A second connection to the same database."""
        with contextlib.closing(connect()) as opened:
            yield opened

    @pytest.fixture
    def schema(self) -> str:
        """A schema that no other test uses. An override may drop it at the end."""
        return f"s{uuid.uuid4().hex[:12]}"

    @pytest.fixture(autouse=True)
    def fitting(self, request: pytest.FixtureRequest) -> None:
        """Expect known lacks to fail, and skip tests of capabilities that the adapter does not have."""
        lack = self.lacks.get(request.node.name) or self.lacks.get(request.function.__name__)
        if lack is not None:
            request.applymarker(pytest.mark.xfail(reason=lack.reason, strict=True))
        for capability in getattr(request.function, "needs", ()):
            warehouse = request.getfixturevalue("warehouse")
            if not isinstance(warehouse, capability):
                pytest.skip(f"the {warehouse.name} adapter has no {capability.__name__}")


class WarehouseSuite(Suite):
    """The behaviour of a warehouse. Subclass and override the fixture `connect`."""

    @pytest.fixture
    def table(self, warehouse: Warehouse, schema: str) -> Relation:
        """An empty table (id BIGINT, name VARCHAR)."""
        return cases.made(warehouse, Relation(schema, "t"), (("id", "BIGINT"), ("name", "VARCHAR")))

    # -- Warehouse

    def test_plain_names_mean_the_same_in_any_case(self, warehouse: Warehouse, schema: str) -> None:
        """plain names mean the same in any case"""
        made = cases.made(warehouse, Relation(schema, "Orders"), (("Order_Id", "BIGINT"), ("NAME", "VARCHAR")))
        cases.insert(warehouse, made, (("order_id", "BIGINT"), ("Name", "VARCHAR")), [[1, "a"]])
        again = Relation(schema.upper(), "oRDERS")
        assert [name.lower() for name, _ in warehouse.columns(again)] == ["order_id", "name"]
        assert warehouse.query(f"select ORDER_ID, name from {warehouse.sql(again)} where nAmE = 'a'") == [(1, "a")]
        assert (schema, "orders") in warehouse.relations()

    @pytest.mark.parametrize("name", cases.HOSTILE)
    def test_any_name_can_be_a_column_or_a_table(self, warehouse: Warehouse, schema: str, name: str) -> None:
        """any text can be the name of a column or table"""
        made = cases.made(warehouse, Relation(schema, name), ((name, "BIGINT"), ("plain", "VARCHAR")))
        cases.insert(warehouse, made, ((name, "BIGINT"), ("plain", "VARCHAR")), [[7, "x"]])
        assert [column for column, _ in warehouse.columns(made)] == [name, "plain"]
        assert warehouse.query(f"select {warehouse.quote(name)}, PLAIN from {warehouse.sql(made)}") == [(7, "x")]

    @pytest.mark.parametrize("type_", cases.VALUES)
    def test_values_come_back_in_their_type(self, warehouse: Warehouse, schema: str, type_: str) -> None:
        """values of every canonical type come back as they were"""
        made = cases.made(warehouse, Relation(schema, "v"), (("id", "BIGINT"), ("v", type_)))
        given, expected = cases.VALUES[type_]
        cases.insert(warehouse, made, (("id", "BIGINT"), ("v", type_)), [[1, given], [2, None]])
        assert kind_of(dict(warehouse.columns(made))["v"]) == kind_of(type_)
        (one, none) = [row[0] for row in warehouse.query(f"select v from {warehouse.sql(made)} order by id")]
        assert none is None
        assert (json.loads(one) if type_ == "JSON" else one) == expected
        assert type_ == "JSON" or type(one) is type(expected)

    @pytest.mark.parametrize("value", cases.PARAMETERS)
    def test_parameters_arrive_as_they_are(self, warehouse: Warehouse, value: Any) -> None:
        """parameters of queries arrive as they are, whatever is in them"""
        assert warehouse.query("select ?, '?', ?", [value, "'?"]) == [(value, "?", "'?")]

    def test_statements_tell_how_many_rows_they_changed(self, warehouse: Warehouse, table: Relation) -> None:
        """statements tell how many rows they changed"""
        name = warehouse.sql(table)
        changed = [
            warehouse.execute(
                f"insert into {name} (id, name) select 1, 'a' union all select 2, 'b' union all select 3, 'c'"
            ),
            warehouse.execute(f"update {name} set name = 'd' where id > 1"),
            warehouse.execute(f"delete from {name} where id = 1"),
            warehouse.execute(f"delete from {name} where id = 1"),
        ]
        assert changed == [3, 2, 1, 0]

    def test_sql_that_both_kinds_of_engine_speak(self, warehouse: Warehouse) -> None:
        """the SQL the rest of Trunkline is written in"""
        rows = "(select 1 as k, 'a' as v union all select 1, 'b' union all select 2, null)"
        assert warehouse.query(f"select count_if(k = 1), sum(case when v is null then 1 else 0 end) from {rows} r") == [
            (2, 1)
        ]
        latest = f"select k, v from {rows} r qualify row_number() over (partition by k order by v desc) = 1 order by k"
        assert warehouse.query(latest) == [(1, "b"), (2, None)]
        assert warehouse.query("select cast('2024-02-29 01:02:03' as timestamp)") == [
            (dt.datetime(2024, 2, 29, 1, 2, 3),)
        ]

    def test_a_table_that_is_not_there_has_no_columns(self, warehouse: Warehouse, schema: str) -> None:
        """a table that is not there has no columns"""
        assert warehouse.columns(Relation(schema, "nowhere")) == []
        assert (schema, "nowhere") not in warehouse.relations()

    def test_errors_are_translated(self, warehouse: Warehouse, table: Relation) -> None:
        """errors are Trunkline's own, and the connection is fit for more"""
        for sql in ("selct 1", f"select nothing from {warehouse.sql(table)}", "select * from nowhere_at_all"):
            with pytest.raises(EngineError) as caught:
                warehouse.query(sql)
            assert not isinstance(caught.value, TransientError)
            assert caught.value.what
        assert warehouse.query("select 1") == [(1,)]

    def test_a_transaction_is_seen_by_others_at_its_end(
        self, warehouse: Warehouse, other: Warehouse, table: Relation
    ) -> None:
        """a transaction is seen by others when it ends, not before"""
        count = f"select count(*) from {warehouse.sql(table)}"
        with warehouse.transaction():
            cases.insert_one(warehouse, table)
            assert warehouse.query(count) == [(1,)]
            assert other.query(count) == [(0,)]
        assert other.query(count) == [(1,)]

    def test_a_failed_transaction_leaves_nothing(self, warehouse: Warehouse, other: Warehouse, table: Relation) -> None:
        """a transaction that fails, or is interrupted, leaves nothing"""
        for error in (KeyboardInterrupt, EngineError):
            with pytest.raises((KeyboardInterrupt, EngineError)):
                cases.insert_and_fail(warehouse, table, error)
            assert other.query(f"select count(*) from {warehouse.sql(table)}") == [(0,)]
        with warehouse.transaction():
            cases.insert_one(warehouse, table)
        assert other.query(f"select count(*) from {warehouse.sql(table)}") == [(1,)]

    def test_a_transaction_within_another_is_part_of_it(self, warehouse: Warehouse, table: Relation) -> None:
        """a transaction within another is part of it"""

        def outer() -> None:
            with warehouse.transaction():
                with warehouse.transaction():
                    cases.insert_one(warehouse, table)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            outer()
        assert warehouse.query(f"select count(*) from {warehouse.sql(table)}") == [(0,)]

    def test_writers_take_turns(self, connect: Callable[[], Warehouse], warehouse: Warehouse, table: Relation) -> None:
        """what one writer reads and then writes, no other writer changes in between"""
        failed: list[Exception] = []

        def count_up() -> None:
            try:
                with contextlib.closing(connect()) as mine:
                    for _ in range(5):
                        with mine.transaction():
                            (number,) = mine.query(f"select count(*) from {mine.sql(table)}")[0]
                            mine.execute(f"insert into {mine.sql(table)} (id) select {number}")
            except Exception as exc:  # noqa: BLE001  # told below, by the thread that pytest watches
                failed.append(exc)

        threads = [threading.Thread(target=count_up) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert warehouse.query(f"select count(*), count(distinct id), max(id) from {warehouse.sql(table)}") == [
            (10, 10, 9)
        ]

    def test_a_hash_of_rows_is_the_same_on_every_warehouse(self, warehouse: Warehouse, schema: str) -> None:
        """the hashes by which `trunkline diff` compares are the same numbers everywhere"""
        columns = tuple((f"c{i}", type_) for i, type_ in enumerate(cases.VALUES))
        made = cases.made(warehouse, Relation(schema, "h"), columns)
        cases.insert(warehouse, made, columns, [[given for given, _ in cases.VALUES.values()], [None] * len(columns)])
        listed = [(warehouse.quote(name), form_of(type_, type_)) for name, type_ in columns]
        side = Hashed(warehouse.name, warehouse.sql(made), listed)
        assert tuple(warehouse.query(side.summary())[0]) == cases.HASHES
        rows = warehouse.query(side.rows([2], 1, [0]))
        assert sorted(rows, key=str)[0] == tuple(cases.SHOWN)

    # -- Records

    @needs(Records)
    def test_tables_are_made_once_and_widened(self, warehouse: Warehouse, schema: str) -> None:
        """tables are made once, and widened by new columns"""
        assert isinstance(warehouse, Records)
        table = cases.made(warehouse, Relation(schema, "w"), (("id", "BIGINT"),))
        warehouse.insert(table, (("id", "BIGINT"),), [[1]])
        for _ in range(2):
            warehouse.create(table, (("id", "BIGINT"), ("at", "TIMESTAMP WITH TIME ZONE"), ("data", "JSON")))
        assert [name for name, _ in warehouse.columns(table)] == ["id", "at", "data"]
        assert warehouse.query(f"select * from {warehouse.sql(table)}") == [(1, None, None)]

    @needs(Records)
    def test_many_records_at_once(self, warehouse: Warehouse, table: Relation) -> None:
        """thousands of records go in at once"""
        cases.insert(warehouse, table, (("id", "BIGINT"), ("name", "VARCHAR")), [[n, f"n'{n}"] for n in range(5000)])
        expected = [(5000, 5000, "n'4999")]
        counted = warehouse.query(
            f"select count(*), count(distinct id), max(case when id = 4999 then name end) from {warehouse.sql(table)}"
        )
        assert counted == expected

    @needs(Records)
    @pytest.mark.parametrize("suffix", ["ndjson", "parquet"])
    def test_a_file_appended_twice_adds_its_rows_once(
        self, warehouse: Warehouse, table: Relation, tmp_path: Path, suffix: str
    ) -> None:
        """a file of records appended twice with a key adds each once, without one every row"""
        rows = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}, {"id": 1, "name": "a"}]
        file = cases.records_file(tmp_path, suffix, rows)
        assert [cases.append(warehouse, table, file, key="id") for _ in range(2)] == [2, 0]
        more = cases.records_file(tmp_path / "more", suffix, [{"id": 2, "name": "b"}, {"id": 3, "name": None}])
        assert cases.append(warehouse, table, more, key="id") == 1
        assert warehouse.query(f"select id, name from {warehouse.sql(table)} order by id") == [
            (1, "a"),
            (2, "b"),
            (3, None),
        ]
        assert cases.append(warehouse, table, file, key=None) == 3

    # -- Loader

    @needs(Loader, Records)
    @pytest.mark.parametrize("format_", ["csv", "ndjson", "parquet"])
    def test_good_rows_are_loaded_and_bad_ones_kept(
        self, warehouse: Warehouse, schema: str, tmp_path: Path, format_: Literal["csv", "ndjson", "parquet"]
    ) -> None:
        """a load casts good rows, quarantines bad ones with the reason, keeps other columns in `_extra`"""
        file = cases.flights_file(tmp_path, format_)
        assert cases.load(warehouse, schema, file, format_) == LoadCounts(read=4, loaded=2, quarantined=2)
        target = warehouse.sql(Relation(schema, "flights"))
        rows = warehouse.query(f"select id, amount, day, name, _load_id, _loaded_at, _extra from {target} order by id")
        assert [row[:6] for row in rows] == [
            (1, 2.5, dt.date(2024, 2, 29), "ann", "load_1", cases.AT),
            (2, None, None, None, "load_1", cases.AT),
        ]
        assert [json.loads(row[6]) if row[6] else None for row in rows] == [{"more": "x"}, None]
        kept = warehouse.query(f"select table_name, errors, raw from {cases.quarantine(warehouse, schema)}")
        assert {name for name, _, _ in kept} == {"s.flights"}
        errors = sorted(sorted((e["column"], e["value"]) for e in json.loads(told)) for _, told, _ in kept)
        assert errors == [[("day", "2023-02-29"), ("id", "x")], [("id", "3.5")]]
        assert {json.loads(raw)["name"] for _, _, raw in kept} == {"cid", "dee"}

    @needs(Loader, Records)
    def test_loads_append_replace_and_widen(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> None:
        """loads append, replace, add the contract's new columns, and refuse a changed type"""
        file = cases.csv_file(tmp_path, "id,amount,day,name\n1,2,2024-01-01,a\n2,3,2024-01-01,b\n")
        assert cases.load(warehouse, schema, file, contract=cases.CONTRACT[:2]).loaded == 2
        assert cases.load(warehouse, schema, file, load_id="load_2").loaded == 2
        counted = (
            f"select count(*), count(name), count(distinct _load_id) from {warehouse.sql(Relation(schema, 'flights'))}"
        )
        assert warehouse.query(counted) == [(4, 2, 2)]
        with pytest.raises(ContractError, match="'id' is .* in the table, varchar in the contract"):
            cases.load(warehouse, schema, file, contract=(("id", "varchar"),))
        assert cases.load(warehouse, schema, file, replace=True, load_id="load_3").loaded == 2
        assert warehouse.query(counted) == [(2, 2, 1)]
        assert (
            cases.load(warehouse, schema, file, contract=(("id", "varchar"), ("day", "date")), replace=True).loaded == 2
        )
        types = {name: kind_of(type_) for name, type_ in warehouse.columns(Relation(schema, "flights"))}
        assert (types["id"], types["day"], "name" in types) == ("text", "date", False)

    @needs(Loader, Records)
    def test_a_load_that_fails_leaves_nothing(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> None:
        """a load that fails leaves no row, in the table or in the quarantine"""
        file = cases.csv_file(tmp_path, "id,amount,day,name\n1,2,2024-01-01,a\nx,3,2024-01-01,b\n")
        cases.load(warehouse, schema, cases.csv_file(tmp_path / "first", "id,amount,day,name\n0,2,2024-01-01,z\n"))
        with pytest.raises(KeyboardInterrupt):
            cases.load(warehouse, schema, file, interrupted=True)
        assert warehouse.query(f"select id from {warehouse.sql(Relation(schema, 'flights'))}") == [(0,)]
        assert warehouse.query(f"select count(*) from {cases.quarantine(warehouse, schema)}") == [(0,)]
        assert cases.load(warehouse, schema, file) == LoadCounts(2, 1, 1)

    @needs(Loader, Records)
    def test_files_that_do_not_fit_are_refused(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> None:
        """an empty file, one with no column of the contract, and a type that is none are refused"""
        with pytest.raises(SourceError, match="none of the contract's columns"):
            cases.load(warehouse, schema, cases.csv_file(tmp_path, "a,b\n1,1\n"))
        with pytest.raises(SourceError, match="is empty"):
            cases.load(warehouse, schema, cases.csv_file(tmp_path / "e", ""))
        with pytest.raises(ContractError, match="is not a SQL type"):
            cases.load(
                warehouse,
                schema,
                cases.csv_file(tmp_path / "t", "id\n1\n"),
                contract=(("id", "integer); drop table t; --"),),
            )

    @needs(Loader, Records)
    @pytest.mark.parametrize("type_", [t for t in cases.VALUES if t != "JSON"])
    def test_texts_are_cast_alike(self, warehouse: Warehouse, schema: str, tmp_path: Path, type_: str) -> None:
        """texts of a file are read alike by every warehouse, and so is what is no value of the type"""
        good, bad = cases.CASTS[type_]
        lines = "".join(f'{i},"{text}"\n' for i, text in enumerate([*good, *bad]))
        file = cases.csv_file(tmp_path, f"id,v\n{lines}")
        counts = cases.load(warehouse, schema, file, contract=(("id", "integer"), ("v", type_.lower())))
        target = warehouse.sql(Relation(schema, "flights"))
        loaded = warehouse.query(f"select id, v from {target} order by id")
        assert [list(good)[i] for i, _ in loaded] == list(good), counts
        assert [value for _, value in loaded] == list(good.values())
        assert counts == LoadCounts(len(good) + len(bad), len(good), len(bad))

    @needs(Loader, Records)
    @pytest.mark.parametrize("names", [cases.HOSTILE[:-2], cases.HOSTILE[-2:]], ids=["most", "dollar and apostrophe"])
    def test_columns_of_any_name_are_loaded(
        self, warehouse: Warehouse, schema: str, tmp_path: Path, names: tuple[str, ...]
    ) -> None:
        """columns and files with any name are loaded"""
        head = ",".join('"' + name.replace('"', '""') + '"' for name in names)
        file = cases.csv_file(tmp_path / 'it\'s "here" $', f"id,{head}\n1,{','.join(names[0] for _ in names)}\n")
        contract = (("id", "integer"), *((name, "varchar") for name in names))
        assert cases.load(warehouse, schema, file, contract=contract).loaded == 1
        columns = [name for name, _ in warehouse.columns(Relation(schema, "flights"))]
        assert columns[1 : 1 + len(names)] == list(names)

    # -- Snapshots

    @needs(Snapshots)
    def test_a_snapshot_is_read_as_it_was(self, warehouse: Warehouse, table: Relation) -> None:
        """a snapshot is read as it was, whatever happens to the table"""
        assert isinstance(warehouse, Snapshots)
        cases.insert_one(warehouse, table)
        snapshot = warehouse.snapshot(table)
        cases.insert_one(warehouse, table)
        warehouse.execute(f"update {warehouse.sql(table)} set name = 'changed'")
        assert warehouse.query(f"select name from {warehouse.at(table, snapshot)}") == [("a",)]
        assert warehouse.query(f"select name from {warehouse.sql(table)}") == [("changed",)] * 2
        assert ":" in snapshot

    @needs(Snapshots)
    def test_a_snapshot_is_given_back(self, warehouse: Warehouse, table: Relation) -> None:
        """a snapshot that takes space is given back, and the table stays"""
        assert isinstance(warehouse, Snapshots)
        cases.insert_one(warehouse, table)
        snapshot = warehouse.snapshot(table)
        taken = warehouse.kept().get(snapshot)
        assert taken is None or abs(dt.datetime.now(dt.UTC) - taken) < dt.timedelta(minutes=10)
        warehouse.release(snapshot)
        assert snapshot not in warehouse.kept()
        assert warehouse.query(f"select name from {warehouse.sql(table)}") == [("a",)]
        warehouse.release(snapshot)

    # -- reading

    @needs(ArrowReader)
    def test_rows_come_as_arrow_in_canonical_types(self, warehouse: Warehouse, schema: str) -> None:
        """rows come as Arrow, in canonical types"""
        import pyarrow as pa

        assert isinstance(warehouse, ArrowReader)
        columns = tuple((f"c{i}", type_) for i, type_ in enumerate(cases.VALUES))
        made = cases.made(warehouse, Relation(schema, "a"), columns)
        cases.insert(warehouse, made, columns, [[given for given, _ in cases.VALUES.values()]])
        for where, rows in (("", 1), (" where c1 = 0", 0)):
            with warehouse.read_arrow(f"select * from {warehouse.sql(made)}{where}") as reader:
                table = reader.read_all()
            types = [field.type for field in table.schema]
            assert pa.types.is_integer(types[1])
            assert [types[0], *types[2:]] == cases.arrow_types()
            assert (table.num_rows, table.column_names) == (rows, [name for name, _ in columns])
        assert warehouse.query("select 1") == [(1,)]

    @needs(BatchReader)
    def test_batches_are_read_in_another_process(self, warehouse: Warehouse, table: Relation) -> None:
        """results are read in parts by other processes"""
        assert isinstance(warehouse, BatchReader)
        cases.insert(warehouse, table, (("id", "BIGINT"), ("name", "VARCHAR")), [[n, str(n)] for n in range(1000)])
        batches = warehouse.batches(f"select id, name from {warehouse.sql(table)} order by id")
        assert sum(batch.rows for batch in batches) == 1000
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            read = [row for part in pool.map(cases.ids_of, batches) for row in part]
        assert read == list(range(1000))

    @needs(Unloader)
    def test_large_results_are_unloaded(self, warehouse: Warehouse, table: Relation, tmp_path: Path) -> None:
        """results are unloaded as Parquet files"""
        import pyarrow.parquet as parquet

        assert isinstance(warehouse, Unloader)
        cases.insert(warehouse, table, (("id", "BIGINT"), ("name", "VARCHAR")), [[n, str(n)] for n in range(1000)])
        assert warehouse.unload(f"select id, name from {warehouse.sql(table)}", tmp_path / "out", cases.silent) == 1000
        files = list((tmp_path / "out").rglob("*.parquet"))
        assert sum(parquet.read_metadata(file).num_rows for file in files) == 1000

    @needs(ParquetWriter)
    def test_equal_rows_give_equal_files(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> None:
        """equal rows give equal Parquet files and content hashes on every warehouse"""
        assert isinstance(warehouse, ParquetWriter)
        columns = tuple((f"c{i}", type_) for i, type_ in enumerate(cases.VALUES) if type_ not in ("JSON", "INTEGER"))
        made = cases.made(warehouse, Relation(schema, "p"), (("id", "BIGINT"), *columns))
        given = [cases.VALUES[type_][0] for _, type_ in columns]
        cases.insert(warehouse, made, (("id", "BIGINT"), *columns), [[n, *given] for n in range(50)])
        written = warehouse.write_parquet(
            f"select * from {warehouse.sql(made)} order by id desc", tmp_path / "a.parquet"
        )
        assert written.rows == 50
        assert warehouse.content(tmp_path / "a.parquet") == written.content
        with contextlib.closing(open_duckdb({"path": ":memory:"}, tmp_path)) as plain:
            plain.create(made, (("id", "BIGINT"), *columns))
            plain.insert(made, (("id", "BIGINT"), *columns), [[n, *given] for n in range(50)])
            same = plain.write_parquet(f"select * from {plain.sql(made)} order by id desc", tmp_path / "b.parquet")
        assert written == same
        assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()

    @needs(ParquetWriter)
    def test_sealed_files_open_with_their_key_alone(
        self, warehouse: Warehouse, table: Relation, tmp_path: Path
    ) -> None:
        """sealed files open with their key alone"""
        assert isinstance(warehouse, ParquetWriter)
        cases.insert(warehouse, table, (("id", "BIGINT"), ("name", "VARCHAR")), [[n, "readable"] for n in range(20)])
        path = tmp_path / "s.parquet"
        assert (
            warehouse.write_parquet(f"select * from {warehouse.sql(table)} order by id", path, key=b"k" * 32).rows == 20
        )
        assert warehouse.read_sealed(path, b"k" * 32).column("id").to_pylist() == list(range(20))
        with pytest.raises(EngineError, match="cannot open the sealed file"):
            warehouse.read_sealed(path, b"x" * 32)
        assert b"readable" not in path.read_bytes()

    # -- the rest

    @needs(Observable)
    def test_progress_can_be_asked_for(self, warehouse: Warehouse) -> None:
        """how far a statement is can be asked for"""
        assert isinstance(warehouse, Observable)
        progress = warehouse.progress()
        assert progress is None or 0 <= progress <= 1

    @needs(Turns)
    def test_a_turn_can_be_held_without_a_transaction(self, warehouse: Warehouse, table: Relation) -> None:
        """the writers' turn can be held for a writer outside the connection, as dbt is"""
        assert isinstance(warehouse, Turns)
        with warehouse.writing(), warehouse.transaction():
            cases.insert_one(warehouse, table)
        assert warehouse.query(f"select count(*) from {warehouse.sql(table)}") == [(1,)]

    @needs(Tagged)
    def test_statements_carry_a_tag(self, warehouse: Warehouse) -> None:
        """statements carry a tag, so that cost can be read per step"""
        assert isinstance(warehouse, Tagged)
        for text in ("trunkline:ingest:nyc.flights", 'it\'s \\ "quoted"'):
            warehouse.tag(text)
            assert warehouse.query("select 1") == [(1,)]

    @needs(FunctionHost)
    def test_python_functions_run_in_sql(self, warehouse: Warehouse, schema: str) -> None:
        """Python functions are called from SQL, NULLs and all"""
        assert isinstance(warehouse, FunctionHost)
        function = PythonFunction(
            Relation(schema, "twice_and"), cases.ARGUMENTS, "DOUBLE", cases.TWICE_AND, "run", packages=("pandas",)
        )
        for _ in range(2):
            warehouse.create_function(function, cases.twice_and)
        name = warehouse.sql(function.relation)
        rows = "(select 1 as id, 1.5 as a, 3 as n union all select 2, null, 3)"
        assert warehouse.query(f"select {name}(a, n) from {rows} r order by id") == [(6.0,), (None,)]

    @needs(FunctionHost, Records)
    def test_functions_may_give_several_numbers(self, warehouse: Warehouse, schema: str) -> None:
        """a Python function's several numbers are read one by one, and kept whole"""
        assert isinstance(warehouse, FunctionHost)
        assert isinstance(warehouse, Records)
        function = PythonFunction(
            Relation(schema, "both"), cases.ARGUMENTS, "DOUBLE[]", cases.BOTH, "run", packages=("pandas",)
        )
        warehouse.create_function(function, cases.both)
        kept = Relation(schema, "kept")
        warehouse.create(kept, (("numbers", warehouse.several()),))
        said = f"(select {warehouse.sql(function.relation)}(1.5, 3) as told) r"
        each = ", ".join(warehouse.number("told", place) for place in (0, 1))
        assert warehouse.query(f"select {each} from {said}") == [(1.5, 3.0)]
        warehouse.execute(f"insert into {warehouse.sql(kept)} select told from {said}")
        ((numbers,),) = warehouse.query(f"select * from {warehouse.sql(kept)}")
        assert (json.loads(numbers) if isinstance(numbers, str) else numbers) == [1.5, 3.0]
        assert warehouse.columns(kept) == [("numbers", warehouse.several())]

    @needs(FunctionHost)
    def test_functions_are_tried_on_a_file(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> None:
        """a Python function is tried on the rows of a file, in their order, and leaves nothing behind"""
        assert isinstance(warehouse, FunctionHost)
        function = PythonFunction(
            Relation(schema, "tried"), cases.ARGUMENTS, "DOUBLE", cases.TWICE_AND, "run", packages=("pandas",)
        )
        before = warehouse.relations()
        found = warehouse.try_function(function, cases.twice_and, cases.argument_rows(tmp_path))
        assert found == [6.0, None, 13.0]
        assert warehouse.relations() == before
        with pytest.raises(EngineError):
            warehouse.query(f"select {warehouse.sql(function.relation)}(1.5, 3)")

    @needs(FunctionHost, FunctionRecall)
    def test_functions_are_given_to_another_connection(
        self, warehouse: Warehouse, other: Warehouse, schema: str
    ) -> None:
        """a connection is given the code of functions that another one made"""
        assert isinstance(warehouse, FunctionHost)
        assert isinstance(other, FunctionRecall)
        function = PythonFunction(Relation(schema, "twice"), cases.ARGUMENTS, "DOUBLE", cases.TWICE_AND, "run")
        warehouse.create_function(function, cases.twice_and)
        other.recall_function(function, cases.twice_and)
        assert other.query(f"select {other.sql(function.relation)}(2.5, 1)") == [(6.0,)]
