"""One batch of rows through a user's function: the same in DuckDB's process as in Snowflake's.

The text of this file is part of every handler that Snowflake gets (`snowpark.py`), so it may use the standard library
and pandas only. What it says holds on both sides:

- A vectorised function gets one Series a parameter. DOUBLE is float64, and NULL is NaN there; BIGINT, BOOLEAN and
  VARCHAR are pandas' nullable Int64, boolean and string (over Python's str: pyarrow's upper case is another one), and
  NULL is NA; DATE and TIMESTAMP are datetime64[us], and NULL is NaT. It returns as many values, in a Series, an array
  or a list.
- A scalar function gets int, float, bool, str, datetime.date and datetime.datetime, and None for NULL if the
  parameter's annotation admits None. Where it does not, a row with NULL is NULL without a call.
- A result that is None, NA, NaT or NaN is NULL. A whole number fits DOUBLE, a float without fraction fits BIGINT in a
  Series (pandas makes floats of integers with gaps), a timestamp fits DATE and loses its clock. Nothing else is
  converted: a wrong type is an error.
"""

from __future__ import annotations

import builtins
import datetime as dt
import numbers
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

# What pandas calls the values that each type accepts from a vectorised function.
_ACCEPTED: Mapping[str, tuple[str, ...]] = {
    "BIGINT": ("integer", "floating", "integer-na", "mixed-integer-float"),
    "DOUBLE": ("integer", "floating", "integer-na", "mixed-integer-float", "decimal"),
    "BOOLEAN": ("boolean",),
    "VARCHAR": ("string",),
    "DATE": ("date", "datetime", "datetime64"),
    "TIMESTAMP": ("date", "datetime", "datetime64"),
}
_DTYPES: Mapping[str, str] = {"BIGINT": "Int64", "BOOLEAN": "boolean", "VARCHAR": "string[python]"}
_EXACT: Mapping[str, str] = {  # the names of the dtypes that nothing need be done about
    "BIGINT": "Int64",
    "DOUBLE": "float64",
    "BOOLEAN": "boolean",
    "VARCHAR": "string",
    "TIMESTAMP": "datetime64[us]",
}
_BIGINT = range(-(2**63), 2**63)


class Modules:
    """The project's own modules, run from their text: no byte code is read or written, sys.modules stays as it is, and
    two functions never share a module's state.

    `sources` gives the file and the text of every module by its dotted name.
    """

    def __init__(self, sources: Mapping[str, tuple[str, str]]) -> None:
        self._sources = sources
        self._packages = {name[:end] for name in sources for end in range(len(name)) if name[end] == "."}
        self._loaded: dict[str, types.ModuleType] = {}

    def load(self, name: str) -> types.ModuleType:
        """The module of that name, run on first use."""
        if name in self._loaded:
            return self._loaded[name]
        if name not in self._sources and name not in self._packages:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        parent, _, child = name.rpartition(".")
        holder = self.load(parent) if parent else None
        module = self._loaded[name] = self._empty(name, parent)
        try:
            self._run(module, *self._sources.get(name, (name, "")))
        except BaseException:
            del self._loaded[name]
            raise
        if holder is not None:
            setattr(holder, child, module)
        return module

    def _empty(self, name: str, parent: str) -> types.ModuleType:
        module = types.ModuleType(f"{name} of {id(self):x}")
        module.__package__ = name if name in self._packages else parent
        if name in self._packages:
            module.__path__ = []
        module.__dict__["__builtins__"] = dict(vars(builtins), __import__=self._import)
        return module

    @staticmethod
    def _run(module: types.ModuleType, file: str, text: str) -> None:
        module.__file__ = file
        sys.modules[module.__name__] = module  # dataclasses look their module up there
        try:
            exec(compile(text, file, "exec"), module.__dict__)
        finally:
            del sys.modules[module.__name__]

    def _import(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Sequence[str] | None = (), level: int = 0
    ) -> Any:
        """What `import` does in these modules: their own names first, then Python's."""
        if level:
            package = globals["__package__"].split(".")
            name = ".".join([*package[: len(package) - level + 1], *([name] if name else [])])
        top = name.partition(".")[0]
        if top not in self._sources and top not in self._packages:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = self.load(name)
        for child in fromlist or ():
            if f"{name}.{child}" in self._sources or f"{name}.{child}" in self._packages:
                self.load(f"{name}.{child}")
        return module if fromlist else self.load(top)


