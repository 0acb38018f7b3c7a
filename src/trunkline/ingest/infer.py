"""A first contract from a sample: what a source's rows look like, before any is loaded.

Texts (CSV, JSON) are judged by the shape of their values; typed rows (Parquet, Arrow) bring their types along. What a
database's catalog says of a column counts as long as the rows agree.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from trunkline.errors import SourceError
from trunkline.ingest.portable import portable
from trunkline.ingest.protocol import Batch, Knowing, Known, Reach, Since, open_source
from trunkline.warehouse import infer_sql
from trunkline.warehouse.load import FileScan, QueryScan, Scan
from trunkline.warehouse.load_sql import literal, quote
from trunkline.warehouse.protocol import SourceReader
from trunkline.warehouse.scan import DELIMITERS, lines_of

ROWS = 100_000
_FILES = 64
_MEANT = ("date", "timestamp", "timestamptz", "json")  # what texts may be where the source has no such type


@dataclass(frozen=True)
class Guess:
    """A column as the sample has it. `filled`: no value of the sample was missing; `misfits` is how many values do not
    cast to the type that is declared already.

    The source itself says that it is `required`, and of the `primary` key.
    """

    name: str
    type: str
    filled: bool = False
    misfits: int = 0
    required: bool = False
    primary: bool = False


@dataclass(frozen=True)
class Sample:
    """What a sample tells of a table. `null_values` are texts that mean NULL in columns of another type than text;
    `partial` are columns that only some of the files have."""

    columns: tuple[Guess, ...]
    rows: int
    files: int = 0
    null_values: tuple[str, ...] = ()
    delimiter: str | None = None
    partial: tuple[str, ...] = ()


@dataclass
class _Look:
    """The sample of one scan: texts to be judged, or typed columns."""

    rows: str
    texts: list[str] = field(default_factory=list)
    typed: list[tuple[str, str]] = field(default_factory=list)
    fixed: dict[str, str] = field(default_factory=dict)
    partial: tuple[str, ...] = ()
    delimiter: str | None = None


def sample(reach: Reach, table: str, declared: Mapping[str, str]) -> Sample:
    """Look at the first rows of `table` (its `Table.source`): a bounded number of its files, or its first batch.

    `declared` are types that columns have already, by name in lower case. Raises `SourceError` for a source that has
    no rows to look at.
    """
    reader, known = reach.reader(), _known(reach)
    types = {column.name.lower(): column.type for column in known if column.type}
    with ExitStack() as stack:
        try:
            scans = _first(reach, table, stack)
        except _Registered as there:
            return Sample(tuple(Guess(name, portable(type_)) for name, type_ in there.columns), there.rows)
        for scan in scans:
            found = of_scan(reader, scan, types | dict(declared))
            if found.columns and (found.rows or not types):
                return _informed(found, known, declared)
    if types:  # an empty table is a table
        return Sample(tuple(_told(column, column.type or "varchar") for column in known), 0)
    raise SourceError(f"{table} has no rows to look at", hint="write its columns by hand, or wait for its first rows")


def of_scan(reader: SourceReader, scan: Scan, declared: Mapping[str, str] = MappingProxyType({})) -> Sample:
    """What the first rows of a scan look like; without columns if it has none."""
    files = len(scan.files) if isinstance(scan, FileScan) else 0
    with reader.reaching(scan):
        return _judge(reader, _look(scan, reader), declared, files)


def _known(reach: Reach) -> Sequence[Known]:
    source = open_source(replace(reach, sample=True))
    return source.known() if isinstance(source, Knowing) else ()


def _informed(found: Sample, known: Sequence[Known], declared: Mapping[str, str]) -> Sample:
    """The sample, with what the source says of its columns where the rows do not say otherwise."""
    named = {column.name.lower(): column for column in known}
    columns = []
    for guess in found.columns:
        column = named.get(guess.name.lower())
        if column is not None:
            more = column.type == "varchar" and guess.type in _MEANT
            rows_tell = not column.type or (column.loose and (more or guess.misfits))
            own = guess.misfits if guess.name.lower() in declared else 0
            type_ = guess.type if rows_tell else column.type
            guess = replace(_told(column, type_), filled=guess.filled, misfits=own)
        columns.append(guess)
    return replace(found, columns=tuple(columns))


def _told(column: Known, type_: str) -> Guess:
    return Guess(column.name, type_, required=column.required or column.key > 0, primary=column.key > 0)


def _first(reach: Reach, table: str, stack: ExitStack) -> list[Scan]:
    """The scans of the first batch that has rows of the table, readable until the stack is closed."""
    batches: Iterator[Batch] = iter(open_source(replace(reach, sample=True)).batches(Since(refresh=True)))
    stack.enter_context(closing(batches))  # type: ignore[type-var]  # generators, closed early
    for batch in batches:
        scans = [piece.scan for piece in batch.pieces if piece.table == table]
        if scans:
            return scans
        found = next((found for found in batch.registered if found.table == table), None)
        if found:
            relation = next(item.relation for item in reach.tables if item.source == table)
            columns = reach.warehouse.columns(relation)
            raise _Registered(columns, found.rows)
    return []


class _Registered(Exception):
    """The table is in the warehouse already: its types are there."""

    def __init__(self, columns: Sequence[tuple[str, str]], rows: int) -> None:
        self.columns = columns
        self.rows = rows


# -- a scan as texts or typed columns


def _look(scan: Scan, reader: SourceReader) -> _Look:
    if isinstance(scan, QueryScan):
        rows = f"(select * from ({scan.sql}) limit {ROWS})"
        return _json(rows, reader) if scan.shape == "json" else _typed(rows, reader)
    files = _some(scan.files)
    if scan.format == "csv":
        return _csv(scan, files, reader)
    if scan.format == "parquet":
        return _parquet(files, reader)
    return _json(_json_lines(scan, files), reader)


def _parquet(files: Sequence[str], reader: SourceReader) -> _Look:
    headers = [
        [name for name, _ in reader.describe(f"from read_parquet({literal(file)}, hive_partitioning=false)")]
        for file in files
    ]
    listed = ", ".join(literal(file) for file in files)
    rows = f"(from read_parquet([{listed}], union_by_name=true, hive_partitioning=false) limit {ROWS})"
    look, shared = _typed(rows, reader), {name.lower() for name in _shared(headers)}
    typed = [(name, type_) for name, type_ in look.typed if name.lower() in shared]
    texts = [name for name in look.texts if name.lower() in shared]
    return _Look(rows, texts=texts, typed=typed, partial=_rest(headers))


def _some(files: Sequence[str]) -> list[str]:
    """At most some dozen of the files, evenly spread: a change of layout shows between the first and the last."""
    if len(files) <= _FILES:
        return list(files)
    return [files[round(i * (len(files) - 1) / (_FILES - 1))] for i in range(_FILES)]


def _each(reads: Sequence[str]) -> str:
    """The first rows of what reads each file."""
    limit = max(ROWS // len(reads), 100)
    return f"({' union all by name '.join(f'(from {read} limit {limit})' for read in reads)})"


def _csv(scan: FileScan, files: Sequence[str], reader: SourceReader) -> _Look:
    lines = {file: line for file in files if (line := _header(file, reader))}
    if not lines:
        return _Look("")
    given = [scan.delimiter] if scan.delimiter else DELIMITERS
    first = next(iter(lines.values()))
    delimiter = max(given, key=lambda d: len(next(csv.reader([first], delimiter=d))))
    headers = [[cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))] for line in lines.values()]
    reads = [_read_csv(file, header, delimiter) for file, header in zip(lines, headers, strict=True)]
    return _Look(_each(reads), texts=_shared(headers), partial=_rest(headers), delimiter=delimiter)


def _header(file: str, reader: SourceReader) -> str:
    """The first line of a text file; empty if it has none."""
    found = reader.query(f"from {_lines(file)} limit 1")
    return str(found[0][0]).lstrip("\ufeff") if found and found[0][0] else ""


def _read_csv(file: str, header: Sequence[str], delimiter: str) -> str:
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in header)
    return (
        f"read_csv({literal(file)}, auto_detect=false, header=true, columns={{{columns}}}, delim={literal(delimiter)}, "
        "quote='\"', escape='\"', nullstr='', ignore_errors=true)"
    )


def _lines(file: str) -> str:
    return lines_of([file], rejects=False, parallel=False)


def _shared(headers: Sequence[Sequence[str]]) -> list[str]:
    """Columns that all files have: a file without a column of the contract would have all its rows set aside."""
    lower = [{name.lower() for name in header} for header in headers]
    return [name for name in headers[0] if all(name.lower() in names for names in lower)]


def _rest(headers: Sequence[Sequence[str]]) -> tuple[str, ...]:
    shared = {name.lower() for name in _shared(headers)}
    return tuple(dict.fromkeys(name for header in headers for name in header if name.lower() not in shared))


def _json_lines(scan: FileScan, files: Sequence[str]) -> str:
    if scan.format == "json":
        array = "(select to_json(t)::varchar as line from read_json({}, format='array', sample_size=-1) t)"
        return _each([array.format(literal(file)) for file in files])
    return _each([_lines(file) for file in files])


def _json(rows: str, reader: SourceReader) -> _Look:
    found = reader.query(infer_sql.json_keys(rows))
    keys = [str(row[0]) for row in found if not str(row[0]).startswith("$")]
    fixed = {str(key): "json" for key, nested, _, _ in found if nested}
    fixed |= {str(key): "double" for key, nested, fraction, _ in found if fraction and not nested}
    return _Look(infer_sql.json_texts(keys, rows), texts=keys, fixed=fixed)


def _typed(rows: str, reader: SourceReader) -> _Look:
    columns = reader.describe(f"from {rows}")
    if all(type_ == "VARCHAR" for _, type_ in columns):  # a source without types of its own, as SQLite
        return _Look(rows, texts=[name for name, _ in columns])
    return _Look(rows, typed=columns)


# -- what the sample says


def _judge(reader: SourceReader, look: _Look, declared: Mapping[str, str], files: int) -> Sample:
    if look.typed:
        columns, rows = _of_types(reader, look, declared)
        return Sample(columns, rows, files, partial=look.partial)
    guesses, nulls, rows = [], [], 0
    for name in look.texts:
        known = declared.get(name.lower())
        count, present, null, *fits, cast = reader.query(infer_sql.tally(name, look.rows, known))[0]
        rows, values = int(count), int(present) - int(null)
        kinds = [type_ for type_, n in zip(infer_sql.SHAPES, fits, strict=True) if values and int(n) == values]
        type_ = look.fixed.get(name) or (kinds[0] if kinds else "varchar")
        if null and type_ != "varchar":
            nulls.append(name)
        filled = int(present) == int(count) and not (null and type_ != "varchar")
        guesses.append(Guess(name, type_, filled, values - int(cast) if cast is not None else 0))
    texts = tuple(str(row[0]) for row in reader.query(infer_sql.null_texts(nulls, look.rows))) if nulls else ()
    return Sample(tuple(guesses), rows, files, texts, look.delimiter, look.partial)


def _of_types(reader: SourceReader, look: _Look, declared: Mapping[str, str]) -> tuple[tuple[Guess, ...], int]:
    counted = [f"count({quote(name)})" for name, _ in look.typed]
    for name, _ in look.typed:
        known = declared.get(name.lower())
        counted.append(f"count(try_cast({quote(name)} as {known}))" if known else "null")
    total, *counts = reader.query(f"select count(*), {', '.join(counted)} from {look.rows}")[0]
    width = len(look.typed)
    present, cast = counts[:width], counts[width:]
    guesses = [
        Guess(name, portable(type_), present[i] == total, int(present[i]) - int(cast[i]) if cast[i] is not None else 0)
        for i, (name, type_) in enumerate(look.typed)
    ]
    return tuple(guesses), int(total)
