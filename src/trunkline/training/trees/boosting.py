"""Boosting round by round: early stopping, reports, and legs to resume from. The loop of LightGBM and XGBoost.

A framework's random numbers go on from round to round and cannot be saved. So boosting runs in *legs* of a fixed
number of rounds: each begins as a booster of its own, with a seed of its own, from the scores so far. An undisturbed
fit takes the same legs, and so a fit that is resumed after its last whole leg gives the very same trees.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from trunkline.errors import TrainingError
from trunkline.training.protocol import FitContext, TrainingData

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Ensemble", "boost"]

_EVALUATE_EVERY = 5  # rounds
_REPORT_EVERY = 25  # rounds
_STATE = "state.json"


class Ensemble(Protocol):
    """Trees that are being grown. The rounds of a `leg` divide by 25."""

    leg: int

    def grow(self) -> bool:
        """Add one round; True if no split is left to make."""

    def scores(self) -> npt.NDArray[np.float64]:
        """Scores of the validation part: [n], or [n, k]."""

    def turn(self) -> Mapping[str, bytes]:
        """End a leg and begin the next one; everything up to here as files."""

    def restore(self, files: Mapping[str, bytes]) -> None:
        """Begin the leg after the one whose end gave `files`."""


def boost(ensemble: Ensemble, data: TrainingData, context: FitContext, *, rounds: int, patience: int) -> int:
    """Grow until `patience` rounds gave no better metric; the number of rounds with the best one.

    Raises TrainingError where the metric is not a number.
    """
    metric, peers = data.metric, context.peers
    begun, best_round, best = _resumed(ensemble, context)
    for step in range(begun + 1, rounds + 1):
        finished = ensemble.grow()
        if not finished and step % _EVALUATE_EVERY and step < rounds:
            continue
        value = metric.of(data.validation.y, ensemble.scores())
        signed = _number(metric.signed(value), metric.name, step)
        if signed > best:
            best_round, best = step, signed
        if step % _REPORT_EVERY == 0 or finished or step == rounds:
            context.report(step, value)
        if finished or step - best_round >= patience:
            break
        if step % ensemble.leg == 0 and step < rounds:
            files = ensemble.turn()
            if context.checkpoints is not None:
                state = json.dumps({"step": step, "best_round": best_round, "best": best}).encode()
                first = peers is None or peers.rank == 0
                context.checkpoints.save(step, {**files, _STATE: state} if first else None)
    return best_round


def _resumed(ensemble: Ensemble, context: FitContext) -> tuple[int, int, float]:
    """Rounds that are there already, the best of them, and its signed metric."""
    files = context.checkpoints.load() if context.checkpoints is not None else None
    if files is None:
        return 0, 0, -math.inf
    ensemble.restore(files)
    state = json.loads(files[_STATE])
    return state["step"], state["best_round"], state["best"]


def _number(value: float, name: str, step: int) -> float:
    if math.isnan(value):
        raise TrainingError(
            f"the metric {name!r} is not a number after round {step}",
            hint="look at the metric's function and at the scores it gets; a smaller `lr` keeps scores finite",
        )
    return value
