"""What a training loads: a model's own metric, its task, a rank's rows; and mistakes told at the model's line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.unit.datasets.building import build, context
from trunkline.errors import DatasetError, TrainingError
from trunkline.models.task import Task
from trunkline.project.ml import Declared, declarations
from trunkline.project.probes import DEFAULTS
from trunkline.training.features import Learned
from trunkline.training.inputs import learn_inputs, load_inputs
from trunkline.warehouse.duckdb import open_duckdb

ML = """
import trunkline as tl

def worst(y, score):
    return float(abs(y - score).max())

def data(name, target):
    return tl.Dataset("mart", name=name, key="id", target=target, groups={"all": ["a", "v"]},
                      split=tl.split.by_key(validation=0.3, test=0.3))

numbers, kinds = data("numbers", "y"), data("kinds", "kind")

@tl.model(dataset=numbers, metric=tl.Metric("worst", worst, higher_is_better=False))
def own(trial): ...

@tl.model(dataset=numbers, quantiles=[0.25, 0.75])
def band(trial): ...

@tl.model(dataset=numbers, metric="roc_auc")
def misfit(trial): ...

@tl.model(dataset=kinds, quantiles=(0.5,))
def classes(trial): ...
"""
ROWS = "select i as id, i % 7 as a, [i, i % 5] as v, i * 0.5 as y, 'k' || (i % 3) as kind from range(200) t(i)"
ID = "d" * 64


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Declared]]:
    root = tmp_path_factory.mktemp("project")
    (root / "ml").mkdir()
    (root / "ml" / "models.py").write_text(ML)
    declared = {item.name: item for item in declarations(root)}
    warehouse = open_duckdb({"path": "local.duckdb"}, root)
    try:
        warehouse.execute(f"create table main.mart as {ROWS}")
        for name in ("numbers", "kinds"):
            build(context(warehouse, root), {**declared[name].data, "probes": dict.fromkeys(DEFAULTS, "off")}, ID)
    finally:
        warehouse.close()
    return root, declared


def test_a_models_metric_and_task_are_its_own(project: tuple[Path, dict[str, Declared]]) -> None:
    root, declared = project
    assert declared["own"].data["metric"] == {"name": "worst", "higher_is_better": False}
    own = load_inputs(root, declared["own"], ID).data
    assert (own.metric.name, own.metric.higher_is_better, own.task) == ("worst", False, Task("regression"))
    assert own.metric.of(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == 2.0
    band = load_inputs(root, declared["band"], ID).data
    assert (band.metric.name, band.task) == ("pinball_loss", Task("quantile", quantiles=(0.25, 0.75)))


def test_ranks_share_what_one_has_learned(project: tuple[Path, dict[str, Declared]]) -> None:
    root, declared = project
    whole = load_inputs(root, declared["own"], ID).data
    told = json.loads(json.dumps(learn_inputs(root, declared["own"], ID).to_json()))
    parts = [
        load_inputs(root, declared["own"], ID, shard=(rank, 2), learned=Learned.from_json(told)).data for rank in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate([part.train.x for part in parts]), whole.train.x)
    assert abs(len(parts[0].train) - len(parts[1].train)) <= 1
    for part in parts:
        np.testing.assert_array_equal(part.validation.x, whole.validation.x)
        assert (part.signature, part.metric.name) == (whole.signature, "worst")
    with pytest.raises(ValueError, match="learned from all rows"):
        load_inputs(root, declared["own"], ID, shard=(0, 2))


def test_what_does_not_fit_is_told_at_the_models_line(project: tuple[Path, dict[str, Declared]]) -> None:
    root, declared = project
    for model, error, message in (
        ("misfit", TrainingError, "no metric 'roc_auc' of a regression target"),
        ("classes", DatasetError, "quantiles are learned of a number, but the task of dataset 'kinds' is multiclass"),
    ):
        for load in (load_inputs, learn_inputs):
            with pytest.raises(error, match=message) as told:
                load(root, declared[model], ID)  # type: ignore[operator]
            assert (told.value.file, told.value.line) == (root / "ml" / "models.py", declared[model].line)
