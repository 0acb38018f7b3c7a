"""Files as Parquet of plain text, for a warehouse that cannot read them where they are.

DuckDB, in this process, reads them by the same rules as when it is the warehouse itself; the rows never become Python
objects. Each column of the contract becomes a text column: a value that fits, in ISO 8601 or as the plain number, so
that no other engine has to guess; one that does not fit, as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.warehouse import contract_sql, evolve_sql, load_sql, marked_sql, scan
from trunkline.warehouse.contract_sql import RawColumn
from trunkline.warehouse.load import Contract, LoadRequest
from trunkline.warehouse.load_sql import literal
from trunkline.warehouse.marked_sql import Marked

if TYPE_CHECKING:
    from trunkline.warehouse.duckdb import DuckDB

Loses = Callable[[int, str, str], bool]

# Snowflake advises files of 100 to 250 MB, compressed; DuckDB starts a new one when a file has grown beyond this.
FILE_BYTES = 160_000_000

_CLOCKS = {
    "TIMESTAMP": "strftime({value}, '%Y-%m-%d %H:%M:%S.%f')",
    "TIMESTAMP WITH TIME ZONE": "strftime({value} at time zone 'UTC', '%Y-%m-%d %H:%M:%S.%f') || '+00:00'",
}
PLACE = "trunkline_place"
"""Of a row's number in the file that it was landed from."""
_LAYOUT_ROWS = 2**48  # more than the files of one layout have
_NO_NUMBER = "cast(null as bigint)"
_EXAMPLES = 3
# a row that fits, or cannot be read at all: an error without a column
_SETTLED = "E is null or L is not null or json_extract_string(E, '$[0].column') is null"
_TEXTS = {**_CLOCKS, "BLOB": "hex({value})"}


@dataclass(frozen=True)
class Brought:
    """What `land` has written: files of the rows of a load, with the columns that `snowflake_load_sql.Landed` tells.

    `contract` is what the rows were held to; of its columns `evolved` are wider than they were. `columns` are those of
    the source. `ops` says that rows say what they do.
    """

    folder: Path
    contract: Contract
    columns: tuple[RawColumn, ...]
    ops: bool
    evolved: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> list[Path]:
        """The Parquet files."""
        return sorted(self.folder.glob("*.parquet"))

    @property
    def rows(self) -> str:
        """All rows, for DuckDB."""
        return f"read_parquet([{', '.join(literal(str(file)) for file in self.files)}])"


def land(engine: DuckDB, request: LoadRequest, contract: Contract, folder: Path) -> Brought:
    """Read the rows of `request`, judge them and write them into `folder`. `engine` is a DuckDB in this process.

    Raises `SourceError` and `ContractError` as a load on DuckDB does.
    """
    folder.mkdir(parents=True)
    with engine.reaching(request.scan), engine.in_order() if contract.key else contextlib.nullcontext():
        readings = scan.readings(request.scan, contract, engine.query)
        for index, reading in enumerate(readings):
            for table in (scan.REJECTS, scan.REJECT_SCANS):
                engine.execute(f"drop table if exists temp.{table}")
            rows = reading.rows
            # only rows with a key are asked when they came
            number = f"{index * _LAYOUT_ROWS} + row_number() over ()" if contract.key else _NO_NUMBER
            judged = _Judged(contract_sql.judged(rows), rows.columns, contract_sql.bad(rows), bool(rows.op))
            _copy(engine, judged.select(_canonical(engine, rows.columns), number), folder / str(index), request.name)
            if reading.rejects and engine.query(f"select 1 from temp.{scan.REJECTS} limit 1"):
                _copy(engine, _refused(len(contract.columns)), folder / f"{index}-refused", request.name)
    _number_files(folder)
    ops = any(reading.rows.op for reading in readings)
    return Brought(folder, contract, readings[0].rows.columns, ops)


def misfits(engine: DuckDB, brought: Brought) -> tuple[int, list[str]]:
    """How many rows do not fit, and the errors of the first few as JSON arrays."""
    bad = f"from {brought.rows} where E is not null"
    found = int(engine.query(f"select count(*) {bad}")[0][0])
    examples = engine.query(f"select E {bad} order by N limit {_EXAMPLES}") if found else []
    return found, [str(row[0]) for row in examples]


# -- wider types


