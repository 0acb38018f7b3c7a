"""The quarantine, read: what is open, row by row or by reason, and as a file to mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from trunkline.errors import UserError, did_you_mean
from trunkline.orchestration.session import Session
from trunkline.project.sources import SourceTable
from trunkline.warehouse.quarantine_sql import exploded

_PAGE = 20_000


@dataclass(frozen=True)
class Filter:
    """Which open rows of a table: of a load (the end of its id will do), with a reason (part of its text), of a column,
    or by their ids."""

    load: str | None = None
    reason: str | None = None
    column: str | None = None
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Open rows that do not fit for one reason. `column` None: the row as a whole; `values` are some of them."""

    table: str
    column: str | None
    reason: str
    rows: int
    loads: int
    values: tuple[str | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One quarantined row; `errors` are mappings of column, value and reason."""

    quarantine_id: str
    load_id: str
    file: str | None
    line: int | None
    errors: tuple[dict[str, Any], ...]
    raw: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Tally:
    """The rows of one table: open ones, and those that a later load took in or made obsolete."""

    table: str
    open: int
    resolved: int
    loads: int


def table_named(session: Session, name: str) -> str:
    """`source.table` for what a user calls it: also without the source, where that is clear. Raises `UserError`."""
    known: set[str] = {source.key for source in session.project.sources}
    known |= {str(row[0]) for row in _query(session, "select distinct table_name from {quarantine}")}
    known |= {str(row[0]) for row in _query(session, "select distinct source from {loads}")}
    exact = [key for key in known if key.lower() == name.lower()]
    short = [key for key in known if key.rpartition(".")[2].lower() == name.lower()]
    if exact or len(short) == 1:
        return (exact or short)[0]
    what = f"{name!r} may be {' or '.join(sorted(short))}" if short else f"no source table {name!r}."
    raise UserError(
        what + ("" if short else did_you_mean(name, [*known, *(key.rpartition(".")[2] for key in known)])),
        hint=f"source tables: {', '.join(sorted(known)) or 'none'}",
    )


def source_table(session: Session, name: str) -> SourceTable:
    """The source table in the project. Raises `UserError` if the project has it no more."""
    source = session.project.source(name)
    if source is None:
        raise UserError(
            f"{name} is no source table of this project any more", hint="rows enter tables that are declared"
        )
    return source


def tallies(session: Session) -> list[Tally]:
    """Rows of every table that has any."""
    rows = _query(
        session,
        "select table_name, sum(case when resolved_by is null then 1 else 0 end), "
        "sum(case when resolved_by is null then 0 else 1 end), "
        "count(distinct case when resolved_by is null then load_id end) from {quarantine} group by 1 order by 1",
    )
    return [Tally(str(table), int(open_), int(resolved), int(loads)) for table, open_, resolved, loads in rows]


def groups(session: Session, table: str | None = None, which: Filter = Filter()) -> list[Group]:
    """Open rows by table, column and reason, the most frequent first."""
    if not _there(session):
        return []
    where, values = _condition(table, which)
    listed, parameters = _errors(session, where, values, which)
    counted = (
        "select table_name, col, reason, count(distinct quarantine_id) as n, count(distinct load_id) as loads "
        f"from {listed} group by 1, 2, 3 order by 1, 4 desc, 2, 3"
    )
    found = session.context.warehouse.query(counted, parameters)
    frequent = (
        f"select table_name, col, reason, val, count(*) as n from {listed} group by 1, 2, 3, 4 "
        "qualify row_number() over (partition by table_name, col, reason order by count(*) desc, val) <= 3 "
        "order by 1, 2, 3, 5 desc, 4"
    )
    samples: dict[tuple[Any, ...], list[str | None]] = {}
    for *key, value, _ in session.context.warehouse.query(frequent, parameters):
        samples.setdefault(tuple(key), []).append(value)
    return [
        Group(str(name), column, str(reason), int(n), int(loads), tuple(samples.get((name, column, reason), ())))
        for name, column, reason, n, loads in found
    ]


def rows(session: Session, table: str, which: Filter, *, limit: int, offset: int = 0) -> list[Row]:
    """Open rows in the order in which they came."""
    where, parameters = _selected(session, table, which)
    tail = f"where {where} order by load_id, file, line, quarantine_id limit {limit} offset {offset}"
    return [_row(row) for row in session.context.ledger.read("quarantine", tail, parameters)]


def count(session: Session, table: str, which: Filter) -> int:
    """How many rows `rows` has."""
    if not _there(session):
        return 0
    where, parameters = _selected(session, table, which)
    quarantine = session.context.ledger.table("quarantine")
    return int(session.context.warehouse.query(f"select count(*) from {quarantine} where {where}", parameters)[0][0])


def every(session: Session, table: str, which: Filter) -> Iterator[Row]:
    """All open rows, some thousands in memory at a time."""
    last = ""
    while True:
        where, parameters = _selected(session, table, which)
        tail = f"where {where} and quarantine_id > ? order by quarantine_id limit {_PAGE}"
        found = session.context.ledger.read("quarantine", tail, [*parameters, last])
        yield from (_row(row) for row in found)
        if len(found) < _PAGE:
            return
        last = found[-1]["quarantine_id"]


def _row(row: dict[str, Any]) -> Row:
    raw = row["raw"] if isinstance(row["raw"], dict) else {}
    return Row(row["quarantine_id"], row["load_id"], row["file"], row["line"], tuple(row["errors"] or ()), raw)


def _there(session: Session) -> bool:
    return ("trunkline", "quarantine") in session.context.warehouse.relations()


def _query(session: Session, sql: str) -> list[tuple[Any, ...]]:
    if not _there(session):
        return []
    ledger = session.context.ledger
    named = sql.replace("{quarantine}", ledger.table("quarantine")).replace("{loads}", ledger.table("loads"))
    return session.context.warehouse.query(named)


def _condition(table: str | None, which: Filter) -> tuple[str, list[Any]]:
    """What the quarantine's own columns can tell."""
    asked = [("table_name = ?", table), ("load_id like ?", f"%{which.load}" if which.load else None)]
    parts = ["resolved_by is null", *(text for text, value in asked if value is not None)]
    values: list[Any] = [value for _, value in asked if value is not None]
    if which.ids:
        parts.append(f"quarantine_id in ({', '.join('?' * len(which.ids))})")
        values += which.ids
    return " and ".join(parts), values


def _errors(session: Session, where: str, values: list[Any], which: Filter) -> tuple[str, list[Any]]:
    """The errors of those rows as a subquery, held to the reason and the column asked for."""
    context = session.context
    inner = exploded(context.warehouse.name, context.ledger.table("quarantine"), where)
    asked = [("contains(lower(reason), lower(?))", which.reason), ("lower(col) = lower(?)", which.column)]
    parts = [text for text, value in asked if value is not None]
    more = [value for _, value in asked if value is not None]
    held = f" where {' and '.join(parts)}" if parts else ""
    return f"(select * from ({inner}) a{held}) e", [*values, *more]


def _selected(session: Session, table: str, which: Filter) -> tuple[str, list[Any]]:
    where, values = _condition(table, which)
    if which.reason is None and which.column is None:
        return where, values
    listed, parameters = _errors(session, where, values, which)
    return f"{where} and quarantine_id in (select quarantine_id from {listed})", [*values, *parameters]
