"""One command's hold on a project: its warehouse, ledger, graph and past, opened once and closed at the end."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from trunkline.context import Progress, StepContext
from trunkline.datasets.vault import vault_key
from trunkline.graph.plan import Past
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.compile import KINDS, Compiled, compile_project
from trunkline.project.load import Project, load_project
from trunkline.registry.protocol import Registry
from trunkline.transform.dbt import Dbt
from trunkline.warehouse.protocol import open_warehouse


@dataclass(frozen=True)
class Session:
    """What a command works with. `past` is read once; `compiled` is made on demand by `compile`."""

    project: Project
    context: StepContext
    past: Mapping[str, Past]
    dbt: Dbt

    def compile(self, kinds: Collection[str] = KINDS) -> Compiled:
        """The project's graph as far as `kinds` need it, with each model's best parameters from its last search."""
        best = {
            name.partition(":")[2]: last.output["params"]
            for name, last in self.past.items()
            if name.startswith("tune:")
        }
        return compile_project(self.project, parse=self.dbt.parse, best=best, kinds=kinds)

    def refreshed(self) -> Session:
        """The same session with the ledger read anew."""
        return replace(self, past=self.context.ledger.past())


@contextlib.contextmanager
def open_session(root: Path, target: str | None, progress: Progress) -> Iterator[Session]:
    """Read the project and open its warehouse. The process works in the project's folder until the end:
    profiles name their files relative to it, for dbt as for us."""
    project = load_project(root, target)
    with contextlib.chdir(root):
        warehouse = open_warehouse(project.target.type, project.target.settings, root)
        try:
            ledger = Ledger(warehouse)
            context = StepContext(
                root=root,
                run_id=new_id("run"),
                target=project.target.name,
                warehouse=warehouse,
                ledger=ledger,
                registry=_registry(project),
                progress=progress,
                vault_key=lambda: vault_key(os.environ),
                who=os.environ.get("GITHUB_ACTOR") or getpass.getuser(),
                git_commit=cache(lambda: git_commit(root)),
                seed=project.config.training.seed,
                threads=project.config.training.threads or len(os.sched_getaffinity(0)),
                experiment=project.config.tracking.experiment or project.name,
            )
            yield Session(project, context, ledger.past(), Dbt(root, project.target.name, project.target.file.parent))
        finally:
            warehouse.close()


def git_commit(root: Path) -> str | None:
    """The commit of the project's checkout, with `+` when files differ from it; None outside git."""
    if not any(folder.joinpath(".git").exists() for folder in (root, *root.parents)):
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def _registry(project: Project) -> Callable[[], Registry]:
    @cache
    def open_registry() -> Registry:
        from trunkline.registry.mlflow import MlflowRegistry

        local = project.tracking_uri.startswith("sqlite:///")
        return MlflowRegistry(Path(project.tracking_uri.removeprefix("sqlite:///")) if local else project.tracking_uri)

    return open_registry


def output_of(past: Mapping[str, Past], step: str) -> Mapping[str, Any] | None:
    """What the last success of a step left behind; None if it never ran."""
    last = past.get(step)
    return last.output if last else None
