"""`trunkline compare`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.completion import models
from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.training.experiments.comparison import Comparison, Contrast, Family, Importance, Row

_BAR = 24
_IMPORTANCES = 12  # lines for people; --json and the page have all
_EPILOG = (
    "Examples: trunkline compare delay · trunkline compare delay --vary family --seeds 5 · "
    "trunkline compare delay --ablate --importance --html report.html"
)


@click.command(epilog=_EPILOG)
@click.argument("model", shell_complete=models)
@click.option("--vary", metavar="PARAM", multiple=True, help="A categorical parameter: compare all its choices too.")
@click.option("--seeds", type=click.IntRange(1, 100), default=1, show_default=True, help="Fits of each model.")
@click.option(
    "--ablate",
    type=click.Choice(["groups", "columns"]),
    is_flag=False,
    flag_value="groups",
    help="Leave out one group (or one column) of the full set, each in turn.",
)
@click.option("--importance", is_flag=True, help="Shuffle groups and columns: what the best model loses without them.")
@click.option("--repeats", type=click.IntRange(1, 100), default=5, show_default=True, help="Shuffles of each.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that fit.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Put the page there too.")
@common
def command(
    model: str, html: Path | None, project: Path | None, target: str | None, as_json: bool, **asked: Any
) -> None:
    """Add up MODEL's feature groups in the order they are declared and score each rung on the validation part.

    Every difference is tested on the same rows. The same command after a kill goes on where it was; fits whose data,
    code, parameters and seed are as before are not made again. The sealed test part is not looked at.
    """
    from trunkline.orchestration.comparing import Wanted, compare

    show = Show(as_json=as_json)
    repeats = asked.pop("repeats") * asked.pop("importance")
    wanted = Wanted(**asked, repeats=repeats)
    with session(project, target, show) as opened, show.working():
        compared = compare(
            opened,
            model,
            wanted,
            hear=_Told(show).hear,
            listen=lambda e: show.step(e.name, e.summary, e.seconds, ok=e.error is None, skipped=e.skipped),
        )
    found = compared.comparison
    page = _copied(compared.page, html)
    _shown(show, found)
    show.line(f"intervals, tests and how to read them: {page}")
    if compared.unsent:
        show.line("its runs are kept in .trunkline/outbox: the registry is away", fg="yellow")
    show.result({"model": model, **_json(found), "page": str(page)})


class _Told:
    """The progress line: how many fits are done, what the last one scored, and the time left."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._total, self._done, self._fitted, self._clock = 0, 0, 0, 0.0

    def hear(self, told: Mapping[str, Any]) -> None:
        """What the comparison tells."""
        if "total" in told:
            self._total, self._clock = told["total"], time.monotonic()
        elif "cell" in told:
            self._cell(told["cell"])
        elif "shuffled" in told:
            self._show.progress("shuffling columns", told["shuffled"])

    def _cell(self, cell: Mapping[str, Any]) -> None:
        self._done += 1
        self._fitted += not cell["known"]
        left = self._total - self._done
        each = (time.monotonic() - self._clock) / max(self._fitted, 1)
        rest = f"{left} fits left, about {left * each:.0f} s" if left else "testing the differences"
        self._show.progress(f"{cell['name']}: {cell['value']:.4f}; {rest}", self._done / self._total)


def _copied(page: Path, html: Path | None) -> Path:
    if html is None:
        return page
    from trunkline.project.files import write_atomic

    write_atomic(html, page.read_text("utf-8"))
    return html


def _shown(show: Show, found: Comparison) -> None:
    _ladder(show, found)
    best = found.rows[found.best]
    variations: list[Contrast] = [one for one in found.contrasts if one.family == "variation"]
    _differences(show, found, "variations on all groups, against the best", variations)
    left_out: list[Contrast] = [one for one in found.contrasts if one.family == "left out"]
    _differences(show, found, "all groups but one thing, against all", left_out)
    for by in ("group", "column"):
        _importances(show, found, [one for one in found.importances if one.by == by])
    seeds = f", mean of {len(found.seeds)} seeds" if len(found.seeds) > 1 else ""
    show.line(
        f"best on validation: {best.name} with {best.variation}, {found.metric} {best.value:.4f}{seeds}", bold=True
    )
    if found.known:
        show.line(f"{found.known} fits were known from before")


