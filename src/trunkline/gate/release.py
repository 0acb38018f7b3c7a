"""What of a look is shown: everything while there are many looks left, by the Ladder once there are few. Pure.

The verdict itself is always of the true scores: pass or fail is one bit a rule and look, which the budget of looks
limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import nan
from typing import Any

from trunkline.datasets.ladder import climb, standard_error
from trunkline.datasets.sealed import Shown, Standing
from trunkline.gate.evidence import Calibration, Estimate, Evidence, MetricEvidence
from trunkline.gate.policy import Goal, goodness
from trunkline.gate.verdict import Verdict

__all__ = ["Released", "WITHHELD", "release"]

WITHHELD = "withheld: the best shown so far"


@dataclass(frozen=True)
class Released:
    """Evidence and verdict as they may be shown; `withheld` are the metrics whose score is not among it."""

    evidence: Evidence
    verdict: Verdict
    withheld: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The scores as the ledger keeps them with the look; `own` are those of this candidate."""
        metrics = self.evidence.quality.metrics
        return {
            "metrics": {
                m.name: {
                    "value": m.candidate.value,
                    "low": m.candidate.low,
                    "high": m.candidate.high,
                    "own": m.name not in self.withheld,
                }
                for m in metrics
            }
        }


def release(evidence: Evidence, verdict: Verdict, standing: Standing | None) -> Released:
    """What is shown.

    Of a withheld metric the best shown so far stands in its place, without a comparison; by the Ladder there are no
    slices, no tests of slices, no curves and no calibration, and of rules on them nothing but how they came out.
    """
    if standing is None or not standing.low:
        return Released(evidence, verdict)
    best = _best(standing, {found.name: found.goal for found in evidence.quality.metrics})
    metrics = tuple(_metric(found, best.get(found.name)) for found in evidence.quality.metrics)
    withheld = tuple(metric.name for metric in metrics if metric.method == WITHHELD)
    measured = evidence.quality
    calibration = Calibration((), nan, measured.calibration.kind) if measured.calibration else None
    quality = replace(measured, metrics=metrics, slices=(), slice_tests=(), curves=(), calibration=calibration)
    return Released(replace(evidence, quality=quality), _masked(verdict, withheld), withheld)


def _best(standing: Standing, goals: Mapping[str, Goal]) -> Mapping[str, Shown]:
    """The best shown of each metric that is measured now; earlier looks may have been at other metrics."""
    best: dict[str, Shown] = {}
    for shown in standing.shown:
        if (name := shown.metric) not in goals:
            continue
        if name not in best or goodness(goals[name], shown.value) > goodness(goals[name], best[name].value):
            best[name] = shown
    return best


def _metric(found: MetricEvidence, best: Shown | None) -> MetricEvidence:
    if best is None:
        return found
    rung = climb(
        goodness(found.goal, found.candidate.value),
        goodness(found.goal, best.value),
        standard_error(found.candidate.low, found.candidate.high),
        higher_is_better=True,
    )
    if rung.risen:
        return found
    return MetricEvidence(found.name, WITHHELD, Estimate(best.value, best.low, best.high), goal=found.goal)


def _masked(verdict: Verdict, withheld: tuple[str, ...]) -> Verdict:
    """Without the numbers that would say what is withheld: all of slices and calibration is."""
    secret = (*(f"metrics.{name}." for name in withheld), "slices.", "calibration.")
    why = "judged by the true score, which is withheld"
    return Verdict(
        tuple(replace(rule, value=None, why=why) if rule.name.startswith(secret) else rule for rule in verdict.rules)
    )
