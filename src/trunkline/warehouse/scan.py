"""How DuckDB reads files of each format as rows of raw values. Text only: nothing here opens a connection."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trunkline.errors import SourceError, did_you_mean
from trunkline.warehouse.load import FileScan, Scan
from trunkline.warehouse.load_sql import RawColumn, RawRows, literal, quote

_DELIMITERS = (",", "\t", ";", "|")
# A line longer than this is refused. DuckDB would make its buffers 16 times as long: 256 MiB, to no one's good.
_MAX_LINE = 16 * 1024 * 1024
_BUFFERS = f"max_line_size={_MAX_LINE}, buffer_size={2 * _MAX_LINE}"
REJECTS, REJECT_SCANS = "trunkline_rejects", "trunkline_reject_scans"

Query = Callable[[str], list[tuple[object, ...]]]


@dataclass(frozen=True)
class Reading:
    """Files read alike. `rejects` says that rows the reader itself refuses land in the table `REJECTS`."""

    rows: RawRows
    rejects: bool


def readings(scan: Scan, contract: Sequence[tuple[str, str]], query: Query) -> list[Reading]:
    """One reading per layout found among the files (same header, same delimiter).

    Raises `SourceError` for a file that is empty, lacks a column of the contract, or is not of its format.
    """
    assert isinstance(scan, FileScan)
    layouts: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    if scan.format == "csv":
        for file in scan.files:
            layouts.setdefault(_csv_layout(scan, file, contract, query), []).append(file)
        return [_csv(scan, files, *layout, contract) for layout, files in layouts.items()]
    if scan.format == "ndjson":
        return [_ndjson(scan, contract, query)]
    types: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for file in scan.files:
        types.setdefault(_parquet_types(file, query), []).append(file)
    return [_parquet(files, dict(columns), contract) for columns, files in types.items()]


def _lines(files: Iterable[str], *, rejects: bool, parallel: bool = True) -> str:
    """The lines of text files, whole: a separator that text does not contain. In order only without `parallel`."""
    store = f", store_rejects=true, rejects_limit=0, {_reject_tables()}" if rejects else ", ignore_errors=true"
    return (
        f"read_csv({_list(files)}, auto_detect=false, header=false, delim='\x01', quote='', escape='', "
        f"columns={{'line': 'VARCHAR'}}, {_BUFFERS}, strict_mode=false, "
        f"parallel={str(parallel).lower()}{store})"
    )


def _csv_layout(
    scan: FileScan, file: str, contract: Sequence[tuple[str, str]], query: Query
) -> tuple[str, tuple[str, ...]]:
    """The delimiter and header of a CSV file: the delimiter under which most of the contract's columns appear."""
    head = query(f"select line from {_lines([file], rejects=False, parallel=False)} limit 1")
    if not head or not head[0][0]:
        raise SourceError(f"{file} is empty: not even a header line", hint="remove the file or write its header")
    line = str(head[0][0]).lstrip("\ufeff")
    wanted = {name.lower() for name, _ in contract}
    candidates = [scan.delimiter] if scan.delimiter else list(_DELIMITERS)
    headers = {d: tuple(cell.strip() for cell in next(csv.reader([line], delimiter=d))) for d in candidates}
    delimiter = max(headers, key=lambda d: (sum(cell.lower() in wanted for cell in headers[d]), len(headers[d])))
    header = headers[delimiter]
    repeated = sorted({cell for cell in header if [c.lower() for c in header].count(cell.lower()) > 1})
    if repeated:
        raise SourceError(f"{file} has the column {repeated[0]!r} twice in its header")
    _require(file, header, contract)
    return delimiter, header


def _csv(
    scan: FileScan, files: list[str], delimiter: str, header: tuple[str, ...], contract: Sequence[tuple[str, str]]
) -> Reading:
    columns = ", ".join(f"{literal(cell)}: 'VARCHAR'" for cell in header)
    nulls = _list(dict.fromkeys([*scan.null_values, ""]))
    source = (
        f"read_csv({_list(files)}, auto_detect=false, header=true, delim={literal(delimiter)}, quote='\"', "
        f"escape='\"', nullstr={nulls}, columns={{{columns}}}, {_BUFFERS}, store_rejects=true, "
        f"rejects_limit=0, {_reject_tables()})"
    )
    actual = {cell.lower(): cell for cell in header}
    known = {name.lower() for name, _ in contract}
    raws = tuple(RawColumn(name, type_, quote(actual[name.lower()])) for name, type_ in contract)
    outside = [cell for cell in header if cell.lower() not in known]
    return Reading(RawRows(source, raws, _extra(outside), _file(header)), rejects=True)


