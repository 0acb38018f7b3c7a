"""What docs/search.md shows is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.conftest import SCHEMA, table
from trunkline.cli.main import _trunkline
from trunkline.estimators import LightGBM
from trunkline.models.signature import Signature
from trunkline.project import yaml
from trunkline.project.config import read_config
from trunkline.project.ml import declarations
from trunkline.training.features import prepare

PAGE = Path(__file__).parent.parent.parent / "docs" / "search.md"


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


def test_the_models_are_declared(tmp_path: Path) -> None:
    (tmp_path / "ml").mkdir()
    (tmp_path / "ml" / "returns.py").write_text("\n".join(blocks("python")[:2]))
    found = {item.name: item.data for item in declarations(tmp_path) if item.kind == "model"}
    assert found["returns"]["objectives"] == []
    assert found["small_returns"]["objectives"] == ["latency_us", "size_kb"]


def test_the_python_block_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def build(trial: Any) -> LightGBM:
        return LightGBM(leaves=trial.suggest_int("leaves", 3, 15), rounds=20, min_leaf=5)

    data = prepare(table(600, 1), table(300, 2), Signature.from_schema(SCHEMA, target="late"))
    exec(blocks("python")[2], {"build": build, "folder": tmp_path, "data": data})
    assert "leaves" in capsys.readouterr().out


def test_the_setting_is_one(tmp_path: Path) -> None:
    (tmp_path / "trunkline.yml").write_text(blocks("yaml")[0])
    assert yaml.load(tmp_path / "trunkline.yml").data
    assert read_config(tmp_path).search.storage == "env:SEARCH_DATABASE"


def test_the_options_are_there() -> None:
    for line in "".join(blocks("console")).splitlines():
        name, *arguments = line.removeprefix("$ trunkline ").split()
        command = _trunkline.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        if name == "studies":
            command = command.get_command(None, arguments[0])  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= known
