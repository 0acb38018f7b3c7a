"""Who is judged against whom; and rules are checked against what the model answers, before the look is counted."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from trunkline.errors import ProjectError
from trunkline.gate.metrics import Bootstrap
from trunkline.gate.quality import OwnMetric
from trunkline.models.task import Task
from trunkline.orchestration.gating import _check_rules, _contenders
from trunkline.project.deploy import Deployment, read_deployment
from trunkline.registry.memory import MemoryRegistry
from trunkline.registry.protocol import RunRecord

FILE = """\
deployment: price
gate:
  slices: [cut]
  metrics:
    mae: {at_most: 300}
    %s: {may_lose: 0}
"""
COST = OwnMetric("cost", "lower", lambda outcome, scores: Bootstrap(np.zeros(1), np.zeros((1, 1))))


def deployment(tmp_path: Path, metric: str) -> Deployment:
    (tmp_path / "price.yml").write_text(FILE % metric)
    return read_deployment(tmp_path / "price.yml")


def test_metrics_of_the_task_and_of_the_model_may_be_named(tmp_path: Path) -> None:
    _check_rules(deployment(tmp_path, "r2"), Task("regression"), None)
    _check_rules(deployment(tmp_path, "cost"), Task("regression"), COST)


@pytest.mark.parametrize(
    ("metric", "says"),
    [
        ("rsme", "a regression model has no metric 'rsme' at the gate. Did you mean 'rmse'?"),
        ("roc_auc", "a regression model has no metric 'roc_auc' at the gate."),
        ("costs", "a regression model has no metric 'costs' at the gate. Did you mean 'cost'?"),
    ],
)
def test_another_metric_is_an_error_with_its_line(tmp_path: Path, metric: str, says: str) -> None:
    with pytest.raises(ProjectError) as caught:
        _check_rules(deployment(tmp_path, metric), Task("regression"), COST)
    assert caught.value.what == says
    assert (Path(caught.value.file or "").name, caught.value.line) == ("price.yml", 6)
    assert caught.value.hint == "its metrics are: cost, rmse, mae, r2"


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """A registry with two versions of `price` and one of `baseline`."""
    registry = MemoryRegistry()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    run = registry.log_run(RunRecord("suite", "train"))
    for name in ("price", "price", "baseline"):
        registry.register(name, tmp_path / "bundle", run_id=run, sha256="0", tags={}, example=None)
    return SimpleNamespace(context=SimpleNamespace(registry=lambda: registry))


@pytest.mark.parametrize(
    ("deployed", "champion", "asked", "judged"),
    [
        ("null", None, "models:/price/1", ("models:/price/1", None)),
        ("models:/baseline/1", None, "models:/price/1", ("models:/price/1", "models:/baseline/1")),
        ("models:/baseline/1", 2, "models:/price/1", ("models:/price/1", "models:/price/2")),
        ("models:/price/1", None, "models:/price/1", ("models:/price/1", None)),
        ("models:/price/1", 1, None, ("models:/price/2", "models:/price/1")),
        ("models:/price/2", 1, None, ("models:/price/2", "models:/price/1")),
    ],
)
def test_who_is_judged_against_whom(
    tmp_path: Path, session: Any, deployed: str, champion: int | None, asked: str | None, judged: tuple[str, str | None]
) -> None:
    (tmp_path / "price.yml").write_text(f"deployment: price\nmodel: {deployed}\n")
    if champion:
        session.context.registry().set_alias("price", "champion", champion)
    candidate, rival = _contenders(session, read_deployment(tmp_path / "price.yml"), asked)
    assert (candidate.uri, rival.uri if rival else None) == judged
