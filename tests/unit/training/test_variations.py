"""Variations of parameters: one thing changes, and the rest stays as it is where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trunkline as tl
from trunkline.errors import TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.project.declare import Model
from trunkline.training.experiments.variations import near, variations


def build(trial: Any) -> LightGBM | MLP:
    """Two families, which ask for a learning rate of different ranges by one name."""
    if trial.suggest_categorical("family", ["lightgbm", "mlp"]) == "lightgbm":
        leaves = trial.suggest_int("leaves", 7, 63)
        return LightGBM(
            leaves=leaves, lr=trial.suggest_float("lr", 0.05, 0.5), rounds=trial.suggest_categorical("n", [5, 9])
        )
    return MLP(lr=trial.suggest_float("lr", 1e-4, 1e-2), depth=trial.suggest_categorical("n", [1, 5, 9]))


KNOWN = {"family": "lightgbm", "leaves": 30, "lr": 0.2, "n": 9}
ORDERS = tl.Dataset("mart", key="id", target="y", groups={"all": ["a"]}, split=tl.split.by_key())
MODEL = Model("either", build, ORDERS, None, {}, Path("ml/either.py"), 3)


def test_without_a_parameter_to_vary_it_is_the_known_one() -> None:
    assert variations(MODEL, KNOWN, []) == {"lightgbm": KNOWN}


def test_one_parameter_changes_and_what_fits_stays() -> None:
    found = variations(MODEL, KNOWN, ["family"])
    assert found["lightgbm"] == KNOWN
    assert found["mlp"] == {"family": "mlp", "lr": (1e-4 + 1e-2) / 2, "n": 9}  # 0.2 is no learning rate of an MLP


def test_several_are_combined() -> None:
    found = variations(MODEL, KNOWN, ["family", "n"])
    assert list(found) == ["family=lightgbm, n=5", "family=lightgbm, n=9", "family=mlp, n=5", "family=mlp, n=9"]
    assert {params["n"] for params in found.values()} == {5, 9}


@pytest.mark.parametrize(
    ("vary", "match"), [("leaves", "no categorical parameter 'leaves'"), ("famly", "Did you mean 'family'")]
)
def test_what_cannot_be_varied_is_told(vary: str, match: str) -> None:
    with pytest.raises(TrainingError, match=match) as caught:
        variations(MODEL, KNOWN, [vary])
    assert caught.value.line == 3
    assert caught.value.hint == "categorical parameters: family, n"


def test_too_many_combinations_are_refused() -> None:
    many = Model("many", _many, ORDERS, None, {}, Path("ml/many.py"), 1)
    with pytest.raises(TrainingError, match="a x b are 81 combinations"):
        variations(many, {}, ["a", "b"])


def _many(trial: Any) -> LightGBM:
    return LightGBM(leaves=2 + sum(trial.suggest_categorical(name, list(range(9))) for name in "ab"))


def test_what_is_wanted_must_be_asked_for() -> None:
    assert near(build, {"leaves": 7}, KNOWN) == {**KNOWN, "leaves": 7}
    with pytest.raises(TrainingError, match="Did you mean 'leaves'"):
        near(build, {"leafs": 7}, KNOWN)
    with pytest.raises(TrainingError, match="but must be an integer of 7 to 63"):
        near(build, {"leaves": 700}, KNOWN)
