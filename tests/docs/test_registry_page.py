"""The page of the registry: its files parse, its server's options and settings exist, its tags are a version's."""

from __future__ import annotations

import configparser
import re
from importlib.util import find_spec
from pathlib import Path

from trunkline.project.config import Tracking, read_config
from trunkline.registry.mlflow_calls import PATIENCE_SECONDS

PAGE = (Path(__file__).parents[2] / "docs" / "registry.md").read_text("utf-8")
STEP = Path(__file__).parents[2] / "src" / "trunkline"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_file_is_read(tmp_path: Path) -> None:
    (text,) = _blocks("yaml")
    (tmp_path / "trunkline.yml").write_text(text)
    expected = Tracking(uri="https://mlflow.example.com", experiment="flights")
    assert read_config(tmp_path).tracking == expected
    assert expected.patience == PATIENCE_SECONDS == 15


def _of_mlflow(file: str) -> str:
    """The source of a file of MLflow's: importing its server takes seconds, and warns about itself."""
    spec = find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / file).read_text("utf-8")


def test_the_server_knows_its_options_and_settings() -> None:
    cli = _of_mlflow("cli/__init__.py") + _of_mlflow("utils/cli_args.py")
    settings = _of_mlflow("environment_variables.py")
    commands = [line.split() for block in _blocks("sh") for line in block.splitlines()]
    servers = [command[2:] for command in commands if command[:2] == ["mlflow", "server"]]
    asked = {word for words in servers for word in words if word.startswith("--")}
    assert len(servers) == 2
    assert len(asked) == 5
    assert asked | set(re.findall(r"`(--[a-z-]+)", PAGE)) <= set(re.findall(r'"(--[a-z-]+)"', cli))
    told = set(re.findall(r"MLFLOW_[A-Z0-9_]+", PAGE))
    assert len(told) > 8
    assert told <= set(re.findall(r'"(MLFLOW_[A-Z0-9_]+)"', cli + settings)) | {"MLFLOW_S3_ENDPOINT_URL"}


def test_the_accounts_file_has_what_the_server_reads() -> None:
    (text,) = _blocks("ini")
    config = configparser.ConfigParser()
    config.read_string(text)
    assert set(config["mlflow"]) <= set(re.findall(r'"(\w+)"', _of_mlflow("server/auth/config.py")))


def test_the_tags_are_those_that_are_set() -> None:
    rows = re.findall(r"^\| (`.*?) \| ", PAGE, re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([^`]+)`", row)} - {"trunkline.gate.NAME"}
    code = "".join((STEP / file).read_text("utf-8") for file in ("training/ancestry.py", "registry/ancestry.py"))
    set_there = set(re.findall(r'"(trunkline\.\w+)"', code))
    assert told == set_there | {"sha256", "trunkline.files"}
