"""Commands around a training: nothing is lost where the registry refuses, and what is wrong is told before the work."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.errors import EngineError, TrainingError, UserError
from trunkline.orchestration import comparing, compile, spinning, tuning
from trunkline.orchestration.spinning import Overrides
from trunkline.registry.protocol import RunRecord
from trunkline.training.records import StudyOpened, TrialRecord


def session(tmp_path: Path, told: list[str]) -> Any:
    """As far as a run is recorded."""

    def refuses() -> None:
        raise EngineError("the registry refuses")

    context = SimpleNamespace(
        state=tmp_path, registry=refuses, progress=told.append, now=lambda: dt.datetime.now(dt.UTC)
    )
    return SimpleNamespace(context=context)


def test_what_was_spun_is_kept_where_the_registry_refuses(tmp_path: Path) -> None:
    told: list[str] = []
    place = tmp_path / "spin_1"
    place.mkdir()
    spinning._log(session(tmp_path, told), place, {"seed": 1}, RunRecord(experiment="e", name="n"))
    assert json.loads((place / "spin.json").read_text()) == {"spin": "spin_1", "seed": 1}
    assert told[-1] == "not recorded yet: the registry refuses"


def test_what_was_compared_is_told_where_the_registry_refuses(tmp_path: Path) -> None:
    assert not comparing._told(session(tmp_path, []), RunRecord(experiment="e", name="n", key="k"))


def test_a_seed_that_no_library_takes_is_refused() -> None:
    with pytest.raises(UserError, match="the seed 4294967296 is not from 0 to 4294967295"):
        spinning.refuse_seed(Overrides({}, 2**32))
    spinning.refuse_seed(Overrides({}, 2**32 - 1))
    spinning.refuse_seed(Overrides({}))


def test_a_trial_without_a_model_is_not_picked() -> None:
    trials = tuple(
        TrialRecord(number, state, "fake", {}, 0.5, (), 1.0, None)
        for number, state in enumerate(("complete", "pruned", "failed"))
    )
    opened = StudyOpened("key", ("roc_auc",), True, trials)
    for number in (None, 0, 3):  # 3 may come
        tuning._refuse_pick(opened, number)
    for number in (1, 2):
        with pytest.raises(TrainingError, match=f"trial {number} is not a complete trial of this study: it is "):
            tuning._refuse_pick(opened, number)


def test_a_training_depends_on_every_library_that_may_fit_or_export_it() -> None:
    libraries = {"lightgbm", "xgboost", "scikit-learn", "torch", "tabm", "onnx", "onnxmltools", "skl2onnx"}
    assert set(compile._LIBRARIES) == libraries
