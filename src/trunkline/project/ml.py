"""Datasets and models declared in `ml/*.py`, remembered by the digest of the code that declares them.

A user's file may import torch and take seconds. `declarations` runs it only when its code, or that of a project
file it imports, has changed since the last look; and in a process apart, as all code that models are made with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, did_you_mean
from trunkline.project import python
from trunkline.project.declare import Dataset, Model
from trunkline.project.files import write_atomic
from trunkline.project.hidden import CLOSED

_FORMAT = 4


@dataclass(frozen=True)
class Declared:
    """One declared dataset or model: its plain data, where it stands, and the digest of all code it reaches."""

    kind: str
    name: str
    data: Mapping[str, Any]
    file: str
    line: int
    code: str


def declarations(root: Path) -> tuple[Declared, ...]:
    """All datasets and models of the project, in file order. Raises `ProjectError` for names declared twice."""
    cache_file = root / ".trunkline" / "cache" / "ml.json"
    cache = _read(cache_file)
    fresh: dict[str, Any] = {"format": _FORMAT}
    for file in sorted((root / "ml").glob("*.py")):
        code = python.digest(root, python.closure(root, file))
        fresh[file.relative_to(root).as_posix()] = {"code": code, "bytes": _size(file)}
    for name, state in fresh.items():
        known = cache.get(name)
        if name != "format" and known and {**known, "declared": None} == {**state, "declared": None}:
            fresh[name] = known
    stale = {name: state["code"] for name, state in fresh.items() if name != "format" and "declared" not in state}
    if stale:
        from trunkline.project.apart import run_apart

        for name, found in run_apart("trunkline.project.ml:declare", {"root": str(root), "files": stale}, root=root):
            fresh[name]["declared"] = found
    if fresh != cache:
        write_atomic(cache_file, json.dumps(fresh))
    result = [Declared(**item) for name in fresh if name != "format" for item in fresh[name]["declared"]]
    _unique(root, result)
    return tuple(result)


def declare(request: Mapping[str, Any], tell: object) -> list[tuple[str, list[dict[str, Any]]]]:
    """What files of `ml/` (name → digest of their code) declare. Runs them: called in a process apart."""
    root = Path(request["root"])
    files = request["files"].items()
    try:
        return [(name, [asdict(found) for found in _declared(root, root / name, code)]) for name, code in files]
    except ProjectError as exc:
        if isinstance(exc.__cause__, PermissionError):
            exc.hint = CLOSED
        raise


def load_model(root: Path, declared: Declared) -> Model:
    """The live `Model` of a declaration: runs the user's file, so it is for the process apart."""
    module = python.load(root, root / declared.file)
    for value in vars(module).values():
        if isinstance(value, Model) and value.name == declared.name:
            return value
    raise ProjectError(f"model {declared.name!r} is gone", file=root / declared.file)


def find_model(declared: tuple[Declared, ...], name: str) -> Declared:
    """The declared model called `name`. Raises `ProjectError` with the close match."""
    models = {d.name: d for d in declared if d.kind == "model"}
    if name in models:
        return models[name]
    known = ", ".join(models) or "none; declare one in ml/*.py with @tl.model"
    raise ProjectError(f"no model is called {name!r}.{did_you_mean(name, models)}", hint=f"models: {known}")


def _declared(root: Path, file: Path, code: str) -> list[Declared]:
    values = vars(python.load(root, file)).values()
    models = [v for v in values if isinstance(v, Model) and v.file == file]
    datasets = {d.name: d for d in [v for v in values if isinstance(v, Dataset)] + [m.dataset for m in models]}
    name = file.relative_to(root).as_posix()
    found = [Declared("dataset", d.name, d.to_json(), _relative(root, d.file), d.line, "") for d in datasets.values()]
    return found + [Declared("model", m.name, m.to_json(), name, m.line, code) for m in models]


def _unique(root: Path, declared: list[Declared]) -> None:
    seen: dict[tuple[str, str], Declared] = {}
    for item in declared:
        first = seen.setdefault((item.kind, item.name), item)
        same = item.kind == "dataset" and first.data == item.data
        if first is not item and not same:
            raise ProjectError(
                f"{item.kind} {item.name!r} is declared twice: also at {first.file}:{first.line}",
                file=root / item.file,
                line=item.line,
                hint="give one of them another `name=`",
            )


def _relative(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def _size(file: Path) -> int:
    # A comment moves lines: positions in messages are cached too, so the byte count guards them.
    return file.stat().st_size


def _read(path: Path) -> dict[str, Any]:
    try:
        cache = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return cache if isinstance(cache, dict) and cache.get("format") == _FORMAT else {}
