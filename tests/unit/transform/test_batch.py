"""Private modules, and what counts as a result of each type; the rest is compared engine by engine."""

from __future__ import annotations

import ast
import datetime as dt
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from trunkline.transform import batch
from trunkline.transform.batch import Modules, column, value

NAN = float("nan")


def modules(**texts: str) -> Modules:
    """Modules by dotted name, with __ for the dots."""
    named = {name.replace("__", "."): text for name, text in texts.items()}
    return Modules({name: (f"{name}.py", text) for name, text in named.items()})


def test_the_kernel_stands_alone() -> None:
    tree = ast.parse(Path(batch.__file__).read_text("utf-8"))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy", "pandas"}


def test_modules_are_found_by_every_way_to_import_them() -> None:
    main = modules(
        functions__f=(
            "import json\nimport lib.text\nimport lib.text as t\n"
            "from lib import text, NAME\nfrom lib.text import fold\n"
            "from lib.deep import *\nassert lib.text is t is text\nanswer = fold('X') + NAME + star + json.dumps(1)\n"
        ),
        lib="NAME = 'n'\n",
        lib__text="from . import NAME\nfrom .deep import star\ndef fold(s):\n    return s.lower() + star\n",
        lib__deep="star = '*'\n",
    )
    assert main.load("functions.f").__dict__["answer"] == "x*n*1"


def test_nothing_of_them_stays_in_the_process() -> None:
    before = set(sys.modules)
    text = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n\n"
        "@dataclass\nclass Point:\n    x: ClassVar[int]\n    y: float = 1.0\n"
    )
    first, second = (modules(f="from lib import Point\nSEEN = []\n", lib=text) for _ in range(2))
    assert first.load("f").__dict__["Point"]().y == 1.0
    assert first.load("f").__dict__["SEEN"] is first.load("f").__dict__["SEEN"]
    assert first.load("f").__dict__["SEEN"] is not second.load("f").__dict__["SEEN"]
    assert set(sys.modules) == before


def test_a_module_that_fails_is_run_again_and_names_its_file() -> None:
    broken = modules(f="import lib\n", lib="1 / 0\n")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as failed:
            broken.load("f")
        assert failed.traceback[-1].path == "lib.py"
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lib\.none'"):
        modules(f="import lib.none\n", lib__text="").load("f")


def test_modules_may_import_each_other_in_a_circle() -> None:
    circle = modules(a="import b\nx = 1\n", b="import a\ndef get():\n    return a.x\n")
    assert circle.load("a").__dict__["b"].get() == 1


