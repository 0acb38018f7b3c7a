"""What a candidate must show: the rules as the user wrote them, the metrics of each task, and what is good of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from trunkline.models.task import Task
from trunkline.project.deploy import Gate as GatePolicy
from trunkline.project.deploy import LatencyRule, MetricRule

__all__ = ["GatePolicy", "Goal", "LatencyRule", "MetricRule", "goals", "goodness"]

Goal = Literal["higher", "lower"] | float
"""Which way a metric is better, or the number that it should be close to."""

_GOALS: Mapping[str, Mapping[str, Goal]] = {
    "binary": {"roc_auc": "higher", "average_precision": "higher", "log_loss": "lower", "brier": "lower"},
    "multiclass": {"log_loss": "lower", "accuracy": "higher", "macro_f1": "higher", "roc_auc_ovr": "higher"},
    "regression": {"rmse": "lower", "mae": "lower", "r2": "higher"},
    "quantile": {"pinball_loss": "lower"},
    "custom": {"rmse": "lower", "mae": "lower"},
}


def goals(task: Task) -> dict[str, Goal]:
    """The metrics that a rule on a model of this task may name, and what is good of each.

    Of quantiles, `coverage` is the share of outcomes between the lowest and the highest one, and `coverage_q90` that of
    outcomes at or below the quantile 0.9: good is what was asked for. Those of a custom task hold where its scores
    have the shape of the target.
    """
    found = dict(_GOALS[task.kind])
    if task.kind == "quantile":
        if len(task.quantiles) > 1:
            found["coverage"] = round(task.quantiles[-1] - task.quantiles[0], 12)
        found |= {f"coverage_{name}": level for name, level in zip(task.names, task.quantiles, strict=True)}
    return found


def goodness(goal: Goal, value: Any) -> Any:
    """`value`, a number or an array, so that more is better; minus the distance where a number is the goal."""
    if goal == "higher":
        return value
    return -value if goal == "lower" else -abs(value - goal)