def widened(engine: DuckDB, brought: Brought, load_id: str, loses: Loses) -> Brought:
    """The same rows held to wider types, where that lets rows in. `loses` says of a column (its place), its type and a
    wider one whether the target has values there that would change."""
    marked = Marked(_marked(brought, load_id), "X", brought.columns, load_id, brought.ops, kept=("N",))
    canonical = _canonical(engine, brought.columns)
    ladders = {i: types for i, type_ in enumerate(canonical) if (types := evolve_sql.wider(type_))}
    if not ladders or not misfits(engine, brought)[0]:
        return brought
    answers = engine.query(evolve_sql.asked(marked, ladders))[0]
    chosen: dict[int, str] = {}
    for i, wanted in evolve_sql.chosen(answers, ladders).items():
        wide = next((wide for wide in wanted if not _would_lose(engine, brought, i, (canonical[i], wide), loses)), None)
        if wide is not None:
            chosen[i] = wide
    return _held_to(engine, brought, marked, chosen) if chosen else brought


def _would_lose(engine: DuckDB, brought: Brought, i: int, types: tuple[str, str], loses: Loses) -> bool:
    here = evolve_sql.loses(*types, f"try_cast(R{i} as hugeint)")
    if not here:
        return False
    fits = f"select count(*) from {brought.rows} where E is null and ({here})"
    return bool(engine.query(fits)[0][0]) or loses(i, *types)


def _marked(brought: Brought, load_id: str) -> str:
    """The rows with values that do not fit, as `Marked` has them."""
    texts = ", ".join(f"R{i}" for i in range(len(brought.columns)))
    mark = (
        f"json_object({literal(marked_sql.mark(load_id))}, 1, 'why', null, 'row', [{texts}], 'extra', "
        "cast(X as json), 'file', F, 'op', coalesce(P, 'upsert'), 'present', A)"
    )
    return f"(select {mark} as X, N from {brought.rows} where not ({_SETTLED}))"


def _held_to(engine: DuckDB, brought: Brought, marked: Marked, chosen: Mapping[int, str]) -> Brought:
    """The files written anew: rows that are settled as they are, the others judged again."""
    columns = tuple(replace(column, type=chosen.get(i, column.type)) for i, column in enumerate(brought.columns))
    marked, folder = replace(marked, columns=columns), brought.folder / "wider"
    judged = _Judged(marked.judged(), marked.texts, marked.bad, brought.ops)
    _copy(engine, f"select * from {brought.rows} where {_SETTLED}", folder / "0", "")
    _copy(engine, judged.select(_canonical(engine, columns), "N"), folder / "1", "")
    _number_files(folder)
    held = tuple(replace(column, type=chosen.get(i, column.type)) for i, column in enumerate(brought.contract.columns))
    evolved = tuple((held[i].name, type_) for i, type_ in chosen.items())
    contract = replace(brought.contract, columns=held)
    return replace(brought, folder=folder, contract=contract, columns=columns, evolved=evolved)


# -- Parquet


@dataclass(frozen=True)
class _Judged:
    """Rows as `contract_sql.judged` has them; `bad` is true for those that do not fit ("": all do)."""

    rows: str
    columns: Sequence[RawColumn]
    bad: str
    ops: bool

    def select(self, canonical: Sequence[str], number: str) -> str:
        """The SELECT that lands them: `R0`… and what else `Landed` tells. `number` is SQL for when a row came."""
        texts = [self._text(i, type_) for i, type_ in enumerate(canonical)]
        held = {
            "E": contract_sql.errors(self.columns, ops=self.ops),
            "Q": contract_sql.raw_row(self.columns, ops=self.ops),
        }
        told = [
            f"cast({f'case when {self.bad} then {value} end' if self.bad else 'null'} as varchar) as {name}"
            for name, value in held.items()
        ]
        return (
            f"select {', '.join(texts)}, cast(_x as varchar) as X, _f as F, cast(null as bigint) as L, "
            f"{', '.join(told)}, {number} as N, nullif(_o, 'upsert') as P, _p as A from ({self.rows})"
        )

    def _text(self, i: int, canonical: str) -> str:
        column = self.columns[i]
        if canonical == "VARCHAR" and column.raw_type == "VARCHAR":
            return f"r{i} as R{i}"
        nested = canonical.endswith("]") or canonical.startswith(("STRUCT", "MAP"))
        form = "cast(to_json({value}) as varchar)" if nested else _TEXTS.get(canonical, "cast({value} as varchar)")
        value = form.format(value=f"c{i}")
        bad = contract_sql.misfit(column, i, ops=self.ops)
        raw = contract_sql.text(column, i)
        return f"case when {bad} then {raw} else {value} end as R{i}" if bad else f"{value} as R{i}"


