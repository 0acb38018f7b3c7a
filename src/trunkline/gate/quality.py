"""From outcomes and scores to the evidence about quality: metrics, slices, calibration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from trunkline.errors import DatasetError, EngineError
from trunkline.gate.evidence import Calibration, CalibrationBin, MetricEvidence, Quality, SliceEvidence
from trunkline.gate.metrics import Floats, Ints, average_precision, bootstrap, brier, delong, log_loss, wilson
from trunkline.gate.policy import HIGHER_IS_BETTER

RESAMPLES = 400
SMALLEST_CLASS = 20
"""A slice with fewer positives, or fewer negatives, shows no AUC: its interval would cover most of what is possible."""
MOST_VALUES = 30
"""Values of a slice column that are shown: the most frequent ones."""
BINS = 10

_WEIGHTED = {"average_precision": average_precision, "log_loss": log_loss, "brier": brier}


@dataclass(frozen=True)
class SliceColumn:
    """A column's values by code: `labels[codes[i]]` is the value of row i; the label None means missing."""

    codes: Ints
    labels: tuple[str | None, ...]


def measure_quality(
    outcome: npt.NDArray[np.bool_],
    candidate: Floats,
    champion: Floats | None,
    slices: Mapping[str, SliceColumn],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Quality:
    """Quality of `candidate` and, if there is one, of `champion`: probabilities, [n], for the rows of `outcome`, [n].

    Raises `DatasetError` if one class has fewer than two rows, `EngineError` for scores that are no probabilities.
    """
    positives = int(outcome.sum())
    if min(positives, len(outcome) - positives) < 2:
        raise DatasetError(
            f"the test part has {positives} positive and {len(outcome) - positives} negative rows: too few to judge by",
            hint="move the date in tl.split.by_time so that the test part holds more rows",
        )
    _check(candidate, outcome, "candidate")
    if champion is not None:
        _check(champion, outcome, "champion")
    scores = np.array([candidate] if champion is None else [candidate, champion])
    return Quality(
        rows=len(outcome),
        positives=positives,
        metrics=(_roc_auc(outcome, scores), *_bootstrapped(outcome, scores, resamples, seed)),
        slices=tuple(_slices(outcome, scores, slices)),
        calibration=calibrate(outcome, candidate),
    )


def _check(score: Floats, outcome: npt.NDArray[np.bool_], who: str) -> None:
    if score.shape != outcome.shape:
        raise EngineError(f"the {who} gave {len(score)} scores for {len(outcome)} rows")
    bad = np.flatnonzero(~((score >= 0) & (score <= 1)))
    if len(bad):
        raise EngineError(f"the {who}'s score of row {bad[0]} is {score[bad[0]]}, which is no probability")


def _roc_auc(outcome: npt.NDArray[np.bool_], scores: Floats) -> MetricEvidence:
    areas = delong(outcome, scores)
    paired = len(scores) == 2
    return MetricEvidence(
        name="roc_auc",
        method="DeLong",
        candidate=areas.estimate(0),
        champion=areas.estimate(1) if paired else None,
        loss=areas.loss() if paired else None,
    )


def _bootstrapped(outcome: npt.NDArray[np.bool_], scores: Floats, resamples: int, seed: int) -> list[MetricEvidence]:
    metrics = [[make(outcome, score) for score in scores] for make in _WEIGHTED.values()]
    paired = len(scores) == 2
    return [
        MetricEvidence(
            name=name,
            method=f"bootstrap, {resamples} resamples",
            candidate=found.estimate(0),
            champion=found.estimate(1) if paired else None,
            loss=found.loss(higher_is_better=HIGHER_IS_BETTER[name]) if paired else None,
        )
        for name, found in zip(_WEIGHTED, bootstrap(outcome, metrics, resamples=resamples, seed=seed), strict=True)
    ]


def _slices(
    outcome: npt.NDArray[np.bool_], scores: Floats, slices: Mapping[str, SliceColumn]
) -> Iterator[SliceEvidence]:
    for name, column in slices.items():
        counts = np.bincount(column.codes, minlength=len(column.labels))
        there = [int(code) for code in np.argsort(-counts, kind="stable") if counts[code]]
        for code in there[:MOST_VALUES]:
            mask = column.codes == code
            yield _slice(SliceEvidence(name, column.labels[code], 0, 0), outcome[mask], scores[:, mask])
        if rest := there[MOST_VALUES:]:
            mask = np.isin(column.codes, rest)
            yield _slice(SliceEvidence(name, None, 0, 0, others=len(rest)), outcome[mask], scores[:, mask])


def _slice(which: SliceEvidence, outcome: npt.NDArray[np.bool_], scores: Floats) -> SliceEvidence:
    positives = int(outcome.sum())
    counted = replace(which, rows=len(outcome), positives=positives)
    if min(positives, len(outcome) - positives) < SMALLEST_CLASS:
        return replace(counted, note=f"too small: fewer than {SMALLEST_CLASS} rows of one class")
    areas = _roc_auc(outcome, scores)
    return replace(counted, candidate=areas.candidate, champion=areas.champion, loss=areas.loss)


def calibrate(outcome: npt.NDArray[np.bool_], score: Floats) -> Calibration:
    """Observed rate against mean score in ten bins of equal width, and the expected calibration error.

    Naeini, Cooper & Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian binning". The error of
    a perfectly calibrated model is above 0, the more the fewer rows there are, so it comes without an interval.
    """
    index = np.minimum((score * BINS).astype(np.int64), BINS - 1)
    rows = np.bincount(index, minlength=BINS)
    hits = np.bincount(index, weights=outcome, minlength=BINS)
    sums = np.bincount(index, weights=score, minlength=BINS)
    bins = tuple(
        CalibrationBin(
            b / BINS, (b + 1) / BINS, int(rows[b]), float(sums[b] / rows[b]), wilson(int(hits[b]), int(rows[b]))
        )
        for b in range(BINS)
        if rows[b]
    )
    return Calibration(bins, float(np.abs(hits - sums).sum() / len(score)))
