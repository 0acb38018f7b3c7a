"""No process that we start lets MLflow load a pickle, whatever the environment says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.unit.registry.tiny import write_tiny
from trunkline.cli.main import main
from trunkline.project.apart import _child
from trunkline.serving import process

NAME = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


@pytest.fixture(autouse=True)
def _careless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "true")


def _environ(pid: int) -> dict[str, str]:
    until = time.monotonic() + 10
    while not (given := Path(f"/proc/{pid}/environ").read_text().split("\0"))[0] and time.monotonic() < until:
        time.sleep(0.01)  # it is just being started
    return dict(line.split("=", 1) for line in given if "=" in line)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.startswith("trunkline ")
    assert os.environ[NAME] == "false"


def test_a_server(tmp_path: Path) -> None:
    bundle = write_tiny(tmp_path / "bundle")
    with process.start(bundle.path, reference="models:/tiny/1", deployment="tiny", spool=tmp_path / "spool") as server:
        assert _environ(server.pid)[NAME] == "false"


def test_a_process_apart(tmp_path: Path) -> None:
    with _child(tmp_path, str(tmp_path)) as child:
        assert _environ(child.process.pid)[NAME] == "false"
        child.process.terminate()
