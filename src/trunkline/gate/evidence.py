"""What the gate found out, as records. Intervals are two-sided at 95% unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from trunkline.gate.policy import Goal
from trunkline.models.task import TaskKind


@dataclass(frozen=True)
class Estimate:
    """A number with its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Loss:
    """How much worse the candidate is than the champion, row by row on the same rows; negative if it is better.

    `low` and `high` bound it two-sided at 95%. `at_least` and `at_most` are one-sided limits at 95% each: a true loss
    above `at_most` would give a result like this one, or a milder one, in less than 5% of samples.
    """

    value: float
    low: float
    high: float
    at_least: float
    at_most: float


@dataclass(frozen=True)
class MetricEvidence:
    """One metric of the candidate, and of the champion if there is one; `goal` says what is good."""

    name: str
    method: str
    candidate: Estimate
    champion: Estimate | None = None
    loss: Loss | None = None
    goal: Goal = "higher"


@dataclass(frozen=True)
class SliceEvidence:
    """A metric where `column` has `value` (None: missing), or one of so many `others`, the rarer values together.

    Estimates are None where `note` says why; `positives` is None unless the target is binary.
    """

    column: str
    value: str | None
    rows: int
    positives: int | None
    candidate: Estimate | None = None
    champion: Estimate | None = None
    loss: Loss | None = None
    note: str = ""
    others: int = 0


@dataclass(frozen=True)
class CalibrationBin:
    """Rows whose score is in [low, high): how many, their mean score, their rate of hits with its interval."""

    low: float
    high: float
    rows: int
    mean_score: float
    rate: Estimate


@dataclass(frozen=True)
class Calibration:
    """Bins that hold rows, ascending. `ece` is the mean distance of score and rate, weighted by rows.

    A hit is a positive where the score is a `probability`; the right class where it is the `confidence` in it; and an
    outcome at or below the quantile for `coverage`, where a bin is a quantile and its score what was asked for.
    """

    bins: tuple[CalibrationBin, ...]
    ece: float
    kind: Literal["probability", "confidence", "coverage"] = "probability"


@dataclass(frozen=True)
class Quality:
    """How good the scores are on the sealed part.

    `positives` are those of a binary target; `classes` has the rows of each class of a target of several. Slices show
    the metric `sliced_by`. Numbers have no calibration.
    """

    rows: int
    positives: int | None
    metrics: tuple[MetricEvidence, ...]
    slices: tuple[SliceEvidence, ...]
    calibration: Calibration | None
    task: TaskKind = "binary"
    sliced_by: str = "roc_auc"
    classes: Mapping[str, int] = field(default_factory=dict)

    def metric(self, name: str) -> MetricEvidence | None:
        """The metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True)
class Latency:
    """Latency of single-row requests over one connection, and throughput over `connections`, seen by the client."""

    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    requests_per_second: float
    connections: int


@dataclass(frozen=True)
class CounterExample:
    """A row for which the server and the offline score differ."""

    row: Mapping[str, object]
    offline: float | tuple[float, ...]
    http: float | tuple[float, ...]


@dataclass(frozen=True)
class Parity:
    """HTTP answers against offline scores: how many of `rows` differ by more than `tolerance`, which is a share of the

    score's own size where `relative`; so is `largest`.
    """

    rows: int
    differ: int
    largest: float
    tolerance: float
    example: CounterExample | None = None
    relative: bool = False


@dataclass(frozen=True)
class Evidence:
    """All of it. `latency`, `champion_latency` and `parity` are None if no server was measured."""

    quality: Quality
    latency: Latency | None = None
    champion_latency: Latency | None = None
    parity: Parity | None = None