def column(result: Any, kind: str, rows: int) -> Any:
    """What a vectorised function returned as a Series of the type's own dtype, missing values as such.

    TypeError and ValueError complete the sentence "it returned …".
    """
    import pandas as pd

    if not hasattr(result, "__len__") or isinstance(result, (str, bytes, Mapping)) or getattr(result, "ndim", 1) != 1:
        raise TypeError(f"{type(result).__name__}, not a pandas Series")
    if len(result) != rows:
        raise ValueError(f"{len(result)} rows for {rows}")
    if not hasattr(result, "dtype"):
        result = pd.Series(list(result), dtype=object)  # pandas would make floats of integers with gaps
    elif not isinstance(result, pd.Series):
        result = pd.Series(result)
    if str(result.dtype) == _EXACT.get(kind) and getattr(result.dtype, "storage", "python") == "python":
        return result
    found = pd.api.types.infer_dtype(result, skipna=True)
    if found == "categorical":
        return column(result.astype(object), kind, rows)
    if found == "empty" or (rows and bool(result.isna().all())):
        result = pd.Series([None] * rows, dtype=object)
    elif found not in _ACCEPTED[kind] or getattr(result.dtype, "tz", None) is not None:
        raise TypeError(f"what is no {kind}: {found} values ({result.dtype})")
    try:
        return _cast(result, kind)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"what is no {kind}: {exc}") from exc


def _cast(series: Any, kind: str) -> Any:
    import pandas as pd

    if kind == "DOUBLE":
        return pd.Series(series.to_numpy(dtype="float64", na_value=float("nan")))
    if kind in ("DATE", "TIMESTAMP"):
        return _moments(series, kind)
    return _integers(series) if kind == "BIGINT" else series.astype(_DTYPES[kind])


def _integers(series: Any) -> Any:
    import numpy as np
    import pandas as pd

    if series.dtype.kind == "i":
        return series.astype("Int64")
    missing = series.isna().to_numpy()
    values = [0 if gone else _whole(value) for value, gone in zip(series, missing)]  # noqa: B905 - same length
    if any(value not in _BIGINT for value in values):
        raise ValueError("it does not fit 64 bits")
    return pd.Series(pd.arrays.IntegerArray(np.array(values, dtype="int64"), missing))


def _whole(value: Any) -> int:
    if value != int(value):
        raise ValueError(f"{value} has a fraction")
    return int(value)


def _moments(series: Any, kind: str) -> Any:
    import numpy as np
    import pandas as pd

    if series.dtype.kind != "M":  # a list keeps the dates that nanoseconds have no room for
        values = [None if gone else value for value, gone in zip(series, series.isna())]  # noqa: B905 - same length
        if any(getattr(value, "tzinfo", None) is not None for value in values):
            raise ValueError("it has a time zone")
        series = pd.Series(np.array(values, dtype="datetime64[us]"))
    moments = series.to_numpy()
    return pd.Series(moments.astype("datetime64[D]" if kind == "DATE" else "datetime64[us]").astype("datetime64[us]"))


def value(result: Any, kind: str) -> Any:
    """What a scalar function returned for one row, None where it is missing. TypeError as in `column`."""
    if result is None or type(result).__name__ in ("NAType", "NaTType") or result != result:
        return None
    if kind == "DOUBLE" and isinstance(result, numbers.Real) and not isinstance(result, bool):
        return float(result)
    if kind == "BIGINT" and hasattr(result, "__index__") and not isinstance(result, bool) and int(result) in _BIGINT:
        return int(result)
    if kind == "BOOLEAN" and type(result).__name__ in ("bool", "bool_"):
        return bool(result)
    if kind == "VARCHAR" and isinstance(result, str):
        return str(result)
    if isinstance(result, dt.datetime) and kind in ("DATE", "TIMESTAMP") and result.tzinfo is None:
        return result.date() if kind == "DATE" else result
    if isinstance(result, dt.date) and not isinstance(result, dt.datetime) and kind in ("DATE", "TIMESTAMP"):
        return result if kind == "DATE" else dt.datetime.combine(result, dt.time())
    raise TypeError(f"what is no {kind}: {result!r}")


def series(values: Any, kind: str) -> Any:
    """A column as a warehouse hands it over, as the Series that a vectorised function sees."""
    import pandas as pd

    values = pd.Series(values).reset_index(drop=True)
    if kind in _DTYPES and values.dtype == object and kind != "BIGINT":
        return values.astype(_DTYPES[kind])
    return _cast(values, kind)


def vectorised_handler(function: Callable[..., Any], kinds: Sequence[str], returns: str) -> Callable[[Any], Any]:
    """Snowflake's vectorised handler: one DataFrame with columns 0…n-1 in, one Series out."""

    def handler(frame: Any) -> Any:
        result = function(*(series(frame.iloc[:, place], kind) for place, kind in enumerate(kinds)))
        return column(result, returns, len(frame))

    return handler


def scalar_handler(
    function: Callable[..., Any], kinds: Sequence[str], optional: Sequence[bool], returns: str
) -> Callable[..., Any]:
    """Snowflake's handler of one row."""
    required = [place for place, may_miss in enumerate(optional) if not may_miss]
    whole = [place for place, kind in enumerate(kinds) if kind == "BIGINT"]

    def handler(*row: Any) -> Any:
        if any(row[place] is None for place in required):
            return None
        values = list(row)
        for place in whole:  # a NUMBER may come as a Decimal
            values[place] = None if row[place] is None else int(row[place])
        return value(function(*values), returns)

    return handler
