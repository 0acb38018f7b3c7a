"""`trunkline diff`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.options import root_of
from trunkline.cli.show import Show
from trunkline.errors import TrunklineError

if TYPE_CHECKING:
    from trunkline.orchestration.diff import TableDiff
    from trunkline.orchestration.differing_rows import RowDifference

_EPILOG = "Examples: trunkline diff dev prod · trunkline diff dev prod -s +flight_features --json"


@click.command(epilog=_EPILOG)
@click.argument("left")
@click.argument("right")
@click.option("--select", "-s", multiple=True, metavar="SELECT", help="Only these, as in `trunkline plan`; repeatable.")
@click.option("--rows", type=click.IntRange(0), default=5, show_default=True, help="Differing rows to show of a table.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.option(
    "--project",
    "-p",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="The project folder; default: the nearest one upwards.",
)
def command(left: str, right: str, select: tuple[str, ...], rows: int, project: Path | None, as_json: bool) -> None:
    """Compare the tables of two targets, LEFT and RIGHT: schema, row counts, and a hash of every column.

    Tables are the raw tables of the sources and dbt's models, seeds and snapshots. The hashes do not depend on the
    order of rows and are worked out where the data is; only rows that differ are fetched. Floating-point values are
    equal within 1e-9 of each other; of JSON only NULL or not is compared; `_load_id` and `_loaded_at` are left out, and
    so are dbt's own times and ids in snapshots.

    Exit code 0 means all equal, 1 that something differs, 2 that it could not be told.
    """
    show = Show(as_json=as_json)
    try:
        found = _diff(show, (left, right), select, rows, project)
    except TrunklineError as exc:
        exc.exit_code = 2  # 1 says that tables differ
        raise
    _show(show, found, (left, right))
    if not all(table.same for table in found):
        sys.exit(1)


def _diff(
    show: Show, targets: tuple[str, str], select: Sequence[str], rows: int, project: Path | None
) -> list[TableDiff]:
    from trunkline.orchestration.diff import diff
    from trunkline.orchestration.session import open_session

    root, tell = root_of(project), show.progress
    with open_session(root, targets[0], tell) as left, open_session(root, targets[1], tell) as right, show.working():
        return diff(left, right, select, rows=rows, tell=tell)


def _show(show: Show, found: Sequence[TableDiff], targets: tuple[str, str]) -> None:
    head = ["table", f"rows {targets[0]}", f"rows {targets[1]}", "schema", "columns equal", "verdict"]
    show.table(head, [_row(table) for table in found], right=(1, 2))
    for table in found:
        _details(show, table, targets)
    notes = sorted({f"{name} ({table.name})" for table in found for name in table.presence})
    if notes:
        show.line(f"only NULL or not was compared: {', '.join(notes)}")
    left_out = sorted({name for table in found for name in table.left_out})
    if left_out:
        show.line(f"left out, they differ by their nature: {', '.join(left_out)}")
    different = sum(not table.same for table in found)
    text = f"{different} of {len(found)} tables differ" if different else f"all {len(found)} tables are equal"
    show.line(click.style(text, fg="red" if different else "green", bold=True))
    tables = [table.to_json() for table in found]
    show.result({"left": targets[0], "right": targets[1], "same": not different, "tables": tables})


def _row(table: TableDiff) -> list[str]:
    counts = ["-" if rows is None else f"{rows:,}" for rows in table.rows]
    if None in table.rows:
        return [table.name, *counts, "", "", table.verdict]
    schema = f"{len(table.schema)} differ" if table.schema else "equal"
    total = len(table.equal) + len(table.differ)
    return [table.name, *counts, schema, f"{len(table.equal)} of {total}", table.verdict]


def _details(show: Show, table: TableDiff, targets: tuple[str, str]) -> None:
    if table.same and not table.found.close:
        return
    show.line()
    show.line(table.name, bold=True)
    for rows, target in zip(table.rows, targets, strict=True):
        if rows is None:
            show.line(f"  not in {target}")
    for name, *types in table.schema:
        told = [f"{type_ or 'absent'} in {target}" for type_, target in zip(types, targets, strict=True)]
        show.line(f"  column {name}: {', '.join(told)}")
    if table.differ:
        show.line(f"  values differ in: {', '.join(table.differ)}")
    if table.found.close:
        show.line(f"  {table.found.close:,} rows differ in their last digits only")
    for row in table.found.rows:
        _difference(show, row, targets)
    if table.found.rows and not table.found.complete:
        show.line("  … and there may be more: --rows N shows the first N")


def _difference(show: Show, row: RowDifference, targets: tuple[str, str]) -> None:
    key = ", ".join(f"{name} {_text(value)}" for name, value in row.key[:4])
    if row.only:
        here = targets[0 if row.only == "left" else 1]
        values = [(name, left if row.only == "left" else right) for name, left, right in row.values]
        told = ", ".join(f"{name} {_text(value)}" for name, value in values if (name, value) not in row.key)
        show.line(f"  only in {here}: {key}" + (f" ({told[:160]})" if told else ""))
        return
    for name, *pair in row.values:
        told = ", ".join(f"{_text(value)} in {target}" for value, target in zip(pair, targets, strict=True))
        show.line(f"  {key}: {name} is {told}")


def _text(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
