"""A load on DuckDB: where the SQL of scan, contract and merge meets a connection.

Rows without a key go straight into the target. Rows with one are staged: written, judged and cast, to Parquet files on
this machine, in the order they came; so the source is read once and outside the transaction, and memory stays flat.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.errors import ContractError, EngineError
from trunkline.warehouse import contract_sql, evolve_sql, load_sql, marked_sql, merge_sql, scan
from trunkline.warehouse.broken import broken
from trunkline.warehouse.contract_sql import RawColumn
from trunkline.warehouse.load import Column, Contract, LoadCounts, LoadRequest
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.marked_sql import Marked

if TYPE_CHECKING:
    from trunkline.warehouse.duckdb import DuckDB

AUDIT = (("_load_id", "VARCHAR"), ("_loaded_at", "TIMESTAMP WITH TIME ZONE"), ("_extra", "JSON"))
_FRUGAL_BYTES, _THREAD_BYTES = 500_000_000, 150_000_000
_PIECE = 2**40  # more rows than any file has
_PARQUET = "(format parquet)"
_NOT_PARQUET = re.compile(r"u?hugeint|bit|time with|timetz|interval", re.IGNORECASE)


@contextlib.contextmanager
def staged(warehouse: DuckDB, request: LoadRequest) -> Iterator[Callable[[], LoadCounts]]:
    """What `Loader.staged` promises."""
    with warehouse.reaching(request.scan):
        load = _Load(warehouse, request)
        if not request.contract.key:
            yield load.append
            return
        with _frugal(warehouse), tempfile.TemporaryDirectory(prefix="load-", dir=warehouse.scratch()) as folder:
            stage = load.stage(Path(folder))
            yield lambda: load.merge(stage)


@contextlib.contextmanager
def _frugal(warehouse: DuckDB) -> Iterator[None]:
    """Large joins and groupings spill to disk early, so that memory does not grow with the data."""
    held, threads, bytes_ = warehouse.query(
        "select current_setting('memory_limit'), current_setting('threads'), "
        "parse_formatted_bytes(current_setting('memory_limit'))"
    )[0]
    enough = max(_FRUGAL_BYTES, int(threads) * _THREAD_BYTES)
    if int(bytes_) <= enough:
        yield
        return
    with contextlib.suppress(EngineError):  # more is in use already: then it stays as it is
        warehouse.execute(f"set memory_limit = '{enough}B'")
    try:
        yield
    finally:
        warehouse.execute(f"set memory_limit = {literal(str(held))}")


@dataclass(frozen=True)
class _Part:
    """Rows of one reading as files: those judged, with those that do not fit under their mark, and those refused."""

    rows: str
    columns: tuple[RawColumn, ...]
    ops: bool
    refused: str = ""


class _Load:
    def __init__(self, warehouse: DuckDB, request: LoadRequest) -> None:
        self._on = warehouse
        self._request = request
        self._target = warehouse.sql(request.target)
        self._quarantine = warehouse.sql(request.quarantine)
        self._evolves = request.contract.policy == "evolve"
        self._evolved: dict[str, str] = {}
        for column in request.contract.columns:
            load_sql.check_type(column.name, column.type)

    # -- append

    def append(self) -> LoadCounts:
        """Cast and insert in one pass per layout, then set aside the rows that do not fit."""
        request = self._request
        contract = self._effective()
        plans = scan.readings(request.scan, contract, self._on.query)
        self._ready_target(contract)
        inserted = refused = rejected = 0
        names = ", ".join(quote(name) for name, _ in (*contract.types, *AUDIT))
        for reading in plans:
            self._drop_reject_tables()
            select = marked_sql.select_rows(reading.rows, load_id=request.load_id, loaded_at=request.loaded_at)
            inserted += self._written(f"insert into {self._target} ({names}) {select}")
            if reading.rejects:
                refused += self._keep_refused(scan.refused())
            if contract_sql.bad(reading.rows):  # else no row was marked
                rejected += self._set_aside(reading.rows.columns)
        return self._counts(inserted + refused, rejected + refused)

    def _set_aside(self, columns: Sequence[RawColumn]) -> int:
        """Marked rows of the target to the quarantine, those that fit once a type is wider back; how many went."""
        request = self._request
        mine = f"(select * from {self._target} where _load_id = {literal(request.load_id)})"
        marked = Marked(mine, "_extra", self._retyped(columns), request.load_id, kept=("_load_id", "_loaded_at"))
        found = self._number(f"select count(*) from {mine} where {marked.where}")
        if not found:
            return 0
        self._refuse(marked, found)
        marked = self._widened(marked, [])
        rejected = self._on.execute(marked.quarantine(self._quarantine, request.name, request.loaded_at))
        statements = []
        if rejected < found:
            names = [*(quote(column.name) for column in columns), "_load_id", "_loaded_at", "_extra"]
            values = [*(f"c{i}" for i in range(len(columns))), "_load_id", "_loaded_at", "_x"]
            statements.append(
                f"insert into {self._target} ({', '.join(names)}) select {', '.join(values)} "
                f"from ({marked.judged()}) where not {marked.bad}"
            )
        statements.append(f"delete from {self._target} where _load_id = {literal(request.load_id)} and {marked.where}")
        for statement in statements:
            self._on.execute(statement)
        return rejected

    # -- merge

    def stage(self, folder: Path) -> list[_Part]:
        """Write the judged rows, in the order they come."""
        parts = []
        with self._on.in_order():
            for index, reading in enumerate(scan.readings(self._request.scan, self._effective(), self._on.query)):
                self._drop_reject_tables()
                columns, file = reading.rows.columns, str(folder / f"{index}.parquet")
                values = [f"{_storable(column.type, f'c{i}')} as c{i}" for i, column in enumerate(columns)]
                extra = f"cast({marked_sql.marking(reading.rows, self._request.load_id)} as varchar) as x"
                select = f"select {', '.join([*values, extra])}, _o as o, _p as p"
                self._written(
                    f"copy ({select} from ({contract_sql.judged(reading.rows)})) to {literal(file)} {_PARQUET}"
                )
                part = _Part(file, columns, bool(reading.rows.op))
                if reading.rejects:
                    part = replace(part, refused=str(folder / f"{index}-refused.parquet"))
                    self._on.execute(f"copy ({scan.refused()}) to {literal(part.refused)} {_PARQUET}")
                parts.append(part)
        return parts

    def merge(self, parts: Sequence[_Part]) -> LoadCounts:
        """One change a key into the target, what does not fit into the quarantine."""
        request, contract = self._request, self._effective()
        empty = self._ready_target(contract)
        refused = sum(self._keep_refused(f"from read_parquet({literal(p.refused)})") for p in parts if p.refused)
        rows = [_numbered(part.rows, index) for index, part in enumerate(parts)]
        read = sum(self._number(f"select count(*) from {each}") for each in rows)
        marks = [
            Marked(each, "x", part.columns, request.load_id, part.ops, kept=("n",))
            for each, part in zip(rows, parts, strict=True)
        ]
        marks = [
            marked for marked in marks if self._number(f"select count(*) from {marked.relation} where {marked.where}")
        ]
        for marked in marks:
            self._refuse(marked, self._number(f"select count(*) from {marked.relation} where {marked.where}"))
            self._widened(replace(marked, columns=self._retyped(marked.columns)), rows)
        marks = [replace(marked, columns=self._retyped(marked.columns)) for marked in marks]
        rejected = sum(
            self._on.execute(marked.quarantine(self._quarantine, request.name, request.loaded_at)) for marked in marks
        )
        types = [column.type for column in self._retyped(parts[0].columns)]
        good = [_fitting(each, types, request.load_id) for each in rows]
        good += [_rescued(marked) for marked in marks if self._evolved]
        deleted = self._apply(f"({' union all '.join(good)})", ops=any(part.ops for part in parts), empty=empty)
        counts = self._counts(read + refused, rejected + refused)
        return replace(counts, deleted=deleted)

    def _apply(self, rows: str, *, ops: bool, empty: bool) -> int:
        """The good rows into the target; how many of them are deletions."""
        request = self._request
        places = {column.name.lower(): i for i, column in enumerate(request.contract.columns)}
        order = places[request.contract.order.lower()] if request.contract.order else None
        names = tuple(column.name for column in request.contract.columns)
        mark = places[request.contract.mark.name.lower()] if request.contract.mark else None
        key = tuple(places[name.lower()] for name in request.contract.key)
        changes = merge_sql.Changes(rows, names, key, order, mark)
        deleted = updates = 0
        if ops:
            counted = self._on.query(f"select count_if(o = 'delete'), count_if(o = 'update') from {rows}")
            deleted, updates = (int(number or 0) for number in counted[0])  # NULL where there is no row
        self._on.execute(changes.repeated())
        repeated = bool(self._number(f"select count(*) from {merge_sql.REPEATED}"))
        if updates:
            self._on.execute(changes.patched(self._target, repeated=repeated))
            if self._on.query(changes.twice()):
                self._on.execute(changes.unique())
            changed = merge_sql.CHANGED
        else:
            changed = changes.last(repeated=repeated)
        if not empty:
            self._on.execute(changes.delete(self._target, changed))
        self._on.execute(changes.insert(self._target, changed, request.load_id, request.loaded_at))
        for table in (merge_sql.CHANGED, merge_sql.REPEATED):
            self._on.execute(f"drop table if exists {table}")
        return deleted

    # -- the target

    def _effective(self) -> Contract:
        """The contract with the types rows are cast to: under `evolve` those of the table, where they are wider."""
        contract = self._request.contract
        if not self._evolves:
            return contract
        there = {} if self._request.replace else self._there()
        columns = []
        for column, canonical in zip(contract.columns, self._canonical(contract.columns), strict=True):
            has = there.get(column.name.lower(), canonical)
            wide = "VARCHAR" if canonical == "VARCHAR" else has  # text of any length: DuckDB has no other
            taken = wide == "VARCHAR" or wide in evolve_sql.wider(canonical)
            columns.append(replace(column, type=wide) if taken else column)
        return replace(contract, columns=tuple(columns))

    def _ready_target(self, contract: Contract) -> bool:
        """Make, widen or empty the target; whether it has no rows."""
        request = self._request
        database = self._target.partition(".")[0]
        self._on.execute(f"create schema if not exists {database}.{quote(request.target.schema)}")
        if request.replace:
            self._on.execute(f"drop table if exists {self._target}")
        there = self._there()
        if not there:
            columns = ", ".join(f"{quote(name)} {type_}" for name, type_ in (*contract.types, *AUDIT))
            self._on.execute(f"create table {self._target} ({columns})")
            return True
        for column, canonical in zip(contract.columns, self._canonical(contract.columns), strict=True):
            has = there.get(column.name.lower())
            if has is None:
                self._on.execute(f"alter table {self._target} add column {quote(column.name)} {column.type}")
            elif has != canonical and self._evolves and canonical in evolve_sql.wider(has):
                self._widen(column.name, canonical)
            elif has != canonical:
                raise ContractError(
                    f"{request.name}: column {column.name!r} is {has} in the table, {column.type} in the contract",
                    hint=f"`trunkline ingest --full-refresh {request.name}` loads it anew; or change data_type back",
                )
        for name, type_ in AUDIT:
            if name not in there:
                self._on.execute(f"alter table {self._target} add column {name} {type_}")
        mark = request.contract.mark
        if request.truncate and mark is not None:
            self._on.execute(f"update {self._target} set {quote(mark.name)} = cast(true as {mark.type})")
            return False
        if request.truncate:
            self._on.execute(f"delete from {self._target}")
        return request.truncate

    def _there(self) -> dict[str, str]:
        return {name.lower(): type_ for name, type_ in self._on.columns(self._request.target)}

    def _canonical(self, columns: Sequence[Column]) -> list[str]:
        types = ", ".join(f"typeof(null::{column.type})" for column in columns)
        return [str(type_) for type_ in self._on.query(f"select {types}")[0]]

    # -- wider types

    def _widened(self, marked: Marked, staged: Sequence[str]) -> Marked:
        """`marked` held to the types that the table has now: wider ones, where that lets rows in.

        `staged` are relations whose good rows are yet to come into the table.
        """
        if not self._evolves:
            return marked
        canonical = self._canonical([Column(column.name, column.type) for column in marked.columns])
        ladders = {
            i: ladder
            for i, type_ in enumerate(canonical)
            if (ladder := evolve_sql.wider(type_)) and not marked.columns[i].missing
        }
        if ladders:
            row = self._on.query(evolve_sql.asked(marked, ladders))[0]
            for i, types in evolve_sql.chosen(row, ladders).items():
                name = marked.columns[i].name
                values = [(self._target, quote(name)), *((relation, f"c{i}") for relation in staged)]
                wide = next((wide for wide in types if not self._loses(canonical[i], wide, values)), None)
                if wide:
                    self._widen(name, wide)
        return replace(marked, columns=self._retyped(marked.columns))

    def _loses(self, type_: str, wide: str, values: Sequence[tuple[str, str]]) -> bool:
        """Whether a value that is there already would change."""
        return any(
            self._number(f"select count(*) from {relation} where {loses}")
            for relation, column in values
            if (loses := evolve_sql.loses(type_, wide, column))
        )

    def _widen(self, name: str, type_: str) -> None:
        self._on.execute(f"alter table {self._target} alter column {quote(name)} set data type {type_}")
        self._evolved[name] = type_

    def _retyped(self, columns: Sequence[RawColumn]) -> tuple[RawColumn, ...]:
        return tuple(replace(column, type=self._evolved.get(column.name, column.type)) for column in columns)

    # -- what does not fit

    def _refuse(self, marked: Marked, found: int) -> None:
        """Raise `ContractError` if the policy is to fail."""
        if self._request.contract.policy == "fail":
            raise broken(self._request.name, found, [str(row[0]) for row in self._on.query(marked.examples())])

    def _keep_refused(self, refused: str) -> int:
        """Rows the CSV reader itself refused (ragged, bad quotes, bad encoding), one quarantine row for each."""
        request = self._request
        if request.contract.policy == "fail":
            rows = self._on.query(f"select cast(errors as varchar), line, count(*) over () from ({refused}) limit 3")
            if rows:
                raise broken(request.name, int(rows[0][2]), [str(row[0]) for row in rows])
        load = (request.load_id, request.name, request.loaded_at)
        return self._on.execute(marked_sql.into_quarantine(self._quarantine, refused, load))

    def _drop_reject_tables(self) -> None:
        for table in (scan.REJECTS, scan.REJECT_SCANS):
            self._on.execute(f"drop table if exists temp.{table}")

    # -- numbers

    def _written(self, statement: str) -> int:
        return int(self._on.run(statement, f"cannot load {self._request.name}")[0][0])

    def _number(self, sql: str) -> int:
        return int(self._on.query(sql)[0][0])

    def _counts(self, read: int, quarantined: int) -> LoadCounts:
        return LoadCounts(read, read - quarantined, quarantined, evolved=tuple(self._evolved.items()))


def _storable(type_: str, value: str) -> str:
    """A value as Parquet holds it without loss."""
    return f"cast({value} as varchar)" if _NOT_PARQUET.match(type_) else value


def _numbered(file: str, index: int) -> str:
    """A staged file's rows, with `n`: the greater, the later they came."""
    rows = f"read_parquet({literal(file)}, file_row_number = true)"
    return f"(select *, file_row_number + {index * _PIECE} as n from {rows})"


def _fitting(rows: str, types: Sequence[str], load_id: str) -> str:
    """Staged rows that fit, in the types of the table."""
    values = ", ".join(f"cast(c{i} as {type_}) as c{i}" for i, type_ in enumerate(types))
    marked = Marked(rows, "x", (), load_id).where
    return f"select n, {values}, x, o, p from {rows} where x is null or not {marked}"


def _rescued(marked: Marked) -> str:
    """Staged rows that did not fit, and do since a type is wider."""
    values = ", ".join(f"c{i}" for i in range(len(marked.columns)))
    rows = f"({marked.judged()}) where not {marked.bad}"
    return f"select n, {values}, cast(_x as varchar) as x, _o as o, _p as p from {rows}"
