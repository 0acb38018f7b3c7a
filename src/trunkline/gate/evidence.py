"""What the gate found out, as records. Intervals are two-sided at 95% unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from trunkline.gate.policy import Goal
from trunkline.models.task import TaskKind

__all__ = [
    "Calibration", "CalibrationBin", "CounterExample", "Curve", "Estimate", "Evidence", "Latency", "Leakage", "Loss",
    "MEBIBYTE", "Memory", "MetricEvidence", "NOTHING_LOST", "ONE_SIDED", "Own", "Parity", "Provenance", "Quality",
    "Sign", "SliceEvidence", "SliceTest", "TWO_SIDED", "WAYS", "Way",
]  # fmt: skip

TWO_SIDED = 0.025
"""What is left out at each end of a two-sided interval."""
ONE_SIDED = 0.05
"""What a one-sided limit leaves out."""
MEBIBYTE = 1.048576
"""In 10^6 bytes, in which sizes are told."""

Way = Literal["http", "warehouse"]
"""How a score came about, other than offline."""
WAYS: Mapping[Way, str] = MappingProxyType({"http": "HTTP answer", "warehouse": "warehouse score"})
"""What such a score is called."""


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
    above `at_most` would give a result like this one, or a milder one, in less than 5% of samples. Limits that are not
    finite: nothing varied, which tells nothing of other rows.

    With more rows the limits close in by the root of the rows, but for `unseen`, what of the one-sided ones is for rows
    like none that were seen: half of it is left with twice the rows. Of a share, `counts` are the rows that count for
    both models, for the candidate alone, for the champion alone, and for neither.
    """

    value: float
    low: float
    high: float
    at_least: float
    at_most: float
    unseen: float = 0.0
    counts: tuple[int, int, int, int] | None = None


NOTHING_LOST = Loss(0.0, 0.0, 0.0, 0.0, 0.0)
"""Of two models that gave the same scores."""


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

    Estimates are None where `note` says why; `positives` is None unless the target is binary. `p` is the chance of such
    a loss where the true one is the bound of the column's rule, adjusted for all slices that are tested (Holm 1979);
    None without such a test.
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
    p: float | None = None


@dataclass(frozen=True)
class SliceTest:
    """The slices of one column against a bound on their loss.

    `slices` of them were tested, of `family` in all columns; `beyond` lose more than the bound, the chance that one of
    the family is wrongly among these being 5% at most. `loss`, `rows` and `p` (adjusted) are of the clearest one.
    `untested` rows are of values with too few rows, which even together have too few; `needed` is how many rows the
    test part should have for one slice to be tested, None if one is.
    """

    column: str
    slices: int
    family: int
    beyond: int
    loss: float | None = None
    rows: int = 0
    p: float | None = None
    untested: int = 0
    needed: int | None = None


@dataclass(frozen=True)
class Curve:
    """Points to draw, ascending in `x`, each of 20 rows or more: nothing of a single row.

    - `roc`: false positive rate, true positive rate; of `label` against the rest where there are several classes.
    - `precision_recall`: recall, precision.
    - `residuals`: quantile level, outcome less score at that quantile; of several outputs of output `label`.
    - `deciles`: mean score, mean outcome of rows with such scores; of quantiles the score is the middle one.
    """

    kind: Literal["roc", "precision_recall", "residuals", "deciles"]
    model: Literal["candidate", "champion"]
    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str = ""


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

    `ece` of a perfectly calibrated model is above 0, the more the fewer rows there are. `beyond_chance` is what of it
    cannot be chance, on average no more than the true error; None for coverage. `at_least` and `at_most` are one-sided
    limits of the true error at 95% each; `unseen` is what of the upper one is for rows like none that were seen.
    """

    bins: tuple[CalibrationBin, ...]
    ece: float
    kind: Literal["probability", "confidence", "coverage"] = "probability"
    beyond_chance: Estimate | None = None
    at_least: float | None = None
    at_most: float | None = None
    unseen: float = 0.0


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
    slice_tests: tuple[SliceTest, ...] = ()
    curves: tuple[Curve, ...] = ()

    def metric(self, name: str) -> MetricEvidence | None:
        """The metric of that name."""
        return next((metric for metric in self.metrics if metric.name == name), None)


@dataclass(frozen=True)
class Own:
    """A number without the time that others took, and limits of it that are one-sided at 99.7% each.

    All requests of the phase, whenever it ends, are within them at 99%. None: so few requests set no limit.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Memory:
    """Of all processes of a server, in MiB, under load. `steady_mb` is what they held at the end and `peak_mb` the most

    seen at the end of a round, both with shared pages counted once (PSS). `rss_peak_mb` is the sum of each process's
    own peak (VmHWM), with shared pages counted in each.
    """

    steady_mb: float
    peak_mb: float
    rss_peak_mb: float
    processes: int


