"""Small files, small functions, names that say something, and no check switched off without saying which."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from pathlib import PurePath

FILE_LINES, MEDIAN_LINES, FUNCTION_LINES, PARAMETERS = 600, 200, 40, 7
EMPTY_NAMES = {"base", "common", "helpers", "manager", "utils"}
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.Module) -> list[Function]:
    """All functions and methods of a module, nested ones included."""
    return [node for node in ast.walk(tree) if isinstance(node, Function)]


def code_lines(text: str) -> set[int]:
    """Numbers of the lines that hold code: neither blank, nor comment, nor docstring."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def parameters(function: Function) -> int:
    """How many parameters a caller sees."""
    spec = function.args
    names = [argument.arg for argument in (*spec.posonlyargs, *spec.args)]
    own = 1 if names[:1] in (["self"], ["cls"]) else 0
    return len(names) - own + len(spec.kwonlyargs) + (spec.vararg is not None) + (spec.kwarg is not None)


def long_functions(file: str, text: str) -> list[str]:
    """Functions with more than FUNCTION_LINES lines of code, signature included."""
    code = code_lines(text)
    found = []
    for function in functions(ast.parse(text)):
        count = len(code & set(range(function.lineno, (function.end_lineno or function.lineno) + 1)))
        if count > FUNCTION_LINES:
            found.append(f"{file}:{function.lineno} {function.name}: {count} lines")
    return found


def test_files_are_small(sources: dict[str, str]) -> None:
    counts = {file: text.count("\n") for file, text in sources.items()}
    assert {file: count for file, count in counts.items() if count > FILE_LINES} == {}
    assert statistics.median(counts.values()) <= MEDIAN_LINES


def test_functions_are_small(sources: dict[str, str]) -> None:
    assert [breach for file, text in sources.items() for breach in long_functions(file, text)] == []


def test_only_lines_of_code_count() -> None:
    body = "    # why\n\n    x = 1\n"
    assert long_functions("a.py", 'def f():\n    """What.\n\n    More.\n    """\n' + body * 39) == []
    assert long_functions("a.py", "def f():\n" + body * 40) == ["a.py:1 f: 41 lines"]
    assert long_functions("a.py", 'def f():\n    x = """' + "line\n" * 50 + '"""\n') == ["a.py:1 f: 52 lines"]


def test_signatures_are_short(sources: dict[str, str]) -> None:
    assert [
        f"{file}:{function.lineno} {function.name}: {parameters(function)} parameters"
        for file, text in sources.items()
        for function in functions(ast.parse(text))
        if parameters(function) > PARAMETERS
    ] == []


def test_files_are_named_for_what_they_hold(sources: dict[str, str]) -> None:
    assert [file for file in sources if EMPTY_NAMES & set(PurePath(file).with_suffix("").parts)] == []


def test_checks_are_switched_off_by_name(sources: dict[str, str]) -> None:
    blanket = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:)|mypy:\s*ignore-errors|ruff:\s*noqa\s*$)")
    assert [
        f"{file}:{number} {line.strip()}"
        for file, text in sources.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if blanket.search(line)
    ] == []


def test_no_exception_is_caught_unnamed(sources: dict[str, str]) -> None:
    assert [
        f"{file}:{node.lineno}"
        for file, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ] == []
