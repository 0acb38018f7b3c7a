"""dbt's Python functions on a real DuckDB connection."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.unit.transform.writing import write
from trunkline.errors import ProjectError
from trunkline.transform.functions import Plugin, register
from trunkline.transform.portable import find_functions

ROWS = 5_000  # more than two of DuckDB's batches


@pytest.fixture
def conn() -> Iterator[Any]:
    with duckdb.connect() as connection:
        yield connection


def message(project: Path, conn: Any, sql: str | None = None) -> str:
    """What registering, or then running `sql`, says."""
    if sql is None:
        with pytest.raises(ProjectError) as refused:
            register(conn, project)
        return str(refused.value)
    register(conn, project)
    with pytest.raises(duckdb.Error) as failed:
        conn.sql(sql).fetchall()
    return str(failed.value)


def test_computes_over_many_batches_and_two_columns(tmp_path: Path, conn: Any) -> None:
    write(tmp_path, "score", "def main(a, n):\n    return a * 2 + n\n", "a: double, n: bigint", "double")
    register(conn, tmp_path)
    sql = "select count(*), count(*) filter (__py_score(i / 4, i) = i / 2 + i) from range(?) t(i)"
    assert conn.execute(sql, [ROWS]).fetchall() == [(ROWS, ROWS)]


@pytest.mark.parametrize(
    ("kind", "literal", "pandas_type", "value"),
    [
        ("bigint", "9007199254740993", "Int64", 9007199254740993),
        ("integer", "7::integer", "Int64", 7),
        ("double", "0.1::double", "float64", 0.1),
        ("boolean", "true", "boolean", True),
        ("string", "'søen'", "string", "søen"),
        ("date", "date '2013-02-28'", "datetime64[us]", dt.date(2013, 2, 28)),
        (
            "timestamp",
            "timestamp '2013-02-28 12:00:00.000001'",
            "datetime64[us]",
            dt.datetime(2013, 2, 28, 12, 0, 0, 1),
        ),
    ],
)
def test_values_and_nulls_of_each_type_come_back(
    tmp_path: Path, conn: Any, kind: str, literal: str, pandas_type: str, value: object
) -> None:
    write(tmp_path, "same", "def main(a):\n    return a\n", f"a: {kind}", kind)
    write(tmp_path, "kind", "def main(a):\n    return [str(a.dtype)] * len(a)\n", f"a: {kind}", "varchar")
    register(conn, tmp_path)
    rows = conn.sql(f"select __py_same(a), __py_kind(a) from (values ({literal}), (null)) t(a)").fetchall()
    assert rows == [(value, pandas_type), (None, pandas_type)]


def test_null_reaches_the_function_and_nan_comes_back_as_null(tmp_path: Path, conn: Any) -> None:
    write(tmp_path, "filled", "def main(a):\n    return a.fillna(-1.0)\n", "a: double", "double")
    write(tmp_path, "nan", "def main(a):\n    return [float('nan')] * len(a)\n", "a: double", "double")
    register(conn, tmp_path)
    assert conn.sql("select __py_filled(null::double), __py_nan(1.0::double)").fetchall() == [(-1.0, None)]


def test_no_rows(tmp_path: Path, conn: Any) -> None:
    write(tmp_path, "same", "def main(a):\n    return a\n", "a: double", "double")
    register(conn, tmp_path)
    assert conn.sql("select __py_same(i::double) from range(0) t(i)").fetchall() == []


def test_entry_point_and_function_paths_are_dbts_own(tmp_path: Path, conn: Any) -> None:
    write(tmp_path, "twice", "def double(a):\n    return a * 2\n", "a: bigint", "bigint", "{entry_point: double}")
    (tmp_path / "functions").rename(tmp_path / "udfs")
    (tmp_path / "dbt_project.yml").write_text("name: x\nfunction-paths: [udfs]\n")
    register(conn, tmp_path)
    assert conn.sql("select __py_twice(21)").fetchall() == [(42,)]


def test_plugin_registers_and_a_changed_file_replaces_the_function(tmp_path: Path, conn: Any) -> None:
    plugin = Plugin("functions", {"project_dir": str(tmp_path)})
    for factor in (2, 3):
        write(tmp_path, "times", f"def main(a):\n    return a * {factor}\n", "a: bigint", "bigint")
        plugin.configure_connection(conn)
        assert conn.sql("select __py_times(7)").fetchall() == [(7 * factor,)]


def test_plugin_has_every_face_of_dbt_duckdbs_own() -> None:
    from dbt.adapters.duckdb.plugins import BasePlugin

    theirs = {name for name in vars(BasePlugin) if not name.startswith("_")} - {"create"}
    assert theirs <= set(vars(Plugin))
    assert Plugin("x", {}).default_materialization() == BasePlugin("x", {}).default_materialization()


def test_sql_functions_and_projects_without_functions_are_left_to_dbt(tmp_path: Path) -> None:
    assert list(find_functions(tmp_path)) == []
    folder = tmp_path / "functions"
    folder.mkdir()
    (folder / "half.sql").write_text("x / 2")
    (folder / "half.yml").write_text("functions: [{name: half, arguments: [{name: x, data_type: float}]}]")
    assert list(find_functions(tmp_path)) == []


def test_determinism_is_as_declared(tmp_path: Path) -> None:
    for volatility in ("deterministic", "stable", "non-deterministic"):
        name = volatility.replace("-", "_")
        write(tmp_path, name, "def main(a):\n    return a\n", "a: date", "date", f"{{volatility: {volatility}}}")
    write(tmp_path, "unsaid", "def main(a):\n    return a\n", "a: date", "date")
    declared = {function.name: function.deterministic for function in find_functions(tmp_path)}
    assert declared == {"deterministic": True, "stable": True, "non_deterministic": False, "unsaid": False}


@pytest.mark.parametrize(
    ("code", "says", "line"),
    [
        ("def main(a):\n    return a +\n", "does not load: invalid syntax", 2),
        ("import nowhere_at_all\ndef main(a):\n    return a\n", "imports 'nowhere_at_all', which is neither", 1),
        ("def other(a):\n    return a\n", "has no main()", None),
        ("\n\ndef main(a, b):\n    return a\n", "main(a, b) does not take what its declaration says (a)", 3),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path: Path, conn: Any, code: str, says: str, line: int | None) -> None:
    file = write(tmp_path, "f", code, "a: bigint", "bigint")
    text = message(tmp_path, conn)
    assert says in text
    assert text.startswith(f"{file}:{line}: " if line else f"{file}: ")


@pytest.mark.parametrize(
    ("arguments", "returns", "says", "line"),
    [
        ("a: float", "double", "'float' is not one that means the same in every warehouse", 4),
        ("a: bigint", "decimal(9)", "'decimal(9)' is not one", 5),
        ("a: bigint", "bolean", "Did you mean 'boolean'?", 5),
        ("", "bigint", "takes no arguments", 2),
    ],
)
def test_a_bad_declaration_is_refused_with_its_line(
    tmp_path: Path, conn: Any, arguments: str, returns: str, says: str, line: int
) -> None:
    write(tmp_path, "f", "def main(a):\n    return a\n", arguments, returns)
    text = message(tmp_path, conn)
    assert says in text
    assert text.startswith(f"{tmp_path / 'functions' / 'f.yml'}:{line}: ")


def test_a_file_without_declaration_is_refused(tmp_path: Path, conn: Any) -> None:
    file = write(tmp_path, "f", "def main(a):\n    return a\n", "a: bigint", "bigint")
    file.with_suffix(".yml").unlink()
    assert "declared nowhere\nHint: write f.yml beside it" in message(tmp_path, conn)


@pytest.mark.parametrize(
    ("body", "returns", "says"),
    [
        ("return a.head(1)", "bigint", "returned 1 rows for 3"),
        ("return 5", "bigint", "returned int, not a pandas Series"),
        ("return 'abc'", "varchar", "returned str, not a pandas Series"),
        ("return ['x'] * len(a)", "bigint", "returned what is no BIGINT"),
        ("return a + 0.5", "bigint", "returned what is no BIGINT"),
        ("raise KeyError('wind')", "bigint", "function 'f' failed: KeyError: 'wind'"),
    ],
)
def test_a_bad_result_names_the_file(tmp_path: Path, conn: Any, body: str, returns: str, says: str) -> None:
    file = write(tmp_path, "f", f"def main(a):\n    {body}\n", "a: bigint", returns)
    text = message(tmp_path, conn, "select __py_f(i) from range(3) t(i)")
    assert says in text
    assert str(file) in text


def test_an_exception_names_the_users_line(tmp_path: Path, conn: Any) -> None:
    code = "def deeper(a):\n    return a.nothing\n\ndef main(a):\n    return deeper(a)\n"
    file = write(tmp_path, "f", code, "a: bigint", "bigint")
    assert f"{file}:2: " in message(tmp_path, conn, "select __py_f(1)")


def test_the_examples_function_finds_the_best_runway(conn: Any) -> None:
    import trunkline.project

    register(conn, Path(trunkline.project.__file__).parent / "templates" / "flights")
    rows = conn.sql(
        "select __py_crosswind(origin, direction, speed) from (values"
        " ('JFK', 31.0::double, 20.0::double), ('JFK', 76.0, 20.0), ('EWR', null, 0.0), ('LGA', null, 9.0),"
        " ('LGA', 32.0, null), ('XXX', 10.0, 5.0)) t(origin, direction, speed)"
    ).fetchall()
    along, between, calm, unknown_direction, unknown_speed, unknown_airport = (row[0] for row in rows)
    assert along == pytest.approx(0, abs=1e-9)
    assert between == pytest.approx(20 * 0.5**0.5)  # 45 degrees off both runways
    assert calm == 0
    assert (unknown_direction, unknown_speed, unknown_airport) == (None, None, None)
