"""The check of a set-up: each finding says what is wrong and how to mend it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from msgspec import to_builtins

from trunkline.errors import EngineError, TrunklineError
from trunkline.orchestration.functions import list_functions
from trunkline.orchestration.session import Session, open_session
from trunkline.project.confined import means
from trunkline.project.load import Project
from trunkline.project.references import references
from trunkline.project.secrets import Secrets
from trunkline.registry.address import shown
from trunkline.registry.outbox import deliver, unsent
from trunkline.registry.parcels import waiting
from trunkline.training.placement import reachable

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Finding:
    """One check: `mend` is the next thing to do unless it is ok."""

    level: Level
    what: str
    mend: str = ""


def examine(root: Path | None, target: str | None) -> Iterator[Finding]:
    """All checks, in the order in which one would mend them. `root` None means there is no project here."""
    yield _python()
    yield from _libraries()
    yield from _keys()
    if root is None:
        yield Finding("warn", "no project here", "trunkline init --example flights demo && cd demo")
        return
    yield from _attempt("project and warehouse", lambda: _project(root, target))


def _attempt(what: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except TrunklineError as exc:
        where = f"{exc.where}: " if exc.where else ""
        yield Finding("bad", f"{what}: {where}{exc.what}", exc.hint or "see the message")


def _python() -> Finding:
    return Finding("ok", f"Python {'.'.join(map(str, sys.version_info[:3]))}")


def _libraries() -> Iterator[Finding]:
    for name in ("duckdb", "dbt-core", "dbt-duckdb", "mlflow", "onnxruntime", "lightgbm"):
        try:
            yield Finding("ok", f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            yield Finding("bad", f"{name} is not installed", "pip install --force-reinstall trunkline")
    if find_spec("torch"):
        yield Finding("ok", f"torch {metadata.version('torch')}")
    else:
        yield Finding("warn", "torch is not installed: MLP cannot be trained", "pip install 'trunkline[torch]'")


def _keys() -> Iterator[Finding]:
    import os

    from trunkline.datasets.vault import vault_key

    def check() -> Iterator[Finding]:
        vault_key(os.environ)
        yield Finding("ok", "the vault's key is there and private")

    yield from _attempt("vault", check)
    yield _confinement()


def _confinement() -> Finding:
    """What keeps training code from the vault."""
    if means() == "landlock":
        return Finding("ok", "training code is kept from the vault by the kernel (Landlock)")
    return Finding(
        "warn",
        "training code is kept from the vault by Python alone: a library that opens files by itself gets through",
        "train on Linux 5.19 or newer with Landlock (docs/vault.md)",
    )


def _project(root: Path, target: str | None) -> Iterator[Finding]:
    with open_session(root, target, lambda text, done=None: None) as session:
        project = session.project
        yield Finding("ok", f"project {project.name}, target {project.target.name} ({project.target.type})")
        yield Finding("ok", f"{len(project.sources)} source tables, {len(project.deployments)} deployments")
        yield from _secrets(project)
        yield from _functions(project)
        relations = session.context.warehouse.relations()
        yield Finding("ok", f"the warehouse opens and holds {len(relations)} tables and views")
        compiled = session.compile()
        yield Finding("ok", f"the project compiles to {len(compiled.graph.steps)} steps")
        yield from _ignored(root)
        yield from _placement(project)
        yield from _registry(session)


def _secrets(project: Project) -> Iterator[Finding]:
    """Whether the sources' references to secrets lead anywhere; what they lead to is not looked at."""
    secrets, found, bad = Secrets(project.root), set(), 0
    for table in project.sources:
        for reference in references(to_builtins(table.options)):
            if reference in found:
                continue
            found.add(reference)
            try:
                secrets.resolve(reference)
            except TrunklineError as exc:
                bad += 1
                where = f"{exc.file}: " if exc.file else ""
                yield Finding("bad", f"source {table.key}: {where}{exc.what}", exc.hint or f"write {reference}")
    if found and not bad:
        yield Finding("ok", f"{len(found)} references to secrets of sources lead somewhere")


