"""A training from the model function to the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.unit.training.conftest import table
from tests.unit.training.fakes import Fake
from trunkline.errors import IntegrityError, TrainingError
from trunkline.estimators import MLP, LightGBM, TabM, Torch, XGBoost
from trunkline.models.bundle import Bundle
from trunkline.models.pyfunc import _load_pyfunc
from trunkline.models.runtime import Scorer
from trunkline.training.checkpoints import FolderCheckpoints
from trunkline.training.parity import verify
from trunkline.training.protocol import FitContext, Peers, TrainingData
from trunkline.training.run import Trained, TrainSpec, refuse_peers, train, train_in


def build(trial: Any) -> LightGBM:
    """A quick one."""
    return LightGBM(leaves=trial.suggest_int("leaves", 7, 31), rounds=50, lr=0.2, min_leaf=20)


SPEC = TrainSpec("delay", build, {"dataset": "flights-1234"})


@pytest.fixture(scope="module")
def trained(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """One training."""
    return train(SPEC, data, params={"leaves": 15}, seed=3, out=tmp_path_factory.mktemp("out") / "bundle")


def test_the_bundle_says_how_it_came_to_be(trained: Trained, data: TrainingData) -> None:
    metadata = Bundle.open(trained.bundle.path, expect_sha256=trained.bundle.sha256).metadata
    assert metadata["model"] == "delay"
    assert metadata["dataset"] == "flights-1234"
    assert metadata["params"] == trained.params == {"leaves": 15}
    assert metadata["metrics"] == trained.metrics
    assert metadata["settings"]["rounds"] == 50
    assert metadata["rows"] == {"train": len(data.train), "validation": len(data.validation)}


def test_the_metrics_are_those_of_validation(trained: Trained) -> None:
    low, high = trained.interval
    assert 0.83 < low < trained.value == trained.metrics["roc_auc"] < high
    assert set(trained.metrics) == {"roc_auc", "average_precision", "log_loss", "brier", "accuracy", "f1"}
    assert [step for step, _ in trained.history] == [25, 50]
    assert trained.parity < 1e-5


def test_the_served_scores_are_the_same_from_every_side(trained: Trained) -> None:
    rows = table(50, 9, new=True).drop_columns(["late"])
    scorer = Scorer(trained.bundle)
    scores = scorer.score(rows).tolist()
    requests = [row | {"departure": row["departure"].isoformat()} for row in rows.to_pylist()]
    trained.bundle.signature.check_rows(requests)
    assert scorer.score_rows(requests) == scores
    frame = rows.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert _load_pyfunc(str(trained.bundle.path)).predict(frame)["score"].tolist() == scores


def test_the_same_training_gives_the_same_digest(trained: Trained, data: TrainingData, tmp_path: Path) -> None:
    again = train(SPEC, data, params={"leaves": 15}, seed=3, out=tmp_path / "again")
    assert again.bundle.sha256 == trained.bundle.sha256
    other = train(SPEC, data, params={"leaves": 15}, seed=4, out=tmp_path / "other")
    assert other.bundle.sha256 != trained.bundle.sha256


def test_progress_is_told_and_can_end_the_training(data: TrainingData, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def report(step: int, value: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        train(SPEC, data, out=tmp_path / "bundle", report=report)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fake", [Fake(noise=0.01), Fake(lie=2e-4), Fake(lie=float("nan"))], ids=str)
def test_an_export_that_scores_otherwise_is_not_saved(fake: Fake, data: TrainingData, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="not saved|as the fitted one does"):
        train(TrainSpec("fake", lambda _: fake), data, out=tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_honest_export_is_saved(data: TrainingData, tmp_path: Path) -> None:
    assert train(TrainSpec("fake", lambda _: Fake()), data, out=tmp_path / "bundle").parity < 1e-6


def test_parity_looks_at_missing_values_that_the_data_lack(data: TrainingData) -> None:
    class Forgetful:
        """Scores NaN otherwise than it was fitted; the column it is asked about has none."""

        encoder = data.select(["distance"]).encoder

        def score_matrix(self, matrix: Any) -> Any:
            return fitted.predict(matrix) + pd.isna(matrix[:, 0]) * 0.01

    part = data.select(["distance"])
    fitted = Fake().fit(part, FitContext(seed=0, threads=1, report=lambda step, value: None))
    assert not pd.isna(part.validation.x).any()
    with pytest.raises(IntegrityError):
        verify(Forgetful(), fitted, part.validation.x)


def test_rows_are_shared_only_with_an_estimator_that_knows_of_it(data: TrainingData, tmp_path: Path) -> None:
    shared = FitContext(peers=Peers(0, 2, 12_000))
    with pytest.raises(TrainingError, match="fake is fitted by one process, not by 2") as caught:
        train_in(shared, TrainSpec("delay", lambda trial: Fake()), data, {}, tmp_path / "out")
    assert "takes_peers = True" in str(caught.value.hint)
    for knows in (LightGBM(), XGBoost(), MLP(), TabM(), Torch(module=dict)):
        refuse_peers(knows, 2)
    refuse_peers(Fake(), 1)


def test_a_checkpoint_of_another_version_is_passed_over(
    data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept() -> tuple[int, ...]:
        heard: list[int] = []
        spec = TrainSpec("delay", lambda trial: LightGBM(leaves=4, rounds=250, lr=0.02, early_stopping=250))
        checkpoints = FolderCheckpoints(tmp_path / "kept")
        report = FitContext(report=lambda step, value: heard.append(step), checkpoints=checkpoints)
        train_in(report, spec, data, {}, tmp_path / "out")
        return tuple(heard)

    assert kept()[0] == 25
    assert kept()[0] == 225
    monkeypatch.setattr("trunkline.training.run.version", lambda name: "0.0.0")
    assert kept()[0] == 25
