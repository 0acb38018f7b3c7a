"""DuckDB's side of dbt's Python functions, a dbt-duckdb plugin: `plugins: [{module: trunkline.transform.functions}]`.

dbt (>= 1.11) knows `functions/<name>.py` with a YAML entry, and writes a CREATE FUNCTION for it on Snowflake.
dbt-duckdb has no such statement. Here each of them becomes the Arrow function `__py_<name>` of the connection, and the
project's macro `duckdb__scalar_function_python` gives that its SQL name and its declared types.

A function takes pandas Series and returns one, a batch of at most a few thousand rows at a time. NULLs reach it as
missing values of pandas' nullable types, and what it returns as missing or NaN is NULL. Which rows share a batch is
the engine's choice: a function must not depend on it.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError, did_you_mean
from trunkline.project import yaml
from trunkline.project.boundary import user_code

__all__ = ["Function", "Plugin", "arrow_function", "find_functions", "register"]

# The types that mean the same in DuckDB and Snowflake, with dbt's and SQL's other names for them. Not here: FLOAT and
# REAL (32 bits in DuckDB, 64 in Snowflake), NUMBER and DECIMAL (Python objects), zones (each session has its own).
_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("bigint", "int8", "integer", "int", "int4"), "BIGINT"),
    **dict.fromkeys(("double", "double precision", "float8"), "DOUBLE"),
    **dict.fromkeys(("boolean", "bool"), "BOOLEAN"),
    **dict.fromkeys(("varchar", "string", "text"), "VARCHAR"),
    "date": "DATE",
    **dict.fromkeys(("timestamp", "datetime"), "TIMESTAMP"),
}


@dataclass(frozen=True)
class Function:
    """One file of `functions/` with its YAML entry. `arguments` and `returns` are portable types."""

    name: str
    file: Path
    declared_in: Path
    line: int
    arguments: tuple[tuple[str, str], ...]
    returns: str
    entry_point: str
    deterministic: bool


class Plugin:
    """What dbt-duckdb loads. It has the faces of its `BasePlugin` without inheriting them, so that nothing here
    imports dbt; those that do nothing are no-ops there too.

    `config: {project_dir: …}` in profiles.yml names the project if dbt does not run in it.
    """

    def __init__(self, name: str, plugin_config: Mapping[str, Any], credentials: object = None) -> None:
        self.name = name
        self.creds = credentials
        self.initialize(plugin_config)

    def initialize(self, plugin_config: Mapping[str, Any]) -> None:
        """Remember where the project is."""
        self._project = Path(plugin_config.get("project_dir", "."))

    def configure_connection(self, conn: Any) -> None:
        """Register every Python function of the project."""
        register(conn, self._project)

    def configure_cursor(self, cursor: Any) -> None:
        """Nothing: cursors share the functions of their connection."""

    def update_connection_config(self, creds: object, config: dict[str, Any]) -> None:
        """Nothing."""

    def load(self, source_config: object) -> object:
        """Not for reading sources."""
        raise ProjectError("trunkline.transform.functions is no source plugin", hint="remove `plugin:` from the source")

    def store(self, target_config: object) -> None:
        """Not for writing tables."""
        raise ProjectError("trunkline.transform.functions is no store plugin", hint="remove `plugin:` from the model")

    def default_materialization(self) -> str:
        """dbt-duckdb's own default."""
        return "table"


def register(conn: Any, project: Path) -> list[Function]:
    """Make `__py_<name>` of every function of `project` callable on a DuckDB connection; those of before are replaced.

    Raises `ProjectError` with file and line for whatever is wrong with a file or its declaration.
    """
    functions = list(find_functions(project))
    for function in functions:
        name = f"__py_{function.name}"
        known = conn.execute("select count(*) from duckdb_functions() where function_name = ?", [name]).fetchall()
        if known[0][0]:
            conn.remove_function(name)
        conn.create_function(
            name,
            arrow_function(function),
            [kind for _, kind in function.arguments],
            function.returns,
            type="arrow",
            null_handling="special",
            side_effects=not function.deterministic,
        )
    return functions


def find_functions(project: Path) -> Iterator[Function]:
    """The Python functions of a dbt project, by name. Raises `ProjectError` on a bad or a missing declaration."""
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
                yield _function(document, entry, ("functions", index), files[name])
    for name in sorted(files.keys() - declared):
        raise ProjectError(
            f"function {name!r} is declared nowhere",
            file=files[name],
            hint=f"write {files[name].with_suffix('.yml').name} beside it, with arguments and returns",
        )


