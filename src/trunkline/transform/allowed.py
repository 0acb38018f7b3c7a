"""What a function's code may reach: the standard library as far as every warehouse's sandbox gives it, the packages it
declares, and modules of the project. Found by reading the code, lazy imports included; nothing is run."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trunkline.errors import ProjectError

_REFUSED: Mapping[str, tuple[str, ...]] = {
    "opens the network": (
        *("asyncio", "ftplib", "http.client", "http.server", "imaplib", "nntplib", "poplib", "smtplib", "socket"),
        *("socketserver", "ssl", "telnetlib", "urllib.request", "webbrowser", "xmlrpc"),
    ),
    "starts processes": ("multiprocessing", "pty", "signal", "subprocess"),
    "loads native code": ("ctypes",),
    "keeps files": ("dbm", "shelve", "sqlite3"),
    "imports what nobody can see before": ("imp", "importlib", "pkgutil", "runpy"),
    "needs a screen": ("curses", "readline", "tkinter", "turtle"),
}
_REFUSED_CALLS = {
    "open": "reads or writes a file",
    "input": "waits for a person",
    "breakpoint": "waits for a person",
    "__import__": "imports what nobody can see before",
}
_REFUSED_OF_OS = ("environ", "execv", "fork", "getenv", "popen", "spawnv", "system")
_IMPORTED_AS = {  # packages whose module has another name
    "beautifulsoup4": "bs4",
    "pillow": "pil",
    "python-dateutil": "dateutil",
    "pyyaml": "yaml",
    "scikit-learn": "sklearn",
}
_CONTAINERS = ("dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque")
_CHANGES = (
    *("add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "remove", "reverse"),
    *("setdefault", "sort", "update"),
)


def project_modules(root: Path, file: Path, packages: Sequence[str]) -> dict[str, tuple[str, str]]:
    """The modules of the project that `file` consists of, itself first: dotted name → (file in the project, text).

    Raises `ProjectError` with the line of whatever could not run, or would not mean the same, in every warehouse.
    """
    known = {_import_name(package) for package in packages}
    own = ".".join(file.relative_to(root).with_suffix("").parts)
    found: dict[str, tuple[str, str]] = {}
    todo = {own: file}
    while todo:
        name, path = todo.popitem()
        text = path.read_text("utf-8")
        found[name] = (path.relative_to(root).as_posix(), text)
        tree = _parse(path, text)
        _check(path, tree)
        for module, where in _imports(root, path, tree, known):
            if module not in found:
                todo[module] = where
    return {own: found.pop(own), **dict(sorted(found.items()))}


def _parse(path: Path, text: str) -> ast.Module:
    try:
        return ast.parse(text, filename=str(path))
    except SyntaxError as exc:
        raise ProjectError(f"not valid Python: {exc.msg}", file=path, line=exc.lineno) from exc


def _import_name(package: str) -> str:
    name = re.split(r"[^\w.-]", package.strip().lower(), maxsplit=1)[0]
    return _IMPORTED_AS.get(name, name.replace("-", "_"))


def _imports(root: Path, path: Path, tree: ast.Module, known: set[str]) -> Iterator[tuple[str, Path]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _reached(root, path, node, alias.name, (), known)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(root).parent.parts
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else ())))
            yield from _reached(root, path, node, module, [alias.name for alias in node.names], known)


def _reached(
    root: Path, path: Path, node: ast.stmt, module: str, names: Sequence[str], known: set[str]
) -> Iterator[tuple[str, Path]]:
    """The project's modules behind one import; an error if it leads out of what is allowed."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names:
        for reason, refused in _REFUSED.items():
            bad = next((n for n in refused for m in (module, *(f"{module}.{x}" for x in names)) if _within(m, n)), None)
            if bad:
                raise _refusal(
                    path, node, f"{bad} {reason}", "compute it before, in a model, and hand it in as a column"
                )
        return
    if _import_name(top) in known:
        return
    if not (root / top).is_dir() and not (root / f"{top}.py").is_file():
        hint = f"add {top} to config.packages of the function, or write {top}.py into the project"
        what = f"imports {top!r}, which is neither Python's own, nor declared, nor of this project"
        raise _refusal(path, node, what, hint)
    found = dict(_files(root, module))
    if module not in found and not root.joinpath(*module.split(".")).is_dir():
        raise _refusal(path, node, f"the project has no module {module}", "check the name")
    yield from found.items()
    for child in (f"{module}.{name}" for name in names):
        file = dict(_files(root, child)).get(child)
        if file is not None:
            yield child, file
        elif module not in found and not child.endswith(".*"):  # a folder has nothing but its files
            raise _refusal(path, node, f"the project has no module {child}", "check the name")


def _within(module: str, refused: str) -> bool:
    return module == refused or module.startswith(f"{refused}.")


def _files(root: Path, module: str) -> Iterator[tuple[str, Path]]:
    """(dotted name, file) of a module and of the packages it lies in, as far as they have files."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        place = root.joinpath(*parts[:depth])
        for candidate in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if candidate.is_file():
                yield ".".join(parts[:depth]), candidate
                break


def _check(path: Path, tree: ast.Module) -> None:
    """Refuse calls out of the sandbox and state that changes from row to row."""
    state = set(_state(tree))
    for node in ast.walk(tree):
        match node:
            case ast.Global():
                raise _remembers(path, node, node.names[0])
            case ast.Call(func=ast.Name(id=name)) if name in _REFUSED_CALLS:
                raise _refusal(path, node, f"{name}() {_REFUSED_CALLS[name]}", "hand what it needs in as a column")
            case ast.Attribute(value=ast.Name(id="os"), attr=name) if name in _REFUSED_OF_OS:
                raise _refusal(path, node, f"os.{name} is not the same everywhere", "hand it in as a column")
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                _check_state(path, node, state)


def _check_state(path: Path, function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda, state: set[str]) -> None:
    own = {arg.arg for node in ast.walk(function) if isinstance(node, ast.arguments) for arg in _arguments(node)}
    own |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
    for node in ast.walk(function):
        changed: ast.expr | None = None
        match node:
            case (
                ast.Subscript(value=value, ctx=ast.Store() | ast.Del())
                | ast.Attribute(value=value, ctx=ast.Store() | ast.Del())
            ):
                changed = value
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in _CHANGES:
                changed = value
        while isinstance(changed, ast.Subscript | ast.Attribute):
            changed = changed.value
        if isinstance(changed, ast.Name) and changed.id in state - own:
            raise _remembers(path, node, changed.id)


def _arguments(node: ast.arguments) -> Iterable[ast.arg]:
    return [*node.posonlyargs, *node.args, *node.kwonlyargs, *(arg for arg in (node.vararg, node.kwarg) if arg)]


def _state(tree: ast.Module) -> Iterator[str]:
    """Names of the module that hold something that can change."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=targets, value=value):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                names = [name]
            case _:
                continue
        match value:
            case ast.Dict() | ast.List() | ast.Set() | ast.DictComp() | ast.ListComp() | ast.SetComp():
                yield from names
            case ast.Call(func=ast.Name(id=maker) | ast.Attribute(attr=maker)) if maker in _CONTAINERS:
                yield from names


def _remembers(path: Path, node: ast.AST, name: str) -> ProjectError:
    hint = "which rows share a process or a batch is the warehouse's choice; functools.cache is fine"
    return _refusal(path, node, f"changes {name!r}, which outlives the batch", hint)


def _refusal(path: Path, node: ast.AST, what: str, hint: str) -> ProjectError:
    return ProjectError(f"not portable: {what}", file=path, line=getattr(node, "lineno", None), hint=hint)
