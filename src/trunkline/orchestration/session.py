"""One command's hold on a project: its warehouse, ledger, graph and past, each opened when first needed."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from trunkline.context import Progress, StepContext
from trunkline.datasets.vault import vault_key
from trunkline.errors import EngineError, TransientError, TrunklineError
from trunkline.graph.plan import Past
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.compile import KINDS, Compiled, compile_project, read_ahead
from trunkline.orchestration.publishing import recall
from trunkline.orchestration.state import State, known_state
from trunkline.project.load import Project, load_project
from trunkline.project.secrets import Secrets
from trunkline.registry import parcels
from trunkline.registry.outbox import deliver, unsent
from trunkline.registry.protocol import Registry
from trunkline.transform.dbt import Dbt
from trunkline.transform.nodes import manifest_digest
from trunkline.warehouse.protocol import open_warehouse


class Session:
    """What a command works with. Belongs to one thread; closed by `open_session`."""

    def __init__(self, project: Project, progress: Progress) -> None:
        self.project = project
        self.dbt = Dbt(project.root, project.target.name, project.target.file.parent, project.target.settings)
        self._progress = progress
        self._held = contextlib.ExitStack()

    @cached_property
    def context(self) -> StepContext:
        """The seams, with the warehouse opened."""
        project = self.project
        warehouse = open_warehouse(project.target.type, project.target.settings, project.root)
        context = StepContext(
            root=project.root,
            run_id=new_id("run"),
            target=project.target.name,
            warehouse=warehouse,
            ledger=Ledger(warehouse),
            registry=_registry(project),
            progress=self._progress,
            vault_key=lambda: vault_key(os.environ),
            secrets=Secrets(project.root, os.environ),
            who=os.environ.get("GITHUB_ACTOR") or getpass.getuser(),
            git_commit=cache(lambda: git_commit(project.root)),
            seed=project.config.training.seed,
            threads=project.config.training.threads or len(os.sched_getaffinity(0)),
            experiment=project.config.tracking.experiment or project.name,
            datasets=project.config.datasets,
            training=project.config.training,
            head=lambda: self._head,
            dbt_manifest=lambda: manifest_digest(project),
        )
        recall(project, context)
        return context

    @cached_property
    def state(self) -> State:
        """What the warehouse held when the command began, or when `refresh` was last called."""
        return known_state(self.project, self._read_state)

    @property
    def past(self) -> Mapping[str, Past]:
        """The last success of every step."""
        return self.state.past

    def refresh(self) -> None:
        """Forget `state`: it is read anew when next asked for."""
        self.__dict__.pop("state", None)

    def compile(self, kinds: Collection[str] = KINDS) -> Compiled:
        """The project's graph as far as `kinds` need it, with each model's best parameters from its last search."""
        if "state" not in self.__dict__:
            self.state = known_state(self.project, self._read_both)
        best = {
            name.partition(":")[2]: last.output["params"]
            for name, last in self.past.items()
            if name.startswith("tune:")
        }
        versions = {name: str(last.output.get("version", "")) for name, last in self.past.items()}
        return compile_project(self.project, parse=self.dbt.parse, best=best, kinds=kinds, versions=versions)

    def catch_up(self) -> None:
        """Send what waits for the registry, if it is there again; if not, it waits on."""
        outbox = self.project.state / "outbox"
        if parcels.waiting(outbox) or any(one.waits for one in unsent(outbox)):
            with contextlib.suppress(EngineError):
                self.context.registry()

    def _settle(self) -> None:
        """Ledger rows of versions that have got their numbers. A thread of a search may have opened the registry: the
        warehouse belongs to this one."""
        context = self.context

        def note(row: Mapping[str, Any]) -> None:
            there = [row["reference"], row["sha256"]]
            if not context.ledger.read("versions", "where reference = ? and sha256 = ?", there):
                with context.warehouse.transaction():
                    made = {**row, "version_id": new_id("version"), "created_at": context.now()}
                    context.ledger.add("versions", [made])

        parcels.settle(self.project.state / "outbox", note)

    @cached_property
    def _head(self) -> Mapping[str, Any]:
        """How this command's own Ray is reached. It starts with the first training, and ends with the command."""
        import secrets

        from trunkline.project.apart import held_apart

        self._progress("starting Ray")
        for name in ("bundles", "checkpoints", "ray", "studies"):  # what its processes write to must be there
            (self.project.state / name).mkdir(parents=True, exist_ok=True)
        training = self.project.config.training
        cores = max(len(os.sched_getaffinity(0)), training.ray.workers * training.ray.cpus_per_worker)
        request = {"cpus": cores, "token": secrets.token_hex(32)}
        held = held_apart("trunkline.training.on_ray.head:hold", request, root=self.project.root)
        found: Mapping[str, Any] = self._held.enter_context(held)
        return found

    def close(self) -> None:
        """Keep the state for the next command, and give the warehouse back."""
        self._held.close()
        if "context" not in self.__dict__:
            return
        self.refresh()
        try:
            with contextlib.suppress(TrunklineError):  # the next command does it
                self._settle()
            with contextlib.suppress(TrunklineError):  # a copy that cannot be kept is read anew by the next command
                _ = self.state
        finally:
            self.context.warehouse.close()

    def _read_both(self) -> State:
        """`_read_state`, while another core reads the files that a compilation wants the digests of."""
        reading = threading.Thread(target=read_ahead, args=[self.project], daemon=True)
        reading.start()
        state = self._read_state()
        reading.join()
        return state

    def _read_state(self) -> State:
        return State(self.context.ledger.past(), frozenset(self.context.warehouse.relations()))


@contextlib.contextmanager
def open_session(
    root: Path, target: str | None, progress: Progress, *, complete: bool = True, on: str | None = None
) -> Iterator[Session]:
    """Read the project. The process works in the project's folder until the end: profiles name their files relative
    to it, for dbt as for us. Unless it must be `complete`, source tables may lack their columns. `on` says where models
    are trained: inline, ray or a cluster's address; None: where `trunkline.yml` says."""
    project = load_project(root, target, complete=complete)
    project = replace(project, config=project.config.with_training(project.config.training.placed(on)))
    with contextlib.chdir(root):
        session = Session(project, progress)
        try:
            yield session
        except TransientError as exc:
            exc.hint = _with_waiting(exc.hint, project.state / "outbox")
            raise
        finally:
            session.close()


def _with_waiting(hint: str | None, outbox: Path) -> str | None:
    """Who asks for a version that waits for the registry is told so."""
    models = dict.fromkeys(one.model for one in parcels.waiting(outbox) if one.model)
    if not models:
        return hint
    waits = f"{', '.join(models)}: trained, and registered when the registry answers"
    return f"{hint}; {waits}" if hint else waits


def git_commit(root: Path) -> str | None:
    """The commit of the project's checkout, with `+` when files differ from it; None outside git."""
    if not any(folder.joinpath(".git").exists() for folder in (root, *root.parents)):
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or no commit yet


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, check=True, capture_output=True, text=True, timeout=20
    ).stdout.strip()


def _registry(project: Project) -> Callable[[], Registry]:
    @cache
    def open_registry() -> Registry:
        from trunkline.registry.mlflow import MlflowRegistry

        local = project.tracking_uri.startswith("sqlite:///")
        uri = Path(project.tracking_uri.removeprefix("sqlite:///")) if local else project.tracking_uri
        registry = MlflowRegistry(uri, project.registry_uri, patience=project.config.tracking.patience)
        deliver(project.state / "outbox", registry)
        parcels.send(project.state / "outbox", registry)
        return registry

    return open_registry