def arrow_function(function: Function) -> Callable[..., Any]:
    """`main` over Arrow arrays: NULLs as in Snowflake in, one array of the declared type and the same length out."""
    main = _main(function)

    def call(*arguments: Any) -> Any:
        series = [_to_pandas(argument) for argument in arguments]
        with user_code(f"function {function.name!r} failed", function.file):
            result = main(*series)
        return _to_arrow(function, result, len(arguments[0]))

    # DuckDB counts the parameters and refuses *arguments.
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name, _ in function.arguments]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _folders(project: Path) -> list[str]:
    path = project / "dbt_project.yml"
    data = yaml.load(path).data if path.exists() else None
    return list((data or {}).get("function-paths") or ["functions"])


def _function(document: yaml.Document, entry: dict[str, Any], place: yaml.Place, file: Path) -> Function:
    config = entry.get("config") or {}
    arguments = entry.get("arguments") or []
    if not arguments:
        raise document.error(f"function {entry['name']!r} takes no arguments: it would not know how many rows", place)
    return Function(
        name=str(entry["name"]),
        file=file,
        declared_in=document.path,
        line=document.line((*place, "name")),
        arguments=tuple(
            (str(argument.get("name")), _type(document, argument, (*place, "arguments", index)))
            for index, argument in enumerate(arguments)
        ),
        returns=_type(document, entry.get("returns") or {}, (*place, "returns")),
        entry_point=str(config.get("entry_point") or "main"),
        deterministic=config.get("volatility") in ("deterministic", "stable"),
    )


def _type(document: yaml.Document, declared: Any, place: yaml.Place) -> str:
    name = str((declared if isinstance(declared, dict) else {}).get("data_type") or "")
    kind = _TYPES.get(" ".join(name.lower().split()))
    if kind is None:
        what = f"data_type {name!r} is not one that means the same in every warehouse" if name else "no data_type"
        raise document.error(
            f"{what}.{did_you_mean(name.lower(), _TYPES)}",
            (*place, "data_type"),
            hint="use bigint, double, boolean, varchar, date or timestamp",
        )
    return kind


def _main(function: Function) -> Callable[..., Any]:
    """The entry point, from a module of its own. Run from the text: no stale byte code, no entry in sys.modules."""
    module = types.ModuleType(f"functions.{function.name}")
    module.__file__ = str(function.file)
    with user_code(f"function {function.name!r} does not load", function.file):
        exec(compile(function.file.read_bytes(), str(function.file), "exec"), module.__dict__)
    main = getattr(module, function.entry_point, None)
    if not callable(main):
        raise ProjectError(
            f"function {function.name!r} has no {function.entry_point}()",
            file=function.file,
            hint=f"define it, or set config.entry_point in {function.declared_in.name}",
        )
    try:
        inspect.signature(main).bind(*(name for name, _ in function.arguments))
    except TypeError as exc:
        names = ", ".join(name for name, _ in function.arguments)
        line = getattr(getattr(main, "__code__", None), "co_firstlineno", None)
        what = f"{function.entry_point}() does not take what {function.declared_in.name} declares ({names}): {exc}"
        raise ProjectError(what, file=function.file, line=line) from exc
    return main  # type: ignore[no-any-return]


def _to_pandas(argument: Any) -> Any:
    """An Arrow array as a Series of a nullable type; dates are datetimes, as in Snowflake."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_date(argument.type):
        argument = argument.cast(pa.timestamp("us"))
    nullable = {
        pa.int64(): pd.Int64Dtype(),
        pa.float64(): pd.Float64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
        pa.string(): pd.StringDtype(),
    }
    return argument.to_pandas(types_mapper=nullable.get)


def _to_arrow(function: Function, result: Any, rows: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    kinds: Mapping[str, Any] = {
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "VARCHAR": pa.string(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
    }
    if not hasattr(result, "__len__") or isinstance(result, str | bytes | Mapping):
        raise _wrong(function, f"returned {type(result).__name__}, not a pandas Series")
    if len(result) != rows:
        raise _wrong(function, f"returned {len(result)} rows for {rows}")
    try:
        array = pa.array(result, type=kinds[function.returns], from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise _wrong(function, f"returned what is no {function.returns}: {exc}") from exc
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if function.returns == "DOUBLE":
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, pa.float64()), array)
    return array


def _wrong(function: Function, what: str) -> ProjectError:
    return ProjectError(f"function {function.name!r} {what}", file=function.file)
