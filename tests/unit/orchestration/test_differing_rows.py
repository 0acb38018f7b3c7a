"""Which rows differ: by key, without a key, within the tolerance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb

from trunkline.orchestration import differing_rows
from trunkline.orchestration.differing_rows import Found, Pair, RowDifference, find
from trunkline.warehouse.compare_sql import Hashed, form_of


def _find(left: str, right: str, key: Sequence[int] = (), limit: int = 5) -> Found:
    """`left` and `right` are queries with the same columns."""
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        for name, sql in (("l", left), ("r", right)):
            connection.execute(f"create table {name} as {sql}")
        columns = [(str(n), form_of(t, t)) for n, t, *_ in connection.execute("describe l").fetchall()]
        rows = max(int(connection.execute(f"select count(*) from {name}").fetchall()[0][0]) for name in "lr")

        def ask(one: str, other: str) -> tuple[list[Any], list[Any]]:
            return connection.execute(one).fetchall(), connection.execute(other).fetchall()

        names, forms = [name for name, _ in columns], [form for _, form in columns]
        return find(Pair(names, forms, *(Hashed("duckdb", t, columns) for t in "lr"), ask=ask), key, rows, limit)


TABLE = "select range as id, 'c' || range % 7 as name, range / 3.0 as share from range(5000)"


def test_a_changed_value_is_found_by_its_key() -> None:
    changed = f"select id, case id when 4321 then 'x' else name end as name, share from ({TABLE})"
    assert _find(TABLE, changed, [0]) == Found((RowDifference((("id", "4321"),), (("name", "c2", "x"),)),))


def test_rows_on_one_side_alone() -> None:
    less, more = f"{TABLE} where range <> 17", f"{TABLE} union all select 5000, 'new', null"
    found = _find(less, more, [0])
    assert found.rows == (
        RowDifference((("id", "17"),), (("id", None, "17"), ("name", None, "c3"), ("share", None, 17 / 3)), "right"),
        RowDifference((("id", "5000"),), (("id", None, "5000"), ("name", None, "new"), ("share", None, None)), "right"),
    )
    assert [row.only for row in _find(more, less, [0]).rows] == ["left", "left"]
    assert found.columns == frozenset()


def test_rounding_errors_are_no_differences() -> None:
    noisy = f"select id, name, share * (1 + 3e-10) as share from ({TABLE})"
    found = _find(TABLE, noisy, [0])
    assert (found.rows, found.complete) == ((), True)
    assert 500 < found.close <= 5000
    assert _find(TABLE, noisy) == found  # rows meet by id and name
    wrong = f"select id, name, case id when 99 then share * (1 + 1e-8) else share end as share from ({noisy})"
    (row,) = _find(TABLE, wrong, [0]).rows
    assert (row.key, [name for name, *_ in row.values]) == ((("id", "99"),), ["share"])


def test_floats_alone_meet_by_their_values() -> None:
    table, noisy = "select range / 3.0 as a, range / 7.0 as b from range(3000)", "a * (1 + 3e-10) as a, b"
    assert _find(table, f"select {noisy} from ({table})").rows == ()
    found = _find(table, f"select {noisy} from ({table}) union all select 1e9, 1")
    assert [(row.key, row.only, row.values) for row in found.rows] == [
        ((), "right", (("a", None, 1e9), ("b", None, 1.0)))
    ]


def test_without_a_key_a_changed_value_is_a_row_gone_and_a_row_come() -> None:
    names = "select 'a' || range % 50 as name, range % 11 as n from range(1000)"
    changed = f"{names} where range <> 3 union all select 'a3', 12"
    found = _find(names, changed)
    assert {(row.only, dict(row.key)["n"]) for row in found.rows} == {("left", "3"), ("right", "12")}


def test_swapped_values_are_found() -> None:
    swapped = f"select case id when 5 then 6 when 6 then 5 else id end as id, name, share from ({TABLE})"
    found = _find(TABLE, swapped, [0])
    assert [(dict(row.key)["id"], [name for name, *_ in row.values]) for row in found.rows] == [
        ("5", ["name", "share"]),
        ("6", ["name", "share"]),
    ]
    assert found.columns == {"name", "share"}


def test_a_key_that_is_not_unique_loses_no_row() -> None:
    table = "select range % 10 as id, range as n from range(100)"
    found = _find(table, f"{table} where range <> 42 union all select 2, 1000 union all select 2, 1000", [0])
    values = sorted((row.only or "both", row.values) for row in found.rows)
    assert values == [("both", (("n", "42", "1000"),)), ("right", (("id", None, "2"), ("n", None, "1000")))]


def test_nan_and_null() -> None:
    table = "select * from (values (1, cast('nan' as double), null), (2, null, 'a')) v(id, x, t)"
    assert _find(table, table, [0]) == Found()
    (one, other) = _find(
        table, "select * from (values (1, null, null), (2, cast('nan' as double), 'a')) v(id, x, t)", [0]
    ).rows
    assert (one.values, other.values) == ((("x", "nan", None),), (("x", None, "nan"),))


def test_a_search_ends_with_what_was_asked_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(differing_rows, "_CHUNK_ROWS", 500)
    changed = f"select id, name || '!' as name, share from ({TABLE})"
    found = _find(TABLE, changed, [0], limit=3)
    assert (len(found.rows), found.complete) == (3, False)
    assert len(_find(TABLE, changed, [0], limit=10_000).rows) == 5000
