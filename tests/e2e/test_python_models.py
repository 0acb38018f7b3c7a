"""One dbt Python model on both warehouses.

DuckDB runs it in dbt's process. For Snowflake dbt-snowflake writes a stored procedure, which the emulator cannot run:
its body is taken from what the emulator received and run with a Snowpark session in local testing mode, on tables of
the same rows. The model is the one that docs/functions.md shows.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import warnings
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from tests.emulator.running import Emulator
from trunkline.transform.dbt import Dbt

ROOT = Path(__file__).parents[2]
PROJECT = 'name: shop\nversion: "1.0.0"\nprofile: shop\nconfig-version: 2\n'
ORDERS = """
{{ config(materialized='table') }}
select 1 as order_id, 'anna' as customer, cast(10.5 as double) as amount, cast('2024-02-28' as date) as day
union all select 2, 'ben', 20.0, cast('2024-02-29' as date)
union all select 3, 'anna', null, cast('2024-03-01' as date)
union all select 4, null, 1.25, null
"""
ROWS = [
    (1, "anna", 10.5, dt.date(2024, 2, 28)),
    (2, "ben", 20.0, dt.date(2024, 2, 29)),
    (3, "anna", None, dt.date(2024, 3, 1)),
    (4, None, 1.25, None),
]
EXPECTED = [("anna", 2, 10.5, "2024-03-01"), ("ben", 1, 20.0, "2024-02-29")]


@pytest.fixture
def project(tmp_path: Path, snowflake: dict[str, Any]) -> Path:
    """A table in SQL and the model of the documentation on top of it."""
    outputs = {"dev": {"type": "duckdb", "path": str(tmp_path / "shop.duckdb")}, "prod": snowflake}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump({"shop": {"target": "dev", "outputs": outputs}}))
    (tmp_path / "dbt_project.yml").write_text(PROJECT)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "orders.sql").write_text(ORDERS)
    (model,) = re.findall(r"```python\n(# models/customers\.py\n.*?)```", _page(), re.DOTALL)
    (tmp_path / "models" / "customers.py").write_text(model)
    return tmp_path


def _page() -> str:
    return (ROOT / "docs" / "functions.md").read_text("utf-8")


def test_the_same_python_model_gives_the_same_on_both(project: Path, emulator: Emulator) -> None:
    with contextlib.chdir(project):
        assert [r.message for r in Dbt(project, "dev", project).build(["*"], lambda *_: None) if not r.ok] == []
        (failed,) = [r for r in Dbt(project, "prod", project).build(["*"], lambda *_: None) if not r.ok]
    assert failed.unique_id == "model.shop.customers"  # procedures are what the emulator lacks
    with duckdb.connect(project / "shop.duckdb") as connection:
        rows = connection.execute("select * from customers order by all")
        assert rows.fetchall() == EXPECTED
    (statement,) = [s["sql"] for s in emulator.log() if "customers__dbt_sp" in s["sql"]]
    assert "PACKAGES = ('pandas', 'snowflake-snowpark-python')" in statement
    assert in_snowpark(statement) == EXPECTED


def in_snowpark(statement: str) -> list[tuple[Any, ...]]:
    """Run the body of the stored procedure over `ROWS` in local testing mode."""
    before, body, call = statement.split("$$")
    assert "HANDLER = 'main'" in before
    assert "CALL customers__dbt_sp()" in call
    (source,) = re.findall(r'refs = \{"orders": "([\w.]+)"\}', body)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Snowpark's own, about pandas
        from snowflake.snowpark import Session
        from snowflake.snowpark.types import DateType, DoubleType, LongType, StringType, StructField, StructType

        fields = {"ORDER_ID": LongType(), "CUSTOMER": StringType(), "AMOUNT": DoubleType(), "DAY": DateType()}
        schema = StructType([StructField(name, kind) for name, kind in fields.items()])
        session = Session.builder.config("local_testing", True).create()
        try:
            session.create_dataframe(ROWS, schema=schema).write.save_as_table(source)
            module: dict[str, Any] = {}
            exec(compile(body, "customers__dbt_sp", "exec"), module)
            assert module["main"](session) == "OK"
            made = session.table(source.replace(".orders", ".customers")).sort("CUSTOMER").collect()
        finally:
            session.close()
    assert list(made[0].as_dict()) == ["CUSTOMER", "ORDERS", "TOTAL", "LAST_DAY"]
    return [tuple(row) for row in made]
