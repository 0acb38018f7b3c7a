"""`__all__` is sorted and says exactly what a module offers."""

from __future__ import annotations

import ast

import pytest

import trunkline


def constant_all(tree: ast.Module) -> list[str] | None:
    """The literal value of `__all__`, or None where a module has none."""
    for node in tree.body:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id="__all__")], value=value)
                | ast.AnnAssign(target=ast.Name(id="__all__"), value=ast.expr() as value)
            ):
                return list(ast.literal_eval(value))
    return None


def defined(tree: ast.Module) -> set[str]:
    """Names that a module makes itself, by `def`, `class` or assignment."""
    names: set[str] = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names.update(target.id for target in targets if isinstance(target, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


def handed_on(tree: ast.Module) -> set[str]:
    """Names that a package's front imports from its own rooms to offer them."""
    ours = [
        node for node in tree.body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trunkline")
    ]
    return {alias.asname or alias.name for node in ours for alias in node.names}


def lazy(tree: ast.Module) -> bool:
    """Whether the module resolves names on use, so that `__all__` may name what no statement binds."""
    return "__getattr__" in defined(tree)


def complaints(file: str, text: str) -> list[str]:
    """What is wrong with the `__all__` of one module."""
    tree = ast.parse(text)
    exported = constant_all(tree)
    offered = defined(tree) | (handed_on(tree) if file.endswith("__init__.py") else set())
    public = {name for name in offered if not name.startswith("_")}
    if exported is None:
        return [f"{file}: offers {sorted(public)} without __all__"] if file.endswith("__init__.py") and public else []
    found = [] if exported == sorted(set(exported)) else [f"{file}: __all__ should be {sorted(set(exported))}"]
    if forgotten := public - set(exported):
        found.append(f"{file}: public, but not in __all__: {sorted(forgotten)}")
    if not lazy(tree) and (unknown := set(exported) - offered - handed_on(tree)):
        found.append(f"{file}: in __all__, but not there: {sorted(unknown)}")
    return found


def test_exports_are_sorted_and_exact(sources: dict[str, str]) -> None:
    assert [complaint for file, text in sources.items() for complaint in complaints(file, text)] == []


def test_the_front_keeps_what_it_promises() -> None:
    for name in trunkline.__all__:
        assert getattr(trunkline, name) is not None


@pytest.mark.parametrize(
    "text",
    [
        "__all__ = ['b', 'a']\na = b = 1",
        "__all__ = ['a']\na = 1\ndef b(): ...",
        "__all__ = ['a']",
        "from trunkline.x import y",
    ],
    ids=["unsorted", "forgotten", "unknown", "unsaid"],
)
def test_a_wrong_export_is_noticed(text: str) -> None:
    assert len(complaints("room/__init__.py", text)) == 1
