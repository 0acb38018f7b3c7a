"""`trunkline audit`."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.completion import source_tables
from trunkline.cli.options import Age, common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.orchestration.audit import Audit, Load, Origin

_EPILOG = (
    "Examples: trunkline audit nyc.flights · trunkline audit flights --load-of flight_id=17 · "
    "trunkline audit flights --row \"month = 2 and carrier = 'UA'\" · trunkline audit --orphans --older-than 7d"
)


@click.command(epilog=_EPILOG)
@click.argument("table", required=False, shell_complete=source_tables)
@click.option("--row", metavar="WHERE", help="Tell which loads the rows that a SQL condition selects came from.")
@click.option("--load-of", metavar="COLUMN=VALUE", help="The same for the rows with that value, also in quarantine.")
@click.option("--files", "with_files", is_flag=True, help="List the files of every load, with size and hash.")
@click.option("--orphans", is_flag=True, help="Instead: Parquet files in the lake that no table knows.")
@click.option("--delete", is_flag=True, help="With --orphans: delete them.")
@click.option("--older-than", type=Age(), default="7d", show_default=True, help="With --orphans: their age, at least.")
@common
def command(table: str | None, project: Path | None, target: str | None, as_json: bool, **asked: Any) -> None:
    """Show the loads of TABLE and check that their counts add up with the rows it holds.

    Each load: when, from what, rows read = loaded + quarantined, how many of those are still open, how many rows of the
    table carry its id now, and the commit of the checkout it ran from. Exit code 1 if something does not add up.

    --orphans looks for files that killed loads left in a DuckLake. A load that is running has such files, too: give
    --older-than more than the longest load takes.
    """
    show = Show(as_json=as_json)
    if asked["orphans"]:
        _orphans(show, (project, target), asked["older_than"], delete=asked["delete"])
        return
    if not table:
        raise click.UsageError("which TABLE?")
    from trunkline.orchestration import audit, quarantine

    with session(project, target, show) as opened, show.working():
        found = audit.audit(opened, quarantine.table_named(opened, table))
        origins: list[Origin] | None = None
        if asked["row"] or asked["load_of"]:
            origins = (
                audit.origins(opened, found, asked["row"])
                if asked["row"]
                else audit.origins_of(opened, found, asked["load_of"])
            )
    if origins is not None:
        _origins(show, found, origins)
        show.result({"table": found.table, "origins": [origin.to_json() for origin in origins]})
        return
    _show(show, found, with_files=asked["with_files"])
    show.result(found.to_json())
    if found.differences:
        sys.exit(1)


def _show(show: Show, found: Audit, *, with_files: bool) -> None:
    loads = f"{len(found.loads):,} load{'s' if len(found.loads) != 1 else ''}"
    rows = f"{found.rows:,} row{'s' if found.rows != 1 else ''}"
    show.line(f"{found.table}: {rows} in {found.relation}, {loads}", bold=True)
    head = ["load", "when (UTC)", "connector", "mode", "files", "read", "= loaded", "+ quarantined", "open"]
    head += ["in table", "cursor", "commit"]
    cells = [_cells(load) for load in found.loads]
    kept = [i for i in range(len(head)) if i not in (10, 11) or any(row[i] for row in cells)]
    right = [kept.index(i) for i in range(4, 10)]
    show.table([head[i] for i in kept], [[row[i] for i in kept] for row in cells], right=right)
    if any(not load.current for load in found.loads):
        show.line("  (…) the table was made anew since", dim=True)
    if with_files:
        _files(show, found.loads)
    if found.differences:
        for text in found.differences:
            show.line(f"{click.style('✗', fg='red')} {text}")
    else:
        show.line(f"{click.style('✓', fg='green')} the counts add up")


def _cells(load: Load) -> list[str]:
    name = f"…{load.load_id[-8:]}"
    return [
        name if load.current else f"({name})",
        _time(load.at),
        load.connector,
        load.mode,
        f"{len(load.files):,}" if load.files else "",
        f"{load.read:,}",
        f"{load.loaded:,}",
        f"{load.quarantined:,}",
        f"{load.open:,}",
        f"{load.in_table:,}",
        _cursor(load.cursor),
        (load.commit or "")[:10],
    ]


def _cursor(cursor: Any) -> str:
    if not isinstance(cursor, dict):
        return "" if cursor is None else str(cursor)[:40]
    text = ", ".join(f"{name} {value}" for name, value in cursor.items() if not isinstance(value, dict | list))
    return text if len(text) <= 40 else f"{text[:39]}…"


def _time(at: dt.datetime) -> str:
    return at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _files(show: Show, loads: Sequence[Load]) -> None:
    cells = [
        [f"…{load.load_id[-8:]}", file.path, f"{file.size:,}", file.digest[:16]]
        for load in loads
        for file in load.files
    ]
    if cells:
        show.table(["load", "file", "bytes", "hash (its first 16 digits)"], cells, right=(2,))
    else:
        show.line("  no load read files")


def _origins(show: Show, found: Audit, origins: Sequence[Origin]) -> None:
    if not origins:
        show.line(f"no row of {found.table} is like that, in the table or in the quarantine")
    for origin in origins:
        rows = f"{origin.rows:,} row{'s' if origin.rows != 1 else ''}"
        load = origin.load
        if load is None:
            show.line(f"{rows} without a load in the ledger: somebody else wrote them", fg="yellow")
            continue
        where = " in the quarantine" if origin.quarantined else ""
        show.line(f"{rows}{where}: load {load.load_id}", bold=True)
        show.line(f"  {_time(load.at)} UTC, {load.connector}, {load.mode}, run {load.run_id}")
        if load.commit:
            show.line(f"  commit {load.commit}")
        if origin.file:
            show.line(f"  {origin.file}" + (f", line {origin.line:,}" if origin.line is not None else ""))
        for file in [] if origin.file else load.files[:20]:
            show.line(f"  {file.path} ({file.size:,} bytes, {file.digest[:16]})")
        if len(load.files) > 20 and not origin.file:
            show.line(f"  … and {len(load.files) - 20:,} more files: --json lists them all")


def _orphans(show: Show, place: tuple[Path | None, str | None], older_than: dt.timedelta, *, delete: bool) -> None:
    from trunkline.orchestration.audit import orphans

    with session(*place, show) as opened:
        found = orphans(opened, older_than, delete=delete)
    total = sum(orphan.size or 0 for orphan in found)
    show.table(["file", "bytes"], [[o.path, "" if o.size is None else f"{o.size:,}"] for o in found], right=(1,))
    count = f"{len(found):,} file{'s' if len(found) != 1 else ''}"
    if not found:
        show.line("no such file: the lake holds nothing that no table knows")
    elif delete:
        show.line(f"{count} deleted, {total:,} bytes", bold=True)
    else:
        show.line(f"{count}, {total:,} bytes; trunkline audit --orphans --delete removes them", bold=True)
    show.result({"deleted": delete, "bytes": total, "files": [vars(orphan) for orphan in found]})
