"""A project folder as frozen records. Reads YAML only: neither dbt nor the user's Python is run here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, did_you_mean
from trunkline.project import yaml
from trunkline.project.config import Config, read_config, registry_uri, tracking_uri
from trunkline.project.deploy import Deployment, read_deployment
from trunkline.project.profiles import Target, load_target
from trunkline.project.sources import SourceTable, read_sources

_DBT_PATHS = {
    "model-paths": ["models"],
    "seed-paths": ["seeds"],
    "test-paths": ["tests"],
    "snapshot-paths": ["snapshots"],
    "macro-paths": ["macros"],
    "function-paths": ["functions"],
}


@dataclass(frozen=True)
class Project:
    """One project folder, read with one target."""

    root: Path
    name: str
    target: Target
    config: Config
    tracking_uri: str
    sources: tuple[SourceTable, ...]
    deployments: tuple[Deployment, ...]
    dbt_paths: Mapping[str, tuple[Path, ...]]
    registry_uri: str | None = None

    @property
    def state(self) -> Path:
        """The folder of this checkout's state: ignored by git, safe to delete."""
        return self.root / ".trunkline"

    def source(self, key: str) -> SourceTable | None:
        """The source table `source.table`; None if the project declares none of that name."""
        return next((table for table in self.sources if table.key == key), None)

    def deployment(self, name: str | None) -> Deployment:
        """The deployment called `name`; without a name, the only one there is."""
        known = {d.name: d for d in self.deployments}
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None or name not in known:
            listed = ", ".join(known) or "none; write deploy/NAME.yml"
            what = "which deployment?" if name is None else f"no deployment {name!r}.{did_you_mean(name, known)}"
            raise ProjectError(what, hint=f"deployments: {listed}")
        return known[name]


def find_root(start: Path) -> Path:
    """The nearest folder from `start` upwards that holds `dbt_project.yml`."""
    for folder in (start, *start.parents):
        if (folder / "dbt_project.yml").is_file():
            return folder
    raise ProjectError(
        f"no dbt_project.yml in {start} or above it", hint="start one with `trunkline init --example flights DIR`"
    )


def load_project(
    root: Path, target: str | None = None, environ: Mapping[str, str] = os.environ, *, complete: bool = True
) -> Project:
    """Read and validate the project at `root`. Raises `ProjectError` with file and line.

    Unless it must be `complete`, source tables may lack the columns that are about to be written.
    """
    document = yaml.load(root / "dbt_project.yml")
    data: dict[str, Any] = document.data if isinstance(document.data, dict) else {}
    for key in ("name", "profile"):
        if not isinstance(data.get(key), str):
            raise document.error(f"the key {key!r} is missing")
    paths = _paths(root, data)
    config = read_config(root)
    return Project(
        root=root,
        name=data["name"],
        target=load_target(root, data["profile"], target, environ),
        config=config,
        tracking_uri=tracking_uri(config, root, environ),
        sources=_sources(paths["model-paths"], complete=complete),
        deployments=declared_deployments(root),
        dbt_paths=paths,
        registry_uri=registry_uri(config, environ),
    )


def declared_sources(root: Path) -> tuple[SourceTable, ...]:
    """The source tables alone, those without columns too: no profile is read."""
    return _sources(dbt_paths(root)["model-paths"], complete=False)


def dbt_paths(root: Path) -> dict[str, tuple[Path, ...]]:
    """The folders of dbt's files, by dbt's own keys (`model-paths`, …)."""
    data = yaml.load(root / "dbt_project.yml").data
    return _paths(root, data if isinstance(data, dict) else {})


def _paths(root: Path, data: Mapping[str, Any]) -> dict[str, tuple[Path, ...]]:
    return {key: tuple(root / p for p in data.get(key) or default) for key, default in _DBT_PATHS.items()}


def _sources(folders: tuple[Path, ...], *, complete: bool) -> tuple[SourceTable, ...]:
    found: dict[str, SourceTable] = {}
    for folder in folders:
        for path in sorted([*folder.rglob("*.yml"), *folder.rglob("*.yaml")]):
            text = path.read_text("utf-8", errors="replace")
            if "sources:" not in text or "trunkline" not in text:
                continue
            for table in read_sources(yaml.load(path), complete=complete):
                first = found.setdefault(table.key, table)
                if first is not table:
                    raise ProjectError(
                        f"source table {table.key} is declared twice: also at {first.file}:{first.line}",
                        file=path,
                        line=table.line,
                    )
    return tuple(found.values())


def declared_deployments(root: Path) -> tuple[Deployment, ...]:
    """The deployments alone: no profile is read."""
    found: dict[str, Deployment] = {}
    for path in sorted([*(root / "deploy").glob("*.yml"), *(root / "deploy").glob("*.yaml")]):
        deployment = read_deployment(path)
        if deployment.name in found:
            raise ProjectError(
                f"deployment {deployment.name!r} is declared twice: also in {found[deployment.name].file}", file=path
            )
        found[deployment.name] = deployment
    return tuple(found.values())
