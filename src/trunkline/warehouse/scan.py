"""How DuckDB reads a source as rows of raw values. Text only: nothing here opens a connection."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from trunkline.errors import SourceError, did_you_mean
from trunkline.warehouse import file_sql, headers
from trunkline.warehouse.contract_sql import RawColumn, RawRows
from trunkline.warehouse.load import REST, Column, Contract, FileScan, QueryScan, Scan
from trunkline.warehouse.load_sql import check_type, literal, quote

DELIMITERS = (",", "\t", ";", "|")
# Not DuckDB's own buffers: they would be 16 times as long as the longest line, 256 MiB, to no one's good.
_BUFFERS = f"max_line_size={headers.MAX_LINE}, buffer_size={2 * headers.MAX_LINE}"
# What parts the columns of lines that have one: a text that no text contains.
_NOWHERE, _NEVER = "\x01\x1f\x02\x1e", "\x02\x1e\x01\x1f"
REJECTS, REJECT_SCANS = "trunkline_rejects", "trunkline_reject_scans"
_DEEP = 10_000  # characters that a text has at least, if it is nested deeper than 5,000 levels
_DELETED = ("true", "t", "1", "yes", "y", "d", "delete", "deleted")  # what marks a row as deleted
_OPS = ("upsert", "update", "delete")
_NO_FILE = file_sql.NO_FILE

_NUMBER = re.compile(r"(u?(tiny|small|big|huge)?int|int\d|float|double|real|decimal|numeric)", re.IGNORECASE)
_TEXT = re.compile(r"(varchar|text|string|char|bpchar)", re.IGNORECASE)
_MOMENT = re.compile(r"(date|timestamp)", re.IGNORECASE)  # `datetime` as well

Query = Callable[[str], list[tuple[object, ...]]]
Layout = TypeVar("Layout")


@dataclass(frozen=True)
class Reading:
    """Files read alike. `rejects` says that rows the reader itself refuses land in the table `REJECTS`."""

    rows: RawRows
    rejects: bool


def readings(scan: Scan, contract: Contract, query: Query) -> list[Reading]:
    """One reading per layout found among the files (same header, same delimiter); with a key in the order of the files.

    Raises `SourceError` where all files are empty, for a file that is not of its format, has none of the contract's
    columns, or lacks one and the policy is to fail; `ContractError` for a type that is none.
    """
    columns = tuple(replace(column, type=check_type(column.name, column.type)) for column in contract.columns)
    held = _Held(replace(contract, columns=columns))
    if isinstance(scan, QueryScan):
        return [_query(scan, held, query)]
    if scan.format == "csv":
        found = [(layout, file) for file in scan.files if (layout := _csv_layout(scan, file, held, query))]
        if not found:
            raise SourceError(f"{scan.files[0]} is empty: not even a header line", hint="write its header")
        return [_csv(scan, files, layout, held) for layout, files in _alike(found, held.in_order)]
    if scan.format in ("ndjson", "json"):
        return _json_files(scan, held, query)
    layouts = [((_parquet_types(file, query), file_sql.partitions(file)), file) for file in scan.files]
    return [_parquet(scan, files, dict(types), held) for (types, _), files in _alike(layouts, held.in_order)]


def refused() -> str:
    """A SELECT of the rows that the CSV reader itself refused (ragged, bad quotes, bad encoding): `file`, `line`,
    `errors` and `raw` as the quarantine has them."""
    return (
        f"select {file_sql.shown_anywhere('any_value(s.file_path)')} as file, "
        'cast(r.line as bigint) as line, to_json(list(struct_pack("column" := '
        "r.column_name, \"value\" := null::varchar, reason := lower(cast(r.error_type as varchar)) || ': ' || "
        "r.error_message))) as errors, json_object('line', ltrim(any_value(r.csv_line), chr(10))) as raw "
        f"from temp.{REJECTS} r join temp.{REJECT_SCANS} s using (scan_id, file_id) "
        "group by r.scan_id, r.file_id, r.line, r.line_byte_position"
    )


def _alike(found: Sequence[tuple[Layout, str]], in_order: bool) -> list[tuple[Layout, list[str]]]:
    """Files by layout; where order counts, only neighbours are put together."""
    groups: list[tuple[Layout, list[str]]] = []
    for layout, file in found:
        known = next((files for other, files in (groups[-1:] if in_order else groups) if other == layout), None)
        if known is None:
            groups.append((layout, [file]))
        else:
            known.append(file)
    return groups


class _Held:
    """A contract, and which of its columns a source has."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.key = {name.lower() for name in contract.key}
        self.in_order = bool(contract.key)
        self.wanted = {column.source_name.lower() for column in contract.columns}
        marked = (contract.deleted or "").lower() if contract.key else ""
        self.marker = "" if marked in self.wanted else marked

    def columns(self, where: str, raw: Mapping[str, tuple[str, str]]) -> tuple[RawColumn, ...]:
        """`raw` is, by the source's names, SQL for a value and its type."""
        there = {name.lower(): name for name in reversed(list(raw))} | {name: name for name in raw}
        outside = self.outside(raw)
        if self.wanted.isdisjoint(name.lower() for name in raw):
            self._refuse(where, self.contract.columns[0], raw, "has none of the contract's columns")
        found = []
        for column in self.contract.columns:
            actual = there.get(column.source_name) or there.get(column.source_name.lower())
            if actual is not None:
                found.append(self._column(column, actual, *_taken(*raw[actual], column.type)))
                continue
            if self.contract.policy == "fail":
                self._refuse(where, column, outside, f"lacks the contract's column {column.source_name!r}")
            missing = f"the source lacks this column.{did_you_mean(column.source_name, outside)}".rstrip(".")
            reason = missing if self.contract.policy == "quarantine" else ""
            found.append(replace(self._column(column, column.source_name, _NO_FILE, "VARCHAR"), missing=reason))
        return tuple(found)

    def _column(self, column: Column, actual: str, raw: str, raw_type: str) -> RawColumn:
        key = column.name.lower() in self.key
        return RawColumn(column.name, column.type, raw, raw_type, column.required, key, column.accepted, actual)

    def outside(self, found: Iterable[str]) -> list[str]:
        """The source's columns that are none of the contract's."""
        return [name for name in found if name.lower() not in self.wanted]

    def deletes(self, where: str, raw: Mapping[str, tuple[str, str]]) -> str:
        """SQL for what a row does, where a column marks those that are deleted; else ""."""
        if not self.marker:
            return ""
        marks = [sql for name, (sql, _) in raw.items() if name.lower() == self.marker]
        if not marks:
            raise SourceError(
                f"{where} lacks the column {self.contract.deleted!r}, which marks deleted rows."
                f"{did_you_mean(str(self.contract.deleted), raw)}",
                hint=f"it has: {', '.join(list(raw)[:40])}",
            )
        return f"case when {_deleted(marks[0])} then 'delete' else 'upsert' end"

    def _refuse(self, where: str, column: Column, found: Iterable[str], what: str) -> None:
        there = list(found)
        raise SourceError(
            f"{where} {what}.{did_you_mean(column.source_name, there)}", hint=f"it has: {', '.join(there[:40])}"
        )


