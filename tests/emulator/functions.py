"""Functions written in Python, which fakesnow lacks: CREATE FUNCTION … LANGUAGE PYTHON runs in this process.

The handler is loaded as Snowflake would load it, with a stand-in for its module `_snowflake` and the files of IMPORTS
in a folder of their own, and becomes a DuckDB function; a macro gives it its name in its database and schema. A
vectorised handler gets DataFrames with the columns 0…n-1, the dtypes that Snowflake documents, and 1, 7, 500 or all of
the rows at hand, since the size of a batch is nobody's promise. Packages are those of this environment.
"""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shutil
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

_NAME = r"(?:[\w$]+|\"[^\"]+\")(?:\.(?:[\w$]+|\"[^\"]+\"))*"
_COMMENTS = r"\A(?:\s*(?:/\*.*?\*/|--[^\n]*\n))*\s*"
_CREATE = re.compile(
    _COMMENTS + rf"create\s+(?:or\s+replace\s+)?(?:temporary\s+|temp\s+)?(?:secure\s+)?function\s+"
    rf"(?:if\s+not\s+exists\s+)?(?P<name>{_NAME})\s*\((?P<arguments>[^()]*(?:\([^()]*\)[^()]*)*)\)\s*"
    r"returns\s+(?P<returns>[\w ]+?(?:\([\d, ]+\))?)\s+(?P<options>(?:not\s+null\s+)?language\s+python\b.*?)"
    r"(?:\bas\s+(?P<quote>\$\$|')(?P<body>.*)(?P=quote).*)?\Z",
    re.IGNORECASE | re.DOTALL,
)
_DROP = re.compile(_COMMENTS + rf"drop\s+function\s+(if\s+exists\s+)?({_NAME})\s*\(", re.IGNORECASE | re.DOTALL)
_TYPES = {
    **dict.fromkeys(("BIGINT", "INT", "INTEGER", "NUMBER", "NUMERIC", "DECIMAL"), "BIGINT"),
    **dict.fromkeys(("DOUBLE", "DOUBLE PRECISION", "FLOAT", "REAL"), "DOUBLE"),
    "BOOLEAN": "BOOLEAN",
    **dict.fromkeys(("VARCHAR", "STRING", "TEXT", "CHAR"), "VARCHAR"),
    "DATE": "DATE",
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMP_NTZ", "DATETIME"), "TIMESTAMP"),
    "VARIANT": "JSON",
}
_ARROW = {
    "BIGINT": pa.int64(),
    "DOUBLE": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "JSON": pa.string(),
}
_numbers = itertools.count()
_kept: list[Any] = []  # DuckDB forgets to hold a function once the connection that made it is closed
_made: set[str] = set()  # bare names, in upper case
_one_at_a_time = threading.RLock()


def create(sql: str, connection: Any, stage_folder: Path) -> bool:
    """Do what a CREATE FUNCTION in Python or a DROP FUNCTION says; False if the statement is neither."""
    if dropped := _DROP.match(sql):
        name = _qualified(dropped[2], connection)
        connection._duck_conn.execute(f"drop macro {'if exists' if dropped[1] else ''} {name}").fetchall()
        return True
    made = _CREATE.match(sql)
    if made is None:
        return False
    arguments = [_argument(text) for text in _split(made["arguments"])]
    returns = _type(made["returns"])
    folder = _imports(made["options"], stage_folder)
    body = made["body"] or ""
    handler = _handler(body if made["quote"] == "$$" else body.replace("''", "'"), made["options"], folder)
    call = _vectorised(handler, arguments, returns) if _is_vectorised(handler) else _by_row(handler, returns)
    call = _with_parameters(call, [name for name, _ in arguments], folder)
    _kept.append(call)
    internal = f"__py_{next(_numbers)}"
    connection._duck_conn.create_function(
        internal,
        call,
        [_handed(kind) for _, kind in arguments],
        _handed(returns),
        type="arrow",
        null_handling="special",
        side_effects="immutable" not in made["options"].lower(),
    )
    names = ", ".join(name for name, _ in arguments)
    values = ", ".join(f"cast(cast({name} as {kind}) as {_handed(kind)})" for name, kind in arguments)
    called = f"cast({internal}({values}) as {returns})"
    macro = f"create or replace macro {_qualified(made['name'], connection)}({names}) as {called}"
    connection._duck_conn.execute(macro).fetchall()
    _made.add(macro.split('"')[5].upper())
    return True


def unquoted_calls(sql: str) -> str:
    """The statement with the names of our functions bare: fakesnow cannot read a quoted name of a function."""

    def bare(call: re.Match[str]) -> str:
        parts = re.findall(r'[\w$]+|"[^"]+"', call[1])
        return call[0].replace('"', "") if parts[-1].strip('"').upper() in _made else call[0]

    return re.sub(rf"({_NAME})(?=\()", bare, sql) if _made else sql


def _qualified(name: str, connection: Any) -> str:
    parts = [part[1:-1] if part[0] == '"' else part.upper() for part in re.findall(r'[\w$]+|"[^"]+"', name)]
    parts = [*[connection.database, connection.schema][: 3 - len(parts)], *parts]
    return ".".join(f'"{part}"' for part in parts)


def _split(arguments: str) -> list[str]:
    return [part for part in re.split(r",(?![^()]*\))", arguments) if part.strip()]


def _argument(text: str) -> tuple[str, str]:
    found = re.match(r'("[^"]+"|\S+)\s+(.*)', text.strip(), re.DOTALL)
    assert found is not None, text
    return found[1], _type(re.split(r"\s+default\s+", found[2], flags=re.IGNORECASE)[0])


