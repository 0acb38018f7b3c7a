"""What a project's tables and state hold, without the ids and times that differ between any two runs."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb

from tests.e2e.conftest import TRUSTING

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]

# ledger table → what is the same in every run over the same files
_LEDGER = {
    "loads": "source, relation, mode, rows_read, rows_loaded, rows_quarantined",
    "load_files": "source, path, size, digest",
    "datasets": "name, dataset_id, relation",
    "versions": "model, reference, sha256, dataset_id, params, metrics",
}


def query(root: Path, sql: str) -> Rows:
    """Read the project's warehouse through a connection of its own, as a user with DuckDB would."""
    with closing(connect(root)) as connection:
        return connection.execute(sql).fetchall()


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """A reader's connection, the lake attached as `lake`; not read-only, for then SQLite could not end what a killed
    writer has left in its journal."""
    connection = duckdb.connect(config=TRUSTING)
    connection.execute("load icu; load ducklake; load sqlite_scanner; set timezone = 'UTC'")
    lake = f"attach 'ducklake:sqlite:{root}/warehouse/catalog.sqlite' as lake"
    connection.execute(f"{lake} (data_path '{root}/warehouse/data', override_data_path true)")
    return connection


def tables(root: Path) -> dict[str, Any]:
    """Every table's content as something to compare, after the invariants between the tables have been checked.

    Raw tables and dbt's as (rows, sum of the rows' hashes); the ledger's lasting part and the quarantine as rows.
    """
    with closing(connect(root)) as connection:
        _check(lambda sql: connection.execute(sql).fetchall())
        return _tables(lambda sql: connection.execute(sql).fetchall())


def loaded(root: Path) -> dict[str, Any]:
    """What ingestion has left, however many batches it took: the raw tables' rows, the rows set aside, rows by source
    as the ledger has them, the files read, and the last cursor of each unit. The ledger's invariants are checked."""
    with closing(connect(root)) as connection:

        def ask(sql: str) -> Rows:
            return connection.execute(sql).fetchall()

        tables = [name for (name,) in ask("select table_name from duckdb_tables() where schema_name = 'raw'")]
        found: dict[str, Any] = {
            name: ask(f"select columns(c -> c not in ('_load_id', '_loaded_at')) from lake.raw.{name} order by all")
            for name in sorted(tables)
        }
        found["quarantine"] = ask("select table_name, errors, raw from lake.trunkline.quarantine order by all")
        sums = "sum(rows_read), sum(rows_loaded), sum(rows_quarantined)"
        found["loads"] = ask(f"select source, {sums} from lake.trunkline.loads group by all order by all")
        found["files"] = ask("select source, path, size, digest from lake.trunkline.load_files order by all")
        last = "select unit, arg_max(cursor, load_id) from lake.trunkline.cursors group by all order by all"
        # dlt's own state also says where the load began that it is of
        found["cursors"] = [(unit, re.sub(r'"start_value": \d+', "", str(cursor))) for unit, cursor in ask(last)]
        _check_batches(ask)
        return found


def _check_batches(ask: Ask) -> None:
    """Each batch is whole: its cursor, its rows and those it set aside, as many as the ledger says."""
    loads = ask("select load_id, source, mode, rows_read, rows_loaded, rows_quarantined from lake.trunkline.loads")
    assert all(read == loaded + refused for *_, read, loaded, refused in loads), loads
    cursors = {load_id for (load_id,) in ask("select load_id from lake.trunkline.cursors")}
    assert {load_id for load_id, *_ in loads} <= cursors
    refused_by = ask("select load_id, count(*) from lake.trunkline.quarantine group by all")
    assert dict(refused_by) == {id_: refused for id_, *_, refused in loads if refused}
    merged = {source for _, source, mode, *_ in loads if mode == "merge"}  # there a later load takes rows over
    for source in {source for _, source, *_ in loads} - merged:
        held = dict(ask(f"select _load_id, count(*) from lake.raw.{source.split('.')[1]} group by all"))
        last = max((load_id for load_id, of, mode, *_ in loads if of == source and mode == "replace"), default="")
        assert held == {id_: rows for id_, of, _, _, rows, _ in loads if of == source and id_ >= last and rows}


