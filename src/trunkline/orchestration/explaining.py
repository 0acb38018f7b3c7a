"""What to do about rows that did not fit, in words: which line to change, or which command to type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trunkline.ingest.resubmit import LACKS
from trunkline.orchestration.quarantine import Group
from trunkline.orchestration.session import Session
from trunkline.project.contracts import Column
from trunkline.project.sources import SourceTable
from trunkline.warehouse.infer_sql import NULL_TEXTS

_BY_HAND = "if the line can be mended: export it, write its columns, and resubmit the file"


def advice(session: Session, group: Group) -> list[str]:
    """The ways to mend the rows of a group, the likeliest first."""
    source = session.project.source(group.table)
    if source is None:
        return ["the project has no such source table any more"]
    if group.column is None:
        return [_BY_HAND]
    column = next((c for c in source.columns if c.name.lower() == group.column.lower()), None)
    if column is None:
        return [f"the contract has no column {group.column} any more: trunkline quarantine resubmit {group.table}"]
    file = source.file
    place = str(file.relative_to(session.project.root) if file.is_relative_to(session.project.root) else file)
    ways = list(_ways(source, column, group))
    return [f"{text} ({place}:{line})" for text, line in ways] or [_BY_HAND]


def _ways(source: SourceTable, column: Column, group: Group) -> Iterator[tuple[str, int]]:
    """What to change, and the line where."""
    reason, values = group.reason, [value for value in group.values if value is not None]
    if reason.startswith("does not cast"):
        nulls = [value for value in values if value.strip().lower() in NULL_TEXTS]
        if nulls:
            yield f"if {_listed(nulls, ' or ')} means NULL: null_values: [{_listed(nulls, ', ')}]", source.options_line
        yield f"if {column.type} is too narrow: another data_type for {column.name}", column.line
    elif reason.startswith("is null"):
        why = "it is part of the key" if column.name in source.options.key else "not_null"
        yield f"if {column.name} may be missing: take away what says it may not ({why})", column.line
    elif reason.startswith("is not one of"):
        yield f"if {_listed(values, ' or ')} is right: add it to accepted_values", column.line
    elif LACKS in reason:
        yield (
            f"if {column.name} has another name now: config: {{meta: {{trunkline: {{from: NEW_NAME}}}}}}",
            column.line,
        )
        yield f"if it is gone for good: take {column.name} out of the contract, or say policy: evolve", column.line


def _listed(values: Sequence[str], between: str) -> str:
    return between.join(f'"{value}"' for value in values)
