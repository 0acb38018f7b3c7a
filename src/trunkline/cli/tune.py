"""`trunkline tune`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trunkline.cli.completion import models
from trunkline.cli.options import common, placed, session
from trunkline.cli.show import Show
from trunkline.cli.studies import params_of, tell_front, tell_importance
from trunkline.training.records import StudyOpened

if TYPE_CHECKING:
    from trunkline.orchestration.tuning import Tuned
    from trunkline.training.records import TrialRecord

_EPILOG = (
    "Examples: trunkline tune delay --trials 40 --jobs 2 · trunkline tune delay --minutes 10 · "
    "trunkline tune delay --pick 17"
)


@click.command(epilog=_EPILOG)
@click.argument("model", shell_complete=models)
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Finished trials to reach.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Begin no trial after this long.")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Trials at once, a core each.")
@click.option(
    "--pruner",
    type=click.Choice(["median", "halving", "none"]),
    default="median",
    show_default=True,
    help="Which trials are stopped early: worse than the median, all but the best third again and again, or none.",
)
@click.option("--fresh", is_flag=True, help="Begin a new study without the best trials of the model's earlier ones.")
@click.option(
    "--pick", type=click.IntRange(0), metavar="TRIAL", help="Train with this trial, not the best by the metric."
)
@placed
@common
def command(model: str, project: Path | None, target: str | None, as_json: bool, **asked: Any) -> None:
    """Search MODEL's parameters with Optuna on the validation part, then train and register the best.

    The study is kept on disk: the same command after a kill, or with more trials, goes on where it was. Every trial
    is a run below its study in the registry, while the search goes on.
    """
    from trunkline.orchestration.tuning import Wanted, tune

    show = Show(as_json=as_json)
    minutes = asked.pop("minutes")
    wanted = Wanted(timeout=minutes * 60 if minutes else None, anew=asked.pop("fresh"), **asked)
    with session(project, target, show) as opened, show.working():
        told = _Told(show, wanted.trials)
        tuned = tune(
            opened,
            model,
            wanted,
            hear=told.hear,
            listen=lambda e: show.step(e.name, e.summary, e.seconds, ok=e.error is None, skipped=e.skipped),
        )
    _describe(show, tuned)
    for ended in tuned.trained:
        if ended.error:
            raise ended.error
    result, picked = tuned.result, tuned.picked
    show.result(
        {
            "model": model,
            "study": tuned.study,
            "best": {"number": picked.number, "value": picked.value, "params": dict(picked.params)},
            "objectives": list(result.objectives),
            "front": list(result.front),
            "importance": dict(result.importance),
            "trials": [
                {"number": t.number, "state": t.state, "value": t.value, "values": list(t.values)}
                for t in result.trials
            ],
            "trained": [dict(ended.output) for ended in tuned.trained],
        }
    )


def _describe(show: Show, tuned: Tuned) -> None:
    result, picked = tuned.result, tuned.picked
    states = [trial.state for trial in result.trials]
    found = f"{picked.value:.4f} in trial {picked.number}"
    which = "best" if picked.number == result.best_number else "picked"
    show.line(
        f"{which} of {len(states)} trials ({states.count('pruned')} pruned, {states.count('failed')} failed): {found}"
    )
    show.line(f"  {params_of(picked)}")
    if len(result.objectives) > 1:
        numbered = {trial.number: trial for trial in result.trials}
        tell_front(show, result.objectives, [numbered[number] for number in result.front])
    tell_importance(show, list(result.importance.items()))
    show.line(f"more: trunkline studies show {tuned.study}")
    if tuned.unsent:
        show.line(f"{tuned.unsent} runs are kept in .trunkline/outbox: the registry did not take them yet", fg="yellow")


class _Told:
    """Tells each trial, and how far the search is: the best so far, the rate, the time left."""

    def __init__(self, show: Show, trials: int) -> None:
        self._show, self._wanted = show, trials
        self._states: list[str] = []
        self._before = 0
        self._best: tuple[float, int] | None = None
        self._clock = time.monotonic()
        self._up = True

    def hear(self, told: StudyOpened | TrialRecord) -> None:
        """The study as it is found, then each trial that ends."""
        if isinstance(told, StudyOpened):
            self._open(told)
        else:
            self._trial(told)
        self._progress()

    def _open(self, study: StudyOpened) -> None:
        self._clock, self._before = time.monotonic(), len(study.trials)
        self._up = study.higher_is_better
        for trial in study.trials:
            self._count(trial)
        if study.trials:
            self._show.line(f"  going on after {len(study.trials)} trials")

    def _trial(self, trial: TrialRecord) -> None:
        better = self._count(trial)
        value = f"{trial.value:.4f}" if trial.value is not None else "-"
        what = f"{trial.state:<9} {value:<8} {trial.estimator or '':<9}"
        self._show.line(f"  trial {trial.number:<4} {what} {trial.seconds:5.1f} s{'  best so far' if better else ''}")
        if trial.error:
            self._show.line(f"    {trial.error}", fg="red")

    def _count(self, trial: TrialRecord) -> bool:
        self._states.append(trial.state)
        if trial.state != "complete" or trial.value is None:
            return False
        better = self._best is None or (trial.value > self._best[0] if self._up else trial.value < self._best[0])
        if better:
            self._best = trial.value, trial.number
        return better

    def _progress(self) -> None:
        done = len(self._states)
        parts = [f"best {self._best[0]:.4f} (trial {self._best[1]})"] if self._best else []
        others = [f"{self._states.count(s)} {s}" for s in ("pruned", "failed") if s in self._states]
        parts.append(f"{done} of {self._wanted} trials{''.join(f', {other}' for other in others)}")
        seconds, new = time.monotonic() - self._clock, done - self._before
        if new and seconds:
            left = max(self._wanted - done, 0) * seconds / new
            parts += [f"{60 * new / seconds:.3g} a minute", f"about {_span(left)} left"]
        self._show.progress(" · ".join(parts), min(done / self._wanted, 1.0))


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
