"""A training that was ended and taken up: the same bundle, and the whole curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trunkline.estimators import LightGBM
from trunkline.training.checkpoints import FolderCheckpoints
from trunkline.training.protocol import FitContext, TrainingData
from trunkline.training.run import TrainSpec, train_in


class _Ended(Exception):
    pass


def build(trial: Any) -> LightGBM:
    """More rounds than a checkpoint waits for."""
    return LightGBM(leaves=4, rounds=300, lr=0.02, min_leaf=20, early_stopping=300)


SPEC = TrainSpec("delay", build)


def _end_at(last: int) -> Any:
    def report(step: int, value: float) -> None:
        if step >= last:
            raise _Ended

    return report


def test_a_training_goes_on_from_its_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    kept = FolderCheckpoints(tmp_path / "kept", pause=0.0)
    with pytest.raises(_Ended):
        train_in(FitContext(report=_end_at(250), checkpoints=kept), SPEC, data, {}, tmp_path / "ended")
    assert not (tmp_path / "ended").exists()
    heard: list[int] = []
    context = FitContext(report=lambda step, value: heard.append(step), checkpoints=kept)
    resumed = train_in(context, SPEC, data, {}, tmp_path / "resumed")
    whole = train_in(FitContext(), SPEC, data, {}, tmp_path / "whole")
    assert heard == [225, 250, 275, 300]
    assert resumed.history == whole.history
    assert resumed.bundle.sha256 == whole.bundle.sha256
