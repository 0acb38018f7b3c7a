"""Quarantined rows held to the contract once more, in one transaction with the ledger's rows.

They are written down as JSON lines and loaded as a file of a source is: the same contract, null values and load mode.
Rows that fit now enter the table; those that do not are quarantined anew, from where they first came. The old
quarantine rows get `resolved_by`, the id of this load.
"""

from __future__ import annotations

import datetime as dt
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.context import StepContext
from trunkline.errors import EngineError, TransientError
from trunkline.ingest.newer import newer, pages
from trunkline.ingest.protocol import Table
from trunkline.ingest.steps import resubmission_name
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import StepEnd
from trunkline.warehouse.load import FileScan, LoadCounts, LoadRequest
from trunkline.warehouse.protocol import Loader

LACKS = "lacks this column"
CONNECTOR = "quarantine"
_IDS, _PLACES = 10_000, 500


@dataclass(frozen=True)
class Held:
    """A quarantined row: where it came from, and its values as the source had them, by column."""

    quarantine_id: str
    load_id: str
    file: str | None
    line: int | None
    raw: Mapping[str, Any]
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class Resubmitted:
    """What became of the rows. `older` are those whose key the table holds in a newer version: they are let go.

    `unreadable` are rows of which only the text of the line is known: they stay in the quarantine. Without any row
    that fits nothing is changed, and `load_id` is None.
    """

    read: int
    loaded: int
    quarantined: int
    older: int
    unreadable: int
    load_id: str | None


class _NothingFits(Exception):
    def __init__(self, counts: LoadCounts) -> None:
        self.counts = counts


@dataclass
class _Prepared:
    """Rows on disk, apart by the columns their source lacks: a column is missing for a file, not for a row."""

    folder: Path
    table: Table
    ids: list[str] = field(default_factory=list)
    places: dict[str, tuple[str | None, int | None]] = field(default_factory=dict)
    files: dict[tuple[str, ...], Path] = field(default_factory=dict)
    older: int = 0
    unreadable: int = 0


def resubmit(ctx: StepContext, table: Table, rows: Iterable[Held]) -> Resubmitted:
    """Load the rows. Killed at any moment it leaves everything as it was.

    Raises `TransientError` when another process resolved one of the rows meanwhile, `ContractError` when the table's
    policy is to fail and a row does not fit.
    """
    warehouse = ctx.warehouse
    if not isinstance(warehouse, Loader):
        raise EngineError(f"the {warehouse.name} warehouse takes no loads")
    ctx.ledger.prepare()
    prepared = _Prepared(ctx.state / "tmp" / new_id("resubmit"), table)
    try:
        prepared.folder.mkdir(parents=True)
        _write(ctx, warehouse, prepared, rows)
        if not prepared.ids:
            return Resubmitted(0, 0, 0, 0, prepared.unreadable, None)
        load_id = new_id("load")
        try:
            counts = _load(ctx, warehouse, prepared, load_id)
        except _NothingFits as none:
            return Resubmitted(none.counts.read, 0, none.counts.quarantined, 0, prepared.unreadable, None)
        return Resubmitted(counts.read, counts.loaded, counts.quarantined, prepared.older, prepared.unreadable, load_id)
    finally:
        shutil.rmtree(prepared.folder, ignore_errors=True)


# -- the rows as files


def _write(ctx: StepContext, loader: Loader, prepared: _Prepared, rows: Iterable[Held]) -> None:
    names = {column.name.lower() for column in prepared.table.contract.columns}
    names |= {column.source_name.lower() for column in prepared.table.contract.columns}
    with ExitStack() as stack:
        outs: dict[tuple[str, ...], Any] = {}
        for page in pages(rows, _IDS):
            ctx.progress(f"reading the quarantine of {prepared.table.source}")
            known = newer(ctx.warehouse, loader.reader(), prepared.table, page)
            for row in page:
                if not names & {name.lower() for name in row.raw} or _only_line(row.raw):
                    prepared.unreadable += 1
                    continue
                prepared.ids.append(row.quarantine_id)
                if row.quarantine_id in known:
                    prepared.older += 1
                    continue
                values = _values(prepared.table, row)
                lacking = tuple(sorted(row.lacking))
                if lacking not in outs:
                    file = prepared.folder / f"{len(outs)}.ndjson"
                    prepared.files[lacking] = file
                    outs[lacking] = stack.enter_context(file.open("w", encoding="utf-8"))
                outs[lacking].write(json.dumps(values, ensure_ascii=False) + "\n")
                prepared.places[_same(values)] = (row.file, row.line)


def _only_line(raw: Mapping[str, Any]) -> bool:
    return raw.get("line") is not None and all(value is None for name, value in raw.items() if name != "line")


def _values(table: Table, row: Held) -> dict[str, Any]:
    """The row as its source would have it: by the source's names, without the columns that it lacks."""
    given = {name: value for name, value in row.raw.items() if name not in row.lacking}
    lower = {name.lower() for name in given}
    for column in table.contract.columns:
        if column.source and column.source.lower() not in lower:
            for name in [name for name in given if name.lower() == column.name.lower()]:
                given[column.source] = given.pop(name)
    return given


def _same(values: Mapping[str, Any]) -> str:
    """A row's values as a text that order, case of names and nulls do not change."""
    return json.dumps(sorted((name.lower(), value) for name, value in values.items() if value is not None), default=str)


