"""No pickle is ever loaded: a model is data, and loading it runs nobody's code."""

from __future__ import annotations

import ast

import pytest

MODULES = {"_pickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "skops"}
CALLS = {
    "joblib.load",
    "np.load",
    "numpy.load",
    "pandas.read_pickle",
    "pd.read_pickle",
    "torch.export.load",
    "torch.load",
}


def unpicklers(file: str, text: str) -> list[str]:
    """Everything in a module that could load a pickle."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names: list[str] = []
        match node:
            case ast.Import(names=aliases):
                names = [alias.name for alias in aliases if alias.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                names = [module]
            case ast.Call(func=func) if ast.unparse(func) in CALLS:
                names = [ast.unparse(func)]
            case ast.keyword(arg="allow_pickle", value=value) if ast.unparse(value) != "False":
                names = ["allow_pickle"]
        found += [f"{file}:{node.lineno} {name}" for name in names]
    return found


def test_nothing_loads_a_pickle(sources: dict[str, str]) -> None:
    assert [breach for file, text in sources.items() for breach in unpicklers(file, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from joblib import load",
        "def f(p):\n    return torch.load(p)",
        "x = read(p, allow_pickle=True)",
    ],
)
def test_an_unpickler_is_noticed(text: str) -> None:
    assert len(unpicklers("a.py", text)) == 1
