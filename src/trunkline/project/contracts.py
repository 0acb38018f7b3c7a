"""The columns of a source table as a contract: types, and what dbt's tests and constraints say of single values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.project import yaml

_OWN = ("_load_id", "_loaded_at", "_extra")
_SOFTER = ("where", "warn_if", "error_if")  # such a test allows some rows to fail: only dbt can tell which


@dataclass(frozen=True)
class Column:
    """One column of a contract: its name and its type in the warehouse's SQL.

    `required` comes from `not_null`, `accepted` from `accepted_values`, `primary` from a `primary_key` constraint.
    `source` is what the source calls it, if that is another name (`meta: {trunkline: {from: …}}`).
    """

    name: str
    type: str
    line: int
    required: bool = False
    accepted: tuple[str, ...] = ()
    primary: bool = False
    source: str = ""


def columns(document: yaml.Document, table: Mapping[str, Any], place: yaml.Place) -> Iterator[Column]:
    """The columns a source table declares. Raises `ProjectError` with file and line."""
    seen: set[str] = set()
    for k, given in enumerate(table.get("columns") or []):
        where = (*place, "columns", k)
        column = _mapping(given)
        if not column.get("name"):
            raise document.error("a column without a name", where)
        name = str(column["name"])
        if not column.get("data_type"):
            raise document.error(f"column {name!r} has no data_type", where, hint="the contract needs a type for each")
        if name.lower() in seen:
            raise document.error(f"column {name!r} is declared twice", where)
        if name.lower() in _OWN:
            raise document.error(f"column {name!r} is one of Trunkline's own audit columns", where)
        seen.add(name.lower())
        yield _column(name, column, document.line(where))


def _column(name: str, column: dict[str, Any], line: int) -> Column:
    tests = dict(_tests(column))
    constraints = {_mapping(item).get("type") for item in column.get("constraints") or []}
    meta = _mapping(_mapping(_mapping(column.get("config")).get("meta")).get("trunkline"))
    return Column(
        name,
        str(column["data_type"]),
        line,
        required="not_null" in tests or bool({"not_null", "primary_key"} & constraints),
        accepted=tuple(_text(value) for value in tests.get("accepted_values", {}).get("values") or ()),
        primary="primary_key" in constraints,
        source=str(meta.get("from") or ""),
    )


def _tests(column: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tests that every row must pass: name → arguments."""
    for test in [*(column.get("data_tests") or []), *(column.get("tests") or [])]:
        if isinstance(test, str):
            yield test, {}
            continue
        for name, given in _mapping(test).items():
            arguments = {**_mapping(given), **_mapping(_mapping(given).get("arguments"))}
            config = {**arguments, **_mapping(arguments.get("config"))}
            if str(config.get("severity", "error")).lower() == "error" and not any(key in config for key in _SOFTER):
                yield str(name), arguments


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
