"""Python code given to a DuckDB connection, ours or dbt's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.warehouse.load_sql import literal

# Code given to an instance of DuckDB. The instance may outlive the connection that gave it (a file opened twice in this
# process), does not hold on to it, and would call freed memory.
_KEPT: list[Callable[..., Any]] = []


@dataclass(frozen=True)
class Code:
    """An Arrow function for a DuckDB connection; types are DuckDB's names."""

    name: str
    call: Callable[..., Any]
    types: Sequence[str]
    returns: str
    deterministic: bool = True


def give(connection: Any, code: Code) -> None:
    """Make `code` callable on a connection, in place of what had its name there.

    A database file that another connection of this process has open too is one instance for both: what the other one
    gave cannot be replaced from here, and stays.
    """
    if connection.execute(f"select 1 from duckdb_functions() where function_name = {literal(code.name)}").fetchall():
        try:
            connection.remove_function(code.name)
        except Exception as exc:
            if "No function by the name" not in str(exc):
                raise
            return
    _KEPT.append(code.call)
    connection.create_function(
        code.name,
        code.call,
        list(code.types),
        code.returns,
        type="arrow",
        null_handling="special",
        side_effects=not code.deterministic,
    )