def _ladder(show: Show, found: Comparison) -> None:
    from trunkline.training.experiments.comparison import signed

    rows = found.ladder
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    several = len(found.seeds) > 1
    cells = []
    previous: tuple[str, ...] = ()
    for row in rows:
        added = "+ " + row.groups[-1] if len(row.groups) > 1 else row.groups[0]
        test = found.contrast("rung", found.rows.index(row))
        cells.append(
            [
                added if row.groups != previous else "",
                str(row.features),
                row.variation,
                f"{row.value:.4f}",
                *([f"±{row.spread:.4f}"] if several and row.spread is not None else []),
                f"{row.low:.4f} to {row.high:.4f}",
                _bar(row, low, high),
                signed(test.value) if test else "",
                _chance(test.adjusted) if test else "",
                f"{row.seconds:.1f} s",
            ]
        )
        previous = row.groups
    head = ["feature groups", "features", "estimator", found.metric, *(["seeds"] if several else [])]
    head += ["95% interval (rows)", "", "rung below", "p (Holm)", "time"]
    right = {name: head.index(name) for name in ("features", found.metric, "rung below", "p (Holm)", "time")}
    show.table(head, cells, right=tuple(right.values()))


def _differences(show: Show, found: Comparison, title: str, listed: Sequence[Contrast]) -> None:
    from trunkline.training.experiments.comparison import signed

    if not listed:
        return
    show.line()
    cells = [
        [
            f"without {row.left_out}" if row.left_out else row.variation,
            f"{row.value:.4f}",
            signed(one.value),
            f"{signed(one.low)} to {signed(one.high)}",
            _chance(one.adjusted),
            _verdict(found, one),
        ]
        for one in listed
        for row in [found.rows[one.row]]
    ]
    against = found.rows[listed[0].against]
    named = f" ({against.variation}, {against.value:.4f})"
    show.table([title + named, found.metric, "difference", "95% interval", "p (Holm)", ""], cells, right=(1, 2, 4))


def _verdict(found: Comparison, one: Contrast) -> str:
    if one.adjusted >= 0.05:
        return "cannot be told apart"
    return "better" if (one.value > 0) == found.higher_is_better else "worse"


def _importances(show: Show, found: Comparison, listed: Sequence[Importance]) -> None:
    from trunkline.training.experiments.comparison import signed

    if not listed:
        return
    show.line()
    cells = [
        [one.name, signed(one.value), f"{signed(one.low)} to {signed(one.high)}", _chance(one.adjusted)]
        for one in listed[:_IMPORTANCES]
    ]
    head = [f"{listed[0].by} shuffled", f"{found.metric} lost", "95% interval", "p (Holm)"]
    show.table(head, cells, right=(1, 3))
    if len(listed) > _IMPORTANCES:
        show.line(f"  and {len(listed) - _IMPORTANCES} more: on the page, and with --json")


def _chance(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _bar(row: Row, low: float, high: float) -> str:
    """The interval as a line with its value marked, on a scale common to all rows."""
    span = (high - low) or 1.0
    first, mark, last = (round((x - low) / span * (_BAR - 1)) for x in (row.low, row.value, row.high))
    return "".join("●" if i == mark else "─" if first <= i <= last else " " for i in range(_BAR))


def _json(found: Comparison) -> dict[str, Any]:
    best = found.rows[found.best]
    return {
        "metric": found.metric,
        "higher_is_better": found.higher_is_better,
        "seeds": list(found.seeds),
        "rows": [_row(found, place) for place, row in enumerate(found.rows) if not row.left_out],
        "ablations": [_row(found, place) for place, row in enumerate(found.rows) if row.left_out],
        "importances": [
            {
                "by": one.by,
                "name": one.name,
                "loss": one.value,
                "interval": [one.low, one.high],
                "p": one.p,
                "p_adjusted": one.adjusted,
            }
            for one in found.importances
        ],
        "best": {"groups": list(best.groups), "variation": best.variation, "value": best.value},
        "validation_rows": found.measured,
        "known_fits": found.known,
    }


def _row(found: Comparison, place: int) -> dict[str, object]:
    row = found.rows[place]
    families: tuple[Family, ...] = ("rung", "variation", "left out")
    tests = {family: found.contrast(family, place) for family in families}
    return {
        "groups": list(row.groups),
        **({"left_out": row.left_out} if row.left_out else {}),
        "features": row.features,
        "estimator": row.estimator,
        "variation": row.variation,
        "metric": row.metric,
        "value": row.value,
        "interval": [row.low, row.high],
        "by_seed": list(row.values),
        "tests": {family: _test(found, test) for family, test in tests.items() if test},
        "seconds": round(row.seconds, 3),
    }


def _test(found: Comparison, test: Contrast) -> dict[str, object]:
    against = found.rows[test.against]
    return {
        "against": {"groups": list(against.groups), "variation": against.variation},
        "difference": test.value,
        "interval": [test.low, test.high],
        "p": test.p,
        "p_adjusted": test.adjusted,
    }
