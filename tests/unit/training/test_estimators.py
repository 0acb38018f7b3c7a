"""The two estimators: they learn, they repeat, and their export is what they are."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.errors import TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.models.runtime import Scorer
from trunkline.training import settings as shared
from trunkline.training.metrics import METRICS, roc_auc
from trunkline.training.protocol import Estimator, FitContext, Fitted, Pruned, TrainingData
from trunkline.training.trees.graph import floor32

QUICK: dict[str, Estimator] = {
    "mlp": MLP(width=32, epochs=4, batch_size=256, lr=5e-3),
    "lightgbm": LightGBM(rounds=80, lr=0.1, leaves=15, min_leaf=20),
}


def fit(estimator: Estimator, data: TrainingData, seed: int = 1) -> tuple[Fitted, list[tuple[int, float]]]:
    """Fit on one thread; the model and what it reported."""
    told: list[tuple[int, float]] = []
    fitted = estimator.fit(
        data, FitContext(seed=seed, threads=1, report=lambda step, value: told.append((step, value)))
    )
    return fitted, told


@pytest.fixture(scope="module", params=QUICK)
def name(request: pytest.FixtureRequest) -> str:
    """Each estimator's name."""
    return str(request.param)


@pytest.fixture(scope="module")
def fitted(name: str, data: TrainingData) -> tuple[Fitted, list[tuple[int, float]]]:
    """Each estimator, fitted once, and what it reported."""
    return fit(QUICK[name], data)


@pytest.fixture(scope="module")
def exported(fitted: tuple[Fitted, list[tuple[int, float]]]) -> bytes:
    """Its export."""
    return fitted[0].to_onnx()


def test_it_learns(fitted: tuple[Fitted, list[tuple[int, float]]], data: TrainingData) -> None:
    score = fitted[0].predict(data.validation.x)
    assert score.dtype == np.float64
    assert roc_auc(data.validation.y, score) > 0.83


def test_the_best_reported_step_is_kept(
    name: str, fitted: tuple[Fitted, list[tuple[int, float]]], data: TrainingData
) -> None:
    model, told = fitted
    steps, values = zip(*told, strict=True)
    assert steps == ((1, 2, 3, 4) if name == "mlp" else (25, 50, 75, 80))
    assert roc_auc(data.validation.y, model.predict(data.validation.x)) >= max(values) - 1e-9


def test_the_export_scores_the_same_on_missing_and_unseen(
    fitted: tuple[Fitted, list[tuple[int, float]]], exported: bytes, data: TrainingData
) -> None:
    random = np.random.default_rng(3)
    absent = np.array([0 if column.cardinality else np.nan for column in data.encoder.columns], np.float32)
    damaged = np.where(random.random(data.validation.x.shape) < 0.3, absent, data.validation.x)
    extreme = data.validation.x[:4].copy()
    extreme[:, 0] = [0.0, -0.0, 3e38, -3e38]
    for matrix in (data.validation.x, damaged, np.tile(absent, (3, 1)), extreme):
        served = Scorer.of(data.encoder, exported).score_matrix(matrix)
        np.testing.assert_allclose(served, fitted[0].predict(matrix), rtol=0, atol=1e-5)


def test_one_row_scores_as_in_a_batch(exported: bytes, data: TrainingData) -> None:
    scorer = Scorer.of(data.encoder, exported)
    batch = scorer.score_matrix(data.validation.x[:20])
    singly = [scorer.score_matrix(data.validation.x[index : index + 1])[0] for index in range(20)]
    np.testing.assert_allclose(singly, batch, rtol=0, atol=1e-6)


def test_the_same_seed_gives_the_same_bytes(name: str, exported: bytes, data: TrainingData) -> None:
    assert fit(QUICK[name], data)[0].to_onnx() == exported
    assert fit(QUICK[name], data, seed=2)[0].to_onnx() != exported


def test_the_export_tells_nothing_of_this_machine(exported: bytes) -> None:
    onnx.checker.check_model(onnx.load_model_from_string(exported), full_check=True)
    assert b".py" not in exported
    assert b"trunkline.training" not in exported


def test_the_export_is_quiet(name: str, data: TrainingData, capfd: pytest.CaptureFixture[str]) -> None:
    fit(QUICK[name], data.select(["delay", "carrier"]))[0].to_onnx()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("features", [["carrier"], ["delay"]])
