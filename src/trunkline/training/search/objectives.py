"""One trial, fitted and measured: how it ended, as a record. Wherever it runs: no search framework is loaded here."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trunkline.errors import TrainingError, TrunklineError
from trunkline.project.boundary import told
from trunkline.training.boundary import plain_settings
from trunkline.training.protocol import Estimator, FitContext, Fitted, Reporter, TrainingData
from trunkline.training.records import State

if TYPE_CHECKING:
    from trunkline.training.parity import MatrixScorer

__all__ = ["ADVICE", "Ended", "OBJECTIVES", "attempted", "kept_step", "measure", "said"]

OBJECTIVES = ("latency_us", "size_kb", "train_seconds")
"""What can be weighed beside the metric. Less is better in all of them."""

ADVICE = "a smaller learning rate often helps; so do features without extreme values"
_ROUNDS, _CALLS = 5, 60


@dataclass(frozen=True)
class Ended:
    """How a trial ended: `values` of its objectives, the metric first, where it is complete; else perhaps an error."""

    state: State
    values: tuple[float, ...] = ()
    error: str | None = None
    history: tuple[tuple[int, float], ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ended:
        """Of its fields as plain data, from another process."""
        history = tuple((step, value) for step, value in data["history"])
        return cls(data["state"], tuple(data["values"]), data["error"], history)


def measure(estimator: Estimator, data: TrainingData, objectives: Sequence[str], context: FitContext) -> Ended:
    """Fit, and measure the metric of `data` and the other `objectives`. Whatever the trial dies of is in the record.

    `context.report` is told the steps of `kept_step`; it may raise Pruned. A metric that is no number ends the trial.
    """
    history: list[tuple[int, float]] = []
    heard = replace(context, report=_heard(data.metric.name, context.report, history))
    try:
        return Ended("complete", _values(estimator, data, objectives, heard), None, tuple(history))
    except _Stopped as stopped:
        exc = stopped.exc
    if any(kind.__name__ in ("Pruned", "TrialPruned") for kind in type(exc).__mro__):  # ours, and Optuna's own
        return Ended("pruned", history=tuple(history))
    return Ended("failed", error=said(exc), history=tuple(history))


def attempted(trial: Callable[[], Ended]) -> Ended:
    """How a trial ended; what went wrong before it was measured is its error, in place of its process's death."""
    try:
        return trial()
    except Exception as exc:  # noqa: BLE001  whatever it is
        return Ended("failed", error=said(exc))


def said(exc: Exception) -> str:
    """An error as it is kept with a trial: ours as they are, others with the user's lines of their traceback."""
    return str(exc) if isinstance(exc, TrunklineError) else told(exc)


def kept_step(step: int) -> bool:
    """Whether a step is kept: all up to 1000, then those of three digits and noughts, the same in every trial."""
    unit: int = 10 ** max(len(str(step)) - 3, 0)
    return step % unit == 0


class _Stopped(Exception):
    """A trial did not come to its end, for whatever reason."""

    def __init__(self, exc: Exception) -> None:
        super().__init__(exc)
        self.exc = exc


def _values(
    estimator: Estimator, data: TrainingData, objectives: Sequence[str], context: FitContext
) -> tuple[float, ...]:
    begun = time.perf_counter()
    try:
        plain_settings(estimator)  # what could not be saved in the end is not fitted
        fitted = estimator.fit(data, context)
        seconds = time.perf_counter() - begun
        value = float(data.metric.of(data.validation.y, fitted.predict(data.validation.x)))
        _refuse_no_number(data.metric.name, value)
        return value, *_others(objectives, fitted, data, seconds)
    except Exception as exc:
        raise _Stopped(exc) from exc


def _heard(metric: str, report: Reporter, history: list[tuple[int, float]]) -> Reporter:
    def heard(step: int, value: float) -> None:
        _refuse_no_number(metric, value, f" at step {step}")
        if kept_step(step) and (not history or step > history[-1][0]):
            history.append((int(step), float(value)))
            report(*history[-1])

    return heard


def _refuse_no_number(metric: str, value: float, where: str = "") -> None:
    if not math.isfinite(value):
        raise TrainingError(f"{metric} is {value}{where}: the training diverged", hint=ADVICE)


def _others(objectives: Sequence[str], fitted: Fitted, data: TrainingData, seconds: float) -> tuple[float, ...]:
    if not set(objectives) & {"latency_us", "size_kb"}:
        return tuple(seconds for _ in objectives)
    from trunkline.training.exported import exported

    files, scorer = exported(fitted, data)
    values = {"train_seconds": seconds, "size_kb": sum(map(len, files.values())) / 1000}
    if "latency_us" in objectives:
        values["latency_us"] = _latency(scorer, data)
    return tuple(values[name] for name in objectives)


def _latency(scorer: MatrixScorer, data: TrainingData) -> float:
    """Microseconds for one encoded row: the least of several medians, which a busy neighbour disturbs least."""
    row = data.validation.x[:1]

    def median() -> float:
        times = []
        for _ in range(_CALLS):
            begun = time.perf_counter_ns()
            scorer.score_matrix(row)
            times.append(time.perf_counter_ns() - begun)
        return statistics.median(times) / 1000

    return min(median() for _ in range(_ROUNDS))
