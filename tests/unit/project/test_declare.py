"""What a model's declaration says, and what it refuses, at the line of the user's that is wrong."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

import trunkline as tl
from trunkline.errors import ProjectError

DATA = tl.Dataset("rows", key="id", target="y", groups={"all": ["x"]}, split=tl.split.by_key())


def cost(y: Any, score: Any) -> float:
    """A metric."""
    return float(abs(y - score).mean())


def declared(**settings: Any) -> tl.Model:
    """A model declared so."""
    return tl.model(dataset=DATA, **{"name": "m", **settings})(lambda trial: None)


def test_a_declaration_is_plain_data_but_for_its_functions() -> None:
    assert declared(name="m").to_json() == {
        "name": "m", "dataset": "rows", "metric": None, "first": {}, "quantiles": [], "objectives": [],
    }  # fmt: skip
    told = declared(
        metric=tl.Metric("cost", cost, higher_is_better=False), quantiles=(0.1, 0.9), objectives=["latency_us"]
    )
    assert json.loads(json.dumps(told.to_json())) | {"name": ""} == {
        "name": "", "dataset": "rows", "metric": {"name": "cost", "higher_is_better": False}, "first": {},
        "quantiles": [0.1, 0.9], "objectives": ["latency_us"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metric": cost}, r'metric=<function cost.* wants a name such as "roc_auc", or tl\.Metric'),
        ({"quantiles": 0.5}, r"quantiles=0\.5\) wants numbers between 0 and 1 that rise"),
        ({"quantiles": (0.5, 0.1)}, "that rise"),
        ({"quantiles": (0.5, 0.5)}, "that rise"),
        ({"quantiles": (0.0, 0.5)}, "between 0 and 1"),
        ({"quantiles": (50,)}, "between 0 and 1"),
        ({"quantiles": "0.5"}, "between 0 and 1"),
        ({"name": "delay.eu"}, r"name='delay\.eu'\) wants a name of letters, digits, '_' and '-'"),
        ({"name": ""}, "wants a name"),
        ({"objectives": "size_kb"}, r"wants a list, such as \['size_kb'\]"),
        ({"objectives": ["size_mb"]}, r"latency_us, size_kb, train_seconds\. Did you mean 'size_kb'"),
        ({"objectives": ["size_kb", "size_kb"]}, "each one once"),
    ],
)
def test_a_wrong_setting_is_told_with_its_line(settings: dict[str, Any], message: str) -> None:
    frame = inspect.currentframe()
    assert frame is not None
    with pytest.raises(ProjectError, match=message) as told:
        tl.model(dataset=DATA, **settings)
    assert Path(str(told.value.file)) == Path(__file__)
    assert told.value.line == frame.f_lineno - 2


def test_a_function_that_cannot_name_a_model_is_told_with_its_line() -> None:
    def größe(trial: tl.Trial) -> None:
        """Its name is no model's."""

    with pytest.raises(ProjectError, match="'größe' cannot name a model") as told:
        tl.model(dataset=DATA)(größe)
    assert (told.value.file, told.value.line) == (Path(__file__), größe.__code__.co_firstlineno)
