"""Files as Parquet of plain text, for a warehouse that cannot read them where they are.

DuckDB, in this process, reads them by the same rules as when it is the warehouse itself; the rows never become Python
objects. Each column of the contract becomes a text column: a value that fits, in ISO 8601 or as the plain number, so
that no other engine has to guess; one that does not fit, as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trunkline.warehouse import load_sql, scan
from trunkline.warehouse.load import LoadRequest
from trunkline.warehouse.load_sql import RawColumn, RawRows, literal
from trunkline.warehouse.protocol import Warehouse

# Snowflake advises files of 100 to 250 MB, compressed; DuckDB starts a new one when a file has grown beyond this.
FILE_BYTES = 160_000_000

_CLOCKS = {
    "TIMESTAMP": "strftime({value}, '%Y-%m-%d %H:%M:%S.%f')",
    "TIMESTAMP WITH TIME ZONE": "strftime({value} at time zone 'UTC', '%Y-%m-%d %H:%M:%S.%f') || '+00:00'",
}


def land(engine: Warehouse, request: LoadRequest, folder: Path) -> list[Path]:
    """Write the rows of `request` into Parquet files in `folder`: `R0`… and `X`, `F`, `L`, `W`, `Q` (see `Landed`).

    `engine` is a DuckDB in this process. Raises `SourceError` as a load on DuckDB does.
    """
    contract = [(name, load_sql.check_type(name, type_)) for name, type_ in request.contract.types]
    folder.mkdir(parents=True)
    for index, reading in enumerate(scan.readings(request.scan, contract, engine.query)):
        for table in (scan.REJECTS, scan.REJECT_SCANS):
            engine.execute(f"drop table if exists temp.{table}")
        select = _rows(reading.rows, lambda type_: str(engine.query(f"select typeof(null::{type_})")[0][0]))
        _copy(engine, select, folder / str(index))
        if reading.rejects:
            _copy(engine, _refused(len(contract)), folder / f"{index}-refused")
    return _numbered(folder)


def _numbered(folder: Path) -> list[Path]:
    """The files with names of their own: on a stage they lie side by side."""
    found = sorted(folder.rglob("*.parquet"))
    return [path.rename(folder / f"{index:06}.parquet") for index, path in enumerate(found)]


def _copy(engine: Warehouse, select: str, folder: Path) -> None:
    options = f"format parquet, compression zstd, file_size_bytes {FILE_BYTES}, per_thread_output false"
    engine.execute(f"copy ({select}) to {literal(str(folder))} ({options})")


def _rows(rows: RawRows, canonical: load_sql.TypeOf) -> str:
    """The SELECT that lands a source's rows. Of a row that does not fit, `Q` holds the raw values as JSON."""
    columns = rows.columns
    raws = [f"{column.raw} as r{i}" for i, column in enumerate(columns)]
    around = [f"{rows.extra} as _x", f"{rows.file} as _f", f"{rows.bad_row or 'null'} as _w"]
    inner = f"select {', '.join([*raws, *around])} from {rows.source}"
    casts = [f"try_cast(r{i} as {column.type}) as c{i}" for i, column in enumerate(columns)]
    tests = [load_sql.misfit(column, f"r{i}", f"c{i}") for i, column in enumerate(columns)]
    texts = [
        _text(column, i, bad, canonical(column.type))
        for i, (column, bad) in enumerate(zip(columns, tests, strict=True))
    ]
    row = ", ".join(f"{literal(column.name)}, cast(r{i} as varchar)" for i, column in enumerate(columns))
    known = f"cast(json_object({row}) as varchar)"
    # joined as text: json_merge_patch costs seconds even where no row is bad
    raw = f"case when _x is null then {known} else left({known}, -1) || ',' || substr(cast(_x as varchar), 2) end"
    bad_rows = [bad for bad in tests if bad] + (["_w is not null"] if rows.bad_row else [])
    held = f"case when {' or '.join(bad_rows)} then {raw} end" if bad_rows else "cast(null as varchar)"
    return (
        f"select {', '.join(texts)}, cast(_x as varchar) as X, _f as F, cast(null as bigint) as L, "
        f"cast(_w as varchar) as W, {held} as Q from (select *, {', '.join(casts)} from ({inner}))"
    )


def _text(column: RawColumn, i: int, bad: str | None, canonical: str) -> str:
    value = _CLOCKS.get(canonical, "cast({value} as varchar)").format(value=f"c{i}")
    if bad is None:
        return f"cast(r{i} as varchar) as R{i}"
    return f"case when {bad} then cast(r{i} as varchar) else {value} end as R{i}"


def _refused(width: int) -> str:
    """Rows the CSV reader itself refused: no columns, the line as it is, and why."""
    nulls = ", ".join(f"cast(null as varchar) as R{i}" for i in range(width))
    return (
        f"select {nulls}, cast(null as varchar) as X, any_value(s.file_path) as F, cast(r.line as bigint) as L, "
        "any_value(lower(cast(r.error_type as varchar)) || ': ' || r.error_message) as W, "
        "cast(json_object('line', ltrim(any_value(r.csv_line), chr(10))) as varchar) as Q "
        f"from temp.{scan.REJECTS} r join temp.{scan.REJECT_SCANS} s using (scan_id, file_id) "
        "group by r.scan_id, r.file_id, r.line, r.line_byte_position"
    )


def land_records(engine: Warehouse, columns: Sequence[tuple[str, str]], file: Path, folder: Path) -> list[Path]:
    """The rows of an NDJSON or Parquet file as Parquet with just these columns, of the types `record_type` tells."""
    folder.mkdir(parents=True)
    if file.suffix == ".parquet":
        rows = f"read_parquet({literal(str(file))})"
    else:
        types = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in columns)
        rows = f"read_json({literal(str(file))}, format='newline_delimited', columns={{{types}}})"
    listed = ", ".join(_record(name, type_) for name, type_ in columns)
    _copy(engine, f"select {listed} from {rows}", folder / "records")
    return _numbered(folder)


def record_type(type_: str) -> str:
    """The type a record's column lands as: JSON and times as text, for engines read them from Parquet differently."""
    return "VARCHAR" if type_.upper() in ("JSON", "TIMESTAMPTZ", *_CLOCKS) else type_


def _record(name: str, type_: str) -> str:
    quoted, canonical = load_sql.quote(name), type_.upper().replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
    if canonical in _CLOCKS:
        return f"{_CLOCKS[canonical].format(value=quoted)} as {quoted}"
    return f"cast({quoted} as varchar) as {quoted}" if canonical == "JSON" else quoted
