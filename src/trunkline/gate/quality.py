"""From outcomes and scores to the evidence about quality: metrics, slices, calibration, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.errors import DatasetError, EngineError
from trunkline.gate import measures
from trunkline.gate.calibration import calibrate, confidence, coverage
from trunkline.gate.curves import curves
from trunkline.gate.evidence import NOTHING_LOST, Calibration, MetricEvidence, Quality
from trunkline.gate.intervals import Floats, Ints, Measured, agree
from trunkline.gate.metrics import Bootstrap, DeLong, areas_against_rest, delong
from trunkline.gate.policy import Goal, goals
from trunkline.gate.shares import share_loss, wilson
from trunkline.gate.slices import Compared, SliceColumn, sliced
from trunkline.models.measures import hits
from trunkline.models.task import BINARY, Task

__all__ = ["OwnMetric", "Standard", "check_scores", "measure_quality"]

_SLICED_BY = {
    "binary": "roc_auc",
    "multiclass": "log_loss",
    "regression": "rmse",
    "quantile": "pinball_loss",
    "custom": "rmse",
}
_SHARES = ("accuracy", "coverage")
_IN_UNITS = ("rmse", "mae", "pinball_loss")
"""Metrics that have the size of the target."""
_OFF = 1e-3
"""How far the probabilities of a row may be from 1 together: what float32 and rounding leave is far less."""
_METHODS = {
    "roc_auc": "DeLong",
    "roc_auc_ovr": "DeLong, mean of the classes",
    "average_precision": "jackknife",
    "macro_f1": "jackknife",
    "rmse": "jackknife",
    "r2": "jackknife",
}

_Outcome = npt.NDArray[Any]
_Scores = Sequence[Floats]


@dataclass(frozen=True)
class OwnMetric:
    """A metric of the user's: `measure(outcome, scores)` gives it of each model, on the rows and on resamples."""

    name: str
    goal: Goal
    measure: Callable[[_Outcome, _Scores], Bootstrap]


@dataclass(frozen=True)
class Standard:
    """What scores are judged by: the metrics of their task, and one of the user's if there is one."""

    task: Task = BINARY
    own: OwnMetric | None = None


def measure_quality(
    outcome: _Outcome,
    candidate: Floats,
    champion: Floats | None,
    slices: Mapping[str, SliceColumn],
    *,
    by: Standard | None = None,
) -> Quality:
    """Quality of `candidate` and, if there is one, of `champion`: scores [n] or [n, k] of a task, for n rows.

    Without `by`, they are probabilities of a binary target.

    `outcome` [n] is a boolean, the place of a class in `Task.classes`, or a number; [n, j] where the target is a list.
    Raises `DatasetError` for outcomes that nothing can be judged by, `EngineError` for scores that are none.
    """
    by = by or Standard()
    task, own = by.task, by.own
    _check_outcome(outcome, task)
    scores = [candidate, *([champion] if champion is not None else [])]
    for score, who in zip(scores, ("candidate", "champion"), strict=False):
        check_scores(score, len(outcome), task, who)
    judge = _Judge(task, 1.0 if task.kind in ("binary", "multiclass") else float(np.ptp(outcome)))
    metrics = list(judge.metrics(outcome, scores))
    if own is not None:
        metrics.insert(0, _bootstrapped(own.name, own.goal, own.measure(outcome, scores), same=_same(scores)))
    if not metrics:
        raise DatasetError("the model's outputs have another shape than its target, and it has no metric of its own")
    sliced_by = _SLICED_BY[task.kind]
    comparable = any(metric.name == sliced_by for metric in metrics)
    cut = sliced(slices if comparable else {}, outcome, scores, judge.compare, binary=task.kind == "binary")
    return Quality(
        rows=len(outcome),
        positives=int(outcome.sum()) if task.kind == "binary" else None,
        metrics=tuple(metrics),
        slices=cut.shown,
        calibration=_calibration(task, outcome, candidate),
        task=task.kind,
        sliced_by=sliced_by,
        classes=_counts(outcome, task) if task.kind == "multiclass" else {},
        slice_tests=cut.tests,
        curves=curves(task, outcome, scores),
    )


def _check_outcome(outcome: _Outcome, task: Task) -> None:
    hint = "move the date in tl.split.by_time so that the test part holds more rows"
    if task.kind == "binary":
        positives = int(outcome.sum())
        if min(positives, len(outcome) - positives) < 2:
            found = f"{positives} positive and {len(outcome) - positives} negative rows"
            raise DatasetError(f"the test part has {found}: too few to judge by", hint=hint)
    elif len(outcome) < 2 or len(np.unique(outcome, axis=0)) < 2:
        found = "one value of the target" if len(outcome) > 1 else f"{len(outcome)} rows"
        raise DatasetError(f"the test part has {found}: too little to judge by", hint=hint)


