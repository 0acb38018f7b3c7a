"""The emulator's Python functions do what Snowflake's do, as far as our code relies on it."""

from __future__ import annotations

import contextlib
import datetime as dt
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

BATCHED = """
create or replace function {name}(a double, n bigint) returns varchar language python immutable
runtime_version = '3.11' handler = 'told' packages = ('pandas') as $$
import pandas
from _snowflake import vectorized

@vectorized(input=pandas.DataFrame)
def told(frame):
    return pandas.Series([f"{{len(frame)}} {{list(frame.columns)}} {{frame[0].dtype}} {{frame[1].dtype}}"] * len(frame))
$$
"""


@pytest.fixture
def cursor(snowflake_account: dict[str, Any]) -> Iterator[Any]:
    with contextlib.closing(snowflake.connector.connect(**snowflake_account)) as connection:
        yield connection.cursor()


@pytest.fixture
def snowflake_account(snowflake: dict[str, Any]) -> dict[str, Any]:
    """What the connector needs of a target."""
    names = ("account", "user", "password", "host", "port", "protocol", "database", "schema")
    return {**{name: snowflake[name] for name in names}, "application": "Trunkline", "network_timeout": 30}


def test_a_vectorised_function_gets_batches_of_no_particular_size(cursor: Any) -> None:
    cursor.execute(BATCHED.format(name="told"))
    cursor.execute("create table t as select seq4() as n from table(generator(rowcount => 600))")
    counted = cursor.execute(
        "select told(n, case when n = 3 then null else n end) x, count(*) from t group by x"
    ).fetchall()
    sizes = sorted(int(text.split()[0]) for text, _ in counted)
    assert sizes == [1, 7, 92, 500]
    assert sum(count for _, count in counted) == 600
    assert {text.split(" ", 1)[1] for text, _ in counted} == {"[0, 1] float64 Int64", "[0, 1] float64 int64"}


def test_a_scalar_function_gets_python_values_and_none(cursor: Any) -> None:
    cursor.execute(
        "create function said(s varchar, d date, t timestamp_ntz, b boolean, n number(38,0)) returns varchar language "
        "python runtime_version='3.11' handler='h' as 'def h(*row):\n    return repr(row).replace(\"''\", \"\")'"
    )
    row = "'é', '2024-02-29'::date, '2024-02-29 12:00:00.000001'::timestamp, true, 3"
    said = cursor.execute(f"select said({row}), said(null, null, null, null, null)").fetchall()
    values = ("é", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29, 12, 0, 0, 1), True, 3)
    assert said == [(repr(values).replace("'", ""), repr((None,) * 5))]


def test_it_has_its_name_in_every_session_until_it_is_dropped(cursor: Any, snowflake_account: dict[str, Any]) -> None:
    cursor.execute(BATCHED.format(name="analytics.kept"))
    with contextlib.closing(snowflake.connector.connect(**snowflake_account)) as other:
        other.cursor().execute(BATCHED.format(name=f"{snowflake_account['database']}.analytics.made_there"))
    database = snowflake_account["database"]
    for name in (
        "kept",
        "ANALYTICS.KEPT",
        '"ANALYTICS"."KEPT"',
        f"{database}.analytics.made_there",
        f'"{database}"."ANALYTICS".made_there',
    ):
        assert cursor.execute(f"select {name}(1, 2)").fetchall()[0][0].startswith("1 [0, 1]")
    cursor.execute("drop function kept(double, bigint)")
    with pytest.raises(snowflake.connector.ProgrammingError, match="(?i)kept does not exist"):
        cursor.execute("select kept(1, 2)")
    cursor.execute("drop function if exists kept(double, bigint)")


def test_files_of_a_stage_are_beside_the_handler(cursor: Any, tmp_path: Path) -> None:
    for number in (1, 2):
        with zipfile.ZipFile(tmp_path / f"part{number}.zip", "w") as archive:
            archive.writestr("part.py", f"def answer():\n    return {number}\n")
        (tmp_path / f"note{number}.txt").write_text(f"note {number}")
    cursor.execute("create stage files")
    cursor.execute(f"put file://{tmp_path}/part*.zip @files/deep auto_compress=false")
    cursor.execute(f"put file://{tmp_path}/note*.txt @files/deep auto_compress=false")
    for number in (1, 2):
        cursor.execute(
            f"create function f{number}(x bigint) returns varchar language python runtime_version='3.11' handler='h' "
            f"imports=('@files/deep/part{number}.zip', '@files/deep/note{number}.txt') as $$\n"
            "import sys\nfrom pathlib import Path\nimport part\nfolder = sys._xoptions['snowflake_import_directory']\n"
            "def h(x):\n    from part import answer\n"
            f"    return f\"{{part.answer()}} {{answer()}} {{Path(folder, 'note{number}.txt').read_text()}}\"\n$$"
        )
    assert cursor.execute("select f1(0), f2(0), f1(1)").fetchall() == [("1 1 note 1", "2 2 note 2", "1 1 note 1")]
    with pytest.raises(snowflake.connector.ProgrammingError, match="was not found"):
        cursor.execute(
            "create function f3(x bigint) returns varchar language python runtime_version='3.11' handler='h' "
            "imports=('@files/deep/part3.zip') as $$\ndef h(x): return 'x'\n$$"
        )


def test_a_handler_that_fails_says_why(cursor: Any) -> None:
    with pytest.raises(snowflake.connector.ProgrammingError, match="No module named 'nowhere'"):
        cursor.execute(
            "create function bad(x bigint) returns bigint language python runtime_version='3.11' handler='h' "
            "as $$\nimport nowhere\ndef h(x): return x\n$$"
        )
    cursor.execute(
        "create function bad(x bigint) returns bigint language python runtime_version='3.11' handler='h' "
        "as $$\ndef h(x): return 1 // x\n$$"
    )
    with pytest.raises(snowflake.connector.ProgrammingError, match="ZeroDivisionError"):
        cursor.execute("select bad(0)")