def _deleted(mark: str) -> str:
    return f"lower(trim(cast({mark} as varchar))) in ({', '.join(literal(word) for word in _DELETED)})"


def _taken(raw: str, raw_type: str, type_: str) -> tuple[str, str]:
    """A value of a typed source for a column of `type_`: as it is where SQL casts it well, else as text."""
    given = raw_type.upper()
    if given == "VARCHAR":
        return raw, given
    if "[" in given or given.startswith(("STRUCT", "MAP", "UNION", "VARIANT")):
        return f"cast(to_json({raw}) as varchar)", "VARCHAR"
    alike = given == type_.upper() or any(kind.match(given) and kind.match(type_) for kind in (_NUMBER, _MOMENT))
    if alike and not _TEXT.match(type_):
        return raw, given
    if given == "BOOLEAN" and _NUMBER.match(type_):
        return f"cast({raw} as integer)", "INTEGER"
    return f"cast({raw} as varchar)", "VARCHAR"


# -- CSV


def lines_of(files: Iterable[str], *, rejects: bool, parallel: bool = True) -> str:
    """The lines of text files, whole."""
    store = f", store_rejects=true, rejects_limit=0, {_reject_tables()}" if rejects else ", ignore_errors=true"
    return (
        f"read_csv({file_sql.listed(files)}, auto_detect=false, header=false, delim='{_NOWHERE}', quote='', escape='', "
        f"nullstr='{_NEVER}', columns={{'line': 'VARCHAR'}}, hive_partitioning=false, {_BUFFERS}, strict_mode=false, "
        f"parallel={str(parallel).lower()}{store})"
    )


@dataclass(frozen=True)
class _Layout:
    """What CSV files that are read in one go have in common. `orderly` and `nuls` are a `headers.Look`'s."""

    delimiter: str
    header: tuple[str, ...]
    orderly: bool
    nuls: bool
    partitions: tuple[str, ...]


