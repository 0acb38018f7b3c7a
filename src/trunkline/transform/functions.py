"""DuckDB's side of dbt's Python functions, a dbt-duckdb plugin: `plugins: [{module: trunkline.transform.functions}]`.

dbt (>= 1.11) knows `functions/<name>.py` with a YAML entry, and writes a CREATE FUNCTION for it on Snowflake.
dbt-duckdb has no such statement. Here each of them becomes the Arrow function `__py_<name>` of the connection, and the
project's macro `duckdb__scalar_function_python` gives that its SQL name and its declared types.

What a function sees and may return is told in `batch.py`; DuckDB's batches have at most 2048 rows.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trunkline.errors import ProjectError
from trunkline.project.boundary import user_code
from trunkline.transform import batch
from trunkline.transform.portable import Function, find_functions
from trunkline.transform.published import recall
from trunkline.warehouse.arrow_functions import Code, give

__all__ = ["Plugin", "arrow_function", "arrow_type", "load_function", "register"]


class Plugin:
    """What dbt-duckdb loads. It has the faces of its `BasePlugin` without inheriting them, so that nothing here
    imports dbt; those that do nothing are no-ops there too.

    `config: {project_dir: …}` in profiles.yml names the project if dbt does not run in it.
    """

    def __init__(self, name: str, plugin_config: Mapping[str, Any], credentials: object = None) -> None:
        self.name = name
        self.creds = credentials
        self._lock = threading.Lock()
        self._connection: Any = None  # the one that lacks the published models
        self.initialize(plugin_config)

    def initialize(self, plugin_config: Mapping[str, Any]) -> None:
        """Remember where the project is."""
        self._project = Path(plugin_config.get("project_dir", "."))

    def configure_connection(self, conn: Any) -> None:
        """Register every Python function of the project."""
        register(conn, self._project)
        self._connection = conn

    def configure_cursor(self, cursor: Any) -> None:
        """Register published models, once a connection: the ledger that knows them is attached by now."""
        database = getattr(self.creds, "database", None)
        with self._lock:
            if database and self._connection is not None:
                recall(self._connection, cursor, self._project, str(database))
                self._connection = None

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
        types = [kind for _, kind in function.arguments]
        code = Code(f"__py_{function.name}", arrow_function(function), types, function.returns, function.deterministic)
        give(conn, code)
    return functions


def load_function(function: Function) -> Callable[..., Any]:
    """The user's own function, its modules loaded for it alone."""
    sources = {name: (str(function.root / file), text) for name, (file, text) in function.sources.items()}
    with user_code(f"function {function.name!r} does not load", function.file):
        main = getattr(batch.Modules(sources).load(function.module), function.entry_point)
    return main  # type: ignore[no-any-return]


def arrow_function(function: Function) -> Callable[..., Any]:
    """The function over Arrow arrays: NULLs in, one array of the declared type and the same length out."""
    main = load_function(function)
    call = _vectorised(function, main) if function.vectorised else _by_row(function, main)
    # DuckDB counts the parameters and refuses *arguments.
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name, _ in function.arguments]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def _vectorised(function: Function, main: Callable[..., Any]) -> Callable[..., Any]:
    what = f"function {function.name!r} failed"
    kinds = [kind for _, kind in function.arguments]

    def call(*arguments: Any) -> Any:
        columns = [_to_series(argument, kind) for argument, kind in zip(arguments, kinds, strict=True)]
        with user_code(what, function.file):
            result = main(*columns)
        try:
            return _series_to_arrow(batch.column(result, function.returns, len(arguments[0])), function.returns)
        except (TypeError, ValueError) as exc:
            raise _wrong(function, exc) from exc

    return call


def _by_row(function: Function, main: Callable[..., Any]) -> Callable[..., Any]:
    what = f"function {function.name!r} failed"

    def call(*arguments: Any) -> Any:
        columns = [argument.to_pylist() for argument in arguments]
        required = [
            place for place, argument in enumerate(arguments) if argument.null_count and not function.optional[place]
        ]
        with user_code(what, function.file):
            if required:
                rows = zip(*columns, strict=True)
                results = [None if any(row[p] is None for p in required) else main(*row) for row in rows]
            else:
                results = list(map(main, *columns))
        try:
            return _values_to_arrow(results, function.returns)
        except (TypeError, ValueError, OverflowError) as exc:
            raise _wrong(function, exc) from exc

    return call


def _to_series(argument: Any, kind: str) -> Any:
    """An Arrow array as the Series that `batch.py` promises. Never a view: a function may write into it."""
    import pandas as pd
    import pyarrow as pa

    array = _one(argument)
    if kind == "DOUBLE":
        return pd.Series(array.to_numpy(zero_copy_only=False, writable=True), copy=False)
    if kind in ("DATE", "TIMESTAMP"):
        moments = array.cast(pa.timestamp("us")).to_numpy(zero_copy_only=False, writable=True)
        return pd.Series(moments, copy=False)
    dtypes = {"BIGINT": pd.Int64Dtype(), "BOOLEAN": pd.BooleanDtype(), "VARCHAR": pd.StringDtype("python")}
    return array.to_pandas(types_mapper={array.type: dtypes[kind]}.get)


def arrow_type(kind: str) -> Any:
    """The Arrow type of a portable one."""
    import pyarrow as pa

    kinds: Mapping[str, Any] = {
        "BIGINT": pa.int64(),
        "DOUBLE": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "VARCHAR": pa.string(),
        "DATE": pa.date32(),
        "TIMESTAMP": pa.timestamp("us"),
    }
    return kinds[kind]


def _series_to_arrow(series: Any, kind: str) -> Any:
    import pyarrow as pa

    if kind == "DOUBLE":
        return pa.array(series.to_numpy(), from_pandas=True)  # NaN is NULL
    if kind in ("DATE", "TIMESTAMP"):
        return pa.array(series.to_numpy(), from_pandas=True).cast(arrow_type(kind))
    if kind == "VARCHAR":
        return pa.array(series.to_numpy(dtype=object), type=arrow_type(kind), from_pandas=True)
    return pa.array(series.array, type=arrow_type(kind), from_pandas=True)


def _values_to_arrow(results: Sequence[Any], kind: str) -> Any:
    import pyarrow as pa

    exact = {"BIGINT": int, "DOUBLE": float, "BOOLEAN": bool, "VARCHAR": str}.get(kind)
    if exact is None or not {exact, type(None)}.issuperset(map(type, results)):
        results = [batch.value(result, kind) for result in results]
    return pa.array(results, type=arrow_type(kind), from_pandas=True)


def _one(argument: Any) -> Any:
    """DuckDB hands over and takes chunked arrays; ours have one chunk."""
    if not hasattr(argument, "num_chunks"):
        return argument
    return argument.chunk(0) if argument.num_chunks == 1 else argument.combine_chunks()


def _wrong(function: Function, exc: Exception) -> ProjectError:
    return ProjectError(f"function {function.name!r} returned {exc}", file=function.file)
