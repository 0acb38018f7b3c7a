"""`trunkline quarantine`: list, show, export, resubmit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trunkline.cli.completion import source_tables
from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.orchestration.quarantine import Filter, Group, Row

F = TypeVar("F", bound=Callable[..., Any])
_EPILOG = "Examples: trunkline quarantine · trunkline quarantine show nyc.flights --reason 'does not cast'"


@click.group(invoke_without_command=True, epilog=_EPILOG)
@click.pass_context
@common
def command(context: click.Context, project: Path | None, target: str | None, as_json: bool) -> None:
    """Rows that did not fit the contract of their table: list, show, export, resubmit. Alone it lists."""
    if context.invoked_subcommand is None:
        _list(project, target, as_json=as_json)
        return
    given = {"project": project, "target": target, "as_json": as_json}
    context.default_map = {context.invoked_subcommand: {name: value for name, value in given.items() if value}}


@command.command(
    "list",
    short_help="Which tables have open rows, and why.",
    epilog="Examples: trunkline quarantine list · trunkline quarantine list --json",
)
@common
def list_command(project: Path | None, target: str | None, as_json: bool) -> None:
    """Show which tables have open rows, by column and reason."""
    _list(project, target, as_json=as_json)


def _filtered(function: F) -> F:
    options = (
        click.argument("table", shell_complete=source_tables),
        click.option("--reason", metavar="TEXT", help="Only rows with this text in a reason."),
        click.option("--column", metavar="NAME", help="Only rows in which this column does not fit."),
        click.option("--load", metavar="ID", help="Only rows of this load; the end of its id will do."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@command.command(
    "show", epilog="Examples: trunkline quarantine show flights · trunkline quarantine show flights -n 100"
)
@_filtered
@click.option("--limit", "-n", default=20, show_default=True, type=click.IntRange(1, 10_000), help="Rows a page.")
@click.option("--page", default=1, show_default=True, type=click.IntRange(1), help="Which page.")
@common
def show_command(
    table: str, limit: int, page: int, project: Path | None, target: str | None, as_json: bool, **asked: Any
) -> None:
    """Show TABLE's open rows: where each came from, which value of which column did not fit, and why."""
    from trunkline.orchestration import quarantine
    from trunkline.orchestration.explaining import advice

    show, which = Show(as_json=as_json), _filter(asked)
    with session(project, target, show) as opened:
        name = quarantine.table_named(opened, table)
        total = quarantine.count(opened, name, which)
        groups = quarantine.groups(opened, name, which)
        found = quarantine.rows(opened, name, which, limit=limit, offset=(page - 1) * limit)
        for group in groups:
            _group(show, group, advice(opened, group))
        _rows(show, found)
        _page(show, name, (page, limit, total))
        if total:
            show.line(f"mend them: trunkline quarantine export {name} --to {name}.csv", dim=True)
        record = {"table": name, "open": total, "page": page, "limit": limit}
        show.result({**record, "reasons": [g.to_json() for g in groups], "rows": [r.to_json() for r in found]})


@command.command(
    "export",
    short_help="Write open rows to a file to be mended.",
    epilog="Examples: trunkline quarantine export flights --to mend.csv",
)
@_filtered
@click.option(
    "--to",
    "file",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A .ndjson, .csv or .parquet file that is not there yet.",
)
@common
def export_command(
    table: str, file: Path, project: Path | None, target: str | None, as_json: bool, **asked: Any
) -> None:
    """Write TABLE's open rows to a file, one a line, with id, place, errors, and the values as the source had them."""
    from trunkline.orchestration import quarantine, resubmission

    show, place = Show(as_json=as_json), file.absolute()
    with session(project, target, show) as opened, show.working():
        name = quarantine.table_named(opened, table)
        written = resubmission.export(opened, name, _filter(asked), place)
    show.line(f"{_counted(written)} of {name} in {file}")
    show.line(f"when they are mended: trunkline quarantine resubmit {name} --from {file}", dim=True)
    show.result({"table": name, "file": str(place), "rows": written})


