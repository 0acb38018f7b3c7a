"""Every shape of function gives the same in plain Python, in DuckDB, and as Snowflake calls the generated handler."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trunkline.project
from tests.unit.transform.writing import SAMPLES, Sample
from trunkline.errors import ProjectError
from trunkline.transform.agreement import compare
from trunkline.transform.functions import load_function, register
from trunkline.transform.portable import find_functions
from trunkline.transform.rows import random_rows
from trunkline.transform.snowpark import handler_source
from trunkline.warehouse.protocol import Warehouse, open_warehouse

FLIGHTS = Path(trunkline.project.__file__).parent / "templates" / "flights"


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    opened = open_warehouse("duckdb", {"path": ":memory:"}, tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", SAMPLES)
def test_all_sides_agree(tmp_path: Path, warehouse: Warehouse, name: str) -> None:
    function = SAMPLES[name].write(tmp_path, name)
    agreement = compare(function, 400, 1, warehouse)
    assert agreement.first is None
    sides = ["Snowflake by 1", "Snowflake by 7", "Snowflake by 2048"] if function.vectorised else ["Snowflake"]
    assert list(agreement.differing) == ["DuckDB", *sides]
    assert (0 < agreement.nulls < 400) is (name not in ("rest", "length"))  # these two have an answer to NULL


def test_the_examples_function_agrees_over_several_batches(warehouse: Warehouse) -> None:
    (function,) = find_functions(FLIGHTS)
    agreement = compare(function, 2_500, 0, warehouse)
    assert agreement.ok
    assert agreement.nulls < 2_100  # the airports of its own table are among the rows


@pytest.mark.parametrize(
    ("code", "arguments", "returns"),
    [
        ("def main(a):\n    return a - a.mean()\n", "a: double", "double"),
        ("def main(a):\n    return a.rank()\n", "a: double", "double"),
        ("def main(a):\n    return [len(a)] * len(a)\n", "a: double", "bigint"),
    ],
)
def test_a_function_that_depends_on_its_batch_is_found_out(
    tmp_path: Path, warehouse: Warehouse, code: str, arguments: str, returns: str
) -> None:
    agreement = compare(Sample(code, arguments, returns).write(tmp_path, "f"), 60, 0, warehouse)
    assert not agreement.ok
    assert agreement.differing["Snowflake by 1"] > 0
    assert agreement.first is not None
    assert len(agreement.first.arguments) == 1
    assert agreement.first.plain != agreement.first.answer


def test_code_that_needs_the_projects_folder_is_found_out(
    tmp_path: Path, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os\n\ndef main(a: int) -> int:\n    return len(os.listdir('functions'))\n"
    function = Sample(code, "a: bigint", "bigint").write(tmp_path, "f")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProjectError) as failed:
        compare(function, 30, 0, warehouse)
    assert str(failed.value).startswith(f"{function.file}:4: function 'f' failed as Snowflake would call it")
    assert f"{function.file}:4 in main" in str(failed.value)


def test_an_error_of_the_user_is_shown_with_their_lines_only(tmp_path: Path, warehouse: Warehouse) -> None:
    modules = (("lib/deep.py", "def deeper(n):\n    return 1 // n\n"),)
    code = "from lib.deep import deeper\n\ndef main(n: int) -> int:\n    return deeper(n)\n"
    function = Sample(code, "n: bigint", "bigint", modules=modules).write(tmp_path, "f")
    with pytest.raises(ProjectError) as failed:
        compare(function, 30, 0, warehouse)
    assert str(failed.value).splitlines() == [
        f"{function.file}:4: function 'f' failed: ZeroDivisionError: integer division or modulo by zero",
        f"  {function.file}:4 in main: return deeper(n)",
        f"  {tmp_path}/lib/deep.py:2 in deeper: return 1 // n",
    ]


def test_rows_are_the_same_for_a_seed_and_hold_the_hard_cases(tmp_path: Path) -> None:
    code = "def main(a, n, s, d, t, b):\n    return s.isin(['needle'])\n"
    arguments = "a: double, n: bigint, s: varchar, d: date, t: timestamp, b: boolean"
    function = Sample(code, arguments, "boolean").write(tmp_path, "f")
    table = random_rows(function, 1_000, 3)
    assert repr(table.to_pylist()) == repr(random_rows(function, 1_000, 3).to_pylist())
    assert repr(table.to_pylist()) != repr(random_rows(function, 1_000, 4).to_pylist())
    assert table.slice(0, 1).to_pylist() == [dict.fromkeys([f"c{n}" for n in range(6)])]
    numbers, integers, texts, days = (table.column(n).to_pylist() for n in range(4))
    assert float("inf") in numbers
    assert any(value is not None and value != value for value in numbers)
    assert {2**63 - 1, -(2**63), 0} <= set(integers)
    assert {"", "needle"} <= set(texts)
    assert dt.date(2024, 2, 29) in days


VALUES = {
    "a": st.none() | st.floats(),
    "n": st.none() | st.integers(-(2**63), 2**63 - 1),
    "s": st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    "d": st.none() | st.dates(),
    "t": st.none() | st.datetimes(),
    "b": st.none() | st.booleans(),
}
TYPES = {
    "a": pa.float64(),
    "n": pa.int64(),
    "s": pa.string(),
    "d": pa.date32(),
    "t": pa.timestamp("us"),
    "b": pa.bool_(),
}
ARGUMENTS = "a: double, n: bigint, s: varchar, d: date, t: timestamp, b: boolean"
BY_BATCH = """
def main(a, n, s, d, t, b):
    parts = [a.map(repr), n.astype(str), s.fillna("?").str.swapcase(), d.astype(str), t.astype(str), b.astype(str)]
    return parts[0].str.cat(parts[1:], sep="|").mask(b.fillna(False) & (n.fillna(0) % 2 == 0))
