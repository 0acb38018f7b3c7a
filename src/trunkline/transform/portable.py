"""Portable functions as declared: a file of dbt's `functions/` with its YAML entry, checked without running it.

The types are a small closed set that means the same in DuckDB and Snowflake. Two kinds of function:

- *vectorised*, the default: `main` takes pandas Series and returns one, a batch of rows at a time. Which rows share a
  batch is the warehouse's choice. Its parameters are not annotated, or annotated as Series.
- *scalar*: `main` takes Python values and returns one, row by row. Every parameter is annotated with int, float, bool,
  str, datetime.date or datetime.datetime, or one of them `| None` to be called for NULL too.

`config.meta.trunkline.vectorized` says which where nothing is annotated. What the functions see and may return is told
in `batch.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, did_you_mean
from trunkline.project import yaml
from trunkline.transform.allowed import project_modules

__all__ = ["Function", "find_functions"]

# With dbt's and SQL's other names for them. Not here: FLOAT and REAL (32 bits in DuckDB, 64 in Snowflake), NUMBER and
# DECIMAL (Python objects), zones (each session has its own).
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("bigint", "int8", "integer", "int", "int4"), "BIGINT"),
    **dict.fromkeys(("double", "double precision", "float8"), "DOUBLE"),
    **dict.fromkeys(("boolean", "bool"), "BOOLEAN"),
    **dict.fromkeys(("varchar", "string", "text"), "VARCHAR"),
    "date": "DATE",
    **dict.fromkeys(("timestamp", "datetime"), "TIMESTAMP"),
}
_PYTHON = {
    "int": "BIGINT",
    "float": "DOUBLE",
    "bool": "BOOLEAN",
    "str": "VARCHAR",
    "date": "DATE",
    "datetime": "TIMESTAMP",
}
_PANDAS = ("pandas", "numpy")  # a vectorised function always has them
_RUNTIMES = ("3.10", "3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Function:
    """One function. `arguments` and `returns` are portable types.

    `sources` are the project's modules that it consists of, its own first: dotted name → (file in the project, text).
    `optional` says of each argument whether a scalar function is called when it is NULL.
    """

    name: str
    file: Path
    root: Path
    declared_in: Path
    line: int
    arguments: tuple[tuple[str, str], ...]
    returns: str
    entry_point: str
    deterministic: bool
    vectorised: bool
    optional: tuple[bool, ...]
    packages: tuple[str, ...]
    runtime: str
    sources: Mapping[str, tuple[str, str]]

    @property
    def module(self) -> str:
        """The dotted name of its own module."""
        return next(iter(self.sources))


@dataclass(frozen=True)
class _Signature:
    vectorised: bool
    optional: tuple[bool, ...]


def find_functions(project: Path) -> Iterator[Function]:
    """The Python functions of a dbt project, in the order of their files.

    Raises `ProjectError` with file and line for a bad or a missing declaration and for code that could not run, or
    would not mean the same, in every warehouse.
    """
    folders = [project / folder for folder in _folders(project)]
    files = {file.stem: file for folder in folders for file in sorted(folder.rglob("*.py"))}
    declared: set[str] = set()
    for path in sorted(path for folder in folders for path in folder.rglob("*.y*ml")):
        document = yaml.load(path)
        data = document.data if isinstance(document.data, dict) else {}
        for index, entry in enumerate(data.get("functions") or []):
            name = str(entry.get("name")) if isinstance(entry, dict) else ""
            if name in files:
                declared.add(name)
                yield _function(project, document, ("functions", index), files[name])
    for name in sorted(files.keys() - declared):
        raise ProjectError(
            f"function {name!r} is declared nowhere",
            file=files[name],
            hint=f"write {files[name].with_suffix('.yml').name} beside it, with arguments and returns; "
            "modules that functions share live in a folder outside this one",
        )


def _folders(project: Path) -> list[str]:
    path = project / "dbt_project.yml"
    data = yaml.load(path).data if path.exists() else None
    return list((data or {}).get("function-paths") or ["functions"])


def _function(project: Path, document: yaml.Document, place: yaml.Place, file: Path) -> Function:
    entry = document.data[place[0]][place[1]]
    config = _mapping(entry.get("config"))
    listed = entry.get("arguments") or []
    if not listed:
        raise document.error(f"function {entry['name']!r} takes no arguments: it would not know how many rows", place)
    if str(config.get("type") or "scalar") != "scalar":
        raise document.error("only scalar functions run in every warehouse", (*place, "config", "type"))
    arguments = tuple(
        (str(_mapping(argument).get("name")), _type(document, argument, (*place, "arguments", index)))
        for index, argument in enumerate(listed)
    )
    returns = _type(document, entry.get("returns"), (*place, "returns"))
    tree = _parse(file, str(entry["name"]))
    declared = _mapping(_mapping(config.get("meta")).get("trunkline"))
    entry_point = str(config.get("entry_point") or "main")
    signature = _signature(file, tree, entry_point, arguments, returns, declared.get("vectorized"))
    packages = tuple(str(package) for package in config.get("packages") or [])
    return Function(
        name=str(entry["name"]),
        file=file,
        root=project,
        declared_in=document.path,
        line=document.line((*place, "name")),
        arguments=arguments,
        returns=returns,
        entry_point=entry_point,
        deterministic=config.get("volatility") in ("deterministic", "stable"),
        vectorised=signature.vectorised,
        optional=signature.optional,
        packages=packages,
        runtime=_runtime(document, config, place),
        sources=project_modules(project, file, (*packages, *_PANDAS) if signature.vectorised else packages),
    )


def _mapping(data: Any) -> dict[str, Any]:
    """What should be a mapping, as one: what it lacks is told where it is asked for."""
    return data if isinstance(data, dict) else {}


def _type(document: yaml.Document, declared: Any, place: yaml.Place) -> str:
    declared = _mapping(declared)
    name = str(declared.get("data_type") or "")
    kind = _TYPES.get(" ".join(name.lower().split()))
    if kind is None:
        what = f"data_type {name!r} is not one that means the same in every warehouse" if name else "no data_type"
        raise document.error(
            f"{what}.{did_you_mean(name.lower(), _TYPES)}",
            (*place, "data_type"),
            hint="use bigint, double, boolean, varchar, date or timestamp",
        )
    if declared.get("default_value") is not None:
        raise document.error("default values do not work in every warehouse", (*place, "default_value"))
    return kind


def _runtime(document: yaml.Document, config: Mapping[str, Any], place: yaml.Place) -> str:
    given = config.get("runtime_version")
    if given is not None and str(given) not in _RUNTIMES:
        hint = f'use one of {", ".join(_RUNTIMES)}, in quotes: runtime_version: "3.11"'
        raise document.error(f"no Python runtime {given!r}", (*place, "config", "runtime_version"), hint=hint)
    return str(given or "3.11")


def _parse(file: Path, name: str) -> ast.Module:
    try:
        return ast.parse(file.read_bytes(), filename=str(file))
    except SyntaxError as exc:
        raise ProjectError(f"function {name!r} does not load: {exc.msg}", file=file, line=exc.lineno) from exc


def _signature(
    file: Path,
    tree: ast.Module,
    entry_point: str,
    arguments: tuple[tuple[str, str], ...],
    returns: str,
    vectorised: bool | None,
) -> _Signature:
    main = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == entry_point), None)
    if main is None:
        hint = f"write `def {entry_point}(...)`, or set config.entry_point"
        raise ProjectError(f"function {file.stem!r} has no {entry_point}()", file=file, hint=hint)
    parameters = _parameters(file, main, [name for name, _ in arguments])
    noted = [_annotation(file, parameter, kind) for parameter, (_, kind) in zip(parameters, arguments, strict=True)]
    result = _annotation(file, main, returns)
    shapes = {note[0] for note in [*noted, result] if note}
    if vectorised is not None and shapes - {"series" if vectorised else "plain"}:
        what = f"config.meta.trunkline.vectorized is {str(vectorised).lower()}, but the annotations say otherwise"
        raise ProjectError(what, file=file, line=main.lineno, hint="drop one of the two")
    if len(shapes) > 1:
        raise ProjectError(
            f"{entry_point}() mixes Series and single values",
            file=file,
            line=main.lineno,
            hint="annotate all as Series (batches of rows) or all as Python types (row by row)",
        )
    if shapes == {"plain"} and None in noted:
        forgotten = parameters[noted.index(None)]
        raise ProjectError(f"parameter {forgotten.arg!r} has no type", file=file, line=forgotten.lineno)
    return _Signature(
        vectorised="plain" not in shapes and vectorised is not False,
        optional=tuple(note is None or note[1] for note in noted),
    )


def _parameters(file: Path, main: ast.FunctionDef, names: list[str]) -> list[ast.arg]:
    taken = [*main.args.posonlyargs, *main.args.args]
    forced = [arg for arg, default in zip(main.args.kwonlyargs, main.args.kw_defaults, strict=True) if default is None]
    fewest, most = len(taken) - len(main.args.defaults), len(taken)
    if forced or main.args.vararg or not fewest <= len(names) <= most:
        takes = ", ".join([*(arg.arg for arg in taken), *(f"*{arg.arg}" for arg in [main.args.vararg] if arg)])
        what = f"{main.name}({takes}) does not take what its declaration says ({', '.join(names)})"
        raise ProjectError(what, file=file, line=main.lineno, hint="parameters and arguments are the same, in order")
    return taken[: len(names)]


def _annotation(file: Path, node: ast.arg | ast.FunctionDef, kind: str) -> tuple[str, bool] | None:
    """("series" or "plain", whether None is admitted), or None where nothing is annotated."""
    annotation = node.returns if isinstance(node, ast.FunctionDef) else node.annotation
    if annotation is None:
        return None
    who = "the result" if isinstance(node, ast.FunctionDef) else repr(node.arg)
    found = _meaning(annotation)
    if found is None:
        raise ProjectError(
            f"{who} is annotated as {ast.unparse(annotation)}, which no warehouse can hand over",
            file=file,
            line=annotation.lineno,
            hint="use pandas.Series, or int, float, bool, str, datetime.date or datetime.datetime, `| None` for NULL",
        )
    shape, python, optional = found
    if python in _PYTHON and _PYTHON[python] != kind:
        what = f"{who} is annotated as {ast.unparse(annotation)}, but declared as {kind.lower()}"
        raise ProjectError(what, file=file, line=annotation.lineno, hint="make both the same")
    return shape, optional


def _meaning(annotation: ast.expr) -> tuple[str, str, bool] | None:
    """(shape, Python type or "", whether None is admitted) of an annotation as it is written."""
    match annotation:
        case ast.Constant(value=str(text)):
            try:
                return _meaning(ast.parse(text, mode="eval").body)
            except SyntaxError:
                return None
        case ast.Name(id="Series") | ast.Attribute(attr="Series"):
            return "series", "", True
        case ast.Subscript(value=ast.Name(id="Series") | ast.Attribute(attr="Series"), slice=inner):
            found = _meaning(inner)
            return "series", found[1] if found else "", True
        case ast.Subscript(value=ast.Name(id="Optional") | ast.Attribute(attr="Optional"), slice=inner):
            found = _meaning(inner)
        case (
            ast.BinOp(op=ast.BitOr(), left=inner, right=ast.Constant(value=None))
            | ast.BinOp(op=ast.BitOr(), left=ast.Constant(value=None), right=inner)
        ):
            found = _meaning(inner)
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _PYTHON:
            return "plain", name, False
        case _:
            return None
    return (found[0], found[1], True) if found else None