def check_scores(score: Floats, rows: int, task: Task, who: str) -> None:
    """Raise `EngineError` unless `score` holds what a model of `task` answers to so many rows; `who` gave it."""
    if len(score) != rows:
        raise EngineError(f"the {who} gave {len(score)} scores for {rows} rows")
    shape = (rows, *((task.width,) if task.width is not None else ()))
    if score.shape != shape:
        raise EngineError(f"the {who} gave scores of shape {list(score.shape)}, not {list(shape)}")
    fine = (score >= 0) & (score <= 1) if task.kind in ("binary", "multiclass") else np.isfinite(score)
    bad = np.flatnonzero(~(fine if score.ndim == 1 else fine.all(axis=1)))
    if len(bad):
        none = "no probability" if task.kind in ("binary", "multiclass") else "no number"
        raise EngineError(f"the {who}'s score of row {bad[0]} is {score[bad[0]]}, which is {none}")
    if task.kind == "multiclass":
        sums = score.sum(axis=1)
        off = np.flatnonzero(np.abs(sums - 1) > _OFF)
        if len(off):
            told = f"the {who}'s probabilities of row {off[0]} are {sums[off[0]]:.4g} together, not 1"
            hint = "a score for each class is made a probability by a softmax, or by dividing it by the row's sum"
            raise EngineError(f"{told}; so it is in {len(off):,} of {rows:,} rows", hint=hint)


def _calibration(task: Task, outcome: _Outcome, score: Floats) -> Calibration | None:
    if task.kind == "binary":
        return calibrate(outcome, score)
    if task.kind == "multiclass":
        return confidence(outcome, score)
    return coverage(outcome, score, task.quantiles) if task.kind == "quantile" else None


def _counts(place: Ints, task: Task) -> dict[str, int]:
    return dict(zip(task.classes, np.bincount(place, minlength=len(task.classes)).tolist(), strict=True))


@dataclass(frozen=True)
class _Judge:
    """The metrics of a task, on any rows. `span` is how far apart the outcomes of all rows are."""

    task: Task
    span: float

    def metrics(self, outcome: _Outcome, scores: _Scores) -> Iterator[MetricEvidence]:
        """All of them, in the order of `goals`."""
        if self.task.kind == "custom" and outcome.shape != scores[0].shape:
            return
        same = _same(scores)
        for name, goal in goals(self.task).items():
            if name.startswith(_SHARES):
                yield _share(name, goal, [self._share(name, outcome, score) for score in scores], same=same)
                continue
            found = self._measured(name, outcome, scores)
            yield MetricEvidence(
                name=name,
                method=_METHODS.get(name, "mean of rows"),
                candidate=found[0].estimate(),
                champion=found[1].estimate() if len(found) > 1 else None,
                loss=found[0].loss(found[1], goal, same=same) if len(found) > 1 else None,
                goal=goal,
            )

    def compare(self, outcome: _Outcome, scores: _Scores, bound: float | None) -> Compared:
        """The metric of a slice."""
        name, same = _SLICED_BY[self.task.kind], _same(scores)
        found, goal = self._measured(name, outcome, scores), goals(self.task)[name]
        if len(found) == 1:
            return Compared(found[0].estimate())
        candidate, champion = found
        p = None
        if bound is not None:
            p = 1.0 if same else candidate.chance(champion, goal, bound)
        return Compared(candidate.estimate(), champion.estimate(), candidate.loss(champion, goal, same=same), p)

    def _measured(self, name: str, outcome: _Outcome, scores: _Scores) -> list[Measured]:
        if name in ("roc_auc", "roc_auc_ovr"):
            areas = self._areas(outcome, scores)
            return [areas.measured(model) for model in range(len(scores))]
        return [self._metric(name, outcome, score) for score in scores]

    def _areas(self, outcome: _Outcome, scores: _Scores) -> DeLong:
        if self.task.kind == "binary":
            return delong(outcome, np.array(scores))
        return areas_against_rest(outcome, list(scores))

    def _metric(self, name: str, outcome: _Outcome, score: Floats) -> Measured:
        if name == "pinball_loss":
            found = measures.pinball(outcome, score, self.task.quantiles)
        else:
            found = _METRICS[name](outcome, score)
        return replace(found, span=self.span) if name in _IN_UNITS else found

    def _share(self, name: str, outcome: _Outcome, score: Floats) -> Floats:
        """1 for each row that counts."""
        return hits(outcome, score) if name == "accuracy" else measures.within(outcome, score, name, self.task.names)


_METRICS: Mapping[str, Callable[[_Outcome, Floats], Measured]] = {
    "average_precision": measures.average_precision,
    "log_loss": measures.log_loss,
    "brier": measures.brier,
    "macro_f1": measures.macro_f1,
    "rmse": measures.root_mean_square,
    "mae": measures.absolute_error,
    "r2": measures.r2,
}


def _same(scores: _Scores) -> bool:
    """Whether two models gave the very same scores: then nothing is lost, and no interval needed."""
    return len(scores) > 1 and np.array_equal(scores[0], scores[1])


def _share(name: str, goal: Goal, counted: list[Floats], *, same: bool) -> MetricEvidence:
    rates = [wilson(int(one.sum()), len(one)) for one in counted]
    paired = len(counted) > 1
    lost = NOTHING_LOST if same else share_loss(counted[0], counted[1], goal) if paired else None
    return MetricEvidence(
        name=name,
        method="Wilson; loss by Tango" if paired else "Wilson",
        candidate=rates[0],
        champion=rates[1] if paired else None,
        loss=lost,
        goal=goal,
    )


def _bootstrapped(name: str, goal: Goal, found: Bootstrap, *, same: bool) -> MetricEvidence:
    paired = len(found.value) == 2
    alike = ", all alike: no interval" if any(map(agree, found.resampled.T)) else ""
    return MetricEvidence(
        name=name,
        method=f"bootstrap, {len(found.resampled)} resamples{alike}",
        candidate=found.estimate(0),
        champion=found.estimate(1) if paired else None,
        loss=found.loss(goal, same=same) if paired else None,
        goal=goal,
    )
