"""What trainings, searches and comparisons leave behind, as records. Light: no framework is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from trunkline.models.bundle import Bundle

__all__ = ["SearchResult", "State", "StudyOpened", "StudyRecord", "Trained", "TrialRecord"]


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

    def to_json(self) -> dict[str, Any]:
        """As plain data, without the bundle."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "bundle"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], bundle: Bundle) -> Trained:
        """Of `to_json`'s data and the bundle."""
        history, (low, high) = tuple((step, value) for step, value in data["history"]), data["interval"]
        return cls(**{**data, "history": history, "interval": (low, high)}, bundle=bundle)


State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One finished trial. `value` is the validation metric, the last one reported if it was pruned.

    `values` are the metric and the other objectives of a complete trial, in the study's order. `started` is in seconds
    since 1970.
    """

    number: int
    state: State
    estimator: str | None
    params: Mapping[str, Any]
    value: float | None
    history: tuple[tuple[int, float], ...]
    seconds: float
    error: str | None
    values: tuple[float, ...] = ()
    started: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """A search that has at least one complete trial; `trials` are all finished ones, oldest first.

    `best_number` is the complete trial that is best by the metric. `objectives` names what was weighed, the metric
    first; `front` holds the numbers of the trials that no other beats in all of it, best by the metric first.
    `importance` is each parameter's share of what made good trials good.
    """

    best_params: Mapping[str, Any]
    best_value: float
    best_number: int
    trials: tuple[TrialRecord, ...]
    objectives: tuple[str, ...] = ()
    front: tuple[int, ...] = ()
    importance: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyOpened:
    """A study as a search finds it: its own id, its objectives (the metric first, and its direction), its finished
    trials."""

    key: str
    objectives: tuple[str, ...]
    higher_is_better: bool
    trials: tuple[TrialRecord, ...]


@dataclass(frozen=True)
class StudyRecord:
    """What a study holds. `higher_is_better` is by objective. `unfinished` counts trials that run or wait."""

    name: str
    model: str
    objectives: tuple[str, ...]
    higher_is_better: tuple[bool, ...]
    trials: tuple[TrialRecord, ...]
    unfinished: int
    best: TrialRecord | None
    front: tuple[int, ...]
    importance: Mapping[str, float]
    started: float | None
