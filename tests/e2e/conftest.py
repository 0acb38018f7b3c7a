"""Projects, made by the real command line and run with the real engines."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests import warmed

# DuckDB reads and hashes an extension's file whenever it is loaded, to check who signed it: a third of a second for
# each of some hundred connections of the tests. Projects as `init` makes them, and tests of loading, leave it on.
TRUSTING = {"allow_unsigned_extensions": "true"}


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
    """A project folder and the means to run commands in it: each `anew` by Python, or from a warmed process."""

    root: Path
    anew: bool = False

    def run(self, *arguments: str, check: bool = True, **environ: str) -> Outcome:
        """`trunkline ARGUMENTS` in the project; fails the test if the command fails and `check` is on."""
        start = warmed.run_anew if self.anew else warmed.run
        done = start(["-m", "trunkline", *arguments], self.root, timeout=600, **environ)
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback (most recent call last)" not in done.stderr
        return Outcome(done.returncode, done.stdout, done.stderr)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Read the project's warehouse, as a user with DuckDB would."""
        with duckdb.connect(config=TRUSTING) as connection:
            connection.execute("load icu; load ducklake; load sqlite_scanner; set timezone = 'UTC'")
            lake = f"attach 'ducklake:sqlite:{self.root}/warehouse/catalog.sqlite' as lake"
            connection.execute(f"{lake} (data_path '{self.root}/warehouse/data', override_data_path true)")
            return connection.execute(query).fetchall()

    def trusting(self) -> Project:
        """The same, with a profile that says `TRUSTING`."""
        self.edit("profiles.yml", "      type: duckdb\n", f"      type: duckdb\n      config_options: {TRUSTING}\n")
        return self

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
    project = Project(root).trusting()
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
