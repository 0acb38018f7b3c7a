"""What trainings, searches and comparisons leave behind, as records. Light: no framework is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trunkline.models.bundle import Bundle

__all__ = ["Row", "SearchResult", "Trained", "TrialRecord"]


@dataclass(frozen=True)
class Trained:
    """A finished training. `metrics` are of the validation part; `interval` is the 95% interval of `metric`."""

    name: str
    estimator: str
    params: Mapping[str, Any]
    settings: Mapping[str, Any]
    metric: str
    metrics: Mapping[str, float]
    interval: tuple[float, float]
    history: tuple[tuple[int, float], ...]
    parity: float
    seconds: float
    bundle: Bundle

    @property
    def value(self) -> float:
        """The metric that chose the model."""
        return self.metrics[self.metric]


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial. `value` is the validation metric, the last one reported if it was pruned."""

    number: int
    state: Literal["complete", "pruned", "failed"]
    estimator: str | None
    params: Mapping[str, Any]
    value: float | None
    history: tuple[tuple[int, float], ...]
    seconds: float
    error: str | None


@dataclass(frozen=True)
class SearchResult:
    """A search that has at least one complete trial; `trials` are all finished ones, oldest first."""

    best_params: Mapping[str, Any]
    best_value: float
    best_number: int
    trials: tuple[TrialRecord, ...]


@dataclass(frozen=True)
class Row:
    """One model of the comparison: `value` of `metric` on the validation part, with its 95% interval."""

    groups: tuple[str, ...]
    features: int
    variation: str
    estimator: str
    metric: str
    value: float
    low: float
    high: float
    seconds: float
