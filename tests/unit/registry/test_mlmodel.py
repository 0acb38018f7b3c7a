"""What the MLmodel file says of a model is what the loaded model takes and gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tests.unit.serving.conftest import ROW, SIGNATURE, make_bundle
from tests.unit.serving.test_tasks import TASKS
from trunkline.models.answer import answer
from trunkline.models.pyfunc import PyFunc
from trunkline.models.runtime import Scorer
from trunkline.models.task import Task
from trunkline.registry.mlmodel import input_columns, output_columns

PLAIN = {"double": float, "string": str, "map": dict, "doubles": list}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_predictions_are_frames_of_the_answers(task: Task, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", replace(SIGNATURE, task=task))
    said = output_columns(bundle.path / "signature.json")
    rows = [{**ROW, "distance": distance} for distance in (0.0, 900.0, 2400.0)]
    frame = pd.DataFrame(rows, index=[7, 8, 9])
    found = PyFunc(bundle).predict(frame)
    assert [*found.columns] == [name for name, _ in said]
    assert [*found.index] == [7, 8, 9]
    assert found.to_dict("records") == [answer(task, score) for score in Scorer(bundle).score_rows(rows)]
    for name, kind in said:
        assert isinstance(found[name].tolist()[0], PLAIN[kind])
    nothing = PyFunc(bundle).predict(frame.iloc[:0])
    assert ([*nothing.columns], len(nothing)) == ([name for name, _ in said], 0)


def test_inputs_are_said_as_mlflow_can_check_them(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", SIGNATURE)
    assert input_columns(bundle.path / "signature.json") == [
        ("distance", "any"),
        ("dep delay", "any"),
        ("carrier", "string"),
        ("rainy", "boolean"),
    ]
