"""`trunkline summary`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show


@click.command(epilog="Examples: trunkline summary · trunkline summary --json")
@common
def command(project: Path | None, target: str | None, as_json: bool) -> None:
    """Show what the ledger knows of the whole line, from rows read to predictions answered."""
    from trunkline.orchestration.summary import summarise

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        found = summarise(opened)
    if not found.sources:
        show.line("nothing was loaded yet: trunkline run")
    else:
        counts = [[s.source, f"{s.read:,}", f"{s.loaded:,}", f"{s.quarantined:,}"] for s in found.sources]
        show.table(["source", "rows read", "= loaded", "+ quarantined"], counts, right=(1, 2, 3))
        show.line(f"dbt: {found.nodes} nodes built, {found.tests} tests passed")
    for dataset in found.datasets:
        parts = ", ".join(f"{name} {rows:,}" for name, rows in dataset["rows"].items())
        show.line(f"dataset {dataset['name']}: {parts} (sealed)")
    _leaderboard(show, found.leaderboard)
    _versions(show, found.versions)
    for one in found.waiting:
        show.line(f"{one['model']}: trained, no version yet: it waits for the registry (trunkline doctor)", fg="yellow")
    for verdict in found.verdicts:
        _verdict(show, verdict)
    if found.predictions:
        show.line(f"{found.predictions:,} predictions in the ledger")
    show.result(found.to_json())


def _leaderboard(show: Show, rows: tuple[Mapping[str, Any], ...]) -> None:
    if not rows:
        return
    cells = [
        [" + ".join(r["groups"]), r["estimator"], f"{r['value']:.4f}", f"{r['low']:.4f} to {r['high']:.4f}"]
        for r in rows
    ]
    show.table(["leaderboard", "estimator", rows[0]["metric"], "95% interval, validation"], cells, right=(2,))


def _versions(show: Show, versions: tuple[Mapping[str, Any], ...]) -> None:
    for version in versions:
        metrics = version["metrics"]
        name = _first(metrics)
        value = f"{name} {_shown(metrics[name])} on validation" if name else ""
        show.line(f"{version['reference']}: {value}")


def _verdict(show: Show, verdict: Mapping[str, Any]) -> None:
    metrics = verdict["metrics"]
    word = "passed" if verdict["passed"] else "refused"
    name = _first({name: value for name, value in metrics.items() if isinstance(value, list)})
    served = f"; one row p50 {metrics['p50_ms']:.2f} ms, p99 {metrics['p99_ms']:.2f} ms" if "p50_ms" in metrics else ""
    value, low, high = metrics[name]
    found = f"{name} {_shown(value)} ({_shown(low, value)} to {_shown(high, value)}) on the sealed test part"
    looks = metrics.get("looks")
    look = f", look {looks['number']} of {looks['budget']}" if looks else ""
    withheld = " (the best shown so far: its own is withheld)" if looks and name in looks["withheld"] else ""
    show.line(
        f"gate of {verdict['deployment']}: {verdict['candidate']} {word}, {found}{withheld}{look}{served}", bold=True
    )


def _first(metrics: Mapping[str, Any]) -> str:
    """The metric that stands for all: ROC AUC, else the first; a warehouse may keep them in another order."""
    return "roc_auc" if "roc_auc" in metrics else next(iter(metrics), "")


def _shown(value: float, scale: float | None = None) -> str:
    from trunkline.gate.numbers import shown

    return shown(value, scale)
