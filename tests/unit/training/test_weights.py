"""Weights of classes and rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trunkline.errors import TrainingError
from trunkline.models.task import BINARY, Task
from trunkline.training.weights import class_counts, class_weights, row_weights

Y = np.array([0, 0, 0, 1], np.float32)
LETTERS = Task("multiclass", classes=("a", "b", "c"))


def test_balanced_weights_give_every_class_the_same_sum() -> None:
    weights = class_weights(Y, BINARY, "balanced")
    rows = row_weights(Y, weights)
    assert rows[Y == 0].sum() == pytest.approx(rows[Y == 1].sum())
    assert rows.sum() == pytest.approx(len(Y))
    assert (weights.dtype, rows.dtype) == (np.float32, np.float32)


def test_a_class_without_rows_takes_no_share() -> None:
    y = np.array([0, 0, 2], np.float32)
    assert class_weights(y, LETTERS, "balanced").tolist() == [0.75, 1.0, 1.5]


def test_counts_of_all_peers_make_the_weights() -> None:
    here = class_weights(Y[:2], BINARY, "balanced", counts=class_counts(Y, BINARY))
    assert here.tolist() == class_weights(Y, BINARY, "balanced").tolist()


def test_given_weights_go_by_name() -> None:
    assert class_weights(Y, LETTERS, {"b": 3}).tolist() == [1, 3, 1]
    assert class_weights(Y, BINARY, {"1": 2.5}).tolist() == [1, 2.5]
    assert class_weights(Y, BINARY, {True: 2.5}).tolist() == [1, 2.5]  # type: ignore[dict-item]  # what users write
    assert class_weights(Y, Task("regression"), None).tolist() == [1]


@pytest.mark.parametrize(
    ("task", "setting", "message"),
    [
        (LETTERS, {"d": 2}, "'d' is no class"),
        (LETTERS, {"a": 0}, "weight of 'a' must be a number above 0"),
        (LETTERS, {"a": "2"}, "must be a number above 0"),
        (Task("regression"), "balanced", "a regression task has no classes"),
        (BINARY, "equal", "must be 'balanced', or a mapping"),
    ],
)
def test_a_weight_that_cannot_be_is_refused(task: Task, setting: Any, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        class_weights(Y, task, setting)
