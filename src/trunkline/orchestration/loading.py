"""What an `ingest` did, table by table; and what a full refresh would lose."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from trunkline.ingest.steps import polled, step_name
from trunkline.orchestration import quarantine
from trunkline.orchestration.local import Ended
from trunkline.orchestration.planning import plan_for
from trunkline.orchestration.quarantine import Filter, Group
from trunkline.orchestration.session import Session
from trunkline.project.sources import SourceTable, SourceUnit, units
from trunkline.warehouse.relation import Relation

_REASONS = 5


@dataclass(frozen=True)
class Loaded:
    """What one command brought into one table, in all its loads. `reasons` are the most frequent of the quarantine.

    `evolved`: (column, its type in the table now, file and line of its declaration).
    """

    source: str
    connector: str
    loads: int
    read: int
    loaded: int
    quarantined: int
    reasons: tuple[Group, ...]
    evolved: tuple[tuple[str, str, str], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        reasons = [{"column": g.column, "reason": g.reason, "rows": g.rows} for g in self.reasons]
        evolved = [{"column": name, "type": type_, "at": where} for name, type_, where in self.evolved]
        return {**vars(self), "reasons": reasons, "evolved": evolved}


@dataclass(frozen=True)
class Risk:
    """A table whose rows may be lost by reading it from the beginning, and why."""

    source: str
    rows: int
    why: str


def loaded(session: Session, ended: Sequence[Ended]) -> list[Loaded]:
    """What the loads of this command left in the ledger; empty for tables that got nothing."""
    context = session.context
    rows = context.ledger.read("loads", "where run_id = ? order by load_id", [context.run_id])
    evolved = {tuple(column) for end in ended for column in end.output.get("evolved") or ()}
    by_table: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_table.setdefault(row["source"], []).append(row)
    tables = {table.key: table for table in session.project.sources}
    return [_loaded(session, tables[name], found, evolved) for name, found in by_table.items() if name in tables]


def _loaded(
    session: Session, table: SourceTable, loads: Sequence[dict[str, Any]], evolved: Iterable[tuple[str, str]]
) -> Loaded:
    bad = [load["load_id"] for load in loads if load["rows_quarantined"]]
    groups = [g for load in bad[:_REASONS] for g in quarantine.groups(session, table.key, Filter(load=load))]
    merged: dict[tuple[str | None, str], Group] = {}
    for group in groups:
        before = merged.get((group.column, group.reason))
        rows = group.rows + (before.rows if before else 0)
        merged[(group.column, group.reason)] = Group(table.key, group.column, group.reason, rows, 1, group.values)
    lines = {column.name.lower(): column.line for column in table.columns}
    file = table.file.relative_to(session.project.root) if table.file.is_absolute() else table.file
    return Loaded(
        source=table.key,
        connector=loads[0]["connector"],
        loads=len(loads),
        read=sum(load["rows_read"] for load in loads),
        loaded=sum(load["rows_loaded"] for load in loads),
        quarantined=sum(load["rows_quarantined"] for load in loads),
        reasons=tuple(sorted(merged.values(), key=lambda group: -group.rows)[:_REASONS]),
        evolved=tuple(
            (name, type_, f"{file}:{lines[name.lower()]}") for name, type_ in sorted(evolved) if name.lower() in lines
        ),
    )


def at_risk(session: Session, selectors: Sequence[str]) -> list[Risk]:
    """The selected tables that hold rows their source need not have any more.

    Local files that are all there can be read again; a table that is replaced at each load holds nothing else.
    """
    _, plan = plan_for(session, selectors, kinds=("ingest",))
    chosen = {entry.step.name for entry in plan.entries if entry.selected}
    found = []
    for unit in units(session.project.sources):
        if step_name(unit.name) in chosen:
            found += [risk for table in unit.tables if (risk := _risk(session, unit, table))]
    return found


def _risk(session: Session, unit: SourceUnit, table: SourceTable) -> Risk | None:
    warehouse, relation = session.context.warehouse, Relation(table.schema, table.name, table.database)
    if table.options.load.startswith("replace") or not warehouse.columns(relation):
        return None
    rows = int(warehouse.query(f"select count(*) from {warehouse.sql(relation)}")[0][0])
    why = "what its source has no more is not read again"
    if not polled(unit):
        known = session.context.ledger.loaded_files(table.key)
        gone = [path for path in sorted(known) if not (session.project.root / path).is_file()]
        if not gone:
            return None
        others = f" and {len(gone) - 1:,} more" if len(gone) > 1 else ""
        why = f"the file {gone[0]}{others} is no longer there"
    return Risk(table.key, rows, why) if rows else None
