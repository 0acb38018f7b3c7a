"""The ledger: tables made at the first write, the last success of each step, ids in order of time."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import Ledger, StepEnd
from trunkline.ledger.schema import TABLES
from trunkline.warehouse.duckdb import DuckDB, open_duckdb


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[DuckDB]:
    opened = open_duckdb({"path": "local.duckdb"}, tmp_path)
    yield opened
    opened.close()


def _end(step: str, status: str = "done", n: int = 0) -> StepEnd:
    now = dt.datetime.now(dt.UTC)
    return StepEnd(step, "build", status, f"f{n}", {"code": "c"}, {"n": n}, None, now, now)


def test_nothing_is_there_before_the_first_write(warehouse: DuckDB) -> None:
    ledger = Ledger(warehouse)
    assert ledger.past() == {}
    assert ledger.read("loads") == []
    assert warehouse.relations() == set()


def test_tables_are_those_of_the_schema(warehouse: DuckDB) -> None:
    Ledger(warehouse).prepare()
    assert warehouse.relations() == {("trunkline", table) for table in TABLES}


def test_the_last_success_counts_and_failures_do_not(warehouse: DuckDB) -> None:
    ledger = Ledger(warehouse)
    ledger.finish_steps("run_1", [_end("build:a", n=1), _end("build:b", n=2)])
    ledger.finish_steps("run_2", [_end("build:a", n=3), _end("build:b", "failed", n=4)])
    past = ledger.past()
    assert {name: (p.fingerprint, p.output) for name, p in past.items()} == {
        "build:a": ("f3", {"n": 3}),
        "build:b": ("f2", {"n": 2}),
    }


def test_a_write_joins_the_callers_transaction(warehouse: DuckDB) -> None:
    ledger = Ledger(warehouse)
    ledger.prepare()

    def broken() -> None:
        with warehouse.transaction():
            ledger.add("load_files", [{"load_id": "l", "source": "s", "path": "p", "digest": "d", "size": 1}])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert ledger.loaded_files("s") == {}


def test_a_first_ledger_is_made_with_the_rows_and_gone_with_them(warehouse: DuckDB) -> None:
    ledger = Ledger(warehouse)

    def load(source: str, *, fails: bool) -> None:
        with ledger.transaction():
            ledger.add("load_files", [{"load_id": "l", "source": source, "path": "p", "digest": "d", "size": 1}])
            assert list(ledger.loaded_files(source)) == ["p"]
            if fails:
                raise RuntimeError

    assert ledger.begin()
    assert warehouse.relations() == set()
    with pytest.raises(RuntimeError):
        load("a", fails=True)
    assert warehouse.relations() == set()
    assert ledger.begin()
    load("b", fails=False)
    assert not ledger.begin()
    assert (ledger.loaded_files("a"), list(ledger.loaded_files("b"))) == ({}, ["p"])


def test_an_older_ledger_is_completed_before_it_is_read(warehouse: DuckDB) -> None:
    warehouse.execute("create schema trunkline")
    warehouse.execute("create table trunkline.cursors (load_id varchar, unit varchar)")
    ledger = Ledger(warehouse)
    assert not ledger.begin()
    assert ledger.last_cursor("u") is None


def test_loads_of_a_replaced_table_count_from_the_last_replacement(warehouse: DuckDB) -> None:
    ledger = Ledger(warehouse)
    modes = [
        ("load_1", "a", "append"),
        ("load_2", "a", "append"),
        ("load_3", "b", "append"),
        ("load_4", "a", "replace"),
    ]
    ledger.add("loads", [{"load_id": i, "source": s, "mode": m, "contract": []} for i, s, m in modes])
    assert ledger.load_ids(["a", "b"]) == ("load_3", "load_4")
    assert ledger.load_ids(["b"]) == ("load_3",)


def test_predictions_are_taken_once(warehouse: DuckDB, tmp_path: Path) -> None:
    ledger = Ledger(warehouse)
    file = tmp_path / "p.ndjson"
    line = (
        '{{"prediction_id":"{0}","at":"2026-01-01T00:00:00Z","deployment":"d","model":"m","sha256":"s","key":null,'
        '"row":{{"a":"{0}"}},"score":0.5,"latency_us":12}}\n'
    )
    file.write_text(line.format("p1") + line.format("p2"))
    assert ledger.add_predictions(file) == 2
    file.write_text(line.format("p2") + line.format("p3"))
    assert ledger.add_predictions(file) == 1
    rows = ledger.read("predictions", "order by prediction_id")
    assert [(row["prediction_id"], row["row"], row["score"]) for row in rows] == [
        (f"p{i}", {"a": f"p{i}"}, 0.5) for i in (1, 2, 3)
    ]


def test_ids_sort_by_time_and_are_uuids_of_version_7() -> None:
    ids = [new_id("load") for _ in range(2000)]
    assert len(set(ids)) == 2000
    stamps = [int(i.removeprefix("load_")[:12], 16) for i in ids]
    assert stamps == sorted(stamps)
    parsed = uuid.UUID(ids[0].removeprefix("load_"))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
