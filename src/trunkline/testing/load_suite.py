"""What every load must do on every warehouse, as pytest tests: judgement, policies, merging, hostile input.

Our own tests are this suite times our adapters; `docs/contracts.md` shows what it says.
"""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from trunkline.errors import ContractError, SourceError
from trunkline.testing import load_cases as cases
from trunkline.testing.load_cases import Model, Table
from trunkline.testing.warehouse_suite import Suite, needs
from trunkline.warehouse.compare_sql import kind_of
from trunkline.warehouse.load import Column, Contract, LoadCounts
from trunkline.warehouse.protocol import Loader, Records, Warehouse

_few = settings(
    max_examples=4,
    phases=(Phase.explicit, Phase.generate),  # to shrink an example takes minutes on a server
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.differing_executors,  # each subclass is another warehouse
    ],
)
_ID, _NAME = Column("id", "integer"), Column("name", "varchar")
_OPS = (_ID, Column("a", "integer"), Column("b", "varchar"))


class LoadSuite(Suite):
    """How rows enter a table. Subclass and override the fixture `connect`."""

    @pytest.fixture
    def table(self, warehouse: Warehouse, schema: str, tmp_path: Path) -> Table:
        """A table (id integer, name varchar) that is not there yet."""
        return Table(warehouse, schema, Contract((_ID, _NAME)), tmp_path)

    # -- judgement

    @needs(Loader, Records)
    @pytest.mark.parametrize(("column", "value", "reason"), cases.MISFITS)
    def test_what_does_not_fit_is_set_aside(self, table: Table, column: Column, value: str | None, reason: str) -> None:
        """a value that does not fit puts its row into the quarantine, with column, value and reason"""
        held = table.held_to(_ID, column)
        counts = held.json([{"id": 1, "v": value}, {"id": 2, "v": None if not column.required else "1"}])
        shown = None if value == "NA" else value
        assert held.set_aside()[0] == ([("v", shown, reason)], {"id": "1", "v": shown})
        assert counts == LoadCounts(2, 1, 1)
        assert [row[0] for row in held.rows("id")] == [2]

    @needs(Loader, Records)
    def test_what_fits_is_loaded(self, table: Table) -> None:
        """accepted values are compared with the value after the cast; NULL is accepted; a length counts characters"""
        for number, (column, value) in enumerate(cases.FITS):
            held = table.held_to(_ID, column)
            assert held.json([{"id": number, "v": value}], replace=True) == LoadCounts(1, 1, 0), (column, value)

    @needs(Loader, Records)
    def test_all_errors_of_a_row_are_told(self, table: Table) -> None:
        """a row tells all its errors, and is kept as the source had it"""
        held = table.held_to(_ID, Column("v", "date", required=True), Column("w", "varchar", accepted=("a",)))
        row = {"id": "x", "v": "2023-02-29", "w": "b", "more": "kept"}
        assert held.csv([row, {"id": "1", "v": "", "w": "", "more": ""}]) == LoadCounts(2, 0, 2)
        (few, _), (all_, raw) = sorted(held.set_aside(), key=lambda found: len(found[0]))
        assert few == [("v", None, "is null")]
        assert [error[:2] for error in all_] == [("id", "x"), ("v", "2023-02-29"), ("w", "b")]
        assert raw == row

    @needs(Loader, Records)
    def test_quarantined_rows_have_an_id(self, table: Table) -> None:
        """every quarantined row has an id of its own"""
        table.csv([{"id": "x", "name": "a"}] * 3)
        table.json([{"id": "x", "name": "a"}] * 3)
        table.csv([{"id": "1", "name": "a"}])
        ids = table.warehouse.query(f"select quarantine_id from {table.warehouse.sql(table.quarantine)}")
        assert len({row[0] for row in ids if row[0]}) == 6

    # -- columns

    @needs(Loader, Records)
    def test_columns_are_found_by_the_name_the_source_has(self, table: Table) -> None:
        """a column is found by what the source calls it, in any case; a quarantined row has the source's names"""
        held = table.held_to(Column("id", "integer", source="Order No."), Column("name", "varchar", source="who"))
        assert held.csv([{"ORDER no.": "1", "Who": "a"}, {"ORDER no.": "x", "Who": "b"}]) == LoadCounts(2, 1, 1)
        assert held.json([{"order NO.": 2, "WHO": "c", "id": 9}]) == LoadCounts(1, 1, 0)
        assert held.rows() == [(1, "a"), (2, "c")]
        assert held.extras() == [{"id": 9}]
        assert held.set_aside() == [([("id", "x", "does not cast to integer")], {"ORDER no.": "x", "Who": "b"})]

    @needs(Loader, Records)
    def test_columns_outside_the_contract_are_kept(self, table: Table) -> None:
        """columns outside the contract are kept as JSON in `_extra`"""
        import pyarrow as pa

        table.csv([{"id": "1", "name": "a", "It's": 'x"y'}, {"id": "2", "name": "b", "It's": ""}])
        table.json([{"id": 3, "deep": {"k": [1, None]}}])
        table.arrow(pa.table({"id": [4], "name": ["d"], "list": [[1, 2]], "none": pa.nulls(1)}))
        assert [row[0] for row in table.rows("id")] == [1, 2, 3, 4]
        assert table.extras() == sorted([{"It's": 'x"y'}, {"deep": {"k": [1, None]}}, {"list": [1, 2]}], key=str) or (
            table.extras()
            == sorted([{"It's": 'x"y'}, {"deep": {"k": [1, None]}}, {"list": [1, 2], "none": None}], key=str)
        )

    @needs(Loader, Records)
    @pytest.mark.parametrize("policy", ["fail", "quarantine", "evolve"])
    def test_a_missing_column_is_the_policys_affair(self, table: Table, policy: Any) -> None:
        """a column that the source lacks ends the load, sets its rows aside, or is NULL: as the policy says"""
        held = table.held_to(policy=policy)
        rows = [{"id": "1", "nmae": "a"}]
        if policy == "fail":
            with pytest.raises(SourceError, match="lacks the contract's column 'name'. Did you mean 'nmae'"):
                held.csv(rows)
        elif policy == "quarantine":
            assert held.csv(rows) == LoadCounts(1, 0, 1)
            told = ("name", None, "the source lacks this column. Did you mean 'nmae'?")
            assert held.set_aside() == [([told], {"id": "1", "nmae": "a"})]
        else:
            assert held.csv(rows) == LoadCounts(1, 1, 0)
            assert held.rows() == [(1, None)]
            assert held.extras() == [{"nmae": "a"}]

    @needs(Loader, Records)
    def test_a_missing_key_never_passes(self, table: Table) -> None:
        """a required column or a key that the source lacks is NULL in every row, and that does not fit"""
        held = table.held_to(policy="evolve", key=("id",))
        assert held.csv([{"name": "a"}, {"name": "b"}]) == LoadCounts(2, 0, 2)
        assert held.reasons() == ["is null"] * 2

    @needs(Loader, Records)
    @pytest.mark.parametrize("policy", ["fail", "quarantine", "evolve"])
    def test_a_source_with_none_of_the_columns_is_refused(self, table: Table, policy: Any) -> None:
        """a source that has none of the contract's columns is refused"""
        held = table.held_to(policy=policy)
        with pytest.raises(SourceError, match="none of the contract's columns"):
            held.csv([{"idd": "1", "nmae": "a"}])
        with pytest.raises(SourceError, match="none of the contract's columns"):
            held.json([{"idd": 1}])

    # -- policies

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [(), ("id",)], ids=["append", "merge"])
    def test_a_load_that_must_not_fail_to_fit_fails(self, table: Table, key: tuple[str, ...]) -> None:
        """under `fail` a row that does not fit ends the load, and nothing of it stays"""
        held = table.held_to(policy="fail", key=key)
        held.csv([{"id": "1", "name": "a"}])
        with pytest.raises(
            ContractError, match="s.t: 2 rows do not fit the contract: .*'?id'?.*x.* does not cast"
        ) as caught:
            held.csv([{"id": "2", "name": "b"}, {"id": "x", "name": "c"}, {"id": "y", "name": "c"}])
        assert "integer" in str(caught.value)
        assert (held.rows(), held.set_aside()) == ([(1, "a")], [])

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [(), ("id",)], ids=["append", "merge"])
    @pytest.mark.parametrize(("type_", "before", "comes", "after"), cases.WIDENINGS)
    def test_types_evolve(
        self, table: Table, key: tuple[str, ...], type_: str, before: str, comes: str, after: Sequence[Any]
    ) -> None:
        """under `evolve` a type is widened so that values fit; what fits nowhere is set aside all the same"""
        held = table.held_to(_ID, Column("v", type_), policy="evolve", key=key)
        held.csv([{"id": "1", "v": before}])
        bad = [] if type_.startswith("varchar") else [{"id": "3", "v": "x"}]
        counts = held.csv([{"id": "2", "v": comes}, *bad])
        assert (counts.read, counts.quarantined) == (1 + len(bad), len(bad))
        assert [(id_, v if isinstance(v, str) else float(v)) for id_, v in held.rows()] == [
            (number, v if isinstance(v, str) else float(v)) for number, v in enumerate(after, start=1)
        ]
        assert [name for name, _ in counts.evolved] in (["v"], [])
        if comes == "1.5":
            assert (dict(counts.evolved), kind_of(held.type_of("v"))) == ({"v": "DOUBLE"}, kind_of("DOUBLE"))
        assert held.csv([{"id": "4", "v": comes}]) == LoadCounts(1, 1, 0)  # the contract is narrower than the table now

    @needs(Loader, Records)
    def test_types_do_not_evolve_unasked(self, table: Table) -> None:
        """under other policies a type stays as it is"""
        held = table.held_to(_ID, Column("v", "integer"))
        assert held.csv([{"id": "1", "v": "1"}, {"id": "2", "v": "1.5"}]) == LoadCounts(2, 1, 1)
        assert held.rows() == [(1, 1)]

    # -- merging

    @needs(Loader, Records)
    def test_rows_are_merged_by_key(self, table: Table) -> None:
        """rows with a key replace those with the same key, and are added where there is none"""
        held = table.held_to(key=("ID",))
        assert held.csv([{"id": "1", "name": "a"}, {"id": "2", "name": "b"}]) == LoadCounts(2, 2, 0)
        assert held.csv([{"id": "2", "name": "B"}, {"id": "3", "name": ""}]) == LoadCounts(2, 2, 0)
        assert held.rows() == [(1, "a"), (2, "B"), (3, None)]
        assert held.rows("id", "_load_id") == [(1, "load_1"), (2, "load_2"), (3, "load_2")]

    @needs(Loader, Records)
    def test_of_rows_with_one_key_the_last_counts(self, table: Table) -> None:
        """of rows with one key in one load the last counts, and all of them are counted"""
        held = table.held_to(key=("id",))
        rows = [{"id": str(n % 7), "name": str(n)} for n in range(500)]
        assert held.csv(rows) == LoadCounts(500, 500, 0)
        assert held.rows() == [(key, str(max(n for n in range(500) if n % 7 == key))) for key in range(7)]

    @needs(Loader, Records)
    def test_keys_of_several_columns(self, table: Table) -> None:
        """a key may be of several columns; a NULL in it does not fit"""
        held = table.held_to(_ID, Column("day", "date"), _NAME, key=("day", "id"))
        first = [{"id": n, "day": "2024-01-01", "name": "a"} for n in (1, 2)]
        held.json(first)
        counts = held.json(
            [
                {"id": 1, "day": "2024-01-02", "name": "b"},
                {"id": 2, "day": "2024-01-01", "name": "c"},
                {"id": 1, "name": "d"},
                {"day": "2024-01-01", "name": "e"},
            ]
        )
        assert counts == LoadCounts(4, 2, 2)
        assert held.reasons() == ["is null"] * 2
        assert [(row[0], row[2]) for row in held.rows()] == [(1, "a"), (1, "b"), (2, "c")]

    @needs(Loader, Records)
    def test_an_order_column_says_which_is_the_last(self, table: Table) -> None:
        """with an order column the row with its greatest value counts, NULL being the least; of equals the last"""
        held = table.held_to(_ID, Column("at", "timestamp"), _NAME, key=("id",), order="at")
        late, early = "2024-01-02 00:00:00", "2024-01-01 00:00:00"
        rows = [
            (1, late, "a"),
            (1, early, "b"),
            (2, None, "c"),
            (2, early, "d"),
            (2, None, "e"),
            (3, late, "f"),
            (3, late, "g"),
        ]
        held.json([{"id": id_, "at": at, "name": name} for id_, at, name in rows])
        assert held.rows("id", "name") == [(1, "a"), (2, "d"), (3, "g")]

    @needs(Loader, Records)
    def test_a_marked_row_deletes_its_key(self, table: Table) -> None:
        """a row with a true-like mark takes its key away; only its key must fit"""
        held = table.held_to(_ID, Column("name", "varchar", required=True), key=("id",), deleted="GONE")
        keys = range(len(cases.DELETED) + len(cases.KEPT))
        held.json([{"id": key, "name": "a", "gone": None} for key in keys])
        marks = [*cases.DELETED, *cases.KEPT]
        counts = held.json([{"id": key, "name": "b", "gone": mark} for key, mark in zip(keys, marks, strict=True)])
        assert counts == LoadCounts(len(marks), len(marks), 0, deleted=len(cases.DELETED))
        assert held.rows() == sorted([(key, "b") for key in list(keys)[len(cases.DELETED) :]], key=str)
        bare = held.csv([{"id": "9", "name": "", "gone": "1"}, {"id": "", "name": "", "gone": "1"}])
        assert (bare.loaded, bare.deleted, held.reasons()) == (1, 1, ["is null"])
        assert 9 not in [row[0] for row in held.rows("id")]

    @needs(Loader, Records)
    def test_a_mark_within_the_contract_is_kept(self, table: Table) -> None:
        """where the mark is in the contract, the row is kept with its mark"""
        held = table.held_to(_ID, _NAME, Column("gone", "boolean"), key=("id",), deleted="gone")
        held.csv([{"id": "1", "name": "a", "gone": "false"}, {"id": "2", "name": "b", "gone": ""}])
        assert held.csv([{"id": "1", "name": "A", "gone": "true"}]) == LoadCounts(1, 1, 0)
        assert held.rows() == [(1, "A", True), (2, "b", None)]

    @needs(Loader, Records)
    def test_a_mark_that_is_not_there_is_refused(self, table: Table) -> None:
        """a source without the column that marks deleted rows is refused"""
        with pytest.raises(SourceError, match="lacks the column 'gone'"):
            table.held_to(key=("id",), deleted="gone").csv([{"id": "1", "name": "a"}])

    @needs(Loader, Records)
    def test_operations(self, table: Table) -> None:
        """`$op` in JSON rows: an update leaves alone what it does not have, a deletion needs only the key"""
        held = table.held_to(*_OPS, key=("id",))
        held.json([{"id": n, "a": n, "b": "x", "more": n} for n in (1, 2, 3)])
        counts = held.json(
            [
                {"id": 1, "$op": "update", "a": 10},
                {"id": 2, "$op": "delete"},
                {"id": 3, "$op": "upsert", "b": "y"},
                {"id": 4, "$op": "update", "b": "new"},
                {"id": 5, "$op": "delete", "a": "no number"},
                {"id": 6, "$op": "burn"},
                {"id": "x", "$op": "delete"},
                {"id": 1, "$op": "update", "a": "x"},
            ]
        )
        assert counts == LoadCounts(8, 5, 3, deleted=2)
        assert held.rows() == [(1, 10, "x"), (3, None, "y"), (4, None, "new")]
        assert held.extras() == [{"more": 1}]
        raws = [raw for _, raw in held.set_aside()]
        assert {"id": "x", "a": None, "b": None, "$op": "delete"} in raws
        assert any("burn" in str(errors) for errors, _ in held.set_aside())

    @needs(Loader, Records)
    def test_required_columns_may_be_left_out_of_an_update(self, table: Table) -> None:
        """an update may leave out a required column, but not set it to NULL"""
        held = table.held_to(_ID, Column("a", "integer", required=True), Column("b", "varchar"), key=("id",))
        held.json([{"id": 1, "a": 1, "b": "x"}])
        counts = held.json([{"id": 1, "$op": "update", "b": "y"}, {"id": 1, "$op": "update", "a": None}])
        assert (counts, held.rows()) == (LoadCounts(2, 1, 1), [(1, 1, "y")])

    @needs(Loader, Records)
    @_few
    @given(changes=cases.changes(), cut=st.integers(0, 60))
    def test_operations_are_as_if_one_by_one(self, table: Table, changes: list[dict[str, Any]], cut: int) -> None:
        """several operations on one key in one load have the same result as one by one"""
        held = table.held_to(*_OPS, key=("id",))
        held.json([{"id": 0}], replace=True)
        model = Model(("id", "a", "b"), "id")
        for part in (changes[:cut], changes[cut:]):
            counts = held.json(part) if part else LoadCounts(0, 0, 0)
            assert counts.deleted == sum(change.get("$op") == "delete" for change in part)
        for change in [{"id": 0}, *changes]:
            model.apply(change)
        assert held.rows() == model.listed()

    # -- anew

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [(), ("id",)], ids=["append", "merge"])
    def test_a_table_is_made_anew(self, table: Table, key: tuple[str, ...]) -> None:
        """a replaced table has the new contract's types, and the new rows alone"""
        held = table.held_to(key=key)
        held.csv([{"id": "1", "name": "a"}])
        again = held.held_to(Column("id", "varchar"), Column("day", "date"))
        assert again.csv([{"id": "x", "day": "2024-01-01"}, {"id": "x", "day": "2024-01-02"}], replace=True).loaded == 2
        assert [str(row[1]) for row in again.rows()] == (["2024-01-02"] if key else ["2024-01-01", "2024-01-02"])
        assert kind_of(again.type_of("id")) == kind_of("VARCHAR")

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [(), ("id",)], ids=["append", "merge"])
    def test_a_table_is_emptied_first(self, table: Table, key: tuple[str, ...]) -> None:
        """a truncated table has the new rows alone"""
        held = table.held_to(key=key)
        held.csv([{"id": "1", "name": "a"}, {"id": "2", "name": "b"}])
        assert held.csv([{"id": "2", "name": "c"}, {"id": "2", "name": "d"}], truncate=True) == LoadCounts(2, 2, 0)
        assert held.rows() == ([(2, "d")] if key else [(2, "c"), (2, "d")])

    @needs(Loader, Records)
    def test_a_table_that_keeps_marks_is_not_emptied(self, table: Table) -> None:
        """a truncated table that keeps the marks of deletions has all rows marked, but for the new ones"""
        columns = (Column("id", "integer"), Column("gone", "boolean"))
        held = table.held_to(*columns, key=("id",), deleted="gone")
        held.json([{"id": 1, "gone": False}, {"id": 2, "gone": False}])
        assert held.json([{"id": 2, "gone": False}, {"id": 3}], truncate=True) == LoadCounts(2, 2, 0)
        assert held.rows() == [(1, True), (2, False), (3, None)]

    @needs(Loader, Records)
    def test_a_mark_is_no_row(self, table: Table) -> None:
        """an update that marks a row as deleted does nothing where there is none"""
        columns = (Column("id", "integer"), Column("name", "varchar"), Column("gone", "boolean"))
        held = table.held_to(*columns, key=("id",), deleted="gone")
        held.json([{"id": 1, "name": "a", "gone": False}])
        marks = [{"id": id_, "$op": "update", "gone": True} for id_ in range(1, 6)]
        before = [{"id": 3, "name": "c"}, {"id": 4, "$op": "delete"}, {"id": 5, "$op": "update", "name": "e"}]
        counts = held.json([*before, *marks, {"id": 6, "$op": "update", "gone": False}])
        assert counts == LoadCounts(9, 9, 0, 1)
        assert held.rows() == [(1, "a", True), (3, "c", True), (6, None, False)]

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [(), ("id",)], ids=["append", "merge"])
    @pytest.mark.parametrize("changes", [{}, {"truncate": True}], ids=["", "truncate"])
    def test_a_load_that_is_rolled_back_leaves_nothing(
        self, table: Table, key: tuple[str, ...], changes: dict[str, Any]
    ) -> None:
        """a load whose transaction is rolled back leaves the rows, and the quarantine, as they were"""
        held = table.held_to(key=key)
        held.csv([{"id": "1", "name": "a"}])
        with pytest.raises(KeyboardInterrupt):
            held.csv([{"id": "1", "name": "b"}, {"id": "x", "name": "c"}], fail=KeyboardInterrupt, **changes)
        assert (held.rows(), held.set_aside()) == ([(1, "a")], [])
        assert held.csv([{"id": "2", "name": "b"}]).loaded == 1

    # -- hostile input

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [False, True], ids=["append", "merge"])
    def test_any_name_is_a_name(self, table: Table, key: bool) -> None:
        """columns and tables may have any name: quotes, keywords, unicode, the names that loads use themselves"""
        columns = [Column(name, "varchar") for name in cases.NAMES]
        held = Table(
            table.warehouse,
            table.schema,
            Contract(tuple(columns), cases.NAMES[:3] if key else ()),
            table.folder,
            'se"lect ☃',
        )
        row = {name: f"v{number}" for number, name in enumerate(cases.NAMES)}
        held.csv([row, {**row, "outside '\"": "kept"}])
        held.json([row])
        assert held.rows() == [tuple(row.values())] * (1 if key else 3)

    @needs(Loader, Records)
    @pytest.mark.parametrize("key", [False, True], ids=["append", "merge"])
    def test_any_text_is_a_value(self, table: Table, key: bool) -> None:
        """values may hold quotes, newlines, backslashes and emoji, as a key too"""
        held = table.held_to(Column("name", "varchar"), Column("again", "varchar"), key=("name",) if key else ())
        rows = [{"name": text, "again": text} for text in cases.TEXTS]
        held.json(rows)
        held.csv(rows)
        expected = sorted([(text, text) for text in cases.TEXTS] * (1 if key else 2), key=str)
        assert held.rows() == expected

    # -- nothing lost

    @needs(Loader, Records)
    @_few
    @given(rows=cases.damaged(), seed=st.integers(0, 99))
    def test_no_row_is_lost(self, table: Table, rows: list[tuple[dict[str, Any], bool]], seed: int) -> None:
        """of rows with random damage each is loaded or set aside, however they are split into loads, in any order"""
        shuffled = random.Random(seed).sample(rows, len(rows))
        cut = seed % len(rows)
        contract = Contract(cases.DAMAGED)
        held = Table(table.warehouse, table.schema, contract, table.folder, f"t{uuid.uuid4().hex}")
        parts = [part for part in (shuffled[:cut], shuffled[cut:]) if part]
        counts = [held.csv([row for row, _ in part], header=[c.name for c in cases.DAMAGED]) for part in parts]
        good = [cases.cast(row) for row, fits in rows if fits]
        assert (sum(c.read for c in counts), sum(c.loaded for c in counts)) == (len(rows), len(good))
        assert held.rows() == sorted(good, key=str)
        kept = held.set_aside(held.name)
        bad = [row for row, fits in rows if not fits]
        assert sorted(json.dumps(raw, sort_keys=True) for _, raw in kept) == sorted(
            json.dumps(row, sort_keys=True) for row in bad
        )
