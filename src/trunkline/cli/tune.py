"""`trunkline tune`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trunkline.cli.options import common, session
from trunkline.cli.show import Show

if TYPE_CHECKING:
    from trunkline.training.optuna import TrialRecord


@click.command(epilog="Examples: trunkline tune delay --trials 40 · trunkline tune delay --minutes 10")
@click.argument("model")
@click.option("--trials", type=click.IntRange(1), default=20, show_default=True, help="Finished trials to reach.")
@click.option("--minutes", type=float, help="Begin no trial after this long.")
@common
def command(
    model: str, trials: int, minutes: float | None, project: Path | None, target: str | None, as_json: bool
) -> None:
    """Search MODEL's parameters with Optuna on the validation part, then train and register the best.

    The study is kept on disk: the same command after a kill, or with more trials, goes on where it was.
    """
    from trunkline.orchestration.experiments import tune

    show = Show(as_json=as_json)
    with session(project, target, show) as opened, show.working():
        told = _Told(show, trials)
        tuned = tune(
            opened,
            model,
            trials=trials,
            timeout=minutes * 60 if minutes else None,
            on_trial=told.trial,
            listen=lambda e: show.step(e.name, e.summary, e.seconds, ok=e.error is None, skipped=e.skipped),
        )
    result = tuned.result
    pruned = sum(trial.state == "pruned" for trial in result.trials)
    found = f"{result.best_value:.4f} in trial {result.best_number}"
    show.line(f"best of {len(result.trials)} trials ({pruned} pruned): {found}")
    for name, value in result.best_params.items():
        show.line(f"  {name}: {value:.5g}" if isinstance(value, float) else f"  {name}: {value}")
    for ended in tuned.trained:
        if ended.error:
            raise ended.error
    show.result(
        {
            "model": model,
            "best": {"value": result.best_value, "params": dict(result.best_params)},
            "trials": [{"number": t.number, "state": t.state, "value": t.value} for t in result.trials],
            "trained": [dict(ended.output) for ended in tuned.trained],
        }
    )


class _Told:
    """Tells each trial with the best so far and the time left."""

    def __init__(self, show: Show, trials: int) -> None:
        self._show, self._trials = show, trials
        self._seen, self._clock = 0, time.monotonic()

    def trial(self, trial: TrialRecord) -> None:
        """One finished trial."""
        self._seen += 1
        value = f"{trial.value:.4f}" if trial.value is not None else "-"
        what = f"{trial.state:<9} {value:<8} {trial.estimator or '':<9}"
        self._show.line(f"  trial {trial.number:<4} {what} {trial.seconds:5.1f} s")
        if trial.error:
            self._show.line(f"    {trial.error}", fg="red")
        each = (time.monotonic() - self._clock) / self._seen
        left = max(self._trials - trial.number - 1, 0)
        self._show.progress(f"{left} trials left, about {left * each:.0f} s", 1 - left / self._trials)