def _csv_layout(scan: FileScan, file: str, held: _Held, query: Query) -> _Layout | None:
    """How a CSV file is read, by the delimiter under which most of the contract's columns appear; None if it is empty.

    A file in a store is read in one stream, for nobody can tell whether its records end where its lines do.
    """
    look = headers.look(file, quoted=True, limit=scan.unpacked_limit)
    if look is None:
        head = query(f"select line from {lines_of([file], rejects=False, parallel=False)} limit 1")
        look = headers.Look(str(head[0][0]).lstrip("\ufeff") if head else "", orderly=False, nuls=True)
    if not look.first:
        return None
    header = _header(file, look.first, scan.delimiter, held)
    repeated = [cell for cell, count in Counter(cell.lower() for cell in header[1]).items() if count > 1]
    if repeated:
        raise SourceError(
            f"{file} has the column {repeated[0]!r} twice in its header", hint="give each column a name of its own"
        )
    found = file_sql.partitions(file)
    names = {cell: (cell, "VARCHAR") for cell in (*found, *header[1])}
    held.columns(file, names)  # judged here, where the file is known
    return _Layout(*header, look.orderly, look.nuls, found)


def _header(file: str, line: str, told: str | None, held: _Held) -> tuple[str, tuple[str, ...]]:
    """The delimiter, and the names of the columns."""
    headed = {}
    for delimiter in [told] if told else DELIMITERS:
        try:
            lines = io.StringIO(line, newline="")
            cells = line.split(delimiter) if len(delimiter) > 1 else next(csv.reader(lines, delimiter=delimiter))
        except (csv.Error, StopIteration) as exc:
            raise SourceError(f"{file}: its header cannot be read: {exc}") from exc
        headed[delimiter] = [cell.strip() for cell in cells]
    best = max(headed, key=lambda d: (sum(cell.lower() in held.wanted for cell in headed[d]), len(headed[d])))
    return best, tuple(cell or f"column{number}" for number, cell in enumerate(headed[best], start=1))


def _csv(scan: FileScan, files: list[str], layout: _Layout, held: _Held) -> Reading:
    columns = ", ".join(f"{literal(cell)}: 'VARCHAR'" for cell in layout.header)
    nulls = _list(dict.fromkeys([*scan.null_values, ""]))
    source = (
        f"read_csv({file_sql.listed(files)}, auto_detect=false, header=true, delim={literal(layout.delimiter)}, "
        f"quote='\"', escape='\"', nullstr={nulls}, columns={{{columns}}}, hive_partitioning=false, {_BUFFERS}, "
        f"parallel={str(layout.orderly).lower()}, store_rejects=true, rejects_limit=0, {_reject_tables()})"
    )
    types = dict.fromkeys(layout.header, "VARCHAR")
    rows = _columnar(source, types, held, files, file_sql.shown(types, scan.beneath))
    rows = _clean(rows, layout.header)
    if layout.nuls:
        found = " or ".join(f"contains({quote(cell)}, chr(0))" for cell in layout.header)
        rows = replace(rows, bad_row=f"case when {found} then 'a NUL byte in the row' end")
    return Reading(rows, rejects=True)


# -- typed sources


def _parquet_types(file: str, query: Query) -> tuple[tuple[str, str], ...]:
    rows = query(f"select column_name, column_type from (describe select * from {_parquet_files([file])})")
    return tuple((str(name), str(type_)) for name, type_ in rows)


def _parquet(scan: FileScan, files: list[str], types: dict[str, str], held: _Held) -> Reading:
    shown = file_sql.shown(types, scan.beneath)
    return Reading(_columnar(_parquet_files(files), types, held, files, shown, scan.null_values), rejects=False)


def _parquet_files(files: Iterable[str]) -> str:
    return f"read_parquet({file_sql.listed(files)}, hive_partitioning=false)"


def _query(scan: QueryScan, held: _Held, query: Query) -> Reading:
    if scan.shape == "json":
        lines = f"(select {_NO_FILE} as filename, line from ({scan.sql}))"
        return Reading(_json("the source", lines, lines, held, query, scan), rejects=False)
    described = query(f"select column_name, column_type from (describe {scan.sql})")
    types = {str(name): str(type_) for name, type_ in described}
    if scan.shape == "apart":
        return Reading(_apart(scan, types, held), rejects=False)
    rows = _columnar(f"({scan.sql})", types, held, ("the source",), _NO_FILE, scan.null_values)
    return Reading(_clean(rows, types) if scan.clean else rows, rejects=False)


