"""A Python function over a million rows in DuckDB: vectorised, row by row, pandas one row at a time, and SQL.

    python benchmarks/functions.py [--rows 1000000] [--rounds 3] [--only sun]

Each task is written four times: on pandas Series, on Python values, on pandas Series that hold one row, and in SQL.
Contestants take turns, the median of the rounds counts. `one row a Series` runs over a hundredth of the rows and is
multiplied; the answers of all must agree. `arrow` is an Arrow function that hands its argument back: DuckDB's own
price of calling Python, which nothing here can go below.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

from trunkline.transform.functions import arrow_function, register
from trunkline.transform.portable import find_functions

ONE_ROW_PART = 100


def _on_the_sphere(lat: float, lon: float) -> tuple[float, float, float]:
    return math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)


PLACES = tuple(_on_the_sphere(math.radians(7 * n % 160 - 80), math.radians(29 * n - 170)) for n in range(40))


def _places_in_sql() -> str:
    point = "cos(radians(b)) * cos(radians(a))", "cos(radians(b)) * sin(radians(a))", "sin(radians(b))"
    return ", ".join(" + ".join(f"{x} * ({y})" for x, y in zip(point, place, strict=True)) for place in PLACES)


@dataclass(frozen=True)
class Task:
    """One computation. `series` and `values` are bodies of main(), `sql` the same over the columns."""

    name: str
    arguments: str
    returns: str
    series: str
    values: str
    sql: str


TASKS = (
    Task(
        "linear: a*2 + b",
        "a: double, b: double",
        "double",
        "return a * 2 + b",
        "return a * 2 + b",
        "a * 2 + b",
    ),
    Task(
        "wind: crosswind on the better of two runways",
        "a: double, b: double",
        "double",
        """
    a, b = a.to_numpy(), b.to_numpy()
    one, two = (abs(b * np.sin(np.radians(a - runway))) for runway in (31, 121))
    return np.where(b == 0, 0.0, np.minimum(one, two))
""",
        """
    one, two = (abs(b * math.sin(math.radians(a - runway))) for runway in (31, 121))
    return 0.0 if b == 0 else min(one, two)
""",
        "if(b = 0, 0.0, least(abs(b * sin(radians(a - 31))), abs(b * sin(radians(a - 121)))))",
    ),
    Task(
        "nearest: great circle to the nearest of 40 places",
        "a: double, b: double",
        "double",
        """
    lat, lon = np.radians(b.to_numpy()), np.radians(a.to_numpy())
    here = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return 6371 * np.arccos((here @ np.array(PLACES).T).max(axis=1).clip(-1, 1))
""",
        """
    lat, lon = math.radians(b), math.radians(a)
    x, y, z = math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat)
    best = max(x * there[0] + y * there[1] + z * there[2] for there in PLACES)
    return 6371 * math.acos(min(max(best, -1), 1))
