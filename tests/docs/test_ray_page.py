"""docs/ray.md: its settings are settings, its commands are commands."""

from __future__ import annotations

import re
from pathlib import Path

from trunkline.cli.main import COMMANDS
from trunkline.project.config import read_config
from trunkline.training.placement import of_fingerprint, place

_PAGE = (Path(__file__).parent.parent.parent / "docs" / "ray.md").read_text("utf-8")


def test_the_settings_are_read(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", _PAGE, re.DOTALL)
    (tmp_path / "trunkline.yml").write_text(block)
    training = read_config(tmp_path).training
    placed = place(training, tmp_path, dict)
    assert (placed.address, placed.workers, placed.cpus) == ("head.example:6379", 2, 4)
    assert (placed.storage, placed.shared, placed.restarts) == ("s3://models/ray", False, 3)
    assert of_fingerprint(training) == {"workers": 2}


def test_the_commands_are_there_and_take_a_place() -> None:
    (block,) = re.findall(r"```console\n(.*?)```", _PAGE, re.DOTALL)
    for command, rest in re.findall(r"^\$ trunkline ([a-z]+)([^#\n]*)", block, re.MULTILINE):
        assert command in COMMANDS
        places = re.findall(r"--on (\S+)", rest)
        assert all(re.fullmatch(r"ray|[\w.]+:\d+", place) for place in places)
