"""Every task by every estimator in PyTorch: it learns, scores have the task's shape and units, the export agrees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.unit.training.torch_cases import MULTICLASS, TASKS, fitted, made, served
from trunkline.errors import TrainingError
from trunkline.estimators import MLP, TabM, Torch
from trunkline.models.task import Task


def build(columns: Any, width: int = 16) -> nn.Module:
    """A network that ends as the task needs it."""
    return nn.Sequential(
        columns.standardised(), nn.Linear(columns.width, width), nn.ReLU(), nn.Linear(width, columns.outputs or 1)
    )


QUICK = {
    "mlp": MLP(width=32, lr=0.02, epochs=6, batch_size=64, patience=6),
    "tabm": TabM(k=3, width=16, number_embedding=4, bins=8, lr=0.02, epochs=6, batch_size=64, patience=6),
    "torch": Torch(module=build, lr=0.05, epochs=8, batch_size=64, patience=8),
}
# What always answering the training part's mean, rates or quantiles comes to, and what is to be reached.
REACHED = {"binary": 0.85, "multiclass": 0.75, "regression": 300.0, "quantile": 110.0}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", QUICK)
def test_it_learns_in_the_units_of_the_target(name: str, task: str) -> None:
    data = made(TASKS[task])
    model, heard = fitted(QUICK[name], data)
    score = model.predict(data.validation.x)
    width = data.task.width
    assert score.shape == ((200,) if width is None else (200, width))
    value = data.metric.of(data.validation.y, score)
    assert data.metric.signed(value) >= data.metric.signed(REACHED[task]), value
    assert data.metric.signed(value) == max(data.metric.signed(told) for _, told in heard)
    if task == "multiclass":
        np.testing.assert_allclose(score.sum(1), 1, atol=1e-6)
    if task == "quantile":
        assert (np.diff(score, axis=1) >= 0).all()
        assert 0.6 < (data.validation.y < score[:, 2]).mean() <= 1


# An export takes seconds: each answer once, and each network.
@pytest.mark.parametrize(("name", "task"), [("mlp", "quantile"), ("tabm", "multiclass"), ("tabm", "regression")])
def test_the_export_answers_as_the_network(name: str, task: str) -> None:
    data = made(TASKS[task])
    model, _ = fitted(replace(QUICK[name], epochs=1), data)
    absent = np.where(np.arange(3) < 2, np.nan, 0).astype(np.float32)[None]
    x = np.concatenate([data.validation.x[:20], absent])
    score = served(model.to_onnx(), x)
    np.testing.assert_allclose(score, model.predict(x), rtol=1e-5, atol=1e-5)
    assert task != "quantile" or (np.diff(score, axis=1) >= 0).all()


@pytest.mark.parametrize("task", [Task(), MULTICLASS], ids=lambda task: task.kind)
def test_class_weights_move_the_probabilities(task: Task) -> None:
    data = made(task)
    heavy = {"1": 8.0} if task.kind == "binary" else {"a": 8.0}
    plain, weighted = (
        fitted(replace(QUICK["mlp"], class_weights=setting), data)[0].predict(data.validation.x)
        for setting in (None, heavy)
    )
    if task.kind == "binary":
        assert weighted.mean() > plain.mean() + 0.1
    else:
        assert weighted[:, 0].mean() > plain[:, 0].mean() + 0.1


def test_balanced_classes_are_those_of_the_training_part() -> None:
    data = made(Task())
    ones, rows = data.train.y.sum(), len(data.train)
    balanced, told = (
        fitted(replace(QUICK["mlp"], epochs=1, class_weights=setting), data)[0].predict(data.validation.x)
        for setting in ("balanced", {0: float(rows / (2 * (rows - ones))), 1: float(rows / (2 * ones))})
    )
    np.testing.assert_allclose(balanced, told, atol=1e-6)


@pytest.mark.parametrize("name", ["mlp", "tabm"])
def test_a_vector_is_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(TrainingError, match="several numbers") as caught:
        fitted(QUICK[name], made(Task("custom", outputs=2)))
    assert caught.value.hint is not None
    assert "Torch" in caught.value.hint


def test_class_weights_need_classes() -> None:
    with pytest.raises(TrainingError, match="no classes"):
        fitted(replace(QUICK["mlp"], class_weights="balanced"), made(Task("regression")))


@pytest.mark.parametrize("name", ["mse", "mae", "huber"])
def test_losses_by_name_are_measured_on_the_standardised_target(name: str) -> None:
    data = made(Task("regression"))
    model, _ = fitted(replace(QUICK["torch"], loss=name), data)
    assert data.metric.of(data.validation.y, model.predict(data.validation.x)) < 350


def test_a_loss_by_name_is_for_numbers() -> None:
    with pytest.raises(TrainingError, match="the task is binary"):
        fitted(replace(QUICK["torch"], loss="mae"), made(Task()))


def test_several_outputs_are_learned_as_they_are() -> None:
    data = made(Task("custom", outputs=2))
    model, _ = fitted(replace(QUICK["torch"], loss="mse", lr=0.02, epochs=10), data)
    score = model.predict(data.validation.x)
    assert data.metric.of(data.validation.y, score) < 0.9
    assert np.corrcoef(score[:, 0], score[:, 1])[0, 1] < -0.9


def poisson(raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Each row's negative log-likelihood, less what the outputs do not change."""
    return raw.exp() - y * raw


def test_a_loss_and_an_answer_of_ones_own() -> None:
    data = made(Task("regression"))
    small = replace(
        data,
        train=replace(data.train, y=np.exp(data.train.x[:, 0])),
        validation=replace(data.validation, y=np.exp(data.validation.x[:, 0])),
    )
    model, _ = fitted(replace(QUICK["torch"], loss=poisson, answer=torch.exp, epochs=10), small)
    score = model.predict(small.validation.x)
    assert (score > 0).all()
    assert np.corrcoef(np.log(score), small.validation.x[:, 0])[0, 1] > 0.95
    np.testing.assert_allclose(served(model.to_onnx(), small.validation.x), score, rtol=1e-5)


def test_a_constant_target_is_learned() -> None:
    data = made(Task("regression"), scale=0.0)
    model, _ = fitted(replace(QUICK["mlp"], epochs=1), data)
    assert np.isfinite(model.predict(data.validation.x)).all()