def test_few_columns_of_any_kind_will_do(name: str, features: list[str], data: TrainingData) -> None:
    part = data.select(features)
    model, _ = fit(QUICK[name], part)
    served = Scorer.of(part.encoder, model.to_onnx()).score_matrix(part.validation.x)
    np.testing.assert_allclose(served, model.predict(part.validation.x), rtol=0, atol=1e-5)


def test_a_reporter_ends_the_fit(name: str, data: TrainingData) -> None:
    steps = []

    def report(step: int, value: float) -> None:
        steps.append(step)
        raise Pruned

    with pytest.raises(Pruned):
        QUICK[name].fit(data, FitContext(seed=1, threads=1, report=report))
    assert len(steps) == 1


def test_a_metric_that_falls_is_followed_down(name: str, data: TrainingData) -> None:
    model, told = fit(QUICK[name], replace(data, metric=METRICS["log_loss"]))
    assert told[-1][1] < told[0][1] < 0.6
    assert roc_auc(data.validation.y, model.predict(data.validation.x)) > 0.83


def test_fitting_stops_early(name: str, data: TrainingData) -> None:
    hasty: Estimator = (
        MLP(width=64, epochs=60, batch_size=128, lr=2e-2, patience=2, dropout=0.0)
        if name == "mlp"
        else LightGBM(rounds=2_000, lr=0.3, early_stopping=20, min_leaf=5)
    )
    _, told = fit(hasty, data)
    assert told[-1][0] < (40 if name == "mlp" else 600)


def test_trees_that_find_no_split_are_a_model_all_the_same(data: TrainingData) -> None:
    model, _ = fit(LightGBM(min_leaf=5_000), data)
    score = model.predict(data.validation.x)
    np.testing.assert_allclose(score, data.train.y.mean(), atol=1e-6)
    np.testing.assert_allclose(
        Scorer.of(data.encoder, model.to_onnx()).score_matrix(data.validation.x), score, atol=1e-6
    )


def test_rows_at_a_threshold_take_the_same_path(data: TrainingData) -> None:
    part = data.select(["distance"])
    model, _ = fit(LightGBM(rounds=40, lr=0.5, leaves=63, min_leaf=5), part)
    seen = np.unique(part.train.x)
    middles = ((seen[1:].astype(np.float64) + seen[:-1]) / 2).astype(np.float32)  # LightGBM splits halfway
    around = np.concatenate([middles, np.nextafter(middles, np.float32(0)), np.nextafter(middles, np.float32(1e9))])
    served = Scorer.of(part.encoder, model.to_onnx()).score_matrix(around[:, None])
    np.testing.assert_allclose(served, model.predict(around[:, None]), rtol=0, atol=1e-5)


@given(st.floats(width=32, allow_nan=False), st.floats(allow_nan=False))
def test_a_threshold_rounded_down_splits_alike(value: float, threshold: float) -> None:
    (rounded,) = floor32(np.array([threshold]))
    assert (value <= rounded) == (value <= threshold)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (MLP, {"width": 0}, r"MLP\(width=0\): width must be an integer >= 1"),
        (MLP, {"depth": 2.0}, r"depth must be an integer"),
        (MLP, {"lr": 0}, "lr must be a number > 0"),
        (MLP, {"dropout": 1.0}, "dropout must be a number >= 0 and < 1"),
        (MLP, {"epochs": True}, "epochs must be an integer"),
        (LightGBM, {"leaves": 1}, "leaves must be an integer >= 2"),
        (LightGBM, {"feature_fraction": 1.5}, "feature_fraction must be a number > 0 and <= 1"),
        (LightGBM, {"l2": float("nan")}, "l2 must be a number"),
        (LightGBM, {"lr": "fast"}, "lr must be a number"),
    ],
)
def test_a_setting_out_of_range_is_named(kind: type[Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        kind(**settings)


def test_a_framework_that_is_not_installed_is_named(data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"mlp": ("trunkline.training.not_there:fit", "pip install 'trunkline[torch]'")}
    monkeypatch.setattr(shared, "IMPLEMENTATIONS", absent)
    with pytest.raises(TrainingError, match=r"needs trunkline\.training\.not_there") as caught:
        fit(MLP(), data)
    assert caught.value.hint == "pip install 'trunkline[torch]'"


def test_naming_an_estimator_loads_no_framework() -> None:
    code = (
        "import sys; from trunkline.estimators import MLP, LightGBM; MLP(); LightGBM();"
        "print(sorted({'torch', 'lightgbm', 'numpy', 'pyarrow', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
