"""Adaptive looks at a test part with models that know nothing: how far do the scores that are shown mislead?

    python benchmarks/ladder.py [--rows 4000] [--looks 1000] [--seeds 10]

Labels are coin tosses, so every model is right half of the time on new rows, and what it is right above that on the
test part is overfitting. Two attacks, each of `--looks` submissions:

- boosting: guesses at random; the majority of those whose shown score was above 1/2 (Blum & Hardt 2015, section 4).
- mutating: each submission is the best so far with some answers changed, as when a model is tuned on a leaderboard.

Three ways to show scores: as they are; by the paper's Ladder without a parameter (a step of the paired standard error);
by ours (a step of the score's own standard error). Draws what they win into benchmarks/.work/ladder.svg, and prints it
at the end and at the gate's own budget: 100 looks, of which the Ladder shows the last 25.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trunkline.datasets.ladder import climb, is_low

Answers = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
BUDGET = 100
WORK = Path(__file__).parent / ".work"


class Board:
    """A leaderboard of accuracies. `step` of losses [n] and of the best's losses is what a score must rise by."""

    def __init__(self, truth: Answers, step: Callable[[int, Floats, Floats], float | None]) -> None:
        self._truth, self._step = truth, step
        self._looks = 0
        self._best: float | None = None
        self._losses: Floats = np.ones(len(truth))

    def show(self, answers: Answers) -> tuple[float, bool]:
        """The score that is shown, and whether it is that of these answers."""
        self._looks += 1
        losses = (answers != self._truth).astype(np.float64)
        score = 1 - float(losses.mean())
        step = self._step(self._looks, losses, self._losses)
        rung = climb(score, None if step is None else self._best, step or 0.0, higher_is_better=True)
        if self._best is None or rung.value > self._best:
            self._best, self._losses = rung.value, losses
        return rung.value, rung.risen


def _paired(look: int, losses: Floats, best: Floats) -> float:
    return float((losses - best).std(ddof=1)) / len(losses) ** 0.5


def _own(look: int, losses: Floats, best: Floats) -> float:
    return float(losses.std(ddof=1)) / len(losses) ** 0.5


SHOWN: dict[str, Callable[[int, Floats, Floats], float | None]] = {
    "plain": lambda look, losses, best: None,
    "paired": _paired,
    "ladder": _own,
    "budget": lambda look, losses, best: _own(look, losses, best) if is_low(look, BUDGET) else None,
}


def boosting(rows: int, looks: int, step: Callable[[int, Floats, Floats], float | None], seed: int) -> Floats:
    """What the majority of the kept guesses is right above 1/2, after each look, [looks]."""
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < 0.5
    board, votes, won = Board(truth, step), np.zeros(rows), np.zeros(looks)
    for look in range(looks):
        guess = draw.random(rows) < 0.5
        score, own = board.show(guess)
        if own and score > 0.5:
            votes += np.where(guess, 1, -1)
        won[look] = ((votes > 0) == truth).mean() - 0.5 if votes.any() else 0.0
    return won


def mutating(rows: int, looks: int, step: Callable[[int, Floats, Floats], float | None], seed: int) -> Floats:
    """What the best answers so far are right above 1/2, after each look, [looks]."""
    draw = np.random.default_rng(seed)
    truth = draw.random(rows) < 0.5
    board, best, won = Board(truth, step), draw.random(rows) < 0.5, np.zeros(looks)
    top, _ = board.show(best)
    changed = max(1, rows // (2 * looks))  # few enough to keep what was won, enough to move: sqrt(looks / rows) is won
    for look in range(looks):
        tried = best.copy()
        places = draw.choice(rows, changed, replace=False)
        tried[places] = ~tried[places]
        score, own = board.show(tried)
        if own and score > top:
            best, top = tried, score
        won[look] = (best == truth).mean() - 0.5
    return won


def main() -> None:
    """Prints one line an attack and a way of showing, and draws all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--looks", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    error = 0.5 / options.rows**0.5
    print(f"{options.rows:,} rows, {options.seeds} seeds; an honest score is off by {error:.4f} (one standard error)")
    curves = {}
    for attack in (boosting, mutating):
        for name in ("plain", "paired", "ladder"):
            runs = [attack(options.rows, options.looks, SHOWN[name], seed) for seed in range(options.seeds)]
            curves[attack.__name__, name] = np.mean(runs, axis=0)
            final = curves[attack.__name__, name][-1]
            print(f"  {attack.__name__:<9} {name:<7} {options.looks:>5} looks: overfit {final:+.4f}")
        ours = [attack(options.rows, BUDGET, SHOWN["budget"], seed)[-1] for seed in range(options.seeds)]
        print(f"  {attack.__name__:<9} budget  {BUDGET:>5} looks: overfit {np.mean(ours):+.4f}")
    print(f"drawn in {_draw(curves, error)}")


def _draw(curves: dict[tuple[str, str], Floats], error: float) -> Path:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    colours = {"plain": "#c0392b", "paired": "#d68910", "ladder": "#1e8449"}
    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, attack in zip(axes, ("boosting", "mutating"), strict=True):
        for name, colour in colours.items():
            axis.plot(curves[attack, name], color=colour, label=name)
        axis.axhspan(-error, error, color="#dddddd", label="one standard error")
        axis.set(title=attack, xlabel="looks")
    axes[0].set_ylabel("accuracy above 1/2 on the test part")
    axes[0].legend(frameon=False)
    WORK.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(WORK / "ladder.svg")
    return WORK / "ladder.svg"


if __name__ == "__main__":
    main()
