"""`trunkline ingest`: load what is new, load anew, or write a first contract."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.completion import source_tables
from trunkline.cli.options import common, session
from trunkline.cli.quarantine import examples, shortened
from trunkline.cli.running import close_run, show_step
from trunkline.cli.show import Show
from trunkline.errors import UserError

if TYPE_CHECKING:
    from trunkline.orchestration.loading import Loaded
    from trunkline.orchestration.session import Session

_EPILOG = (
    "Examples: trunkline ingest · trunkline ingest nyc.flights · trunkline ingest --infer shop.orders · "
    "trunkline ingest --infer 'data/*.csv' --as shop.orders"
)


@click.command("ingest", epilog=_EPILOG)
@click.argument("select", nargs=-1, shell_complete=source_tables)
@click.option("--full-refresh", is_flag=True, help="Make the selected tables anew from the beginning of their sources.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask before rows are dropped that the source may not have.")
@click.option("--force", is_flag=True, help="Run even what is fresh.")
@click.option("--infer", is_flag=True, help="Write the columns that SELECT lacks into its YAML, from a sample.")
@click.option("--as", "named", metavar="SOURCE.TABLE", help="With --infer: the table that the files of SELECT become.")
@click.option("--dry-run", is_flag=True, help="With --infer: show the change, write nothing.")
@common
def command(select: tuple[str, ...], project: Path | None, target: str | None, as_json: bool, **flags: Any) -> None:
    """Load new source data into the raw tables: only casts, an enforced schema and a quarantine.

    SELECT as in `trunkline plan`. With --full-refresh the selected tables are made anew, in one transaction, and read
    from the beginning; where the old rows may be gone from the source, that is asked first.

    With --infer the sources are sampled and columns that are not declared yet are written into the YAML: a first
    contract, to be read before it is committed.
    """
    show = Show(as_json=as_json)
    if flags["infer"]:
        from trunkline.cli.infer import infer

        infer(show, select, flags["named"], (project, target), dry_run=flags["dry_run"])
        return
    if flags["named"] or flags["dry_run"]:
        raise click.UsageError("--as and --dry-run go with --infer")
    with session(project, target, show) as opened:
        if flags["full_refresh"] and not flags["yes"]:
            _ask(show, opened, select)
        _load(show, opened, select, force=flags["force"], refresh=flags["full_refresh"])


def _load(show: Show, opened: Session, select: Sequence[str], *, force: bool, refresh: bool) -> None:
    from trunkline.orchestration.loading import loaded
    from trunkline.orchestration.planning import run_selected

    clock = time.perf_counter()
    with show.working():
        ended, plan = run_selected(
            opened,
            select,
            lambda end: show_step(show, end),
            kinds=("ingest",),
            force=force or refresh,
            refresh=refresh,
        )
    tables = loaded(opened, ended) if ended else []
    for table in tables:
        _table(show, table)
    close_run(show, ended, plan, time.perf_counter() - clock, more={"tables": [table.to_json() for table in tables]})


def _table(show: Show, table: Loaded) -> None:
    """What is worth a second line: several loads, rows set aside, columns that are wider now."""
    if table.loads > 1:
        show.line(f"{table.source}: {table.read:,} rows read in {table.loads:,} loads of one transaction each")
    if table.quarantined:
        rows = f"{table.quarantined:,} row{'s' if table.quarantined != 1 else ''}"
        show.line(f"{table.source}: {rows} quarantined", fg="yellow", bold=True)
        cells = [
            [group.column or "(whole row)", shortened(group.reason, 60), f"× {group.rows:,}", examples(group.values)]
            for group in table.reasons
        ]
        for cell, width in zip(cells, [[max(len(c[i]) for c in cells) for i in range(3)]] * len(cells), strict=True):
            place, reason, times = (text.ljust(w) for text, w in zip(cell, width, strict=False))
            show.line(f"    {place}: {reason}  {times}  {cell[3]}".rstrip())
        show.line(f"    {click.style('see', fg='cyan')}: trunkline quarantine show {table.source}")
    for name, type_, where in table.evolved:
        told = f"{name} is {type_} in the table now: write data_type: {type_} at {where}"
        show.line(f"{table.source}: {told}", fg="cyan")


def _ask(show: Show, opened: Session, select: Sequence[str]) -> None:
    """Ask before rows are dropped that may not come again. Raises `UserError` where nobody can answer."""
    from trunkline.orchestration.loading import at_risk

    risks = at_risk(opened, select)
    if not risks:
        return
    if show.as_json or not sys.stdin.isatty():
        names = ", ".join(risk.source for risk in risks)
        raise UserError(
            f"a full refresh drops rows that may not come again: {names} ({risks[0].why})",
            hint="say --yes if that is meant",
        )
    show.line("A full refresh drops rows that may not come again:", bold=True)
    for risk in risks:
        show.line(f"  {risk.source}: {risk.rows:,} rows; {risk.why}")
    if not click.confirm("Drop them and read from the beginning?"):
        show.line("nothing was changed")
        sys.exit(1)
