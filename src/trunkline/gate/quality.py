"""From outcomes and scores to the evidence about quality: metrics, slices, calibration, curves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.errors import DatasetError, EngineError
from trunkline.gate import measures
from trunkline.gate.calibration import calibrate, confidence, coverage
from trunkline.gate.curves import curves
from trunkline.gate.evidence import Calibration, MetricEvidence, Quality
from trunkline.gate.intervals import Floats, Measured, share_loss, wilson
from trunkline.gate.metrics import Bootstrap, DeLong, Ints, areas_against_rest, delong
from trunkline.gate.policy import Goal, goals
from trunkline.gate.slices import Compared, SliceColumn, sliced
from trunkline.models.measures import hits
from trunkline.models.task import BINARY, Task

_SLICED_BY = {
    "binary": "roc_auc",
    "multiclass": "log_loss",
    "regression": "rmse",
    "quantile": "pinball_loss",
    "custom": "rmse",
}
_SHARES = ("accuracy", "coverage")
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
    _check(candidate, outcome, task, "candidate")
    scores = [candidate]
    if champion is not None:
        _check(champion, outcome, task, "champion")
        scores.append(champion)
    judge = _Judge(task)
    metrics = list(judge.metrics(outcome, scores))
    if own is not None:
        metrics.insert(0, _bootstrapped(own.name, own.goal, own.measure(outcome, scores)))
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


def _check(score: Floats, outcome: _Outcome, task: Task, who: str) -> None:
    if len(score) != len(outcome):
        raise EngineError(f"the {who} gave {len(score)} scores for {len(outcome)} rows")
    shape = (len(outcome), *((task.width,) if task.width is not None else ()))
    if score.shape != shape:
        raise EngineError(f"the {who} gave scores of shape {list(score.shape)}, not {list(shape)}")
    fine = (score >= 0) & (score <= 1) if task.kind in ("binary", "multiclass") else np.isfinite(score)
    bad = np.flatnonzero(~(fine if score.ndim == 1 else fine.all(axis=1)))
    if len(bad):
        none = "no probability" if task.kind in ("binary", "multiclass") else "no number"
        raise EngineError(f"the {who}'s score of row {bad[0]} is {score[bad[0]]}, which is {none}")


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
    """The metrics of a task, on any rows."""

    task: Task

    def metrics(self, outcome: _Outcome, scores: _Scores) -> Iterator[MetricEvidence]:
        """All of them, in the order of `goals`."""
        if self.task.kind == "custom" and outcome.shape != scores[0].shape:
            return
        same = _same(scores)
        for name, goal in goals(self.task).items():
            if name.startswith(_SHARES):
                yield _share(name, goal, [self._share(name, outcome, score) for score in scores])
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
            return measures.pinball(outcome, score, self.task.quantiles)
        if name == "log_loss" and self.task.kind == "multiclass":
            return measures.class_log_loss(outcome, score)
        return _METRICS[name](outcome, score)

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


def _share(name: str, goal: Goal, counted: list[Floats]) -> MetricEvidence:
    rates = [wilson(int(one.sum()), len(one)) for one in counted]
    paired = len(counted) > 1
    return MetricEvidence(
        name=name,
        method="Wilson; loss by Tango" if paired else "Wilson",
        candidate=rates[0],
        champion=rates[1] if paired else None,
        loss=share_loss(counted[0], counted[1], goal) if paired else None,
        goal=goal,
    )


def _bootstrapped(name: str, goal: Goal, found: Bootstrap) -> MetricEvidence:
    paired = len(found.value) == 2
    return MetricEvidence(
        name=name,
        method=f"bootstrap, {len(found.resampled)} resamples",
        candidate=found.estimate(0),
        champion=found.estimate(1) if paired else None,
        loss=found.loss(goal) if paired else None,
        goal=goal,
    )