@command.command(
    "resubmit",
    short_help="Hold rows to the contract again and load those that fit.",
    epilog="Examples: trunkline quarantine resubmit flights --from mend.csv",
)
@_filtered
@click.option("--id", "ids", multiple=True, metavar="ID", help="Only the row with this id; repeatable.")
@click.option(
    "--from",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Mended rows of an exported file, matched by _quarantine_id.",
)
@common
def resubmit_command(
    table: str, file: Path | None, project: Path | None, target: str | None, as_json: bool, **asked: Any
) -> None:
    """Hold TABLE's open rows to its contract as it is now, and load those that fit, in one transaction.

    For rows whose contract was mended, or, with --from, rows that were mended in an exported file. Rows that fail again
    stay in the quarantine with their new reasons. If none fits, nothing is changed.
    """
    from trunkline.orchestration import quarantine, resubmission

    show, place = Show(as_json=as_json), file.absolute() if file else None
    with session(project, target, show) as opened:
        name = quarantine.table_named(opened, table)
        with show.working():
            done = resubmission.resubmit(opened, name, _filter(asked), place)
        left = quarantine.count(opened, name, quarantine.Filter())
    if not done.read:
        show.line(f"nothing to resubmit: no open row of {name} is selected")
    elif not done.load_id:
        show.line(f"none of {_counted(done.read)} of {name} fits yet: nothing was changed", fg="yellow")
    else:
        show.line(f"{_counted(done.read)} = {done.loaded:,} loaded + {done.quarantined:,} quarantined again", bold=True)
    if done.older:
        show.line(f"  {done.older:,} of the loaded are older than what {name} holds of their key: they changed nothing")
    if done.unreadable:
        show.line(f"  {_counted(done.unreadable)} cannot be told apart into columns: export them and write the columns")
    if left:
        show.line(f"{left:,} still open: trunkline quarantine show {name}", dim=True)
    show.result({"table": name, **vars(done), "open": left})


# -- what people see


def _list(project: Path | None, target: str | None, *, as_json: bool) -> None:
    from trunkline.orchestration import quarantine

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        tallies, groups = quarantine.tallies(opened), quarantine.groups(opened)
    still = [tally for tally in tallies if tally.open]
    for tally in still:
        loads = f"{tally.loads:,} load{'s' if tally.loads != 1 else ''}"
        show.line(f"{tally.table}: {_counted(tally.open)} open, of {loads}", bold=True)
        mine = [group for group in groups if group.table == tally.table]
        show.table(["column", "reason", "rows", "for example"], [_cells(group) for group in mine], right=(2,))
    if still:
        show.line(f"look closer: trunkline quarantine show {still[0].table}", dim=True)
    else:
        show.line("the quarantine is empty" + (": every row in it was resolved" if tallies else ""))
    tables = [{**vars(tally), "reasons": [g.to_json() for g in groups if g.table == tally.table]} for tally in tallies]
    show.result({"open": sum(tally.open for tally in tallies), "tables": tables})


def _filter(asked: dict[str, Any]) -> Filter:
    from trunkline.orchestration.quarantine import Filter

    return Filter(asked["load"], asked["reason"], asked["column"], tuple(asked.get("ids") or ()))


def _cells(group: Group) -> list[str]:
    return [group.column or "(whole row)", shortened(group.reason, 60), f"{group.rows:,}", examples(group.values)]


def examples(values: Sequence[str | None]) -> str:
    """Some values of a column, as people read them; nothing where there are none."""
    if not any(values):
        return ""
    return ", ".join("NULL" if value is None else repr(shortened(value, 24)) for value in values)


def shortened(text: str, width: int) -> str:
    """`text` in one line, cut where it is too long."""
    line = " ".join(text.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _group(show: Show, group: Group, told: Sequence[str]) -> None:
    place = click.style(group.column or "the whole row", bold=True)
    like = f", for example {told_values}" if group.column and (told_values := examples(group.values)) else ""
    show.line(f"{place} {shortened(group.reason, 100)}: {_counted(group.rows)}{like}")
    for text in told:
        show.line(f"    {click.style('→', fg='cyan')} {text}")


def _rows(show: Show, found: Sequence[Row]) -> None:
    cells = []
    for row in found:
        for number, error in enumerate(row.errors):
            value = error.get("value")
            shown = examples([value]) or ("NULL" if value is None and error.get("column") else "")
            place = _short(row.file) or f"load …{row.load_id[-8:]}"
            cells.append(
                [
                    *((_tail(place, 44), "" if row.line is None else f"{row.line:,}") if number == 0 else ("", "")),
                    error.get("column") or "(whole row)",
                    shown,
                    shortened(str(error.get("reason")), 60),
                ]
            )
    if cells:
        show.line()
        show.table(["file", "line", "column", "value", "reason"], cells, right=(1,))


def _short(file: str | None) -> str:
    """A file's path as the project has it: commands work in its folder."""
    if file is None or "://" in file:
        return file or ""
    return str(Path(file).relative_to(Path.cwd())) if Path(file).is_relative_to(Path.cwd()) else file


def _tail(text: str, width: int) -> str:
    return text if len(text) <= width else f"…{text[-width + 1 :]}"


def _page(show: Show, name: str, place: tuple[int, int, int]) -> None:
    page, limit, total = place
    first, last = (page - 1) * limit + 1, min(page * limit, total)
    if not total:
        show.line(f"no open row of {name} is selected")
    elif first > total:
        show.line(f"there are {-(-total // limit):,} pages")
    else:
        show.line(f"rows {first:,} to {last:,} of {total:,}" + (f"; --page {page + 1} goes on" if last < total else ""))


def _counted(rows: int) -> str:
    return f"{rows:,} row{'s' if rows != 1 else ''}"
