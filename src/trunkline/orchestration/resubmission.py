"""Rows of the quarantine written to a file, mended there, and held to the contract once more."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trunkline.errors import UserError
from trunkline.ingest.protocol import Table
from trunkline.ingest.resubmit import LACKS, Held, Resubmitted
from trunkline.ingest.resubmit import resubmit as load_again
from trunkline.ingest.run import tables
from trunkline.ingest.steps import ingest_step
from trunkline.orchestration import quarantine
from trunkline.orchestration.local import checkout_turn
from trunkline.orchestration.quarantine import Filter, Row
from trunkline.orchestration.session import Session
from trunkline.project.sources import SourceUnit
from trunkline.warehouse.retry import again

ID, FILE, LINE, ERRORS = "_quarantine_id", "_file", "_line", "_errors"
_OWN = (ID, FILE, LINE, ERRORS)
_SUFFIXES = (".ndjson", ".csv", ".parquet")


# -- out


def export(session: Session, table: str, which: Filter, file: Path) -> int:
    """Write the open rows, one a line: id, file, line and errors, then the values as the source had them. Rows written.

    Raises `UserError` for a file of another kind, and for one that is there.
    """
    if file.suffix.lower() not in _SUFFIXES:
        raise UserError(f"{file.name}: the suffix is none of {', '.join(_SUFFIXES)}", hint="say --to mend.csv")
    if file.exists():
        raise UserError(f"{file} is there already", hint="remove it, or name another file")
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.part")
    source = session.project.source(table)
    names = [column.source or column.name for column in source.columns] if source else []

    def rows() -> Iterator[Row]:
        return (_spread(row, names) for row in quarantine.every(session, table, which))

    try:
        written = _WRITERS[file.suffix.lower()](part, rows)
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    return written


def _spread(row: Row, names: Sequence[str]) -> Row:
    """The row with the contract's columns first. Of a line that could not be taken apart they wait to be written."""
    given = {name.lower(): name for name in row.raw}
    if given and not set(given) & {name.lower() for name in names}:
        return replace(row, raw={**dict.fromkeys(names), **row.raw})
    first = [given[name.lower()] for name in names if name.lower() in given]
    return replace(row, raw={name: row.raw[name] for name in dict.fromkeys([*first, *row.raw])})


def _record(row: Row) -> dict[str, Any]:
    return {ID: row.quarantine_id, FILE: row.file, LINE: row.line, ERRORS: list(row.errors), **row.raw}


def _ndjson(file: Path, rows: Any) -> int:
    written = 0
    with file.open("w", encoding="utf-8") as out:
        for row in rows():
            out.write(json.dumps(_record(row), ensure_ascii=False) + "\n")
            written += 1
    return written


def _texts(rows: Iterable[Row]) -> Iterator[dict[str, str | None]]:
    """Values as texts: what is no text in JSON is written as JSON."""
    for row in rows:
        told = {**_record(row), ERRORS: "; ".join(_told(error) for error in row.errors)}
        yield {k: v if v is None or isinstance(v, str) else json.dumps(v, default=str) for k, v in told.items()}


def _told(error: Mapping[str, Any]) -> str:
    place = f"{error['column']}: " if error.get("column") else ""
    return f"{place}{error.get('reason')}"


def _columns(rows: Any) -> list[str]:
    names = dict.fromkeys(_OWN)
    for row in rows():
        names.update(dict.fromkeys(row.raw))
    return list(names)


def _csv(file: Path, rows: Any) -> int:
    columns, written = _columns(rows), 0
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        for record in _texts(rows()):
            writer.writerow(record)
            written += 1
    return written


def _parquet(file: Path, rows: Any) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from trunkline.ingest.newer import pages

    schema = pa.schema([(name, pa.string()) for name in _columns(rows)])
    written = 0
    with pq.ParquetWriter(file, schema) as writer:
        for page in pages(_texts(rows()), 10_000):
            writer.write_table(pa.Table.from_pylist(page, schema))
            written += len(page)
    return written


_WRITERS = {".ndjson": _ndjson, ".csv": _csv, ".parquet": _parquet}


# -- in again


def resubmit(session: Session, table: str, which: Filter, mended: Path | None = None) -> Resubmitted:
    """Hold open rows to the contract as it is now; with `mended` those of an exported file, with its values.

    What depends on the table is stale afterwards. Rows of the file that are resolved already are passed over.
    """
    with checkout_turn(session):
        done = again(lambda: _resubmit(session, table, which, mended), session.context.progress)
    return done


def _resubmit(session: Session, table: str, which: Filter, mended: Path | None) -> Resubmitted:
    context = session.context
    started = context.now()
    into = _table(session, table)
    changed = read_mended(mended) if mended else None
    rows = quarantine.every(session, table, which)
    outcome = load_again(context, into, _held(rows, changed))
    if outcome.load_id:
        context.ledger.finish_run(context.run_id, context.target, context.git_commit(), "done", started)
    return outcome


def _table(session: Session, name: str) -> Table:
    source = quarantine.source_table(session, name)
    return tables(ingest_step(SourceUnit(source.key, (source,))).config)[0]


def _held(rows: Iterable[Row], changed: Mapping[str, Mapping[str, Any]] | None) -> Iterator[Held]:
    for row in rows:
        if changed is not None and row.quarantine_id not in changed:
            continue
        raw = row.raw
        if changed is not None:
            raw = dict(changed[row.quarantine_id])
            if set(row.raw) == {"line"} and any(value is not None for name, value in raw.items() if name != "line"):
                raw.pop("line", None)  # its columns are told now
        missing = [e["column"] for e in row.errors if e.get("column") and LACKS in str(e.get("reason"))]
        lacking = tuple(name for name in missing if raw.get(name) is None)
        yield Held(row.quarantine_id, row.load_id, row.file, row.line, raw, lacking)


def read_mended(file: Path) -> dict[str, dict[str, Any]]:
    """The rows of an exported file by id, with the columns that are the source's.

    Raises `UserError` for a file that is not like one, with the line where that can be told.
    """
    readers = {".ndjson": _read_ndjson, ".csv": _read_csv, ".parquet": _read_parquet}
    if file.suffix.lower() not in readers:
        raise UserError(f"{file.name}: the suffix is none of {', '.join(_SUFFIXES)}")
    if not file.is_file():
        raise UserError(f"no file {file}", hint="write one with `trunkline quarantine export TABLE --to FILE`")
    found: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(readers[file.suffix.lower()](file), start=1):
        id_ = row.get(ID)
        if not id_ or not isinstance(id_, str):
            raise UserError(f"{file}: row {number} has no {ID}", hint="keep that column as it was exported")
        if id_ in found:
            raise UserError(f"{file}: {ID} {id_} is there twice", hint="keep one row of each")
        found[id_] = {name: value for name, value in row.items() if name not in _OWN}
    return found


def _read_ndjson(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as exc:
                raise UserError(f"not JSON: {exc}", file=file, line=number) from exc
            if not isinstance(row, dict):
                raise UserError("not a JSON object", file=file, line=number)
            yield row


def _read_csv(file: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(64 << 20)
    with file.open(encoding="utf-8-sig", newline="") as lines:  # spreadsheets write a mark at the beginning
        reader = csv.DictReader(lines, restkey="")
        for row in reader:
            if row.pop("", None):
                raise UserError("a row with more cells than the header", file=file, line=reader.line_num)
            yield {name: value or None for name, value in row.items()}


def _read_parquet(file: Path) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        for batch in opened.iter_batches(10_000):
            yield from batch.to_pylist()