def _columnar(
    source: str, types: Mapping[str, str], held: _Held, files: Sequence[str], file: str, null_values: Sequence[str] = ()
) -> RawRows:
    """Rows of a source that has columns; `null_values` are those that the reader itself does not know.

    A column that the files lack may be in the names of their folders: `dt=2025-01-31/`.
    """
    raw = {name: (_without(quote(name), type_, null_values), type_) for name, type_ in types.items()}
    there = {name.lower() for name in types}
    for name in file_sql.partitions(files[0]) if file != _NO_FILE else ():
        if name.lower() not in there:
            raw[name] = (_without(file_sql.partition(name), "VARCHAR", null_values), "VARCHAR")
    columns = held.columns(files[0], raw)
    return RawRows(source, columns, _extra(held.outside(types)), file, op=held.deletes(files[0], raw))


def _clean(rows: RawRows, columns: Collection[str]) -> RawRows:
    """No value of these has a NUL character in it, or the whole row is refused for it."""
    return replace(rows, columns=tuple(replace(c, clean=c.source in columns) for c in rows.columns))


def _apart(scan: QueryScan, types: Mapping[str, str], held: _Held) -> RawRows:
    """Rows as `_json` has them."""
    raw = {name: (_without(quote(name), type_, scan.null_values), type_) for name, type_ in types.items()}
    raw.pop(REST)
    op = held.deletes("the source", raw) or ("'upsert'" if held.key else "")
    extra = f"cast(json({quote(REST)}) as json)"  # spelt as all JSON that went through the reader
    return RawRows(f"({scan.sql})", held.columns("the source", raw), extra, _NO_FILE, op=op)


def _without(value: str, type_: str, null_values: Sequence[str]) -> str:
    if not null_values or type_ != "VARCHAR":
        return value
    return f"case when {value} not in ({', '.join(literal(text) for text in null_values)}) then {value} end"


# -- JSON


def _json_files(scan: FileScan, held: _Held, query: Query) -> list[Reading]:
    if scan.format == "json":
        shapes = {"[": "array", "": "auto"}  # auto takes an array behind a byte order mark for one value
        found = [(shapes.get(headers.opening(file, scan.unpacked_limit), "unstructured"), file) for file in scan.files]
        return [_documents(scan, files, shape, held, query) for shape, files in _alike(found, held.in_order)]
    looks = [headers.look(file, quoted=False, limit=scan.unpacked_limit) for file in scan.files]
    lines = lines_of(scan.files, rejects=True, parallel=None not in looks)
    sample = lines_of(scan.files, rejects=False, parallel=False)
    return [Reading(_json(scan.files[0], lines, sample, held, query, scan), rejects=True)]


def _documents(scan: FileScan, files: Sequence[str], shape: str, held: _Held, query: Query) -> Reading:
    """Arrays of objects, or objects one after the other."""
    objects = (
        f"(select filename, cast(json as varchar) as line from read_json_objects({file_sql.listed(files)}, "
        f"format={literal(shape)}, filename=true, maximum_object_size={headers.MAX_LINE}))"
    )
    return Reading(_json(files[0], objects, objects, held, query, scan), rejects=False)