"""
BY_ROW = """
import datetime as dt
import re

def main(
    a: float | None, n: int | None, s: str | None, d: dt.date | None, t: dt.datetime | None, b: bool | None
) -> str | None:
    return None if b and (n or 0) % 2 == 0 else f"{a!r}|{n}|{(s or '?').swapcase()}|{d}|{t}|{b}"
"""


@pytest.mark.parametrize("code", [BY_BATCH, BY_ROW], ids=["vectorised", "scalar"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*VALUES.values()), min_size=1, max_size=30))
def test_any_row_of_any_types_gives_the_same_everywhere(
    tmp_path_factory: pytest.TempPathFactory, code: str, rows: list[tuple[Any, ...]]
) -> None:
    project = tmp_path_factory.mktemp("any")
    function = Sample(code, ARGUMENTS, "varchar").write(project, "f")
    table = pa.table({name: pa.array([row[n] for row in rows], type=TYPES[name]) for n, name in enumerate(TYPES)})
    by_duckdb = _duckdb(project, table)
    module: dict[str, Any] = {}
    exec(handler_source(function), module)
    handler = module["handler"]
    if not function.vectorised:
        assert [handler(*row) for row in rows] == by_duckdb == [load_function(function)(*row) for row in rows]
        return
    for size in (1, 7, 2048):
        assert _by_batch(handler, table, size) == by_duckdb


def _duckdb(project: Path, table: pa.Table) -> list[Any]:
    with duckdb.connect() as connection:
        register(connection, project)
        connection.register("rows", table)
        return [row[0] for row in connection.execute("select __py_f(a, n, s, d, t, b) from rows").fetchall()]


def _by_batch(handler: Any, table: pa.Table, size: int) -> list[Any]:
    assert handler._sf_vectorized_input.__name__ == "DataFrame"
    answers: list[Any] = []
    for start in range(0, table.num_rows, size):
        part = table.slice(start, size)
        columns = {place: pd.Series(column.to_pylist(), dtype=object) for place, column in enumerate(part.columns)}
        answers += [None if pd.isna(value) else value for value in handler(pd.DataFrame(columns))]
    return answers


def test_the_documentations_function_is_one_and_agrees(tmp_path: Path, warehouse: Warehouse) -> None:
    page = (Path(__file__).parents[3] / "docs" / "functions.md").read_text("utf-8")
    blocks = re.findall(r"```(?:python|yaml)\n# (functions/\S+)\n(.*?)```", page, re.DOTALL)
    assert [file for file, _ in blocks] == ["functions/crosswind.py", "functions/crosswind.yml"]
    (tmp_path / "functions").mkdir()
    for file, text in blocks:
        (tmp_path / file).write_text(text)
    (function,) = find_functions(tmp_path)
    assert compare(function, 200, 0, warehouse).ok
