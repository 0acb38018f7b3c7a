"""One Ray for all tests here, held as a command holds its own, and a small project to train in.

Ray takes seconds to start and hundreds of MB: tests are few, and run one after the other on one worker of pytest.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ray.project import write_project
from trunkline.project.apart import held_apart
from trunkline.training.placement import Placement

CORES = 2


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a dataset and models, and a vault that nobody may look into."""
    return write_project(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="session")
def head(project: Path) -> Iterator[Placement]:
    """The Ray that most tests share; the last one ends it."""
    request = {"cpus": CORES, "token": secrets.token_hex(32)}
    with held_apart("trunkline.training.on_ray.head:hold", request, root=project) as told:
        yield Placement(on="ray", storage=str(project / ".trunkline" / "ray"), **told)
