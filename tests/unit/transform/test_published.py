"""Published models on connections that dbt-duckdb opens: cursors come and go, the functions stay."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from tests.unit.models.test_bundle import SIGNATURE, TABLE, write
from trunkline.models.bundle import Bundle
from trunkline.models.function import arguments
from trunkline.models.place import bundle_folder
from trunkline.models.runtime import Scorer
from trunkline.transform.functions import Plugin

COLUMNS = "publication_id varchar, schema_name varchar, function_name varchar, arguments json, reference varchar"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    first = write(tmp_path / "made")
    place = bundle_folder(tmp_path / ".trunkline", first.sha256)
    place.parent.mkdir(parents=True)
    return Bundle.open(first.path.rename(place), expect_sha256=first.sha256)


def connected(tmp_path: Path, rows: list[tuple[str, str, str]]) -> duckdb.DuckDBPyConnection:
    """A connection as dbt-duckdb opens one: the plugin is told of it, then the database with the ledger is attached."""
    plugin = Plugin("functions", {"project_dir": str(tmp_path)}, SimpleNamespace(database="shop"))
    connection = duckdb.connect()
    plugin.configure_connection(connection)
    connection.execute(f"attach '{tmp_path}/shop.duckdb' as shop; create schema shop.trunkline")
    connection.execute(f"create table shop.trunkline.publications ({COLUMNS}, sha256 varchar)")
    for number, (schema, reference, sha256) in enumerate(rows):
        given = json.dumps([list(argument) for argument in arguments(SIGNATURE)])
        values = [f"publication_{number}", schema, "predict", given, reference, sha256]
        connection.execute("insert into shop.trunkline.publications values (?, ?, ?, ?, ?, ?)", values)
    for _ in range(3):
        cursor = connection.cursor()
        plugin.configure_cursor(cursor)
        cursor.close()
    gc.collect()  # what a cursor owned is gone
    return connection


def test_the_last_publication_is_called(tmp_path: Path, bundle: Bundle) -> None:
    rows = [("main", "models:/y/1", "0" * 64), ("main", "models:/y/2", bundle.sha256), ("other", "y", "0" * 64)]
    with connected(tmp_path, rows) as connection:
        values = ", ".join(
            f"({'null' if row['x'] is None else row['x']}, {'null' if row['c'] is None else repr(row['c'])})"
            for row in TABLE.to_pylist()
        )
        found = connection.execute(f'select "__py_main.predict"(x, c) from (values {values}) t(x, c)').fetchall()
        assert [score for (score,) in found] == pytest.approx(Scorer(bundle).score(TABLE).tolist(), abs=1e-6)
        with pytest.raises(duckdb.InvalidInputException, match="trunkline functions publish y"):
            connection.execute("""select "__py_other.predict"(1.0, 'a')""").fetchall()


def test_without_a_ledger_nothing_is_registered(tmp_path: Path) -> None:
    plugin = Plugin("functions", {"project_dir": str(tmp_path)}, SimpleNamespace(database="memory"))
    with duckdb.connect() as connection:
        plugin.configure_connection(connection)
        plugin.configure_cursor(connection.cursor())
        named = "select count(*) from duckdb_functions() where function_name like '\\_\\_py\\_%' escape '\\'"
        assert connection.execute(named).fetchall() == [(0,)]
