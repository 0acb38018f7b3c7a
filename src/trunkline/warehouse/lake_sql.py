"""SQL about DuckLake's own files. Text only."""

from __future__ import annotations

import datetime as dt

from trunkline.warehouse.load_sql import literal, timestamp


def kind(database: str) -> str:
    """A query for the type of an attached database, given as it is quoted."""
    return f"select type from duckdb_databases() where database_name = {literal(_name(database))}"


def orphans(database: str, before: dt.datetime, *, dry_run: bool) -> str:
    """A query for the paths of files that no snapshot refers to and that were written before; they are deleted, too,
    unless it is a dry run. A transaction that is still open has such files: `before` must lie well in the past."""
    told = f"older_than => {timestamp(before)}, dry_run => {str(dry_run).lower()}"
    return f"from ducklake_delete_orphaned_files({literal(_name(database))}, {told})"


def _name(quoted: str) -> str:
    return quoted.strip('"').replace('""', '"')