""",
        f"6371 * acos(least(greatest({_places_in_sql()}), 1))",
    ),
    Task(
        "text: length of a name without extra gaps",
        "s: varchar",
        "bigint",
        "return s.str.lower().str.split().str.join(' ').str.len()",
        "return len(' '.join(s.lower().split()))",
        "length(regexp_replace(trim(lower(s)), ' +', ' ', 'g'))",
    ),
)
HEAD = f"import math\n\nimport numpy as np\n\nPLACES = {PLACES!r}\n\n\n"
PYTHON = {"double": "float", "varchar": "str", "bigint": "int"}


def write(project: Path, task: Task) -> None:
    """The vectorised and the scalar function of one task."""
    folder = project / "functions"
    folder.mkdir(exist_ok=True)
    pairs = [pair.strip().split(": ") for pair in task.arguments.split(",")]
    scalar = ", ".join(f"{name}: {PYTHON[kind]}" for name, kind in pairs)
    plain = ", ".join(name for name, _ in pairs)
    listed = ", ".join(f"{{name: {name}, data_type: {kind}}}" for name, kind in pairs)
    bodies = {
        "series": f"def main({plain}):\n    {task.series.strip()}\n",
        "row": f"def main({scalar}) -> {PYTHON[task.returns]}:\n    {task.values.strip()}\n",
    }
    for name, body in bodies.items():
        (folder / f"{name}.py").write_text(HEAD + body)
        (folder / f"{name}.yml").write_text(
            f"functions: [{{name: {name}, config: {{packages: [numpy], volatility: deterministic}}, "
            f"arguments: [{listed}], returns: {{data_type: {task.returns}}}}}]"
        )


def one_row_a_series(project: Path) -> Callable[..., Any]:
    """The vectorised function, called with Series of one row: how a pandas function is used without vectorising."""
    function = next(function for function in find_functions(project) if function.name == "series")
    vectorised = arrow_function(function)

    def call(*columns: pa.ChunkedArray) -> pa.Array:
        rows = range(len(columns[0]))
        return pa.concat_arrays([vectorised(*(column.slice(row, 1) for column in columns)) for row in rows])

    call.__signature__ = vectorised.__signature__  # type: ignore[attr-defined]
    return call


def measure(task: Task, rows: int, rounds: int) -> dict[str, Any]:
    """Seconds of every contestant, in turns."""
    columns = ", ".join(pair.split(":")[0].strip() for pair in task.arguments.split(","))
    with tempfile.TemporaryDirectory() as name, duckdb.connect() as connection:
        project = Path(name)
        write(project, task)
        kinds = [pair.split(": ")[1] for pair in task.arguments.split(", ")]
        connection.execute(
            "create table t as select (i % 36000) / 100 as a, (i % 400) / 10.0::double as b, "
            f"case when i % 2 = 0 then '  Some  Name ' else 'ÄÖ ' end || (i % 1000) as s from range({rows}) r(i)"
        )
        register(connection, project)
        options = {"type": "arrow", "null_handling": "special"}
        connection.create_function("__one", one_row_a_series(project), kinds, task.returns, **options)
        connection.create_function("__same", lambda a: a, kinds[:1], kinds[0], **options)
        part = f"(select * from t limit {rows // ONE_ROW_PART})"
        queries = {
            "vectorised": f"select sum(__py_series({columns})) from t",
            "row by row": f"select sum(__py_row({columns})) from t",
            "one row a Series": f"select sum(__one({columns})) from {part}",
            "sql": f"select sum({task.sql}) from t",
            "arrow": f"select max(__same({columns.split(',')[0]})) from t",
        }
        taken: dict[str, list[float]] = {name: [] for name in queries}
        answers: dict[str, Any] = {}
        for _ in range(rounds):
            for name, sql in queries.items():
                start = time.perf_counter()
                answers[name] = connection.execute(sql).fetchall()[0][0]
                taken[name].append(time.perf_counter() - start)
        expected = connection.execute(f"select sum({task.sql}) from {part}").fetchall()[0][0]
    for name in ("vectorised", "row by row"):
        assert math.isclose(answers[name], answers["sql"], rel_tol=1e-9), (task.name, name, answers)
    assert math.isclose(answers["one row a Series"], expected, rel_tol=1e-9)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    seconds["one row a Series"] *= ONE_ROW_PART
    return {"task": task.name, "rows": rows, "seconds": seconds}


def main() -> None:
    """Print one table; `--json` prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="tasks whose name begins so")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [
        measure(task, options.rows, options.rounds) for task in TASKS if task.name.startswith(options.only or "")
    ]
    if options.json:
        print(json.dumps(results))
        return
    table = pd.DataFrame([result["seconds"] for result in results], index=[result["task"] for result in results])
    print(table.round(3).to_string())
    print()
    ratios = table[["row by row", "one row a Series", "sql", "arrow"]].div(table["vectorised"], axis=0)
    print("times the vectorised function's seconds:")
    print(ratios.round(2).to_string())


if __name__ == "__main__":
    main()
