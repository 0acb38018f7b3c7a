"""Who is judged against whom; and rules are checked against what the model answers, before the look is counted."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trunkline.errors import ProjectError
from trunkline.gate.metrics import Bootstrap
from trunkline.gate.quality import OwnMetric
from trunkline.models.task import Task
from trunkline.orchestration.gating import _check_rules, _contenders
from trunkline.orchestration.verdicts import champion_alias
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
SCHEMA = pa.schema({"cut": pa.string(), "photo": pa.list_(pa.float32())})
COST = OwnMetric("cost", "lower", lambda outcome, scores: Bootstrap(np.zeros(1), np.zeros((1, 1))))


def deployment(tmp_path: Path, metric: str) -> Deployment:
    (tmp_path / "price.yml").write_text(FILE % metric)
    return read_deployment(tmp_path / "price.yml")


def test_metrics_of_the_task_and_of_the_model_may_be_named(tmp_path: Path) -> None:
    _check_rules(deployment(tmp_path, "r2"), Task("regression"), None, SCHEMA)
    _check_rules(deployment(tmp_path, "cost"), Task("regression"), COST, SCHEMA)


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
        _check_rules(deployment(tmp_path, metric), Task("regression"), COST, SCHEMA)
    assert caught.value.what == says
    assert (Path(caught.value.file or "").name, caught.value.line) == ("price.yml", 6)
    assert caught.value.hint == "its metrics are: cost, rmse, mae, r2"


@pytest.mark.parametrize(
    ("column", "says"),
    [("cutt", "no column 'cutt' to slice by. Did you mean 'cut'?"), ("photo", "there are no slices of it")],
)
def test_a_column_without_slices_is_an_error_with_its_line(tmp_path: Path, column: str, says: str) -> None:
    (tmp_path / "price.yml").write_text(f"deployment: price\ngate:\n  slices:\n    {column}: {{may_lose: 0.1}}\n")
    with pytest.raises(ProjectError, match=re.escape(says)) as caught:
        _check_rules(read_deployment(tmp_path / "price.yml"), Task("regression"), None, SCHEMA)
    assert caught.value.line == 4


@pytest.fixture
def session(tmp_path: Path) -> Any:
    """A registry with two versions of `price` and one of `baseline`."""
    registry = MemoryRegistry()
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    run = registry.log_run(RunRecord("suite", "train"))
    for name in ("price", "price", "baseline"):
        registry.register(name, tmp_path / "bundle", run_id=run, sha256="0", tags={}, example=None)
    context = SimpleNamespace(registry=lambda: registry)
    return SimpleNamespace(context=context, project=SimpleNamespace(deployments=[]))


@pytest.mark.parametrize(
    ("deployed", "champion", "asked", "judged"),
    [
        ("null", None, "models:/price/1", ("models:/price/1", None)),
        ("models:/baseline/1", None, "models:/price/1", ("models:/price/1", "models:/baseline/1")),
        ("models:/baseline/1", 2, "models:/price/1", ("models:/price/1", "models:/baseline/1")),
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


@pytest.mark.parametrize(
    ("before", "champion", "asked", "rival"),
    [
        (None, None, "models:/price/1", None),  # a new deployment
        ("models:/price/1", 1, "models:/price/2", "models:/price/1"),
        ("models:/price/1", 2, "models:/price/2", "models:/price/1"),  # a promotion moved the alias already
        ("models:/price/2", 1, "models:/price/2", "models:/price/1"),  # the rules are changed
        ("models:/baseline/1", None, "models:/price/2", "models:/baseline/1"),  # a model of another name
        ("models:/baseline/1", 1, "models:/price/2", "models:/baseline/1"),
        ("models:/price/1", None, "models:/baseline/1", "models:/price/1"),
        ("models:/price/1", 2, "models:/baseline/1", "models:/price/2"),  # main goes on
    ],
)
def test_a_change_is_judged_against_what_it_takes_the_place_of(
    tmp_path: Path, session: Any, before: str | None, champion: int | None, asked: str, rival: str | None
) -> None:
    (tmp_path / "price.yml").write_text(f"deployment: price\nmodel: {asked}\n")
    if champion:
        session.context.registry().set_alias("price", "champion", champion)
    _, found = _contenders(session, read_deployment(tmp_path / "price.yml"), asked, before)
    assert (found.uri if found else None) == rival


def test_two_deployments_of_one_model_have_aliases_of_their_own(tmp_path: Path, session: Any) -> None:
    for name, number in (("eu", 1), ("us", 2)):
        (tmp_path / f"{name}.yml").write_text(f"deployment: {name}\nmodel: models:/price/{number}\n")
    session.project.deployments = [read_deployment(tmp_path / f"{name}.yml") for name in ("eu", "us")]
    session.context.registry().set_alias("price", "champion-eu", 1)
    session.context.registry().set_alias("price", "champion", 2)
    _, rival = _contenders(session, session.project.deployments[0], "models:/price/2", "models:/price/1")
    assert rival is not None
    assert rival.uri == "models:/price/1"
    assert champion_alias(session.project.deployments, "eu", "baseline") == "champion"
