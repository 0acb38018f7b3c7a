"""What a declaration and a signature say, and what is refused, with its line, before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.transform.writing import FOLD, write
from trunkline.errors import ProjectError
from trunkline.transform.portable import Function, find_functions


def read(project: Path) -> Function:
    (function,) = find_functions(project)
    return function


def refused(project: Path) -> ProjectError:
    with pytest.raises(ProjectError) as raised:
        list(find_functions(project))
    return raised.value


@pytest.mark.parametrize(
    ("signature", "config", "vectorised", "optional"),
    [
        ("(a, n)", "{}", True, (True, True)),
        ("(a: pd.Series, n: pandas.Series) -> pd.Series", "{}", True, (True, True)),
        ("(a: 'Series[float]', n: Series[int])", "{}", True, (True, True)),
        ("(a, n) -> pd.Series", "{}", True, (True, True)),
        ("(a: float, n: int) -> float", "{}", False, (False, False)),
        ("(a: float | None, n: Optional[int]) -> float | None", "{}", False, (True, True)),
        ("(a: None | float, n: 'int')", "{}", False, (True, False)),
        ("(a, n)", "{meta: {trunkline: {vectorized: false}}}", False, (True, True)),
        ("(a, n)", "{meta: {trunkline: {vectorized: true}}}", True, (True, True)),
        ("(a, n, more=1)", "{}", True, (True, True)),
    ],
)
def test_annotations_say_how_it_is_called(
    tmp_path: Path, signature: str, config: str, vectorised: bool, optional: tuple[bool, ...]
) -> None:
    write(tmp_path, "f", f"def main{signature}:\n    return a\n", "a: double, n: bigint", "double", config)
    function = read(tmp_path)
    assert (function.vectorised, function.optional) == (vectorised, optional)


@pytest.mark.parametrize(
    ("kind", "annotation"),
    [
        ("bigint", "int"),
        ("double", "float"),
        ("boolean", "bool"),
        ("varchar", "str"),
        ("date", "datetime.date"),
        ("timestamp", "dt.datetime"),
        ("timestamp", "datetime"),
    ],
)
def test_each_type_has_its_python_type(tmp_path: Path, kind: str, annotation: str) -> None:
    write(tmp_path, "f", f"def main(a: {annotation}) -> {annotation}:\n    return a\n", f"a: {kind}", kind)
    assert not read(tmp_path).vectorised


@pytest.mark.parametrize(
    ("code", "says", "line"),
    [
        ("\ndef main(a: int, n: int):\n    return a\n", "'a' is annotated as int, but declared as double", 2),
        (
            "def main(\n    a: float,\n    n: Series[str],\n):\n    return a\n",
            "'n' is annotated as Series[str], but",
            3,
        ),
        (
            "def main(a: float, n: int) -> str:\n    return a\n",
            "the result is annotated as str, but declared as double",
            1,
        ),
        ("def main(a: float,\n         n: np.ndarray):\n    return a\n", "np.ndarray, which no warehouse can hand", 2),
        ("def main(a: list[float], n: int):\n    return a\n", "annotated as list[float], which no warehouse", 1),
        ("def main(a: Series, n: int):\n    return a\n", "main() mixes Series and single values", 1),
        ("def main(a: float,\n         n):\n    return a\n", "parameter 'n' has no type", 2),
        ("def main(a):\n    return a\n", "main(a) does not take what its declaration says (a, n)", 1),
        ("def main(*rows):\n    return rows\n", "main(*rows) does not take what", 1),
        ("def main(a, n, *, unit):\n    return a\n", "does not take what its declaration says", 1),
        ("main = len\n", "has no main()", None),
        ("class X:\n    def main(a, n): ...\n", "has no main()", None),
        ("async def main(a, n): ...\n", "has no main()", None),
        ("def main(a, n:\n", "does not load: '(' was never closed", 1),
    ],
)
def test_code_that_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, code: str, says: str, line: int | None
) -> None:
    file = write(tmp_path, "f", code, "a: double, n: bigint", "double")
    error = refused(tmp_path)
    assert says in error.what
    assert (error.file, error.line) == (file, line)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("{meta: {trunkline: {vectorized: false}}}", "vectorized is false, but the annotations say otherwise"),
        ("{runtime_version: 3.10}", "no Python runtime 3.1"),
        ("{runtime_version: '2.7'}", "no Python runtime '2.7'"),
        ("{type: aggregate}", "only scalar functions run in every warehouse"),
    ],
)
def test_config_that_is_not_portable_is_refused(tmp_path: Path, config: str, says: str) -> None:
    write(tmp_path, "f", "def main(a: pd.Series):\n    return a\n", "a: double", "double", config)
    assert says in refused(tmp_path).what


def test_default_values_are_refused_with_their_line(tmp_path: Path) -> None:
    file = write(tmp_path, "f", "def main(a):\n    return a\n", "a: double", "double").with_suffix(".yml")
    file.write_text(
        "functions:\n  - name: f\n    arguments:\n      - name: a\n        data_type: double\n"
        "        default_value: 1\n    returns: {data_type: double}\n"
    )
    error = refused(tmp_path)
    assert "default values" in error.what
    assert (error.file, error.line) == (file, 6)


def test_a_function_knows_its_own_files_and_those_of_the_project_it_imports(tmp_path: Path) -> None:
    config = "{packages: [scikit-learn==1.5], runtime_version: '3.12', entry_point: go}"
    code = "from lib.text import fold\nimport sklearn.svm\n\ndef go(s):\n    import numpy\n    return s.map(fold)\n"
    write(tmp_path, "f", code, "s: string", "text", config)
    (tmp_path / "lib").mkdir()
    (tmp_path / FOLD[0]).write_text(FOLD[1])
    function = read(tmp_path)
    assert list(function.sources) == ["functions.f", "lib.text"]
    assert function.sources["lib.text"] == FOLD
    assert function.module == "functions.f"
    assert (function.packages, function.runtime, function.entry_point) == (("scikit-learn==1.5",), "3.12", "go")
    assert (function.arguments, function.returns) == ((("s", "VARCHAR"),), "VARCHAR")


def test_a_shared_module_among_the_functions_is_told_where_to_live(tmp_path: Path) -> None:
    write(tmp_path, "f", "from functions.shared import x\n\ndef main(a):\n    return a\n", "a: double", "double")
    (tmp_path / "functions" / "shared.py").write_text("x = 1\n")
    error = refused(tmp_path)
    assert error.what == "function 'shared' is declared nowhere"
    assert error.hint is not None
    assert "live in a folder outside this one" in error.hint


def test_a_function_may_use_another_ones_file(tmp_path: Path) -> None:
    write(
        tmp_path, "f", "from functions.g import TABLE\n\ndef main(a):\n    return a.map(TABLE)\n", "a: bigint", "double"
    )
    write(tmp_path, "g", "TABLE = {1: 2}\n\ndef main(a):\n    return a\n", "a: bigint", "bigint")
    assert [list(function.sources) for function in find_functions(tmp_path)] == [
        ["functions.f", "functions.g"],
        ["functions.g"],
    ]
