"""`trunkline run`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.options import common, placed
from trunkline.cli.running import run_steps


@click.command(epilog="Examples: trunkline run · trunkline run +flight_features · trunkline run train:delay --force")
@click.argument("select", nargs=-1)
@click.option("--force", is_flag=True, help="Run the selected steps even if they are fresh.")
@placed
@common
def command(select: tuple[str, ...], force: bool, project: Path | None, target: str | None, as_json: bool) -> None:
    """Run what is stale, in order: ingest, build and test, datasets, training.

    SELECT as in `trunkline plan`. A killed run leaves no trace of the step it was in; the same command goes on.
    """
    run_steps(select, project=project, target=target, as_json=as_json, force=force)
