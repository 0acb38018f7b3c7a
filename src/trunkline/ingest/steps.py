"""Sources as steps: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from trunkline.graph.step import Step
from trunkline.project.connectors import TableOptions
from trunkline.project.contracts import Column
from trunkline.project.files import FileState
from trunkline.project.sources import SourceTable, SourceUnit
from trunkline.warehouse import load

_SHARED = frozenset(TableOptions.__struct_fields__) | {"connector"}


def step_name(unit: str) -> str:
    """The name of the step that fills the tables of a unit."""
    return f"ingest:{unit}"


def resubmission_name(table: str) -> str:
    """The name under which the ledger has the last resubmission of a table's rows: a part of its step, and none."""
    return f"resubmit:{table}"


def polled(unit: SourceUnit) -> bool:
    """Whether only the source itself can tell if it has something new: true of all but files on this machine."""
    return unit.connector != "files" or "://" in str(getattr(unit.tables[0].options, "path", ""))


def ingest_step(unit: SourceUnit, files: Sequence[FileState] = (), *, code: str = "", version: str = "") -> Step:
    """The step that loads a unit. Its fingerprint is the contracts and what the source holds.

    That is the content of `files`; or, for a source that is asked each time, the id of its last load: `version`.
    """
    config: dict[str, Any] = {
        "connector": unit.connector,
        "tables": [_table(table) for table in unit.tables],
        "files": [[state.path, state.digest, state.size] for state in files],
    }
    if polled(unit):
        config["version"] = version
    return Step(
        step_name(unit.name),
        "ingest",
        code=code,
        config=config,
        where=unit.where,
        polled=polled(unit),
        aliases=tuple(table.key for table in unit.tables),
    )


def tables_of(step: Step) -> tuple[str, ...]:
    """The source tables an ingest step fills, as `source.table`."""
    return tuple(table["source"] for table in step.config["tables"])


def _table(table: SourceTable) -> dict[str, Any]:
    options = table.options
    names = {column.name.lower() for column in table.columns}
    cursor = getattr(options, "cursor", None)
    return {
        "source": table.key,
        "relation": {"schema": table.schema, "name": table.name, "database": table.database},
        "contract": [_column(column) for column in table.columns],
        "key": list(options.key),
        "deleted": options.deleted or _marker(table),
        "order": cursor if cursor and cursor.lower() in names and options.load == "merge" else None,
        "policy": options.policy,
        "load": options.load,
        "options": {k: v for k, v in msgspec.to_builtins(options).items() if k not in _SHARED or k == "null_values"},
    }


def _marker(table: SourceTable) -> str | None:
    """Fivetran's own mark of deleted rows, where the contract has it: it means the same everywhere."""
    names = [column.source or column.name for column in table.columns]
    mark = "_fivetran_deleted"
    return mark if table.options.connector == "fivetran" and mark in map(str.lower, names) else None


def _column(column: Column) -> list[Any]:
    return load.Column(column.name, column.type, column.required, column.accepted, column.source).to_json()
