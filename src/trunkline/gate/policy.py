"""What a candidate must show, as plain records. Reading and validating the YAML is the project's business."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

HIGHER_IS_BETTER: Mapping[str, bool] = {
    "roc_auc": True,
    "average_precision": True,
    "log_loss": False,
    "brier": False,
}
"""The metrics a rule may name, and which way is better. `may_lose` is always a change for the worse."""


@dataclass(frozen=True)
class MetricRule:
    """Bounds on one metric: a floor or ceiling for its value, and how much may be lost against the champion."""

    at_least: float | None = None
    at_most: float | None = None
    may_lose: float | None = None


@dataclass(frozen=True)
class LatencyRule:
    """Ceilings on the latency of one row, asked of the real server, in milliseconds."""

    p50_ms: float | None = None
    p99_ms: float | None = None


@dataclass(frozen=True)
class GatePolicy:
    """All rules of one deployment, and the columns by whose values quality is shown."""

    metrics: Mapping[str, MetricRule] = field(default_factory=dict)
    slices: tuple[str, ...] = ()
    latency: LatencyRule = field(default_factory=LatencyRule)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> GatePolicy:
        """From the section `gate` of a deployment, already validated: metrics, slices, latency.

        >>> GatePolicy.from_data({"metrics": {"roc_auc": {"at_least": 0.76}}}).metrics["roc_auc"].at_least
        0.76
        """
        return cls(
            metrics={name: MetricRule(**rule) for name, rule in (data.get("metrics") or {}).items()},
            slices=tuple(data.get("slices") or ()),
            latency=LatencyRule(**(data.get("latency") or {})),
        )
