"""The Snowflake side of a portable function: one self-contained Python text for CREATE FUNCTION.

The text holds `batch.py`, the function's own files as strings, and the handler. The files stay strings so that each is
a module of its own, with its own name and line numbers in Snowflake's error messages, and so that nothing in them can
end the `$$ … $$` around the text or look like Jinja to dbt.
"""

from __future__ import annotations

from importlib.resources import files

from trunkline.transform.portable import Function

__all__ = ["HANDLER", "SNOWFLAKE_TYPES", "handler_packages", "handler_source"]

HANDLER = "handler"
SNOWFLAKE_TYPES = {
    "BIGINT": "BIGINT",
    "DOUBLE": "DOUBLE",
    "BOOLEAN": "BOOLEAN",
    "VARCHAR": "VARCHAR",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP_NTZ",  # what TIMESTAMP means is a setting of the session
}


def handler_source(function: Function) -> str:
    """The text. The same function gives the same text, byte for byte."""
    kernel = files("trunkline.transform").joinpath("batch.py").read_text("utf-8")
    kinds = tuple(kind for _, kind in function.arguments)
    if function.vectorised:
        made = f"vectorised_handler(_main, {kinds!r}, {function.returns!r})"
        marked = ["", "import pandas  # noqa: E402", "", f"{HANDLER}._sf_vectorized_input = pandas.DataFrame"]
    else:
        made = f"scalar_handler(_main, {kinds!r}, {function.optional!r}, {function.returns!r})"
        marked = []
    lines = [
        f"# Made by Trunkline from {function.sources[function.module][0]}: change that file, not this text.",
        kernel,
        "",
        "_SOURCES = {",
        *(f"    {name!r}: ({file!r}, {_quoted(text)})," for name, (file, text) in function.sources.items()),
        "}",
        f"_main = getattr(Modules(_SOURCES).load({function.module!r}), {function.entry_point!r})",
        f"{HANDLER} = {made}",
        *marked,
    ]
    return "\n".join(lines) + "\n"


def handler_packages(function: Function) -> tuple[str, ...]:
    """The packages that Snowflake must provide: the declared ones, and pandas for a vectorised function."""
    has_pandas = any(package.lower().split("=")[0].strip("<>~! ") == "pandas" for package in function.packages)
    return function.packages if has_pandas or not function.vectorised else (*function.packages, "pandas")


def _quoted(text: str) -> str:
    """A Python literal over as many lines as the text, without `$$` and without Jinja's opening brackets."""
    body = text.removesuffix("'")
    escaped = body.replace("\\", "\\\\").replace("'''", "\\'\\'\\'")
    for pair, safe in (("$$", "$\\x24"), ("{{", "{\\x7b"), ("{%", "{\\x25"), ("{#", "{\\x23")):
        escaped = escaped.replace(pair, safe)
    last = "\\'" if text.endswith("'") else ""
    return f"'''\\\n{escaped}{last}'''"
