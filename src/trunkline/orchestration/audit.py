"""The loads of a table, whether their counts add up with what the table holds, and which load a row came from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError, UserError, did_you_mean
from trunkline.orchestration.session import Session
from trunkline.warehouse import lake_sql
from trunkline.warehouse.protocol import turn
from trunkline.warehouse.relation import Relation

_FOUND = 50
_SCANNED = 10_000


@dataclass(frozen=True)
class File:
    """A file that a load read."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Load:
    """One load, by the ledger; `in_table` are the rows that carry its id now, `open` those still in quarantine.

    `current` is off for loads before the table was last made anew. `commit` is that of the checkout it ran from.
    """

    load_id: str
    run_id: str
    at: dt.datetime
    connector: str
    mode: str
    read: int
    loaded: int
    quarantined: int
    open: int
    in_table: int
    current: bool
    files: tuple[File, ...]
    cursor: Any
    commit: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Audit:
    """A table's loads, oldest first, and what does not add up: empty if all does."""

    table: str
    relation: str
    rows: int
    loads: tuple[Load, ...]
    differences: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        loads = [load.to_json() for load in self.loads]
        return {**vars(self), "loads": loads, "differences": list(self.differences)}


@dataclass(frozen=True)
class Origin:
    """Rows that came with one load; `load` None if the ledger does not know it. `quarantined`: they are not in the
    table but set aside."""

    rows: int
    load: Load | None
    load_id: str
    quarantined: bool = False
    file: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "load": self.load.to_json() if self.load else None}


def audit(session: Session, table: str) -> Audit:
    """Read the ledger and count the table."""
    ledger = session.context.ledger
    listed = ledger.read("loads", "where source = ? order by load_id", [table])
    if not listed:
        raise UserError(f"{table} was never loaded", hint=f"trunkline ingest {table}")
    target = _relation(session, table, listed[-1]["relation"])
    held = _held(session, target)
    loads = _loads(session, table, listed, held)
    return Audit(table, str(target), sum(held.values()), loads, tuple(_differences(session, table, loads, held)))


def _relation(session: Session, table: str, recorded: str) -> Relation:
    source = session.project.source(table)
    if source:
        return Relation(source.schema, source.name, source.database)
    schema, _, name = recorded.partition(".")
    return Relation(schema, name)


def _held(session: Session, target: Relation) -> dict[str, int]:
    """Rows of the table by load; under "" those that carry no load's id."""
    warehouse = session.context.warehouse
    names = {name.lower() for name, _ in warehouse.columns(target)}
    if not names:
        return {}
    load = warehouse.quote("_load_id") if "_load_id" in names else "''"
    rows = warehouse.query(f"select {load}, count(*) from {warehouse.sql(target)} group by 1")
    return {str(load_id or ""): int(count) for load_id, count in rows}


def _loads(
    session: Session, table: str, listed: Sequence[Mapping[str, Any]], held: Mapping[str, int]
) -> tuple[Load, ...]:
    ledger = session.context.ledger
    current = set(ledger.load_ids([table]))
    mine = f"from {ledger.table('loads')} where source = ?"
    runs = ledger.read("runs", f"where run_id in (select run_id {mine})", [table])
    commits = {run["run_id"]: run["git_commit"] for run in runs}
    kept = ledger.read("cursors", f"where load_id in (select load_id {mine})", [table])
    cursors = {row["load_id"]: row["cursor"] for row in kept}
    files: dict[str, list[File]] = {}
    for row in ledger.read("load_files", "where source = ? order by path", [table]):
        files.setdefault(row["load_id"], []).append(File(row["path"], int(row["size"]), row["digest"]))
    waiting = _quarantined(session, table, "resolved_by is null")
    return tuple(
        Load(
            load_id=row["load_id"],
            run_id=row["run_id"],
            at=row["finished_at"],
            connector=row["connector"] or "files",
            mode=row["mode"],
            read=row["rows_read"],
            loaded=row["rows_loaded"],
            quarantined=row["rows_quarantined"],
            open=waiting.get(row["load_id"], 0),
            in_table=held.get(row["load_id"], 0),
            current=row["load_id"] in current,
            files=tuple(files.get(row["load_id"], ())),
            cursor=cursors.get(row["load_id"]),
            commit=commits.get(row["run_id"]),
        )
        for row in listed
    )


def _quarantined(session: Session, table: str, where: str = "true") -> dict[str, int]:
    """Quarantined rows of a table by load."""
    context = session.context
    rows = context.warehouse.query(
        f"select load_id, count(*) from {context.ledger.table('quarantine')} "
        f"where table_name = ? and {where} group by 1",
        [table],
    )
    return {str(load_id): int(count) for load_id, count in rows}


# -- what does not add up