def _type(text: str) -> str:
    kind = " ".join(re.sub(r"\(.*\)", "", text).upper().split())
    if kind not in _TYPES:
        raise ValueError(f"Unsupported data type '{text}'.")
    return _TYPES[kind]


def _handed(kind: str) -> str:
    """The type by which DuckDB hands values over: it takes no JSON from Arrow."""
    return "VARCHAR" if kind == "JSON" else kind


def _option(options: str, name: str) -> str:
    found = re.search(rf"\b{name}\s*=\s*('[^']*'|\([^)]*\))", options, re.IGNORECASE)
    return found[1] if found else ""


def _imports(options: str, stage_folder: Path) -> Path:
    """The files of IMPORTS in a new folder, as Snowflake puts them; it lives as long as this process."""
    folder = Path(tempfile.mkdtemp(prefix="snowflake-imports-"))
    for place in re.findall(r"'@([^']+)'", _option(options, "imports")):
        path = Path(place.lower()).name
        files = [file for file in stage_folder.rglob("*") if file.is_file() and file.name.lower() == path]
        tail = list(Path(place).parts[1:])
        files = [file for file in files if list(file.parts[-len(tail) :]) == tail] or files
        if not files:
            raise FileNotFoundError(f"Remote file '@{place}' was not found.")
        newest = max(files, key=lambda file: file.stat().st_mtime)
        shutil.copy(newest, folder / Path(place).name)
    return folder


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """As in Snowflake: the files of IMPORTS can be imported and found. Their modules are those of one function."""
    paths = [str(folder), *map(str, sorted(folder.glob("*.zip")))]
    with _one_at_a_time:
        known = set(sys.modules)
        sys.path[:0] = paths
        sys._xoptions["snowflake_import_directory"] = f"{folder}/"
        sys.modules["_snowflake"] = _stand_in()
        try:
            yield
        finally:
            del sys.modules["_snowflake"]
            for path in paths:
                sys.path.remove(path)
            for name in set(sys.modules) - known:
                if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[name]


def _stand_in() -> types.ModuleType:
    module = types.ModuleType("_snowflake")

    def vectorized(input: Any, **_: Any) -> Callable[[Any], Any]:
        def mark(function: Any) -> Any:
            function._sf_vectorized_input = input
            return function

        return mark

    module.vectorized = vectorized  # type: ignore[attr-defined]
    return module


def _handler(body: str, options: str, folder: Path) -> Any:
    path = _option(options, "handler").strip("'").split(".")
    with _inside(folder):
        if body:
            module: Any = types.ModuleType("_udf_code")
            exec(compile(body, "_udf_code.py", "exec"), module.__dict__)
        else:
            module = __import__(".".join(path[:-1]), fromlist=path[-1:])
    return getattr(module, path[-1])


def _is_vectorised(handler: Any) -> bool:
    return getattr(handler, "_sf_vectorized_input", None) is pd.DataFrame


def _with_parameters(call: Callable[..., Any], names: list[str], folder: Path) -> Callable[..., Any]:
    def inside(*columns: Any) -> Any:
        with _inside(folder):
            return call(*columns)

    # DuckDB counts the parameters; SQL names need not be Python's
    parameters = [inspect.Parameter(f"a{n}", inspect.Parameter.POSITIONAL_ONLY) for n in range(len(names))]
    inside.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return inside


def _vectorised(handler: Any, arguments: list[tuple[str, str]], returns: str) -> Callable[..., Any]:
    sizes = itertools.cycle((1, 7, 500, 2048))

    def call(*columns: Any) -> Any:
        results: list[pa.Array] = []
        place, rows = 0, len(columns[0])
        while place < rows:
            size = min(next(sizes), rows - place)
            parts = [column.slice(place, size) for column in columns]
            frame = pd.DataFrame(
                {n: _series(part, kind) for n, (part, (_, kind)) in enumerate(zip(parts, arguments, strict=True))}
            )
            result = handler(frame)
            if len(result) != size:
                raise ValueError(f"Expected {size} rows from the vectorized UDF, got {len(result)}.")
            results.append(_result(result, returns))
            place += size
        return pa.chunked_array(results, type=_ARROW[returns])

    return call


def _series(column: Any, kind: str) -> pd.Series[Any]:
    """A column with the dtype that Snowflake documents: the plain one where nothing is missing."""
    if kind == "BIGINT":
        return (
            column.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
            if column.null_count
            else column.to_pandas()
        )
    if kind == "BOOLEAN":
        return (
            column.to_pandas(types_mapper={pa.bool_(): pd.BooleanDtype()}.get)
            if column.null_count
            else column.to_pandas()
        )
    if kind == "VARCHAR":
        return column.to_pandas(types_mapper={pa.string(): pd.StringDtype()}.get)
    if kind == "JSON":
        return pd.Series([None if v is None else json.loads(v) for v in column.to_pylist()], dtype=object)
    if kind in ("DATE", "TIMESTAMP"):
        moments = column.cast(pa.timestamp("us")).to_pandas()
        near = moments.dropna().between("1678-01-01", "2262-01-01").all()
        return moments.astype("datetime64[ns]") if near else moments
    return column.to_pandas()


def _result(result: Any, returns: str) -> pa.Array:
    values = result
    if returns == "DATE":
        values = [None if pd.isna(value) else pd.Timestamp(value).date() for value in result]
    if returns == "JSON":
        values = [None if value is None else json.dumps(value) for value in result]
    array = pa.array(values, type=_ARROW[returns], from_pandas=True)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _by_row(handler: Any, returns: str) -> Callable[..., Any]:
    def call(*columns: Any) -> Any:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.chunked_array([pa.array([handler(*row) for row in rows], type=_ARROW[returns])], type=_ARROW[returns])

    return call
