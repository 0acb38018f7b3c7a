"""`trunkline ingest --infer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.cli.options import root_of
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.orchestration.infer import Proposal

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}


def infer(
    show: Show, given: Sequence[str], named: str | None, place: tuple[Path | None, str | None], *, dry_run: bool
) -> None:
    """Sample each table and write the columns that its YAML lacks; without a name, all tables that have none."""
    from trunkline.orchestration.infer import propose, write
    from trunkline.orchestration.session import open_session

    if named and len(given) != 1:
        raise click.UsageError("--as names the table that one path or URL becomes")
    if named and "://" not in given[0]:
        given = [str(Path.cwd() / given[0])]  # commands work in the project's folder
    done = []
    with open_session(root_of(place[0]), place[1], show.progress, complete=False) as opened:
        asked = given or [table.key for table in opened.project.sources if not table.columns]
        for name in asked:
            with show.working():
                proposal = propose(opened, name, named)
            _show(show, proposal)
            if not dry_run and proposal.after != proposal.before:
                write(proposal)
            done.append(proposal)
        if not done:
            show.line("every source table has columns: name one to compare it with a sample")
        for proposal in done:
            _close(show, proposal, opened.project.root, dry_run=dry_run)
    show.result({"dry_run": dry_run, "tables": [proposal.to_json() for proposal in done]})


def _show(show: Show, proposal: Proposal) -> None:
    sample = proposal.sample
    files = f" of {sample.files:,} file{'s' if sample.files != 1 else ''}" if sample.files else ""
    show.line(f"{proposal.table}: {sample.rows:,} rows{files} looked at", bold=True)
    for line in proposal.diff[2:]:
        colour = _COLOURS.get(line[:1])
        show.line(f"  {click.style(line, fg=colour) if colour else line}")
    for text in proposal.differences:
        show.line(f"  {click.style('differs', fg='yellow')}: {text}")


def _close(show: Show, proposal: Proposal, root: Path, *, dry_run: bool) -> None:
    place = proposal.file.relative_to(root) if proposal.file.is_relative_to(root) else proposal.file
    count = f"{len(proposal.added):,} column{'s' if len(proposal.added) != 1 else ''}"
    if proposal.after == proposal.before:
        show.line(f"{proposal.table}: nothing to add to {place}")
    elif dry_run:
        show.line(f"{proposal.table}: {count} for {place}; nothing was written")
    else:
        show.line(f"{proposal.table}: {count} written to {place}; then: trunkline ingest {proposal.table}")
