"""Projects, made by the real command line and run with the real engines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest


@dataclass(frozen=True)
class Outcome:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The JSON document of a `--json` command."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Project:
    """A project folder and the means to run commands in it."""

    root: Path

    def run(self, *arguments: str, check: bool = True, **environ: str) -> Outcome:
        """`trunkline ARGUMENTS` in the project; fails the test if the command fails and `check` is on."""
        done = subprocess.run(
            [sys.executable, "-m", "trunkline", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, **environ},
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback (most recent call last)" not in done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Read the project's warehouse, as a user with DuckDB would."""
        with duckdb.connect() as connection:
            connection.execute("load icu; load ducklake; load sqlite_scanner; set timezone = 'UTC'")
            lake = f"attach 'ducklake:sqlite:{self.root}/warehouse/catalog.sqlite' as lake"
            connection.execute(f"{lake} (data_path '{self.root}/warehouse/data', override_data_path true)")
            return connection.execute(query).fetchall()

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text in a file of the project."""
        path = self.root / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


@pytest.fixture(scope="session")
def shop_done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The start project, run once. Copy it before changing it."""
    root = tmp_path_factory.mktemp("shop") / "shop"
    Project(root.parent).run("init", "shop")
    project = Project(root)
    project.run("run")
    return project


@pytest.fixture
def shop(shop_done: Project, tmp_path: Path) -> Project:
    """A copy of the start project with everything run."""
    return copy_of(shop_done, tmp_path / "shop")


@pytest.fixture
def fresh_shop(tmp_path: Path) -> Project:
    """The start project, nothing run."""
    Project(tmp_path).run("init", "shop")
    return Project(tmp_path / "shop")


def copy_of(project: Project, root: Path) -> Project:
    """A copy of a project with its warehouse and state; the paths in it are relative, but for the registry's."""
    shutil.copytree(project.root, root)
    shutil.rmtree(root / ".trunkline" / "mlflow", ignore_errors=True)
    return Project(root)