def _ndjson(scan: FileScan, contract: Sequence[tuple[str, str]], query: Query) -> Reading:
    lines = _lines(scan.files, rejects=True)
    sample = query(
        "select distinct unnest(json_keys(line)) from (select line from "
        f"(select case when json_valid(line) then line end as line from {_lines(scan.files, rejects=False)} limit 1000)"
        " where json_type(line) = 'OBJECT')"
    )
    keys = [str(row[0]) for row in sample]
    if keys and not {name for name, _ in contract} & set(keys):
        _require(scan.files[0], keys, contract)
    paths = ", ".join(literal("$." + quote(name).replace('""', '\\"')) for name, _ in contract)
    null_values = _list(scan.null_values) if scan.null_values else ""
    raws = []
    for i, (name, type_) in enumerate(contract, start=1):
        raw = f"case when not list_contains({null_values}, v[{i}]) then v[{i}] end" if null_values else f"v[{i}]"
        raws.append(RawColumn(name, type_, raw))
    without = literal("{" + ", ".join(f'"{_json_key(name)}": null' for name, _ in contract) + "}")
    # json functions fail on text that is no JSON, and AND does not shield them: hence one step after the other
    valid = f"select filename, line, case when json_valid(line) then line end as j from {lines} where trim(line) <> ''"
    objects = f"select filename, line, case when json_type(j) = 'OBJECT' then j end as j from ({valid})"
    source = (
        f"(select filename, line, json_extract_string(j, [{paths}]) as v, "
        f"nullif(cast(json_merge_patch(j, {without}) as varchar), '{{}}') as x from ({objects}))"
    )
    reason = "case when v is null then 'not a JSON object' end"
    extra = "case when v is null then json_object('line', line) else cast(x as json) end"
    return Reading(RawRows(source, tuple(raws), extra, "filename", reason), rejects=True)


def _parquet_types(file: str, query: Query) -> tuple[tuple[str, str], ...]:
    rows = query(f"select column_name, column_type from (describe select * from read_parquet({_list([file])}))")
    return tuple((str(name), str(type_)) for name, type_ in rows)


def _parquet(files: list[str], types: dict[str, str], contract: Sequence[tuple[str, str]]) -> Reading:
    _require(files[0], types, contract)
    actual = {name.lower(): name for name in types}
    known = {name.lower() for name, _ in contract}
    raws = tuple(
        RawColumn(name, type_, quote(actual[name.lower()]), types[actual[name.lower()]]) for name, type_ in contract
    )
    outside = [name for name in types if name.lower() not in known]
    return Reading(RawRows(f"read_parquet({_list(files)})", raws, _extra(outside), _file(types)), rejects=False)


def _extra(outside: Sequence[str]) -> str:
    """The columns outside the contract as a JSON object without its nulls; NULL when all of them are null."""
    if not outside:
        return "null::json"
    present = " or ".join(f"{quote(name)} is not null" for name in outside)
    pairs = ", ".join(f"{literal(name)}, {quote(name)}" for name in outside)
    return f"case when {present} then json_object({pairs}) end"


def _file(columns: Iterable[str]) -> str:
    """DuckDB's own column with the file's name, unless the file has a column of that name."""
    return "cast(null as varchar)" if "filename" in (name.lower() for name in columns) else "filename"


def _require(file: str, found: Iterable[str], contract: Sequence[tuple[str, str]]) -> None:
    there = list(found)
    lower = {name.lower() for name in there}
    for name, _ in contract:
        if name.lower() not in lower:
            raise SourceError(
                f"{file} lacks the contract's column {name!r}.{did_you_mean(name, there)}",
                hint=f"the file has: {', '.join(there[:40])}",
            )


def _reject_tables() -> str:
    return f"rejects_table={literal(REJECTS)}, rejects_scan={literal(REJECT_SCANS)}"


def _list(items: Iterable[str]) -> str:
    return "[" + ", ".join(literal(item) for item in items) + "]"


def _json_key(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