# -- the load


def _load(ctx: StepContext, loader: Loader, prepared: _Prepared, load_id: str) -> LoadCounts:
    table, at = prepared.table, ctx.now()
    requests = [
        LoadRequest(
            name=table.source,
            target=table.relation,
            contract=table.contract,
            scan=FileScan((str(file),), "ndjson", tuple(table.options.get("null_values") or ())),
            quarantine=ctx.ledger.relation("quarantine"),
            load_id=load_id,
            loaded_at=at,
        )
        for file in prepared.files.values()
    ]
    with ctx.observed(f"loading {table.source}"), ExitStack() as stack:
        loads = [stack.enter_context(loader.staged(request, ctx.progress)) for request in requests]
        with ctx.warehouse.transaction():
            counts = sum((load() for load in loads), LoadCounts(prepared.older, prepared.older, 0))
            if not counts.loaded:
                raise _NothingFits(counts)
            if counts.quarantined:
                _put_back_places(ctx, prepared, load_id)
            _resolve(ctx, prepared, load_id)
            ctx.ledger.add("loads", [_ledger_row(ctx, prepared, load_id, counts) | {"started_at": at}])
            ctx.ledger.finish_steps(ctx.run_id, [_step_end(table, load_id, counts, (at, ctx.now()))])
    return counts


def _put_back_places(ctx: StepContext, prepared: _Prepared, load_id: str) -> None:
    """Rows that failed again came from the file and line they first came from, not from ours."""
    quarantine = ctx.ledger.table("quarantine")
    found = ctx.ledger.read("quarantine", "where load_id = ?", [load_id])
    for page in pages(found, _PLACES):
        listed, values = [], []
        for row in page:
            values += [row["quarantine_id"], *prepared.places.get(_same(_sourced(prepared.table, row)), (None, None))]
            listed.append("select ? as id, cast(? as varchar) as file, cast(? as bigint) as line")
        ctx.warehouse.execute(
            f"update {quarantine} set file = m.file, line = m.line from ({' union all '.join(listed)}) m "
            "where quarantine_id = m.id and load_id = ?",
            [*values, load_id],
        )


def _sourced(table: Table, row: Mapping[str, Any]) -> dict[str, Any]:
    raw = row["raw"] if isinstance(row["raw"], dict) else {}
    return _values(table, Held(row["quarantine_id"], "", None, None, raw))


def _resolve(ctx: StepContext, prepared: _Prepared, load_id: str) -> None:
    """Each row is resolved once: if another process was quicker, nothing of this is done."""
    quarantine = ctx.ledger.table("quarantine")
    done = 0
    for ids in pages(prepared.ids, _IDS):
        places = ", ".join("?" * len(ids))
        done += ctx.warehouse.execute(
            f"update {quarantine} set resolved_by = ? "
            f"where table_name = ? and resolved_by is null and quarantine_id in ({places})",
            [load_id, prepared.table.source, *ids],
        )
    if done != len(prepared.ids):
        raise TransientError(
            f"another process has just resubmitted rows of {prepared.table.source}", hint="run the same command again"
        )


def _ledger_row(ctx: StepContext, prepared: _Prepared, load_id: str, counts: LoadCounts) -> dict[str, Any]:
    table = prepared.table
    return {
        "load_id": load_id,
        "run_id": ctx.run_id,
        "source": table.source,
        "relation": str(table.relation),
        "mode": "merge" if table.contract.key else "append",
        "connector": CONNECTOR,
        "contract": _contract(ctx, table),
        "rows_read": counts.read,
        "rows_loaded": counts.loaded,
        "rows_quarantined": counts.quarantined,
        "finished_at": ctx.now(),
    }


def _step_end(table: Table, load_id: str, counts: LoadCounts, times: tuple[dt.datetime, dt.datetime]) -> StepEnd:
    """The ledger's note by which a plan knows that the table changed."""
    return StepEnd(
        step=resubmission_name(table.source),
        kind="resubmit",
        status="done",
        fingerprint=load_id,
        parts={},
        output={"version": load_id, "read": counts.read, "loaded": counts.loaded},
        error=None,
        started_at=times[0],
        finished_at=times[1],
    )


def _contract(ctx: StepContext, table: Table) -> list[Any]:
    """The contract that the table's rows are known to fit.

    That is the new one if it only asks for less. Else it is the one before: the next `ingest` must find that the
    contract changed since the table was filled, and fill it anew.
    """
    now = table.contract.to_json()
    before = ctx.ledger.last_contract(table.source)
    return before if before is not None and not _asks_less(before, now) else now


def _asks_less(before: Sequence[Any], now: Sequence[Any]) -> bool:
    def parts(column: Any) -> tuple[Any, bool, set[str]]:
        more = column[2] if len(column) > 2 else {}
        same = column[0], column[1], more.get("source", "")
        return same, bool(more.get("required")), set(more.get("accepted") or ())

    if len(before) != len(now):
        return False
    for old, new in zip(before, now, strict=True):
        (same_old, required_old, accepted_old), (same_new, required_new, accepted_new) = parts(old), parts(new)
        if same_old != same_new or (required_new and not required_old):
            return False
        if accepted_new and not (accepted_old and accepted_old <= accepted_new):
            return False
    return True