def _functions(project: Project) -> Iterator[Finding]:
    if not any(path for folder in project.dbt_paths["function-paths"] for path in folder.rglob("*.py")):
        return
    if project.target.type == "duckdb":
        yield from _functions_in_duckdb(project)
    functions = list_functions(project.root)
    yield Finding("ok", f"{len(functions)} Python functions mean the same in every warehouse")


def _functions_in_duckdb(project: Project) -> Iterator[Finding]:
    plugins = project.target.settings.get("plugins") or []
    if not any(plugin.get("module") == "trunkline.transform.functions" for plugin in plugins):
        yield Finding(
            "bad",
            "functions/ holds Python but profiles.yml has no plugin to run it in DuckDB",
            "add `plugins: [{module: trunkline.transform.functions}]` to the target",
        )
    folders = project.dbt_paths["macro-paths"]
    macros = [path.read_text("utf-8", errors="replace") for folder in folders for path in folder.rglob("*.sql")]
    if not any("duckdb__scalar_function_python" in text for text in macros):
        yield Finding("bad", "macros/ lacks the macro that makes Python functions", "trunkline init .")


def _ignored(root: Path) -> Iterator[Finding]:
    file = root / ".gitignore"
    lines = file.read_text("utf-8").split() if file.exists() else []
    if not {".trunkline", ".trunkline/", "/.trunkline/"} & set(lines):
        yield Finding("warn", ".trunkline/ is not ignored by git", "echo .trunkline/ >> .gitignore")


def _placement(project: Project) -> Iterator[Finding]:
    """Whether models can be trained where `trunkline.yml` says."""
    training = project.config.training
    if training.on == "inline":
        return
    address = training.ray.address
    if not find_spec("ray"):
        yield Finding("bad", "ray is not installed, and models are to be trained on it", "pip install 'trunkline[ray]'")
    elif address and not reachable(address):
        yield Finding(
            "bad", f"no Ray answers at {address}", "`training: {ray: {address: …}}` of trunkline.yml: docs/ray.md"
        )
    else:
        what = f"the Ray at {address}" if address else "a Ray of each command's own"
        yield Finding("ok", f"models are trained on {what} (ray {metadata.version('ray')})")


def _registry(session: Session) -> Iterator[Finding]:
    """Whether the registry answers; it is sent what waits for it on the way."""
    outbox, where = session.project.state / "outbox", shown(session.project.tracking_uri)
    why: Mapping[str, EngineError] = {}
    try:
        registry = session.context.registry()
        registry.versions("trunkline-doctor")
        why = deliver(outbox, registry)
        yield Finding("ok", f"the MLflow registry answers ({where})")
    finally:
        yield from _waiting(outbox, why)


def _waiting(outbox: Path, why: Mapping[str, EngineError]) -> Iterator[Finding]:
    """What waits for the registry, and what it refused; `why` it did not take the runs of a file just now."""
    for one in waiting(outbox):
        what = f"{one.model} (bundle {one.sha256[:12]})" if one.model else f"the run {one.run!r}"
        if one.refused:
            told = f"{what} waits for the registry, which refuses it: {one.refused}"
            yield Finding("warn", told, "mend that, then trunkline doctor")
        else:
            yield _held(what, one.held)
    for study in unsent(outbox):
        if study.waits:
            held = why[study.name].what if study.name in why else ""
            yield _held(f"the study {study.name} (runs: {study.waits})", held)
        if study.refused:
            told = f"the study {study.name} (runs: {study.refused}) was refused by the registry: {study.reason}"
            yield Finding("warn", told, f"they are kept in {study.aside}, which you may delete")


def _held(what: str, why: str) -> Finding:
    told = f"it did not take it: {why}" if why else "it was not sent yet"
    mend = "sent by the next command that the registry lets in"
    return Finding("warn", f"{what} waits for the registry: {told}", mend)
