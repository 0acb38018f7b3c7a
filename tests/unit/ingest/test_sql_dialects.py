"""What the `sql` connector says to each kind of database, and what the project may say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.errors import ProjectError, SourceError
from trunkline.ingest.sql_dialect import Selection, SourceColumn, split_name
from trunkline.ingest.sql_mysql import MySQL
from trunkline.ingest.sql_native import one_select
from trunkline.ingest.sql_postgres import Postgres, native
from trunkline.project import yaml
from trunkline.project.durations import seconds
from trunkline.project.sources import read_sources

YAML = """\
sources:
  - name: shop
    tables:
      - name: orders
        config:
          meta:
            trunkline:
              connector: sql
              dsn: env:SHOP
              {options}
        columns:
          - {{name: id, data_type: bigint}}
"""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("orders", ("orders",)),
        ("sales.orders", ("sales", "orders")),
        ('"odd.schema"."say ""x"""', ("odd.schema", 'say "x"')),
        ("`odd.one`.`back``tick`", ("odd.one", "back`tick")),
    ],
)
def test_names_in_parts(name: str, parts: tuple[str, ...]) -> None:
    assert split_name(name) == parts


@pytest.mark.parametrize(
    ("type_", "expression", "in_parallel"),
    [
        ("bigint", '"c"', True),
        ("numeric(12,2)", '"c"::text', True),
        ("numeric", '"c"::text', False),
        ("numeric(40,2)", '"c"::text', False),
        ("numeric(3,5)", '"c"::text', False),
        ("double precision", '"c"', True),
        ("money", '"c"::numeric::text', False),
        ("integer[]", 'to_json("c")::text', False),
        ("record", 'to_json("c")::text', False),
        ("point", '"c"::text', False),
        ("timestamp with time zone", '"c"', True),
        ("DOUBLE", '"c"::text', False),  # of a query: a numeric's as well
    ],
)
def test_postgres_values_keep_all_digits(type_: str, expression: str, in_parallel: bool) -> None:
    column = SourceColumn("c", type_)
    assert Postgres().value(column) == expression
    assert native(column) == in_parallel


def test_a_precise_numeric_is_watched_for_nan_and_read_as_it_is() -> None:
    columns = [SourceColumn("id", "bigint"), SourceColumn("a", "numeric(12,2)"), SourceColumn("b", "numeric")]
    fast, exact = (Selection(Postgres(), columns, "t", exact).where("id > 1") for exact in (False, True))
    watch = """case when "a" = 'NaN' then 1 end as "trunkline misread" from t where id > 1"""
    assert fast == f"""select "id" as "id", "a" as "a", "b"::text as "b", {watch}"""
    assert exact == """select "id" as "id", "a"::text as "a", "b"::text as "b" from t where id > 1"""
    assert not Selection(Postgres(), columns[::2], "t", False).watched


@pytest.mark.parametrize(
    "dsn",
    ["postgresql://u:p@h/db", "postgresql://u:p@h/db?sslmode=require&options=-c%20work_mem%3D1MB", "host=h user=u"],
)
def test_postgres_sessions_are_read_only_and_limited(dsn: str) -> None:
    said = Postgres().session(dsn, 90, Path()).replace("%20", " ").replace("%3D", "=")
    assert "-c default_transaction_read_only=on" in said
    assert "-c statement_timeout=90000" in said
    assert ("sslmode=require" in said and "-c work_mem=1MB -c default" in said) or "work_mem" not in dsn
    assert said.startswith(dsn.partition("?")[0])


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("10.11.19-MariaDB", "set statement max_statement_time = 90 for select 1"),
        ("8.4.0", "select /*+ MAX_EXECUTION_TIME(90000) */ 1"),
    ],
)
def test_mysql_statements_are_limited(version: str, said: str) -> None:
    assert said in MySQL().ask("db", "select 1", timeout=90, version=version)


def test_a_number_is_compared_as_one() -> None:
    mysql = MySQL()
    assert mysql.place("9007199254740993", SourceColumn("c", "bigint(20) unsigned"), number=False) == "9007199254740993"
    assert mysql.place("1 or 1", SourceColumn("c", "bigint"), number=False) == "'1 or 1'"
    assert mysql.place("it's \\", SourceColumn("c", "varchar(9)"), number=False) == "'it''s \\\\'"
    assert Postgres().place("it's \\", None, number=False) == "E'it''s \\\\'"


@pytest.mark.parametrize(
    "sql",
    [
        "delete from t",
        "select 1; drop table t",
        "with gone as (delete from t returning *) select * from gone",
        "select * into copy from t",
        "set x = 1",
    ],
)
def test_a_query_is_one_select(sql: str) -> None:
    with pytest.raises(SourceError, match="a query must be one SELECT"):
        one_select(sql, "postgres")


def test_a_select_is_passed_on() -> None:
    sql = "with a as (select 1 as x) select * from a -- all;\n"
    assert one_select(f"{sql};", "postgres") == sql.strip()


@pytest.mark.parametrize(
    ("options", "line", "message"),
    [
        ("load: append", 10, "appending needs a 'cursor'"),
        ("cursor: id, lag: 5", 11, "a 'lag' reads rows again"),
        ("load: merge, key: [id], lag: 5", 12, "'lag' needs a 'cursor'"),
        ("load: replace, cursor: id", 11, "reads the whole table"),
        ("load: replace, table: a, query: select 1", 12, "not of both"),
        ("load: replace-when-changed", 7, "'changed', a query that tells of changes, go together"),
        ("load: merge, key: [id], cursor: at, lag: soon", 13, "'soon' is no span of time"),
        ("load: replace, statement_timeout: long", 11, "'long' is no span of time"),
        ("cursor: id, batch_rows: 0", 11, "it must be 1 or more"),
        ("load: replace, through: adbc", 7, "go together"),
    ],
)
def test_what_does_not_go_together_is_refused_at_its_line(
    tmp_path: Path, options: str, line: int, message: str
) -> None:
    (tmp_path / "sources.yml").write_text(YAML.format(options=options.replace(", ", "\n              ")))
    with pytest.raises(ProjectError, match=message) as caught:
        list(read_sources(yaml.load(tmp_path / "sources.yml")))
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("text", "span"),
    [("15 minutes", 900), ("1 hour 30 minutes", 5400), ("90s", 90), ("2d", 172800), ("1 week", 604800)],
)
def test_spans_of_time(text: str, span: float) -> None:
    assert seconds(text) == span


@pytest.mark.parametrize("text", ["", "5", "-5 s", "1 fortnight", "soon", "1 hour and"])
def test_no_spans_of_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no span of time"):
        seconds(text)
