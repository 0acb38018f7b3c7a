"""`trunkline deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show
from trunkline.errors import TrunklineError

if TYPE_CHECKING:
    from trunkline.orchestration.deploying import Deployed

_WORDS = {"deployed": "is deployed", "already": "was deployed before", "would deploy": "would be deployed"}


@click.command(epilog="Examples: trunkline deploy delay · trunkline deploy --all · trunkline deploy delay --dry-run")
@click.argument("deployment", required=False)
@click.option("--all", "every", is_flag=True, help="Every deployment that names a model.")
@click.option("--back", is_flag=True, help="Deploy once more what the ledger knows as deployed, without a new verdict.")
@click.option("--dry-run", is_flag=True, help="Check everything; run and change nothing.")
@click.option(
    "--minutes", type=click.FloatRange(min=0.01), default=15, show_default=True, help="The longest a command may take."
)
@common
def command(
    deployment: str | None, every: bool, project: Path | None, target: str | None, as_json: bool, **how: Any
) -> None:
    """Roll out what a deployment's file names, if the gate passed this very bundle by these very rules.

    Runs the commands of `rollout:`, then moves the alias champion and writes it down. What is deployed already is left
    as it is. Exit code 3 means that there is no such verdict. In an emergency, `--back` goes back to a version that was
    deployed here before, whatever the gate would say of it today.
    """
    from trunkline.orchestration.deploying import deploy

    if deployment and every:
        raise click.UsageError("say a deployment or --all, not both")
    if how["back"] and every:
        raise click.UsageError("--back is for one deployment")
    show = Show(as_json=as_json)
    found, errors = [], []
    with session(project, target, show) as opened:
        every_name: list[str | None] = [d.name for d in opened.project.deployments if d.spec.model]
        names = every_name if every else [deployment]
        for name in names:
            try:
                with show.working():
                    found.append(deploy(opened, name, **how))
                _show(show, found[-1])
            except TrunklineError as exc:  # one that cannot be deployed does not hold up the others
                errors.append(exc)
                if len(names) > 1:
                    show.line(f"{name}: {exc.what}", fg="red")
    if not names:
        show.line("no deployment names a model yet")
    show.end({"deployed": [_record(one) for one in found]}, errors[0] if errors else None)


def _show(show: Show, one: Deployed) -> None:
    show.line(
        f"{one.deployment}: {one.reference} {_WORDS[one.done]} (bundle {one.sha256[:12]}, gated in {one.look_id})"
    )
    for command in one.commands if one.done == "would deploy" else ():
        show.line(f"  would run: {' '.join(command)}")


def _record(one: Deployed) -> dict[str, Any]:
    return {
        "deployment": one.deployment,
        "model": one.reference,
        "sha256": one.sha256,
        "look_id": one.look_id,
        "done": one.done,
        "commands": [list(command) for command in one.commands],
    }
