"""The SQL that Snowflake is sent: names, literals, types and functions, pinned and parsed as Snowflake's."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
import sqlglot
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from trunkline.warehouse import snowflake_sql as sql
from trunkline.warehouse.protocol import PythonFunction
from trunkline.warehouse.relation import Relation

GOLDEN = Path(__file__).parents[2] / "golden" / "snowflake"
AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=dt.timezone(dt.timedelta(hours=2)))


def pinned(name: str, text: str) -> None:
    """The text equals the golden file; TRUNKLINE_WRITE_GOLDEN=1 writes it anew."""
    file = GOLDEN / name
    if os.environ.get("TRUNKLINE_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()


def test_plain_names_are_folded_and_others_are_exact() -> None:
    assert [sql.quote(n) for n in ("flights", "_Load_ID", "a$1", "odd name", 'say "x"', "1a", "größe")] == [
        '"FLIGHTS"',
        '"_LOAD_ID"',
        '"A$1"',
        '"odd name"',
        '"say ""x"""',
        '"1a"',
        '"größe"',
    ]


@given(st.text(max_size=30))
def test_a_name_is_one_identifier_whatever_it_holds(name: str) -> None:
    if "\0" in name:
        return
    parsed = sqlglot.parse_one(f"select 1 as {sql.quote('x' + name)}", read="snowflake")
    assert isinstance(parsed, exp.Select)
    assert parsed.expressions[0].alias == sql.fold("x" + name)


@pytest.mark.parametrize("name", ["flights", "_load_id", "odd name", "Größe"])
def test_names_come_back_as_projects_write_them(name: str) -> None:
    assert sql.unfold(sql.fold(name)) == name


@given(st.text(max_size=30))
def test_a_literal_means_its_text(text: str) -> None:
    """Read back by Snowflake's rules: a doubled quote is one, a backslash escapes what follows."""
    inner = sql.literal(text)[1:-1]
    read, i = "", 0
    while i < len(inner):
        assert inner[i] != "'" or inner[i + 1] == "'", "the literal would end here"
        i += inner[i] in "'\\"
        read += inner[i]
        i += 1
    assert read == text


def test_values_are_put_where_the_places_are() -> None:
    assert sql.inline("select ?, '?', \"?\", ?", ["it's \\", None]) == "select 'it''s \\\\', '?', \"?\", null"
    assert sql.inline("select ?, ?", [True, 1.5]) == "select true, cast('1.5' as double)"
    for values in ([], [1, 2]):
        with pytest.raises(ValueError, match="more"):
            sql.inline("select ?", values)
    with pytest.raises(TypeError, match="list"):
        sql.inline("select ?", [[1]])


def test_times_are_sent_as_instants() -> None:
    assert sql.timestamp(AT) == "cast('2026-01-02 01:04:05.000678+00:00' as timestamp_tz)"


@pytest.mark.parametrize(
    ("written", "column", "told"),
    [
        ("int", "NUMBER(38,0)", "BIGINT"),
        ("bigint", "NUMBER(38,0)", "BIGINT"),
        ("numeric(9, 2)", "NUMBER(9,2)", "DECIMAL(9,2)"),
        ("decimal(9)", "NUMBER(9,0)", "BIGINT"),
        ("float8", "FLOAT", "DOUBLE"),
        ("string", "VARCHAR", "VARCHAR"),
        ("varchar(3)", "VARCHAR", "VARCHAR"),
        ("timestamp", "TIMESTAMP_NTZ", "TIMESTAMP"),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP_TZ", "TIMESTAMP WITH TIME ZONE"),
        ("json", "VARIANT", "JSON"),
        ("integer[]", "VARIANT", "JSON"),
        ("bool", "BOOLEAN", "BOOLEAN"),
    ],
)
def test_types_go_there_and_come_back(written: str, column: str, told: str) -> None:
    assert (sql.column_type(written), sql.stored_type(written)) == (column, told)


def test_a_function_and_where_its_files_are() -> None:
    function = PythonFunction(
        Relation("analytics", "twice"),
        (("a", "DOUBLE"), ("n", "BIGINT")),
        "DOUBLE",
        "def main(rows):\n    return 'it\\'s' and rows[0] * 2\n",
        "main",
        ("pandas", "numpy"),
        (Path("model.zip"),),
    )
    text = sql.create_function('"DB"."ANALYTICS"."TWICE"', function, ["@DB.TRUNKLINE.FUNCTIONS/model.zip"])
    pinned("function.sql", text + "\n")


@pytest.mark.parametrize(
    ("own", "tag"),
    [
        ("", "trunkline:train:delay"),
        ("team", "team trunkline:train:delay"),
        ('{"team": "a"}', '{"team": "a", "trunkline": "train:delay"}'),
        ("{no json", "{no json trunkline:train:delay"),
    ],
)
def test_a_tag_keeps_the_users_own(own: str, tag: str) -> None:
    assert sql.tagged(own, "trunkline:train:delay") == tag
