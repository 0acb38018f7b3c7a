"""`trunkline gate`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show

_EPILOG = (
    "Examples: trunkline gate delay · trunkline gate delay --model models:/delay/7 --json · "
    "trunkline gate delay --history"
)


@click.command(epilog=_EPILOG)
@click.argument("deployment", required=False)
@click.option("--model", "reference", metavar="REF", help="The candidate; default: the file's reference or the newest.")
@click.option(
    "--history", "only_history", is_flag=True, help="Judge nothing: list the verdicts so far. This is no look."
)
@common
def command(
    deployment: str | None,
    reference: str | None,
    only_history: bool,
    project: Path | None,
    target: str | None,
    as_json: bool,
) -> None:
    """Give a verdict on a candidate: metrics on the sealed test part, speed of the real server, parity, leakage.

    Each look at the sealed part is counted in the ledger. Exit code 0 means passed, 3 means refused. The report is
    written as report.html, report.md and gate.json; in a job of GitHub Actions it becomes the job's summary.
    """
    from trunkline.cli import gate_shown

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        spec = opened.project.deployment(deployment)
        if only_history:
            from trunkline.orchestration.verdicts import past

            rows = past(opened, spec.name)
            gate_shown.history(show, spec.name, rows)
            show.result({"deployment": spec.name, "verdicts": [row.to_json() for row in rows]})
            return
        from trunkline.orchestration.gating import gate

        with show.working():
            gated = gate(opened, spec.name, reference)
        root = opened.project.root
        gate_shown.shown(show, gated, root)
        gate_shown.told_to_job(show, gated, spec, root, os.environ)
        show.result(gate_shown.to_json(gated, root))
    if not gated.result.passed:
        sys.exit(3)
