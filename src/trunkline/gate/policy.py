"""What a candidate must show: the rules as the user wrote them, and which way each metric is better."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.project.deploy import Gate as GatePolicy
from trunkline.project.deploy import LatencyRule, MetricRule

__all__ = ["GatePolicy", "HIGHER_IS_BETTER", "LatencyRule", "MetricRule"]

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
}
"""The metrics a rule may name, and which way is better. `may_lose` is always a change for the worse."""
