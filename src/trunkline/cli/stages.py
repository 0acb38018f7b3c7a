"""`trunkline build`, `train`, `dataset build`: `run`, held to one stage."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.options import common, placed
from trunkline.cli.running import run_steps


def stage(name: str, kinds: tuple[str, ...], text: str, examples: str) -> click.Command:
    """The command that runs the stale steps of `kinds`."""

    @click.command(name, help=f"{text}\n\nSELECT as in `trunkline plan`.", epilog=f"Examples: {examples}")
    @click.argument("select", nargs=-1)
    @click.option("--force", is_flag=True, help="Run even what is fresh.")
    @common
    def command(select: tuple[str, ...], force: bool, project: Path | None, target: str | None, as_json: bool) -> None:
        run_steps(select, project=project, target=target, as_json=as_json, force=force, kinds=kinds)

    return placed(command) if "train" in kinds else command


build = stage(
    "build",
    ("build", "test"),
    "Build and test the dbt models that are stale, in one dbt invocation.",
    "trunkline build · trunkline build stg_flights+",
)
train = stage(
    "train",
    ("train",),
    "Train the models that are stale, with the best known parameters, and register their bundles.",
    "trunkline train · trunkline train delay --force · trunkline train --on ray",
)
