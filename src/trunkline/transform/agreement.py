"""The property test of a portable function: the same rows through the plain function in one batch, through DuckDB, and
through the handler that Snowflake gets, in a process of its own and in batches of several sizes. All must agree."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.errors import EngineError, ProjectError
from trunkline.project.boundary import user_code
from trunkline.transform import batch, rehearsal
from trunkline.transform.functions import arrow_function, arrow_type, load_function
from trunkline.transform.portable import Function
from trunkline.transform.rows import random_rows
from trunkline.transform.snowpark import HANDLER, handler_packages, handler_source
from trunkline.warehouse.protocol import FunctionHost, PythonFunction, Records, Warehouse
from trunkline.warehouse.relation import Relation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Agreement", "Difference", "compare"]


@dataclass(frozen=True)
class Difference:
    """A row on which a side does not answer what the plain function answers."""

    side: str
    row: int
    arguments: tuple[Any, ...]
    plain: Any
    answer: Any


@dataclass(frozen=True)
class Agreement:
    """What came of one function. `differing` counts the rows of each side that are not the plain function's."""

    function: Function
    rows: int
    nulls: int
    differing: dict[str, int]
    first: Difference | None

    @property
    def ok(self) -> bool:
        """Whether every side agreed on every row."""
        return self.first is None


def compare(function: Function, rows: int, seed: int, warehouse: Warehouse) -> Agreement:
    """Run the test. `warehouse` is a DuckDB in memory that is the test's alone.

    Doubles may differ by a part in 10^9: a library may sum or vectorise differently by the length of a batch. Raises
    `ProjectError` with the user's own traceback when the function fails.
    """
    table = random_rows(function, rows, seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about infinities and overflow: the answers are what counts
        plain = _plain(function, table)
        sides = {"DuckDB": _duckdb(function, table, warehouse), **_snowflake(function, table)}
    differences = {side: _differences(side, plain, answers, table) for side, answers in sides.items()}
    found = [difference for listed in differences.values() for difference in listed]
    return Agreement(
        function,
        rows=table.num_rows,
        nulls=sum(value is None for value in plain),
        differing={side: len(listed) for side, listed in differences.items()},
        first=min(found, key=lambda difference: difference.row, default=None),
    )


def _differences(side: str, plain: Sequence[Any], answers: Sequence[Any], table: pa.Table) -> list[Difference]:
    # small batches were asked for the first rows only
    rows = [row for row, (a, b) in enumerate(zip(plain, answers, strict=False)) if not _same(a, b)]
    arguments = {row: tuple(column[row].as_py() for column in table.columns) for row in rows}
    return [Difference(side, row, arguments[row], plain[row], answers[row]) for row in rows]


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return type(a) is type(b) and bool(a == b)


def _plain(function: Function, table: pa.Table) -> list[Any]:
    """The user's function as they wrote it: one batch, no warehouse."""
    main = load_function(function)
    kinds = [kind for _, kind in function.arguments]
    columns = [column.to_pylist() for column in table.columns]
    with user_code(f"function {function.name!r} failed", function.file):
        if function.vectorised:
            result = main(*(_series(values, kind) for values, kind in zip(columns, kinds, strict=True)))
        else:
            call = batch.scalar_handler(main, kinds, function.optional, function.returns)
            return [call(*row) for row in zip(*columns, strict=True)]
    try:
        return _values(batch.column(result, function.returns, table.num_rows), function.returns)
    except (TypeError, ValueError) as exc:
        raise ProjectError(f"function {function.name!r} returned {exc}", file=function.file) from exc


def _series(values: list[Any], kind: str) -> Any:
    """The Series that `batch.py` promises, by a way that shares nothing with the warehouses'."""
    import pandas as pd

    dtypes = {"BIGINT": "Int64", "DOUBLE": "float64", "BOOLEAN": "boolean", "VARCHAR": "string[python]"}
    return pd.Series(values, dtype=dtypes.get(kind, "datetime64[us]"))


def _values(series: Any, kind: str) -> list[Any]:
    import pandas as pd

    values = [None if pd.isna(value) else value for value in series.tolist()]
    moments = [value.to_pydatetime() if isinstance(value, pd.Timestamp) else value for value in values]
    return [value.date() if value is not None else None for value in moments] if kind == "DATE" else moments


def _duckdb(function: Function, table: pa.Table, warehouse: Warehouse) -> list[Any]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    assert isinstance(warehouse, FunctionHost)
    assert isinstance(warehouse, Records)
    relation = Relation("main", function.name)
    declared = PythonFunction(
        relation,
        function.arguments,
        function.returns,
        handler_source(function),
        HANDLER,
        handler_packages(function),
        deterministic=function.deterministic,
    )
    warehouse.create_function(declared, arrow_function(function))
    kinds = [("n", "BIGINT"), *((f"c{place}", kind) for place, (_, kind) in enumerate(function.arguments))]
    numbered = table.add_column(0, "n", pa.array(range(table.num_rows), type=pa.int64()))
    place = Relation("main", f"_rows_of_{function.name}")
    with tempfile.TemporaryDirectory() as folder:
        parquet.write_table(numbered, Path(folder) / "rows.parquet")
        warehouse.create(place, kinds)
        with warehouse.appending(place, kinds, Path(folder) / "rows.parquet") as append, warehouse.transaction():
            append()
    values = ", ".join(name for name, _ in kinds[1:])
    sql = f"select {warehouse.sql(relation)}({values}) from {warehouse.sql(place)} order by n"
    return [row[0] for row in warehouse.query(sql)]


def _snowflake(function: Function, table: pa.Table) -> dict[str, list[Any]]:
    """The generated handler in a process of its own, which has neither the project nor Trunkline on its path."""
    import pyarrow as pa
    import pyarrow.feather as feather

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "handler.py").write_text(handler_source(function), "utf-8")
        feather.write_feather(table, str(folder / "rows.arrow"), compression="uncompressed")
        returned = pa.table({"returns": pa.array([], type=arrow_type(function.returns))})
        feather.write_feather(returned, str(folder / "returns.arrow"), compression="uncompressed")
        command = [sys.executable, "-I", rehearsal.__file__, name]
        done = subprocess.run(command, cwd=name, capture_output=True, text=True, check=False)
        if done.returncode:
            raise _failed(function, done)
        answers = {size: feather.read_table(folder / f"{size}.arrow").column(0) for size in rehearsal.BATCHES}
        if not function.vectorised:
            return {"Snowflake": answers[rehearsal.BATCHES[-1]].to_pylist()}
        return {f"Snowflake by {size}": column.to_pylist() for size, column in answers.items()}


def _failed(function: Function, done: subprocess.CompletedProcess[str]) -> Exception:
    try:
        told = json.loads(done.stdout)
    except ValueError:
        return EngineError(f"the handler's process ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    lines = [f"  {function.root / file}:{line} in {name}" for file, line, name in told["frames"]]
    where = f"as Snowflake would call it, in batches of {told['batch']}"
    what = f"function {function.name!r} failed {where}: {told['error']}"
    line = next((line for file, line, _ in reversed(told["frames"]) if function.root / file == function.file), None)
    return ProjectError("\n".join([what, *lines]), file=function.file, line=line)
