"""SQL about DuckLake's own tables and files. Text only."""

from __future__ import annotations

import datetime as dt

from trunkline.warehouse.load_sql import literal, quote, timestamp


def kind(database: str) -> str:
    """A query for the type of an attached database, given as it is quoted."""
    return f"select type from duckdb_databases() where database_name = {literal(_name(database))}"


def relations(database: str) -> str:
    """A query for schema and name of all tables and views, in lower case, as they were last committed.

    From DuckLake's own tables, where its metadata has the place it has by default. `duckdb_tables()` would read the
    statistics of each table, one after the other.
    """
    at = quote(f"__ducklake_metadata_{_name(database)}")
    found = (
        f"select lower(s.schema_name), lower(r.{kind}_name) from {at}.ducklake_{kind} r "
        f"join {at}.ducklake_schema s using (schema_id) where r.end_snapshot is null and s.end_snapshot is null"
        for kind in ("table", "view")
    )
    return " union all ".join(found)


def orphans(database: str, before: dt.datetime, *, dry_run: bool) -> str:
    """A query for the paths of files that no snapshot refers to and that were written before; they are deleted, too,
    unless it is a dry run. A transaction that is still open has such files: `before` must lie well in the past."""
    told = f"older_than => {timestamp(before)}, dry_run => {str(dry_run).lower()}"
    return f"from ducklake_delete_orphaned_files({literal(_name(database))}, {told})"


def _name(quoted: str) -> str:
    return quoted.strip('"').replace('""', '"')
