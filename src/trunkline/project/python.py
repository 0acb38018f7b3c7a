"""The project's own Python: which files a file reaches by import, a digest of them, and loading them."""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from trunkline.errors import ProjectError
from trunkline.project.boundary import user_code


def closure(root: Path, file: Path) -> tuple[Path, ...]:
    """`file` and every project file it reaches by `import`, found without running anything, sorted.

    Imports made at run time from computed names are not seen.
    """
    found: set[Path] = set()
    todo = [file]
    while todo:
        path = todo.pop()
        if path not in found:
            found.add(path)
            todo.extend(_imported(root, path))
    return tuple(sorted(found))


def digest(root: Path, files: Iterable[Path]) -> str:
    """A digest of the meaning of Python files: comments and layout do not count."""
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.relative_to(root).as_posix()}\0{ast.dump(_parse(path))}\0".encode())
    return total.hexdigest()


def load(root: Path, file: Path) -> ModuleType:
    """Import one file of the project, fresh, with the project folder importable.

    Raises `ProjectError` with the user's own line when the file raises.
    """
    name = ".".join(file.relative_to(root).with_suffix("").parts)
    package = name.split(".")[0]
    for loaded in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        del sys.modules[loaded]
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    importlib.invalidate_caches()
    kept, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # told by size and second alone, a cache may be stale
    try:
        with user_code(f"cannot import {file.relative_to(root)}", file):
            return importlib.import_module(name)
    finally:
        sys.dont_write_bytecode = kept


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as exc:
        raise ProjectError(f"not valid Python: {exc.msg}", file=path, line=exc.lineno) from exc


def _imported(root: Path, path: Path) -> Iterator[Path]:
    package = path.relative_to(root).parent.parts
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(root, tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module.split(".") if node.module else ()))
            yield from _files(root, module)
            for alias in node.names:
                yield from _files(root, (*module, alias.name))


def _files(root: Path, module: tuple[str, ...]) -> Iterator[Path]:
    for depth in range(1, len(module) + 1):
        folder = root.joinpath(*module[:depth])
        for candidate in (folder.with_suffix(".py"), folder / "__init__.py"):
            if candidate.is_file():
                yield candidate