def _refused(width: int) -> str:
    """Rows the CSV reader itself refused: no columns, the line as it is, and why."""
    nulls = ", ".join(f"cast(null as varchar) as R{i}" for i in range(width))
    return (
        f"select {nulls}, cast(null as varchar) as X, file as F, line as L, cast(errors as varchar) as E, "
        f"cast(raw as varchar) as Q, {_NO_NUMBER} as N, cast(null as varchar) as P, cast(null as varchar) as A "
        f"from ({scan.refused()})"
    )


def _canonical(engine: DuckDB, columns: Sequence[RawColumn]) -> list[str]:
    types = ", ".join(f"typeof(null::{column.type})" for column in columns)
    return [str(type_) for type_ in engine.query(f"select {types}")[0]]


def _copy(engine: DuckDB, select: str, folder: Path, source: str) -> None:
    folder.parent.mkdir(exist_ok=True)
    options = f"format parquet, compression zstd, file_size_bytes {FILE_BYTES}, per_thread_output false"
    engine.run(f"copy ({select}) to {literal(str(folder))} ({options})", f"cannot load {source}" if source else "")


def _number_files(folder: Path) -> None:
    """Names of their own for the files: on a stage they lie side by side."""
    for index, path in enumerate(sorted(folder.rglob("*.parquet"))):
        path.rename(folder / f"{index:06}.parquet")


# -- records


def land_records(engine: DuckDB, columns: Sequence[tuple[str, str]], file: Path, folder: Path) -> list[Path]:
    """The rows of an NDJSON or Parquet file as Parquet with just these columns, of the types `record_type` tells."""
    folder.mkdir(parents=True)
    if file.suffix == ".parquet":
        rows = f"read_parquet({literal(str(file))})"
    else:
        types = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in columns)
        rows = f"read_json({literal(str(file))}, format='newline_delimited', columns={{{types}}})"
    listed = ", ".join(_record(name, type_) for name, type_ in columns)
    _copy(engine, f"select {listed} from {rows}", folder / "records", "")
    _number_files(folder)
    return sorted(folder.glob("*.parquet"))


def land_arguments(
    engine: DuckDB, arguments: Sequence[tuple[str, str]], file: Path, folder: Path
) -> list[tuple[str, str]]:
    """The rows of a Parquet file as the arguments of a function; the columns they landed in, `PLACE` the last."""
    folder.mkdir(parents=True)
    listed = [f"{_argument(name, type_)} as {load_sql.quote(name)}" for name, type_ in arguments]
    listed.append(f"file_row_number as {load_sql.quote(PLACE)}")
    rows = f"read_parquet({literal(str(file))}, file_row_number = true)"
    _copy(engine, f"select {', '.join(listed)} from {rows}", folder / "records", "")
    _number_files(folder)
    (folder / "records").rmdir()
    return [*((name, record_type(_told(type_))) for name, type_ in arguments), (PLACE, "BIGINT")]


def _argument(name: str, type_: str) -> str:
    value = load_sql.quote(name)
    if type_.endswith("[]"):
        return f"cast(to_json({value}) as varchar)"
    cast = f"cast({value} as {type_})"
    return _CLOCKS[type_].format(value=cast) if type_ in _CLOCKS else cast


def _told(type_: str) -> str:
    return "JSON" if type_.endswith("[]") else type_


def record_type(type_: str) -> str:
    """The type a record's column lands as: JSON and times as text, for engines read them from Parquet differently."""
    return "VARCHAR" if type_.upper() in ("JSON", "TIMESTAMPTZ", *_CLOCKS) else type_


def _record(name: str, type_: str) -> str:
    quoted, canonical = load_sql.quote(name), type_.upper().replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
    if canonical in _CLOCKS:
        return f"{_CLOCKS[canonical].format(value=quoted)} as {quoted}"
    return f"cast({quoted} as varchar) as {quoted}" if canonical == "JSON" else quoted
