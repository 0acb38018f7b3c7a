"""Sources as steps: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trunkline.graph.step import Step
from trunkline.project.files import FileState
from trunkline.project.sources import SourceTable


def step_name(source_key: str) -> str:
    """The name of the step that fills a source table."""
    return f"ingest:{source_key}"


def ingest_step(table: SourceTable, files: Sequence[FileState]) -> Step:
    """The step that loads `files` into `table`. Its fingerprint is the contract and what the files hold."""
    options = table.options
    config: dict[str, Any] = {
        "source": table.key,
        "relation": {"schema": table.schema, "name": table.name, "database": table.database},
        "contract": [[column.name, column.type] for column in table.columns],
        "connector": options.connector,
        "load": options.load,
        "format": options.format,
        "null_values": list(options.null_values),
        "delimiter": options.delimiter,
        "files": [[state.path, state.digest, state.size] for state in files],
    }
    return Step(step_name(table.key), "ingest", config=config, where=f"{table.file}:{table.path_line}")
