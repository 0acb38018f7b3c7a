"""Parameters without a search, and the boundary around the user's model function."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import optuna
import pytest

from trunkline.errors import TrainingError
from trunkline.estimators import MLP, LightGBM
from trunkline.training.boundary import build_estimator, build_with
from trunkline.training.trial import DefaultTrial


def build(trial: Any) -> MLP | LightGBM:
    """Two families with parameters of their own."""
    if trial.suggest_categorical("family", ["mlp", "lightgbm"]) == "mlp":
        return MLP(
            width=trial.suggest_int("width", 64, 512, log=True),
            dropout=trial.suggest_float("dropout", 0.0, 0.5, step=0.1),
            lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True),
        )
    return LightGBM(leaves=trial.suggest_int("leaves", 15, 255))


def test_defaults_are_the_first_choice_and_the_middle() -> None:
    estimator, params = build_with(build, None)
    assert params == {"family": "mlp", "width": 181, "dropout": pytest.approx(0.2), "lr": pytest.approx(1e-3)}
    assert isinstance(estimator, MLP)
    assert estimator.width == 181


def test_choices_that_no_study_can_keep_are_refused_at_once() -> None:
    with pytest.raises(TrainingError, match=r"'widths' has the choice \(64, 64\), a tuple, which no study can keep"):
        build_with(lambda trial: MLP(width=trial.suggest_categorical("widths", [64, (64, 64)])[0]), None)


def test_given_parameters_are_taken_and_the_rest_are_defaults() -> None:
    estimator, params = build_with(build, {"family": "lightgbm", "leaves": 31})
    assert estimator == LightGBM(leaves=31)
    assert params == {"family": "lightgbm", "leaves": 31}


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"widht": 128}, r"no parameter 'widht'. Did you mean 'width'\?"),
        ({"family": "lightgbm", "width": 128}, "no parameter 'width'"),
        ({"family": "mpl"}, r"'family' is 'mpl', but must be one of \['mlp', 'lightgbm'\]"),
        ({"width": 1024}, "'width' is 1024, but must be an integer of 64 to 512"),
        ({"width": 128.0}, r"'width' is 128\.0, but must be an integer"),
        ({"lr": True}, "'lr' is True, but must be a number"),
    ],
)
def test_a_wrong_parameter_is_told(params: dict[str, Any], message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        build_with(build, params)


@pytest.mark.parametrize("seed", range(20))
def test_what_optuna_draws_is_taken(seed: int) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    trial = study.ask()
    estimator = build(trial)
    assert build_with(build, trial.params) == (estimator, trial.params)


@pytest.mark.parametrize(
    "suggest",
    [
        lambda trial: trial.suggest_float("x", 2.0, 1.0),
        lambda trial: trial.suggest_int("x", 0, 10, log=True),
        lambda trial: trial.suggest_categorical("x", []),
    ],
)
def test_a_space_that_is_none_is_refused(suggest: Callable[[DefaultTrial], Any]) -> None:
    with pytest.raises(TrainingError, match="parameter 'x'"):
        suggest(DefaultTrial())


USERS = """
from trunkline.estimators import MLP

def rate(text):
    return float(text)

def breaks(trial):
    return MLP(lr=rate("fast"))

def out_of_range(trial):
    return MLP(
        width=0,
    )

def empty_space(trial):
    return MLP(width=trial.suggest_int("width", 512, 64))

def nothing(trial):
    MLP()
"""


@pytest.fixture
def users(tmp_path: Path) -> ModuleType:
    """A module of the user's project."""
    path = tmp_path / "ml" / "delay.py"
    path.parent.mkdir()
    path.write_text(USERS)
    spec = importlib.util.spec_from_file_location("users_delay", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        ("breaks", 5, "breaks() failed with ValueError: could not convert string to float: 'fast'"),
        ("out_of_range", 11, "MLP(width=0): width must be an integer >= 1"),
        ("empty_space", 16, "parameter 'width' has the range 512 to 64, which is empty"),
        ("nothing", 18, "nothing() returned None, which is no estimator"),
    ],
)
def test_a_fault_of_the_user_points_into_the_user_s_file(
    users: ModuleType, function: str, line: int, message: str
) -> None:
    with pytest.raises(TrainingError) as caught:
        build_estimator(getattr(users, function), DefaultTrial())
    assert caught.value.what.splitlines()[0] == message
    assert caught.value.where == f"{users.__file__}:{line}"


def test_the_user_s_traceback_is_shown_without_ours(users: ModuleType) -> None:
    with pytest.raises(TrainingError) as caught:
        build_estimator(users.breaks, DefaultTrial())
    assert caught.value.what.splitlines()[1:] == [
        f'  {users.__file__}:8 in breaks: return MLP(lr=rate("fast"))',
        f"  {users.__file__}:5 in rate: return float(text)",
    ]
