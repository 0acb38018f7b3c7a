"""The project's portable functions: what there is, and whether every warehouse computes the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from trunkline.errors import ProjectError, did_you_mean
from trunkline.transform.agreement import Agreement, compare
from trunkline.transform.portable import Function, find_functions
from trunkline.warehouse.protocol import open_warehouse


def list_functions(root: Path, name: str | None = None) -> list[Function]:
    """All functions of a project by name, or the named one. Raises `ProjectError` for what is not portable."""
    functions = sorted(find_functions(root), key=lambda function: function.name)
    if name is None:
        return functions
    named = [function for function in functions if function.name == name]
    if not named:
        known = [function.name for function in functions]
        raise ProjectError(f"no function {name!r}.{did_you_mean(name, known)}", hint=f"functions: {', '.join(known)}")
    return named


def try_functions(
    root: Path, name: str | None, rows: int, seed: int, tell: Callable[[str], None]
) -> Iterator[Agreement]:
    """The property test of each function, in a DuckDB in memory; the project's own warehouse is not opened."""
    for function in list_functions(root, name):
        tell(f"tests {function.name}")
        warehouse = open_warehouse("duckdb", {"path": ":memory:"}, root)
        try:
            yield compare(function, rows, seed, warehouse)
        finally:
            warehouse.close()
