"""`trunkline compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.training.compare import Row

_BAR = 30


@click.command(epilog="Examples: trunkline compare delay · trunkline compare delay --vary family --json")
@click.argument("model")
@click.option("--vary", metavar="PARAM", help="A categorical parameter of the model: compare all its choices too.")
@common
def command(model: str, vary: str | None, project: Path | None, target: str | None, as_json: bool) -> None:
    """Add up MODEL's feature groups in the order they are declared and score each rung on the validation part.

    The sealed test part is not looked at.
    """
    from trunkline.orchestration.experiments import ladder, leaderboard

    show = Show(as_json=as_json)
    with session(project, target, show) as opened, show.working():
        rows = ladder(
            opened,
            model,
            vary=vary,
            on_row=lambda r: show.progress(f"{' + '.join(r.groups)} with {r.variation}: {r.value:.4f}"),
            listen=lambda e: show.step(e.name, e.summary, e.seconds, ok=e.error is None, skipped=e.skipped),
        )
    _table(show, rows)
    best = leaderboard(rows)[0]
    show.line(f"best on validation: {' + '.join(best.groups)} with {best.variation}, {best.metric} {best.value:.4f}")
    show.result({"model": model, "rows": [_row(row) for row in rows]})


def _table(show: Show, rows: Sequence[Row]) -> None:
    low, high = min(r.low for r in rows), max(r.high for r in rows)
    cells = []
    previous: tuple[str, ...] = ()
    for row in rows:
        added = "+ " + row.groups[-1] if len(row.groups) > 1 else row.groups[0]
        cells.append(
            [
                added if row.groups != previous else "",
                str(row.features),
                row.estimator,
                f"{row.value:.4f}",
                f"{row.low:.4f} to {row.high:.4f}",
                _bar(row, low, high),
                f"{row.seconds:.1f} s",
            ]
        )
        previous = row.groups
    head = ["feature groups", "features", "estimator", rows[0].metric, "95% interval", "", "time"]
    show.table(head, cells, right=(1, 3, 6))


def _bar(row: Row, low: float, high: float) -> str:
    """The interval as a line with its value marked, on a scale common to all rows."""
    span = (high - low) or 1.0
    first, mark, last = (round((x - low) / span * (_BAR - 1)) for x in (row.low, row.value, row.high))
    return "".join("●" if i == mark else "─" if first <= i <= last else " " for i in range(_BAR))


def _row(row: Row) -> dict[str, object]:
    return {
        "groups": list(row.groups),
        "features": row.features,
        "estimator": row.estimator,
        "variation": row.variation,
        "metric": row.metric,
        "value": row.value,
        "interval": [row.low, row.high],
        "seconds": round(row.seconds, 3),
    }
