"""`trunkline promote`."""

from __future__ import annotations

from pathlib import Path

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show


@click.command(epilog="Examples: trunkline promote delay · trunkline promote delay --model models:/delay/7")
@click.argument("deployment", required=False)
@click.option("--model", "reference", metavar="REF", help="The gated version; default: the one gated last.")
@click.option(
    "--no-alias", is_flag=True, help="Leave the alias champion: `trunkline deploy` moves it once the change is merged."
)
@common
def command(
    deployment: str | None,
    reference: str | None,
    no_alias: bool,
    project: Path | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Write a model's reference into its deployment file, if the gate's verdict on that very bundle is yes."""
    from trunkline.orchestration.promotion import promote

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        promoted = promote(opened, deployment, reference, move_alias=not no_alias)
        was = promoted.before or "nothing"
        show.line(f"{promoted.file.relative_to(opened.project.root)}: model: {was} → {promoted.reference}")
        after = "`trunkline deploy` rolls it out" if no_alias else "`trunkline serve` answers with it here"
        show.line(f"commit the file: its pull request is the deployment; {after}")
        show.result({"deployment": promoted.deployment, "model": promoted.reference, "before": promoted.before})
