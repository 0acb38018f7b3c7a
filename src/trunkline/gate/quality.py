"""From outcomes and scores to the evidence about quality: metrics, slices, calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.errors import DatasetError, EngineError
from trunkline.gate import measures
from trunkline.gate.calibration import calibrate, confidence, coverage
from trunkline.gate.evidence import Calibration, Estimate, MetricEvidence, Quality, SliceEvidence
from trunkline.gate.metrics import (
    Bootstrap,
    DeLong,
    Floats,
    Ints,
    Weighted,
    average_precision,
    bootstrap,
    brier,
    delong,
    log_loss,
    mean_of,
    wilson,
)
from trunkline.gate.policy import Goal, goals
from trunkline.models.measures import hits
from trunkline.models.task import BINARY, Task

RESAMPLES = 400
SMALLEST_CLASS = 20
"""A slice with fewer positives, or fewer negatives, shows no AUC: its interval would cover most of what is possible."""
SMALLEST_SLICE = 2 * SMALLEST_CLASS
"""A slice with fewer rows shows no metric of another task."""
MOST_VALUES = 30
"""Values of a slice column that are shown: the most frequent ones."""

_SLICED_BY = {
    "binary": "roc_auc",
    "multiclass": "log_loss",
    "regression": "rmse",
    "quantile": "pinball_loss",
    "custom": "rmse",
}
_SHARES = ("accuracy", "coverage")
_AREAS = {"roc_auc": "DeLong", "roc_auc_ovr": "DeLong, mean of the classes"}

_Outcome = npt.NDArray[Any]
_Scores = Sequence[Floats]


@dataclass(frozen=True)
class SliceColumn:
    """A column's values by code: `labels[codes[i]]` is the value of row i; the label None means missing."""

    codes: Ints
    labels: tuple[str | None, ...]


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
    resamples: int = RESAMPLES,
    seed: int = 0,
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
    judge = _Judge(task, resamples, seed)
    metrics = list(judge.metrics(outcome, scores))
    if own is not None:
        metrics.insert(0, _bootstrapped(own.name, own.goal, own.measure(outcome, scores)))
    if not metrics:
        raise DatasetError("the model's outputs have another shape than its target, and it has no metric of its own")
    sliced_by = _SLICED_BY[task.kind]
    comparable = any(metric.name == sliced_by for metric in metrics)
    return Quality(
        rows=len(outcome),
        positives=int(outcome.sum()) if task.kind == "binary" else None,
        metrics=tuple(metrics),
        slices=tuple(judge.slices(outcome, scores, slices)) if comparable else (),
        calibration=_calibration(task, outcome, candidate),
        task=task.kind,
        sliced_by=sliced_by,
        classes=_counts(outcome, task) if task.kind == "multiclass" else {},
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
    resamples: int
    seed: int

    def metrics(self, outcome: _Outcome, scores: _Scores) -> Iterator[MetricEvidence]:
        """All of them, in the order of `goals`."""
        known = goals(self.task)
        if self.task.kind == "custom" and outcome.shape != scores[0].shape:
            return
        weighted = {name: self._weighted(name, outcome, scores) for name in known if name not in _AREAS}
        strata = outcome if self.task.kind in ("binary", "multiclass") else np.zeros(len(outcome), np.int8)
        drawn = bootstrap(strata, [*weighted.values()], resamples=self.resamples, seed=self.seed)
        found = dict(zip(weighted, drawn, strict=True))
        for name, goal in known.items():
            if name in _AREAS:
                yield _area(name, self._areas(outcome, scores))
                continue
            measured = _bootstrapped(name, goal, found[name])
            yield _wilson(measured, len(outcome)) if name.startswith(_SHARES) else measured

    def slices(self, outcome: _Outcome, scores: _Scores, slices: Mapping[str, SliceColumn]) -> Iterator[SliceEvidence]:
        """The task's metric by value of each column, frequent values first."""
        for name, column in slices.items():
            counts = np.bincount(column.codes, minlength=len(column.labels))
            there = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]]
            for code in there[:MOST_VALUES]:
                of_value = SliceEvidence(name, column.labels[code], 0, None)
                yield self._slice(of_value, column.codes == code, outcome, scores)
            if rest := there[MOST_VALUES:]:
                of_rest = SliceEvidence(name, None, 0, None, others=len(rest))
                yield self._slice(of_rest, np.isin(column.codes, rest), outcome, scores)

    def _slice(
        self, which: SliceEvidence, rows: npt.NDArray[np.bool_], outcome: _Outcome, scores: _Scores
    ) -> SliceEvidence:
        inside, of_models = outcome[rows], [score[rows] for score in scores]
        found = replace(which, rows=len(inside))
        name = _SLICED_BY[self.task.kind]
        if self.task.kind == "binary":
            positives = int(inside.sum())
            found = replace(found, positives=positives)
            if min(positives, len(inside) - positives) < SMALLEST_CLASS:
                return replace(found, note=f"too small: fewer than {SMALLEST_CLASS} rows of one class")
            measured = _area(name, self._areas(inside, of_models))
        elif len(inside) < SMALLEST_SLICE:
            return replace(found, note=f"too small: fewer than {SMALLEST_SLICE} rows")
        else:
            strata = inside if self.task.kind == "multiclass" else np.zeros(len(inside), np.int8)
            weighted = [self._weighted(name, inside, of_models)]
            (drawn,) = bootstrap(strata, weighted, resamples=self.resamples, seed=self.seed)
            measured = _bootstrapped(name, goals(self.task)[name], drawn)
        return replace(found, candidate=measured.candidate, champion=measured.champion, loss=measured.loss)

    def _areas(self, outcome: _Outcome, scores: _Scores) -> DeLong:
        if self.task.kind == "binary":
            return delong(outcome, np.array(scores))
        return measures.areas_against_rest(outcome, scores)

    def _weighted(self, name: str, outcome: _Outcome, scores: _Scores) -> list[Weighted]:
        return [self._metric(name, outcome, score) for score in scores]

    def _metric(self, name: str, outcome: _Outcome, score: Floats) -> Weighted:
        if name.startswith("coverage"):
            return mean_of(measures.within(outcome, score, name, self.task.names))
        if name == "pinball_loss":
            return measures.pinball(outcome, score, self.task.quantiles)
        if name == "accuracy":
            return mean_of(hits(outcome, score))
        if name == "log_loss" and self.task.kind == "multiclass":
            return measures.class_log_loss(outcome, score)
        return _METRICS[name](outcome, score)


_METRICS: Mapping[str, Callable[[_Outcome, Floats], Weighted]] = {
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier": brier,
    "macro_f1": measures.macro_f1,
    "rmse": measures.root_mean_square,
    "mae": measures.absolute_error,
    "r2": measures.r2,
}


def _area(name: str, areas: DeLong) -> MetricEvidence:
    paired = len(areas.auc) == 2
    return MetricEvidence(
        name=name,
        method=_AREAS[name],
        candidate=areas.estimate(0),
        champion=areas.estimate(1) if paired else None,
        loss=areas.loss() if paired else None,
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


def _wilson(found: MetricEvidence, rows: int) -> MetricEvidence:
    """A share of the rows by Wilson's interval, which does not vanish where all of them agree."""

    def share(estimate: Estimate) -> Estimate:
        return wilson(round(estimate.value * rows), rows)

    method = f"Wilson; loss by {found.method}" if found.loss else "Wilson"
    champion = share(found.champion) if found.champion else None
    return replace(found, method=method, candidate=share(found.candidate), champion=champion)
