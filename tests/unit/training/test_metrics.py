"""The metrics against scikit-learn's, ties included, and the intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from trunkline.errors import TrainingError
from trunkline.training.metrics import METRICS, average_precision, brier, interval, log_loss, roc_auc

PAIRS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0])), min_size=2).filter(
    lambda pairs: len({label for label, _ in pairs}) == 2
)


@given(PAIRS)
def test_as_scikit_learn_has_them(pairs: list[tuple[bool, float]]) -> None:
    y, score = np.array(pairs, dtype=np.float64).T
    assert roc_auc(y, score) == pytest.approx(sk.roc_auc_score(y, score))
    assert average_precision(y, score) == pytest.approx(sk.average_precision_score(y, score))
    assert brier(y, score) == pytest.approx(sk.brier_score_loss(y, score))
    kept = np.clip(score, 1e-15, 1 - 1e-15)
    assert log_loss(y, score) == pytest.approx(sk.log_loss(y, kept))


@pytest.mark.parametrize("name", ["roc_auc", "average_precision"])
def test_one_class_has_no_ranking(name: str) -> None:
    with pytest.raises(TrainingError, match="both classes"):
        METRICS[name].function(np.zeros(3), np.array([0.1, 0.2, 0.3]))


@pytest.mark.parametrize("name", METRICS)
def test_intervals_hold_the_truth_about_as_often_as_they_say(name: str) -> None:
    random = np.random.default_rng(0)

    def draw(rows: int) -> tuple[np.ndarray, np.ndarray]:
        score = random.beta(2, 5, rows)
        return (random.random(rows) < score).astype(np.float32), score

    truth = METRICS[name].function(*draw(1_000_000))
    held = 0
    for _ in range(100):
        low, high = interval(METRICS[name], *draw(400))
        held += low <= truth <= high
    assert 88 <= held <= 100


def test_an_interval_of_a_perfect_ranking_stays_in_bounds() -> None:
    assert interval(METRICS["roc_auc"], np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])) == (1.0, 1.0)
