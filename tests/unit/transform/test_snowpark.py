"""The text that Snowflake gets is pinned in tests/golden/functions; `TRUNKLINE_GOLDEN=write` writes it anew."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path
from typing import Any

import pytest

import trunkline.project
from tests.unit.transform.writing import SAMPLES, Sample
from trunkline.transform.portable import find_functions
from trunkline.transform.snowpark import handler_packages, handler_source

GOLDEN = Path(__file__).parents[2] / "golden" / "functions"
FLIGHTS = Path(trunkline.project.__file__).parent / "templates" / "flights"


def without_kernel(source: str) -> str:
    """A handler without `batch.py`, whose text is its own golden copy."""
    kernel = (Path(trunkline.project.__file__).parents[1] / "transform" / "batch.py").read_text("utf-8")
    assert source.count(kernel) == 1
    return source.replace(kernel, "# … batch.py …\n")


@pytest.mark.parametrize("name", ["crosswind", "label"])
def test_the_handlers_text_is_the_golden_one(tmp_path: Path, name: str) -> None:
    function = next(find_functions(FLIGHTS)) if name == "crosswind" else SAMPLES[name].write(tmp_path, name)
    source = without_kernel(handler_source(function))
    if os.environ.get("TRUNKLINE_GOLDEN") == "write":
        GOLDEN.mkdir(parents=True, exist_ok=True)
        (GOLDEN / f"{name}.py.txt").write_text(source, "utf-8")
    assert source == (GOLDEN / f"{name}.py.txt").read_text("utf-8")


@pytest.mark.parametrize("name", SAMPLES)
def test_the_text_is_python_that_neither_sql_nor_jinja_can_misread(tmp_path: Path, name: str) -> None:
    source = handler_source(SAMPLES[name].write(tmp_path, name))
    ast.parse(source)
    assert not re.search(r"\$\$|\{\{|\{%|\{#", source)


@pytest.mark.parametrize(
    "text",
    [
        "$$",
        "$$$$$",
        "{{{{ x }}}}",
        "{% raw %}{# no #}",
        "'''",
        "'",
        "a''''",
        "\\",
        "\\'''",
        '"""',
        "\\n",
        "{",
        "{\\x7b",
        "é\t",
    ],
)
def test_any_text_of_the_user_comes_through(tmp_path: Path, text: str) -> None:
    code = f"def main(s: str) -> str:\n    return s + {text!r}\n# {text}"
    function = Sample(code, "s: varchar", "varchar").write(tmp_path, "f")
    module: dict[str, Any] = {}
    source = handler_source(function)
    exec(source, module)
    assert module["handler"]("<") == "<" + text
    assert not re.search(r"\$\$|\{\{|\{%|\{#", source)


@pytest.mark.parametrize(
    ("config", "code", "packages"),
    [
        ("{}", "def main(s):\n    return s\n", ("pandas",)),
        ("{packages: [numpy]}", "def main(s):\n    return s\n", ("numpy", "pandas")),
        ("{packages: ['pandas==2.2']}", "def main(s):\n    return s\n", ("pandas==2.2",)),
        ("{packages: [pandas>=2]}", "def main(s):\n    return s\n", ("pandas>=2",)),
        ("{}", "def main(s: str) -> str:\n    return s\n", ()),
    ],
)
def test_snowflake_is_asked_for_pandas_where_it_is_needed(
    tmp_path: Path, config: str, code: str, packages: tuple[str, ...]
) -> None:
    assert handler_packages(Sample(code, "s: varchar", "varchar", config).write(tmp_path, "f")) == packages


def test_a_number_that_comes_as_a_decimal_is_an_int(tmp_path: Path) -> None:
    from decimal import Decimal

    import pandas as pd

    scalar: dict[str, Any] = {}
    exec(
        handler_source(
            Sample("def main(n: int) -> str:\n    return repr(n)\n", "n: bigint", "varchar").write(tmp_path, "f")
        ),
        scalar,
    )
    assert scalar["handler"](Decimal("9007199254740993")) == "9007199254740993"
    assert scalar["handler"](None) is None
    vectorised: dict[str, Any] = {}
    exec(
        handler_source(Sample("def main(n):\n    return n + 1\n", "n: bigint", "bigint").write(tmp_path, "g")),
        vectorised,
    )
    frame = pd.DataFrame({0: [Decimal("9007199254740993"), None]})
    assert vectorised["handler"](frame).tolist() == [9007199254740994, pd.NA]