GOOD = [
    ("DOUBLE", [1, 2.5, None, NAN], [1.0, 2.5, None, None]),
    ("DOUBLE", np.array([1, 2], dtype="int32"), [1.0, 2.0]),
    ("DOUBLE", pd.Series([1, None], dtype="Int64"), [1.0, None]),
    ("DOUBLE", pd.Series([1.5, None], dtype="Float64"), [1.5, None]),
    ("DOUBLE", [Decimal("0.5"), None], [0.5, None]),
    ("DOUBLE", pd.Series([float("inf"), -0.0]), [float("inf"), -0.0]),
    ("BIGINT", [2**63 - 1, None], [2**63 - 1, None]),
    ("BIGINT", pd.Series([2.0, NAN]), [2, None]),
    ("BIGINT", pd.Series([2.0, None], dtype="Float64"), [2, None]),
    ("BIGINT", np.array([200], dtype="uint8"), [200]),
    ("BIGINT", pd.Series([1, 2], dtype="category"), [1, 2]),
    ("BOOLEAN", [True, None], [True, None]),
    ("BOOLEAN", pd.Series([True, None], dtype="boolean"), [True, None]),
    ("BOOLEAN", np.array([False]), [False]),
    ("VARCHAR", ["ä", None, NAN], ["ä", None, None]),
    ("VARCHAR", pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
    ("VARCHAR", pd.Series([NAN, NAN]), [None, None]),
    ("VARCHAR", pd.Index(["a"]), ["a"]),
    ("DATE", [dt.date(1, 1, 1), dt.datetime(2024, 2, 29, 23)], [dt.datetime(1, 1, 1), dt.datetime(2024, 2, 29)]),
    ("DATE", pd.Series(["1969-12-31 23:59"], dtype="datetime64[ns]"), [dt.datetime(1969, 12, 31)]),
    ("TIMESTAMP", [dt.datetime(9999, 12, 31, 23, 59, 59, 999_999), dt.date(2024, 1, 1)],
     [dt.datetime(9999, 12, 31, 23, 59, 59, 999_999), dt.datetime(2024, 1, 1)]),
    ("TIMESTAMP", pd.Series([pd.NaT, pd.NaT]), [None, None]),
    *((kind, [None, pd.NA, NAN], [None, None, None]) for kind in ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE")),
    *((kind, [], []) for kind in ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE", "TIMESTAMP")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "result", "expected"), GOOD)
def test_results_of_each_type(kind: str, result: Any, expected: list[Any]) -> None:
    series = column(result, kind, len(expected))
    dtypes = {"BIGINT": "Int64", "DOUBLE": "float64", "BOOLEAN": "boolean", "VARCHAR": "string"}
    assert series.dtype == dtypes.get(kind, "datetime64[us]")
    assert [None if pd.isna(item) else item for item in series] == expected


BAD = [
    ("BIGINT", [1.5], "1.5 has a fraction"),
    ("BIGINT", pd.Series([1.5, None], dtype="Float64"), "1.5 has a fraction"),
    ("BIGINT", [float("inf")], "infinity"),
    ("BIGINT", [2**63], "64 bits"),
    ("BIGINT", np.array([2**63], dtype="uint64"), "64 bits"),
    ("BIGINT", pd.Series([1e19]), "64 bits"),
    ("BIGINT", [True], "boolean values"),
    ("BIGINT", ["1"], "string values"),
    ("DOUBLE", ["1"], "string values"),
    ("DOUBLE", [True], "boolean values"),
    ("BOOLEAN", [1], "integer values"),
    ("BOOLEAN", ["true"], "string values"),
    ("VARCHAR", [1], "integer values"),
    ("VARCHAR", ["a", 1], "mixed"),
    ("VARCHAR", [b"a"], "bytes values"),
    ("DATE", ["2024-01-01"], "string values"),
    ("TIMESTAMP", pd.Series(["2024-01-01"], dtype="datetime64[us, UTC]"), "datetime64"),
    ("TIMESTAMP", [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], "time zone"),
]


@pytest.mark.parametrize(("kind", "result", "says"), BAD)
def test_results_of_another_type_are_errors(kind: str, result: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"what is no {kind}: .*{says}"):
        column(result, kind, 1 if len(result) == 1 else 2)


@pytest.mark.parametrize(
    ("result", "says"),
    [(5, "int, not a pandas"), ("ab", "str, not"), ({1: 2}, "dict, not"), (pd.DataFrame({"a": [1]}), "DataFrame, not")],
)
def test_what_is_no_column_is_an_error(result: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        column(result, "BIGINT", 1)


@pytest.mark.parametrize(
    ("kind", "result", "expected"),
    [
        ("DOUBLE", 1, 1.0),
        ("DOUBLE", np.float32(0.5), 0.5),
        ("DOUBLE", NAN, None),
        ("BIGINT", np.int32(3), 3),
        ("BIGINT", pd.NA, None),
        ("BOOLEAN", np.bool_(True), True),
        ("VARCHAR", np.str_("a"), "a"),
        ("DATE", dt.datetime(2024, 2, 29, 23), dt.date(2024, 2, 29)),
        ("DATE", dt.date(1, 1, 1), dt.date(1, 1, 1)),
        ("DATE", pd.NaT, None),
        ("TIMESTAMP", dt.date(2024, 2, 29), dt.datetime(2024, 2, 29)),
        *((kind, None, None) for kind in ("BIGINT", "DOUBLE", "BOOLEAN", "VARCHAR", "DATE", "TIMESTAMP")),
    ],
)
def test_values_of_each_type(kind: str, result: Any, expected: Any) -> None:
    assert value(result, kind) == expected
    assert type(value(result, kind)) is type(expected)


@pytest.mark.parametrize(
    ("kind", "result"),
    [
        ("BIGINT", 1.0),
        ("BIGINT", True),
        ("BIGINT", 2**63),
        ("DOUBLE", True),
        ("DOUBLE", "1"),
        ("BOOLEAN", 1),
        ("VARCHAR", 1),
        ("VARCHAR", b"a"),
        ("DATE", "2024-01-01"),
        ("TIMESTAMP", dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
    ],
)
def test_values_of_another_type_are_errors(kind: str, result: Any) -> None:
    with pytest.raises(TypeError, match=f"what is no {kind}"):
        value(result, kind)