def _tables(ask: Ask) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for schema, name in ask("select schema_name, table_name from duckdb_tables() where database_name = 'lake'"):
        table = f'lake."{schema}"."{name}"'
        if schema != "trunkline":
            held = f"select columns(c -> c not in ('_load_id', '_loaded_at')) from {table}"
            found[f"{schema}.{name}"] = ask(f"select count(*), sum(hash(t)::hugeint)::varchar from ({held}) t")[0]
        elif name in _LEDGER:
            found[name] = sorted(ask(f"select {_LEDGER[name]} from {table}"), key=str)
        elif name == "quarantine":
            bad = f"select table_name, split_part(file, '/', -1), line, errors, raw from {table}"
            found[name] = sorted(ask(bad), key=str)
    return found


def _check(ask: Ask) -> None:
    """Nothing lost, nothing twice, nothing half."""
    loads = ask("select load_id, source, mode, rows_read, rows_loaded, rows_quarantined from lake.trunkline.loads")
    assert all(read == loaded + refused > 0 for _, _, _, read, loaded, refused in loads), loads
    for source in {source for _, source, *_ in loads}:
        table = f'lake.raw."{source.split(".")[1]}"'
        held = dict(ask(f"select _load_id, count(*) from {table} group by all"))
        last = max((load_id for load_id, of, mode, *_ in loads if of == source and mode == "replace"), default="")
        wanted = {id_: loaded for id_, of, _, _, loaded, _ in loads if of == source and id_ >= last and loaded}
        assert held == wanted, f"{source}: rows by load differ from the ledger"
        marked = ask(f"select count(*) from {table} where cast(_extra as varchar) like '%$reject%'")
        assert marked == [(0,)], f"{source} shows rows on their way to the quarantine"
    refused_by = ask("select load_id, count(*) from lake.trunkline.quarantine group by all")
    assert dict(refused_by) == {id_: refused for id_, *_, refused in loads if refused}
    once = [source for _, source, mode, *_ in loads if mode == "append"]
    files = ask("select source, path, count(*) from lake.trunkline.load_files group by all")
    assert not [row for row in files if row[0] in once and row[2] > 1], f"a file loaded twice: {files}"
    read_by = {load_id for (load_id,) in ask("select load_id from lake.trunkline.load_files")}
    assert read_by == {load_id for load_id, *_ in loads}, "loads and their files differ"


def left_over(root: Path, undisturbed: Path) -> set[str]:
    """What kills have left and nothing will ever use: files below `.trunkline` that the undisturbed project does not
    have (what dbt and MLflow keep for themselves not counted).

    Parquet files that a killed writer left in the lake and no snapshot names are not counted: DuckLake's own
    `ducklake_delete_orphaned_files` removes them, and only a user knows that no other writer is making one right now
    (docs/verified.md).
    """
    return _state(root) - _state(undisturbed)


def _state(root: Path) -> set[str]:
    names = {path.relative_to(root).as_posix() for path in (root / ".trunkline").rglob("*")}
    return {name for name in names if not name.startswith((".trunkline/dbt", ".trunkline/mlflow/artifacts"))}


def registered(root: Path, model: str) -> list[tuple[int, str]]:
    """Number and bundle digest of every registered version, read from MLflow's own store."""
    with closing(sqlite3.connect(root / ".trunkline" / "mlflow" / "mlflow.db")) as store:
        return store.execute(
            "select v.version, t.value from model_versions v join model_version_tags t "
            "on t.name = v.name and t.version = v.version and t.key = 'sha256' where v.name = ? order by 1",
            [model],
        ).fetchall()


def outputs(text: str) -> list[str]:
    """The names of the steps a `--json` command ran."""
    return [step["step"] for step in json.loads(text)["ran"]]