def _json(where: str, lines: str, sample: str, held: _Held, query: Query, scan: Scan) -> RawRows:
    """Rows of JSON texts. An object that lacks a column has a NULL there: JSON leaves out what it does not know.

    `sample` are the lines as they are looked at for keys that are spelt in another case.
    """
    found = query(
        "select distinct unnest(json_keys(line)) from (select line from "
        f"(select case when json_valid(line) then line end as line from {sample} limit 1000)"
        " where json_type(line) = 'OBJECT')"
    )
    keys = sorted(str(row[0]) for row in found)
    files = scan.files if isinstance(scan, FileScan) else ()
    folders = {name for file in files for name in file_sql.partitions(file)}
    spelt = {name.lower(): name for name in (*folders, *keys)} | {key: key for key in keys}
    names = [spelt.get(column.source_name) or spelt.get(column.source_name.lower()) or column.source_name
             for column in held.contract.columns]  # fmt: skip
    if keys and set(keys).isdisjoint(names):
        held.columns(where, {key: (key, "VARCHAR") for key in keys})  # says so
    raw: dict[str, tuple[str, str]] = {}
    for i, name in enumerate(names, start=1):
        value = f"coalesce(v[{i}], {file_sql.partition(name)})" if name in folders else f"v[{i}]"
        raw.setdefault(name, (_without(value, "VARCHAR", scan.null_values), "VARCHAR"))
    ops = isinstance(scan, QueryScan) and bool(held.key)
    marker = spelt.get(held.marker, held.contract.deleted) if held.marker else None
    source = _objects(lines, names, marker, told=isinstance(scan, QueryScan))
    op = _json_op(ops, marker)
    bad = "when v is null then 'not a JSON object'"
    if isinstance(scan, QueryScan):
        allowed = f"o not in ({', '.join(map(literal, _OPS))})" if ops else "o <> 'upsert'"
        reason = f"'$op ' || o || {literal(' is none of ' + ', '.join(_OPS) if ops else ' needs a key')}"
        bad += f" when {allowed} then {reason}"
    extra = f"case when v is null then json_object('line', line) when (case {bad} end) is not null then j else "
    present = "case when o = 'update' then array_to_string([case when e then '1' else '0' end for e in h], '') end"
    return RawRows(
        source,
        held.columns(where, raw),
        f"{extra} cast(x as json) end",
        file_sql.shown((), scan.beneath if isinstance(scan, FileScan) else ""),
        f"case {bad} end",
        op,
        present if ops else "",
    )


def _objects(lines: str, names: Sequence[str], marker: str | None, *, told: bool) -> str:
    """Each line with `j` the object, `v` the texts of `names`, `x` what is outside, `d` the mark of a deletion, `o` and
    `h` what `$op` says and which of the names an update has."""
    paths = ", ".join(_path(name) for name in names)
    without = literal(
        "{" + ", ".join(f"{_json_text(name)}: null" for name in [*names, *(["$op"] if told else [])]) + "}"
    )
    # json functions fail on text that is no JSON, and AND does not shield them: hence one step after the other
    valid = f"select filename, line, case when json_valid(line) then line end as j from {lines} where trim(line) <> ''"
    objects = f"select filename, line, case when json_type(j) = 'OBJECT' then cast(j as json) end as j from ({valid})"
    more = f", lower(json_extract_string(j, {_path('$op')})) as o, json_exists(j, [{paths}]) as h" if told else ""
    more += f", json_extract_string(j, {_path(marker)}) as d" if marker else ""
    return (
        f"(select filename, line, j, json_extract_string(j, [{paths}]) as v, "
        f"{_outside_text(without, names, told)} as x{more} from ({objects}))"
    )


def _outside_text(without: str, names: Sequence[str], told: bool) -> str:
    """SQL for the JSON of an object's other keys; NULL where there are none.

    json_merge_patch calls itself for each level of its argument, and so ends the process where there are 100,000: what
    is long enough for that is taken apart key by key.
    """
    listed = _list([*names, *(["$op"] if told else [])])
    keys = f"list_distinct(list_filter(json_keys(j), lambda k: not list_contains({listed}, k)))"
    path = "'$.\"' || replace(replace(k, '\\', '\\\\'), '\"', '\\\"') || '\"'"
    pair = f"cast(to_json(k) as varchar) || ':' || cast(json_extract(j, {path}) as varchar)"
    pairs = f"list_transform({keys}, lambda k: {pair})"
    apart = f"'{{' || array_to_string({pairs}, ',') || '}}'"
    merged = f"cast(json_merge_patch(j, {without}) as varchar)"
    return f"nullif(case when length(line) > {_DEEP} then {apart} else {merged} end, '{{}}')"


def _json_op(ops: bool, marker: str | None) -> str:
    told = f"case when {_deleted('d')} then 'delete' else 'upsert' end" if marker else "'upsert'"
    if ops:
        return f"coalesce(o, {told})"
    return told if marker else ""


def _path(name: str) -> str:
    return literal("$." + '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"')


def _json_text(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- what all have


def _extra(outside: Sequence[str]) -> str:
    """The columns outside the contract as a JSON object without its nulls; NULL when all of them are null."""
    if not outside:
        return "null::json"
    present = " or ".join(f"{quote(name)} is not null" for name in outside)
    pairs = ", ".join(f"{literal(name)}, {quote(name)}" for name in outside)
    return f"case when {present} then json_object({pairs}) end"


def _reject_tables() -> str:
    return f"rejects_table={literal(REJECTS)}, rejects_scan={literal(REJECT_SCANS)}"


def _list(items: Iterable[str]) -> str:
    return "[" + ", ".join(literal(item) for item in items) + "]"
