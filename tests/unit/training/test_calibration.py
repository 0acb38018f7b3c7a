"""Corrected probabilities: what they correct, that their order stays, and that the exported graph has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from trunkline.errors import TrainingError
from trunkline.estimators import LightGBM
from trunkline.models.runtime import Scorer
from trunkline.testing import estimator_cases
from trunkline.training.calibration import CalibratedModel, _Isotonic, calibrate
from trunkline.training.metrics import log_loss, roc_auc
from trunkline.training.protocol import FitContext, Matrix, TrainingData

METHODS = ["sigmoid", "temperature", "isotonic"]
ODDS = np.random.default_rng(0).normal(size=6_000) * 1.5


@dataclass(frozen=True)
class Given:
    """A model whose scores are in the matrix, of a binary task in its first column."""

    columns: int = 0

    def predict(self, x: Any) -> Any:
        """As they are."""
        return x.astype(np.float64) if self.columns else x[:, 0].astype(np.float64)

    def to_onnx(self) -> bytes:
        """The graph that does it."""
        from onnx import TensorProto, helper

        zero = helper.make_tensor("zero", TensorProto.INT64, [], [0])
        node = helper.make_node("Gather", ["features", "zero"], ["score"], axis=1)
        shape: list[str | int] = ["n"]
        if self.columns:
            node, shape = helper.make_node("Identity", ["features"], ["score"]), ["n", self.columns]
        graph = helper.make_graph(
            [node],
            "given",
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", self.columns or 1])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, shape)],
            [zero],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        content: bytes = model.SerializeToString()
        return content


def sigmoid(z: Any) -> Any:
    """1 / (1 + exp(-z))."""
    return 1 / (1 + np.exp(-z))


def binary(told: Any, happened: Any) -> TrainingData:
    """Validation rows with those probabilities."""
    rows = Matrix(told.astype(np.float32)[:, None], happened.astype(np.float32))
    return replace(estimator_cases.case("binary").select(["amount"]), validation=rows)


@pytest.fixture(scope="module")
def overconfident() -> TrainingData:
    """Probabilities that are too extreme by a factor of 2.5 of their log-odds, and too high."""
    happened = np.random.default_rng(1).random(len(ODDS)) < sigmoid(ODDS)
    return binary(sigmoid(2.5 * ODDS + 0.7), happened)


def test_the_sigmoid_undoes_a_distortion_of_its_kind(overconfident: TrainingData) -> None:
    model = calibrate(Given(), overconfident, "sigmoid")
    curve: Any = model.curves[0]
    assert 1 / curve.a == pytest.approx(2.5, rel=0.1)
    told = model.predict(overconfident.validation.x)
    assert np.abs(told - sigmoid(ODDS)).max() < 0.05
    plain = LogisticRegression(C=1e9, tol=1e-8).fit(
        (2.5 * ODDS + 0.7)[:, None], overconfident.validation.y
    )  # without Platt's targets
    assert curve.a == pytest.approx(plain.coef_[0, 0], rel=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_it_helps_on_rows_it_has_not_seen_and_keeps_their_order(method: str, overconfident: TrainingData) -> None:
    model = calibrate(Given(), overconfident, method)
    random = np.random.default_rng(5)
    odds = random.normal(size=4_000) * 1.5
    happened = (random.random(len(odds)) < sigmoid(odds)).astype(np.float32)
    raw = sigmoid(2.5 * odds + 0.7).astype(np.float32)
    told = model.predict(raw[:, None])
    assert log_loss(happened, told) < log_loss(happened, raw) - 0.05
    assert roc_auc(happened, told) == pytest.approx(roc_auc(happened, raw), abs=2e-3)
    assert (np.diff(told[np.argsort(raw)]) >= -1e-12).all()


@pytest.mark.parametrize("method", METHODS)
def test_the_graph_has_it_for_every_probability(method: str, overconfident: TrainingData) -> None:
    model = calibrate(Given(), overconfident, method)
    knots = [knot for curve in model.curves for knot in getattr(curve, "x", ())]
    around = np.array([0, 1e-30, 1e-6, 1 - 1e-6, 1, *knots, *np.nextafter(knots, 0), *np.linspace(0, 1, 2_000)])
    x = around.astype(np.float32)[:, None]
    served = Scorer.of(overconfident.encoder, model.to_onnx()).score_matrix(x)
    np.testing.assert_allclose(served, model.predict(x), rtol=0, atol=2e-5)
    assert ((served >= 0) & (served <= 1)).all()


def test_isotonic_follows_the_plain_one_without_its_steps(overconfident: TrainingData) -> None:
    p, y = overconfident.validation.x[:, 0].astype(np.float64), overconfident.validation.y
    curve = _Isotonic.fit(p, y > 0.5)
    plain = IsotonicRegression(out_of_bounds="clip").fit(p, y)
    assert np.abs(curve.of(p) - plain.predict(p)).mean() < 0.02
    assert (np.diff(curve.x) > 0).all()
    assert (np.diff(curve.y) > 0).all()
    assert 0 < curve.y[0] < curve.y[-1] < 1  # a row beyond them can still turn out either way


def test_isotonic_of_few_and_equal_probabilities() -> None:
    for p, y in (([0.3] * 9, [0, 1, 0] * 3), ([0.2, 0.9], [1, 0]), ([0.2, 0.2 + 1e-12, 0.9], [0, 1, 1])):
        model = calibrate(Given(), binary(np.array(p), np.array(y)), "isotonic")
        told = model.predict(np.linspace(0, 1, 50, dtype=np.float32)[:, None])
        assert ((told > 0) & (told < 1)).all()


def classes(method: str) -> tuple[CalibratedModel, TrainingData, Any]:
    """A model of three classes that is too sure of itself, corrected; and the true probabilities."""
    random = np.random.default_rng(3)
    logits = random.normal(size=(5_000, 3))
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    told = true**3 / (true**3).sum(axis=1, keepdims=True)
    y = (random.random((5_000, 1)) > true.cumsum(axis=1)).sum(axis=1)
    data = estimator_cases.case("multiclass")
    rows = replace(data, validation=Matrix(told.astype(np.float32), y.astype(np.float32)))
    return calibrate(Given(3), rows, method), rows, true


@pytest.mark.parametrize("method", METHODS)
def test_several_classes_are_corrected_together(method: str) -> None:
    model, rows, true = classes(method)
    x, y = rows.validation.x, rows.validation.y
    told = model.predict(x)
    np.testing.assert_allclose(told.sum(axis=1), 1)
    assert np.abs(told - true).mean() < 0.4 * np.abs(x - true).mean()
    assert log_loss(y, told) < log_loss(y, x) - 0.1
    if method == "temperature":
        assert model.sharpness == pytest.approx(1 / 3, rel=0.05)
    encoder = rows.select(["amount", "weight", "shop"]).encoder
    extreme = np.concatenate([x, np.eye(3, dtype=np.float32), np.full((1, 3), 1 / 3, np.float32)])
    served = Scorer.of(encoder, model.to_onnx()).score_matrix(extreme)
    np.testing.assert_allclose(served, model.predict(extreme), rtol=0, atol=5e-6)


def test_numbers_have_no_probabilities() -> None:
    with pytest.raises(TrainingError, match="corrects probabilities, and a regression model answers numbers"):
        LightGBM(rounds=5, calibrate="sigmoid").fit(estimator_cases.case("regression"), FitContext())


def test_an_estimator_asks_for_it_by_name() -> None:
    data = estimator_cases.case("binary")
    settings: dict[str, Any] = {"rounds": 60, "leaves": 8, "min_leaf": 5, "lr": 0.3, "early_stopping": 60}
    plain = LightGBM(**settings).fit(data, FitContext())
    model = LightGBM(**settings, calibrate="temperature").fit(data, FitContext())
    x, y = data.validation.x, data.validation.y
    assert log_loss(y, model.predict(x)) < log_loss(y, plain.predict(x))
    served = Scorer.of(data.encoder, model.to_onnx()).score_matrix(x)
    np.testing.assert_allclose(served, model.predict(x), rtol=0, atol=1e-5)
    with pytest.raises(TrainingError, match="calibrate must be one of None, 'sigmoid', 'isotonic', 'temperature'"):
        LightGBM(calibrate="platt")  # type: ignore[arg-type]  # what is refused
