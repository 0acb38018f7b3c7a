"""`trunkline plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show


@click.command(epilog="Examples: trunkline plan · trunkline plan +train:delay · trunkline plan build --json")
@click.argument("select", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="List fresh steps too.")
@common
def command(select: tuple[str, ...], everything: bool, project: Path | None, target: str | None, as_json: bool) -> None:
    """Show which steps are stale and why. Runs nothing.

    SELECT is a name (`flights`, `build:stg_flights`, `stg_*`) or a kind (`ingest build test dataset train`), with `+`
    before it for all it depends on and `+` after it for all that depends on it.
    """
    from trunkline.orchestration.planning import plan_for

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        _, plan = plan_for(opened, select)
        for entry in plan.entries:
            if entry.selected and (entry.reason or everything):
                show.line(f"  {'run ' if entry.reason else 'keep'}  {entry.step.name:<34} {entry.reason or 'fresh'}")
        fresh = sum(entry.selected and not entry.reason for entry in plan.entries)
        show.line(
            f"{len(plan.stale)} to run, {fresh} fresh" if plan.stale else f"nothing to do: all {fresh} steps are fresh"
        )
        show.result({"steps": [_row(entry) for entry in plan.entries if entry.selected], "stale": len(plan.stale)})


def _row(entry: Any) -> dict[str, Any]:
    return {
        "step": entry.step.name,
        "kind": entry.step.kind,
        "needs": list(entry.step.needs),
        "fingerprint": entry.fingerprint.value,
        "reason": entry.reason,
    }