def _differences(session: Session, table: str, loads: Sequence[Load], held: Mapping[str, int]) -> list[str]:
    """In words. Where rows are merged a load's rows may have been replaced since; elsewhere each is in the table."""
    found = []
    set_aside = _quarantined(session, table)
    source = session.project.source(table)
    merged = bool(source and source.options.key) or any(load.mode == "merge" for load in loads if load.current)
    for load in loads:
        name = f"load …{load.load_id[-8:]}"
        if load.read != load.loaded + load.quarantined:
            found.append(
                f"{name} read {load.read:,} rows, but has {load.loaded:,} loaded + {load.quarantined:,} set aside"
            )
        there = set_aside.get(load.load_id, 0)
        if there != load.quarantined:
            found.append(f"{name} quarantined {load.quarantined:,} rows, but the quarantine has {there:,}")
        if load.mode == "registered":
            continue
        wanted = load.loaded if load.current else 0
        wrong = load.in_table > wanted if merged else load.in_table != wanted
        if wrong:
            most = "at most " if merged and wanted else ""
            found.append(f"{name} should have {most}{wanted:,} rows in the table, but has {load.in_table:,}")
    known = {load.load_id for load in loads}
    foreign = sum(count for load_id, count in held.items() if load_id not in known)
    if foreign and not any(load.mode == "registered" for load in loads):
        found.append(f"{foreign:,} rows of the table carry no load's id: somebody else wrote them")
    return found


# -- where a row came from


def origins(session: Session, found: Audit, where: str) -> list[Origin]:
    """The loads of the rows that a condition (SQL) selects, the latest first."""
    warehouse = session.context.warehouse
    relation = warehouse.sql(_relation(session, found.table, found.relation))
    load = warehouse.quote("_load_id")
    try:
        rows = warehouse.query(
            f"select {load}, count(*) from {relation} where ({where}) group by 1 order by 1 desc limit {_FOUND}"
        )
    except EngineError as exc:
        raise UserError(f"the condition {where!r} cannot be asked: {exc.what}", hint="write it as SQL") from exc
    known = {item.load_id: item for item in found.loads}
    return [Origin(int(count), known.get(str(id_)), str(id_ or "")) for id_, count in rows]


def origins_of(session: Session, found: Audit, given: str) -> list[Origin]:
    """The loads of the rows whose column has a value, given as `column=value`; else where it is set aside."""
    warehouse = session.context.warehouse
    name, mark, value = given.partition("=")
    names = [name_ for name_, _ in warehouse.columns(_relation(session, found.table, found.relation))]
    real = next((known for known in names if known.lower() == name.strip().lower()), None)
    if not mark or real is None:
        what = f"{found.table} has no column {name.strip()!r}.{did_you_mean(name.strip(), names)}"
        raise UserError(what if mark else f"{given!r} is not COLUMN=VALUE", hint=f"columns: {', '.join(names)}")
    text = "'" + value.replace("'", "''") + "'"
    in_table = origins(session, found, f"cast({warehouse.quote(real)} as varchar) = {text}")
    return in_table or _set_aside(session, found, real, value)


def _set_aside(session: Session, found: Audit, column: str, value: str) -> list[Origin]:
    ledger = session.context.ledger
    tail = f"where table_name = ? and resolved_by is null and contains(cast(raw as varchar), ?) limit {_SCANNED}"
    known = {load.load_id: load for load in found.loads}
    return [
        Origin(1, known.get(row["load_id"]), row["load_id"], quarantined=True, file=row["file"], line=row["line"])
        for row in ledger.read("quarantine", tail, [found.table, value])
        for name, raw in (row["raw"] or {}).items()
        if name.lower() == column.lower() and str(raw) == value
    ][:_FOUND]


# -- files that no table knows


@dataclass(frozen=True)
class Orphan:
    """A Parquet file in the lake's data path that no snapshot refers to. `size` None: not on this machine."""

    path: str
    size: int | None


def orphans(session: Session, older_than: dt.timedelta, *, delete: bool) -> list[Orphan]:
    """What killed loads left in the lake, older than that; with `delete` it is removed, under the writers' turn.

    Raises `UserError` where the target is no DuckLake.
    """
    warehouse = session.context.warehouse
    database = warehouse.sql(Relation("", "")).partition(".")[0]
    if warehouse.name != "duckdb" or warehouse.query(lake_sql.kind(database)) != [("ducklake",)]:
        raise UserError("the target is no DuckLake: nothing is left behind in it", hint="say --target")
    before = dt.datetime.now(dt.UTC) - older_than
    with turn(warehouse):
        found = [str(row[0]) for row in warehouse.query(lake_sql.orphans(database, before, dry_run=True))]
        listed = [Orphan(path, _size(path)) for path in found]
        if delete and found:
            warehouse.query(lake_sql.orphans(database, before, dry_run=False))
    return listed


def _size(path: str) -> int | None:
    try:
        return Path(path).stat().st_size
    except OSError:
        return None
