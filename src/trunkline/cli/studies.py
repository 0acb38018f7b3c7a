"""`trunkline studies`."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.training.records import StudyRecord, TrialRecord

_SPARKS = "▁▂▃▄▅▆▇█"
_WIDEST, _SHOWN = 60, 10


@click.group(epilog="Examples: trunkline studies list · trunkline studies show delay --html study.html")
def command() -> None:
    """Searches and what they found: their trials, their best, the front, what mattered."""


@command.command("list", epilog="Example: trunkline studies list --json")
@common
def list_(project: Path | None, target: str | None, as_json: bool) -> None:
    """All studies of the project, oldest first."""
    from trunkline.orchestration.studying import studies

    show = Show(as_json=as_json)
    with session(project, target, show) as opened:
        found = studies(opened)
    rows = [(s.name, str(len(s.trials)), s.objectives[0], _best(s), _day(s.started)) for s in found]
    if rows:
        show.table(("study", "trials", "metric", "best", "begun"), rows, right=(1, 3))
    else:
        show.line("no studies yet: trunkline tune MODEL makes one")
    show.result({"studies": [_listed(study) for study in found]})


@command.command(
    "show", epilog="Examples: trunkline studies show delay · trunkline studies show delay --html study.html"
)
@click.argument("study")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write a page with plots."
)
@common
def show_(study: str, html: Path | None, project: Path | None, target: str | None, as_json: bool) -> None:
    """STUDY (or the newest one of a model): history, best trials, the front, importance of parameters."""
    from trunkline.orchestration.studying import find_study
    from trunkline.project.files import write_atomic
    from trunkline.training.search.databases import shown
    from trunkline.training.search.study_page import study_page

    show = Show(as_json=as_json)
    page = html.absolute() if html else None
    with session(project, target, show) as opened:
        found, storage = find_study(opened, study)
    _describe(show, found)
    if page is not None:
        write_atomic(page, study_page(found))
        show.line(f"page: {page}")
    if isinstance(storage, Path):
        show.line(f"in a browser: optuna-dashboard {storage}")
    else:
        show.line(f"in a browser: optuna-dashboard ADDRESS, with that of {shown(storage)}")
    trials = [{**asdict(trial), "front": trial.number in found.front} for trial in found.trials]
    show.result({**_listed(found), "importance": dict(found.importance), "front": list(found.front), "trials": trials})


def tell_importance(show: Show, shares: Sequence[tuple[str, float]]) -> None:
    """Bars of importance."""
    if not shares:
        return
    show.line("importance of parameters:")
    widest = max(len(name) for name, _ in shares[:_SHOWN])
    for name, share in shares[:_SHOWN]:
        show.line(f"  {name:<{widest}}  {share:>4.0%} {'█' * round(24 * share)}")


def tell_front(show: Show, objectives: Sequence[str], front: Sequence[TrialRecord]) -> None:
    """The trials that no other beats in all objectives, best by the metric first."""
    show.line(f"front ({len(front)} trials, none beaten in all of {', '.join(objectives)}):")
    rows = [(str(t.number), *(f"{value:.5g}" for value in t.values), t.estimator or "", params_of(t)) for t in front]
    head = ("trial", *objectives, "estimator", "parameters")
    show.table(head, rows[: 2 * _SHOWN], right=range(1 + len(objectives)))


def params_of(trial: TrialRecord) -> str:
    """Its parameters on one line."""
    pairs = trial.params.items()
    return ", ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in pairs)


def _describe(show: Show, study: StudyRecord) -> None:
    states = [trial.state for trial in study.trials]
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    show.line(f"{study.name}: {len(states)} trials ({counts or 'none'}), begun {_day(study.started)}", bold=True)
    if study.best is None:
        return
    show.line(f"best {study.objectives[0]}: {_best(study)} in trial {study.best.number}: {params_of(study.best)}")
    show.line(f"best so far, trial by trial: {_sparks(study)}")
    if len(study.objectives) > 1:
        numbered = {trial.number: trial for trial in study.trials}
        tell_front(show, study.objectives, [numbered[number] for number in study.front])
    else:
        sign = -1 if study.higher_is_better[0] else 1
        complete = sorted((t for t in study.trials if t.state == "complete"), key=lambda t: sign * (t.value or 0.0))
        rows = [
            (str(t.number), f"{t.value:.5g}", f"{t.seconds:.1f}", t.estimator or "", params_of(t)) for t in complete
        ]
        show.table(("trial", study.objectives[0], "s", "estimator", "parameters"), rows[:_SHOWN], right=(0, 1, 2))
    tell_importance(show, list(study.importance.items()))
    for trial in [trial for trial in study.trials if trial.error][-3:]:
        show.line(f"trial {trial.number} failed: {trial.error}", fg="red")


def _sparks(study: StudyRecord) -> str:
    """The best so far as a line of blocks."""
    up = study.higher_is_better[0]
    best: list[float] = []
    for trial in study.trials:
        if trial.state == "complete" and trial.value is not None:
            best.append((max if up else min)([*best[-1:], trial.value]))
    step = max(1, -(-len(best) // _WIDEST))
    shown = best[::step]
    low, high = min(shown), max(shown)
    blocks = [_SPARKS[round((value - low) / (high - low) * 7) if high > low else 3] for value in shown]
    return f"{''.join(blocks)}  {best[0]:.4g} to {best[-1]:.4g}"


def _listed(study: StudyRecord) -> dict[str, object]:
    best = None
    if study.best is not None:
        values = dict(zip(study.objectives, study.best.values, strict=True))
        best = {"number": study.best.number, **values, "params": dict(study.best.params)}
    begun = dt.datetime.fromtimestamp(study.started, dt.UTC).isoformat() if study.started is not None else None
    return {
        "study": study.name,
        "model": study.model,
        "objectives": list(study.objectives),
        "trials_finished": len(study.trials),
        "begun": begun,
        "best": best,
    }


def _best(study: StudyRecord) -> str:
    return f"{study.best.value:.5g}" if study.best is not None and study.best.value is not None else "-"


def _day(seconds: float | None) -> str:
    return f"{dt.datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}" if seconds is not None else "-"
