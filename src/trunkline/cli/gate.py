"""`trunkline gate`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.gate.evidence import Estimate
    from trunkline.orchestration.gating import Gated


@click.command(epilog="Examples: trunkline gate delay · trunkline gate delay --model models:/delay/7 --json")
@click.argument("deployment", required=False)
@click.option("--model", "reference", metavar="REF", help="The candidate; default: the file's reference or the newest.")
@common
def command(
    deployment: str | None, reference: str | None, project: Path | None, target: str | None, as_json: bool
) -> None:
    """Give a verdict on a candidate: metrics on the sealed test part, latency of the real server, parity.

    Each look at the sealed part is counted in the ledger. Exit code 0 means passed, 3 means refused.
    """
    from trunkline.orchestration.gating import gate

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        with show.working():
            gated = gate(opened, deployment, reference)
        _show(show, gated, opened.project.root)
    if not gated.result.passed:
        sys.exit(3)


def _metric(name: str, found: Estimate, withheld: bool) -> list[str]:
    from trunkline.gate.numbers import shown

    interval = f"{shown(found.low, found.value)} to {shown(found.high, found.value)}"
    return [name, shown(found.value), f"{interval}{'  the best shown so far' if withheld else ''}"]


def _show(show: Show, gated: Gated, root: Path) -> None:
    quality, looks = gated.result.report.evidence.quality, gated.result.report.looks
    assert looks is not None
    against = f"against {gated.champion}" if gated.champion else "with no other champion to beat"
    show.line(f"{gated.candidate} {against}, {looks} at this sealed part")
    rows = [_metric(m.name, m.candidate, m.name in looks.withheld) for m in quality.metrics]
    show.table(["sealed test part", f"n={quality.rows:,}", "95% interval"], rows, right=(1,))
    if looks.ladder:
        show.line("  few looks are left: a score is shown if it beats the best one by a standard error (docs/vault.md)")
    latency = gated.result.report.evidence.latency
    if latency:
        show.line(f"  one row: p50 {latency.p50_ms:.2f} ms, p99 {latency.p99_ms:.2f} ms from the real server")
    for rule in gated.result.verdict.rules:
        colour = {"pass": "green", "fail": "red"}.get(rule.status, "yellow")
        show.line(f"  {click.style(rule.status.ljust(9), fg=colour)} {rule.name}  {rule.why}")
    report = gated.result.markdown.relative_to(root)
    word = click.style("passed", fg="green") if gated.result.passed else click.style("refused", fg="red")
    show.line(f"{word}; report: {report}")
    show.result(
        {
            "passed": gated.result.passed,
            "candidate": gated.candidate,
            "champion": gated.champion,
            "look_id": gated.look_id,
            "looks": looks.number,
            "budget": looks.budget,
            "ladder": looks.ladder,
            "withheld": list(looks.withheld),
            "metrics": {m.name: [m.candidate.value, m.candidate.low, m.candidate.high] for m in quality.metrics},
            "latency": {"p50_ms": latency.p50_ms, "p99_ms": latency.p99_ms} if latency else None,
            "rules": [{"rule": r.name, "status": r.status, "why": r.why} for r in gated.result.verdict.rules],
            "report": str(report),
        }
    )