@dataclass(frozen=True)
class Latency:
    """How fast one server answers requests of one row, seen by a client on the same machine.

    `p50_ms` to `max_ms` are of `requests` that were sent at `rate` a second, whether or not earlier ones were answered
    (open loop), and count from when each was due. `quantiles_ms` are the quantiles 0.01, 0.02, … 0.99 and the largest,
    to draw the distribution. All of these are as the client saw them, what the machine took included.

    `own` has p50, p95 and p99 in milliseconds of requests that others surely took nothing from; on a busy machine, of
    all, without waiting for a CPU that is more than usual.
    `single_ms` has p50, p95 and p99 of requests that were sent one at a time, servers in turn, without that time too,
    and `single` the same with limits; rules judge by `own` on a calm machine and by `single` on a busy one. `slower` is
    how many times the champion's those of the candidate are, by short blocks; empty for the champion. `stalls_ms` are
    single requests, and the slowest ones of blocks on a schedule, that took as long as ten gaps of the schedule: the
    longest first, without what others took, in `watched_seconds` in which one would have been seen.

    `requests_per_second` is the median round's throughput over `connections`, each asking again as soon as it is
    answered, and `throughput` its limits, the higher one as if others had taken no CPU. On a busy machine the lower one
    is what one connection alone would have come to without others. `cold_start_s` is the time from
    the start of the process to its first answer, `cold_start_own_s` without waiting for a CPU. None: not measured.

    `others_cores` is how many of `cores` everybody else kept busy, on average, and `waited_ms` how long the
    unluckiest 1% of requests waited for a CPU at least. `rate` is None for a server measured one request at a time.
    """

    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    requests_per_second: float
    connections: int
    rate: float | None = None
    quantiles_ms: tuple[float, ...] = ()
    own: Mapping[str, Own] = field(default_factory=dict)
    single_ms: Mapping[str, float] = field(default_factory=dict)
    single: Mapping[str, Own] = field(default_factory=dict)
    single_requests: int = 0
    stalls_ms: tuple[float, ...] = ()
    watched_seconds: float = 0.0
    slower: Mapping[str, Own] = field(default_factory=dict)
    throughput: Own | None = None
    cold_start_s: float | None = None
    cold_start_own_s: float | None = None
    memory: Memory | None = None
    others_cores: float = 0.0
    cores: int = 1
    waited_ms: float = 0.0
    rounds: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class CounterExample:
    """A row, of the open part, whose scores differ: offline, of the server, and of the warehouse; None: not asked.

    Long values are cut. A score is a tuple where it is several numbers, or none: JSON has null for what is not finite.
    """

    row: Mapping[str, object]
    offline: float | tuple[float, ...]
    http: float | tuple[float, ...] | None
    warehouse: float | tuple[float, ...] | None = None


@dataclass(frozen=True)
class Parity:
    """Offline scores against HTTP answers and the warehouse's own scores: how many of `rows` differ by more than

    `tolerance`, which is a share of the score's own size where `relative`; so is `largest`, of rows whose scores are
    all numbers. `not_finite` rows have a score that is none, and differ whatever the others are. `ways` are those that
    were compared with the offline score; `left_out` says of another why it was not.
    """

    rows: int
    differ: int
    largest: float
    tolerance: float
    example: CounterExample | None = None
    relative: bool = False
    ways: tuple[Way, ...] = ("http",)
    left_out: str = ""
    not_finite: int = 0


@dataclass(frozen=True)
class Sign:
    """A sign of leakage that a probe of the dataset found, or did not: `datasets.findings.Finding` without its plot."""

    probe: str
    outcome: str
    text: str
    column: str | None = None
    value: float | None = None
    bound: float | None = None


@dataclass(frozen=True)
class Leakage:
    """What tells whether scores on the sealed part can be trusted.

    `signs` are the answers of the dataset's probes, `keys` the sealed part's rows, and `seen` how many of their keys
    are in the open parts of the candidate's dataset; `seen_by_champion` the same of the champion's, None if not known.
    """

    signs: tuple[Sign, ...] = ()
    keys: int = 0
    seen: int = 0
    seen_by_champion: int | None = None


@dataclass(frozen=True)
class Provenance:
    """What the candidate came from, by name, and the names of what is not known. `bundle_bytes` are all its files'."""

    known: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    bundle_bytes: int = 0


@dataclass(frozen=True)
class Evidence:
    """All of it. `latency` and `champion_latency` are None if no server was measured, the others if nobody asked."""

    quality: Quality
    latency: Latency | None = None
    champion_latency: Latency | None = None
    parity: Parity | None = None
    leakage: Leakage | None = None
    provenance: Provenance | None = None
