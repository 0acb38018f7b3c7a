"""Curves: what they show, how many points they have, and that no point is a row."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.unit.gate.test_metrics import simulate
from trunkline.gate.curves import MOST_POINTS, ROWS_A_POINT, curves
from trunkline.models.task import Task


def test_the_area_under_the_curve_is_the_area() -> None:
    outcome, scores = simulate(1, 20_000)
    found = curves(Task(), outcome, list(scores))
    assert [(curve.kind, curve.model) for curve in found] == [
        ("roc", "candidate"),
        ("precision_recall", "candidate"),
        ("roc", "champion"),
        ("precision_recall", "champion"),
    ]
    roc, precision_recall = found[0], found[1]
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc_auc_score(outcome, scores[0]), abs=0.002)
    area = np.trapezoid(precision_recall.y, precision_recall.x) + precision_recall.x[0] * precision_recall.y[0]
    assert area == pytest.approx(average_precision_score(outcome, scores[0]), abs=0.02)
    assert sum(len(curve.x) for curve in found[:2]) <= MOST_POINTS


@pytest.mark.parametrize("rows", [25, 90, 1_000])
def test_a_point_stands_for_20_rows(rows: int) -> None:
    outcome, scores = simulate(2, rows, digits=2)
    for curve in curves(Task(), outcome, list(scores)):
        assert len(curve.x) <= rows // ROWS_A_POINT + 1
    y = np.random.default_rng(0).normal(size=rows)
    for curve in curves(Task("regression"), y, [y * 0.9]):
        assert len(curve.x) <= rows // ROWS_A_POINT
        assert not set(curve.y) & {float(f"{value:.6g}") for value in 0.1 * y}


def test_each_task_has_its_curves() -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=5_000)
    spread = np.stack([y - 1, y, y + 1], axis=1)
    residuals, deciles = curves(Task("quantile", quantiles=(0.1, 0.5, 0.9)), y + 2, [spread])
    assert (residuals.kind, deciles.kind, len(deciles.x)) == ("residuals", "deciles", 10)
    assert set(residuals.y) == {2.0}
    np.testing.assert_allclose(np.subtract(deciles.y, deciles.x), 2.0, atol=1e-4)
    names = tuple(map(str, range(12)))
    place = draw.choice(12, 5_000, p=np.arange(1, 13) / 78)
    of_classes = curves(Task("multiclass", classes=names), place, [draw.dirichlet(np.ones(12), 5_000)])
    assert [curve.label for curve in of_classes] == ["11", "10", "9", "8", "7", "6", "5", "4"]
    assert sum(len(curve.x) for curve in of_classes) <= MOST_POINTS
    pair = np.stack([y, -y], axis=1)
    assert [curve.label for curve in curves(Task("custom", outputs=2), pair, [pair * 0.9])] == ["0", "1"]
    assert curves(Task("custom", outputs=2), y, [pair]) == ()
