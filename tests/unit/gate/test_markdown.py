"""Hostile names, seen by a real Markdown parser with HTML switched on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from trunkline.gate.markdown import code, table, words

HOSTILE = [
    "a|b",
    "a`b",
    "``",
    "\\",
    "\\|",
    "<script>alert(1)</script>",
    "<!-- trunkline -->",
    "![x](https://example.invalid/x.png)",
    "[click](javascript:alert(1))",
    "@octocat",
    "https://example.invalid",
    "#1",
    "a\n\n# heading",
    "a\r| b | c |",
    "*bold* _it_ ~~no~~",
    "&lt;b&gt;",
    "\u202egpj.exe",
    "zero\u200bwidth",
    "line\u2028separator",
    " ",
    "",
    "  padded  ",
    "\x00\x1b[31m",
    "x" * 5000,
    "$\\math$",
    "'quoted'",
]


def parsed(lines: list[str]) -> list[Token]:
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse("\n".join(lines))
    return [leaf for token in tokens for leaf in (token, *(token.children or ()))]


def assert_only_code(text: str) -> None:
    tokens = parsed(table(["a", "b"], [[code(text), code("next")]], "ll"))
    kinds = [token.type for token in tokens]
    assert kinds.count("td_open") == 2
    assert [token.content for token in tokens if token.type == "code_inline"][-1] == "next"
    assert kinds.count("code_inline") == 2
    assert not {"html_inline", "html_block", "link_open", "image", "heading_open", "strong_open"} & set(kinds)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_stays_in_its_cell(text: str) -> None:
    assert_only_code(text)


@given(st.text(max_size=120))
def test_any_name_stays_in_its_cell(text: str) -> None:
    assert_only_code(text)
    shown = code(text)
    assert shown.isprintable()
    assert not set("<>&|\\") & set(shown.replace("\\x", "").replace("\\u", "").replace("\\U", ""))


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=60))
def test_plain_names_are_shown_as_they_are(text: str) -> None:
    if not set(text) & set("`|\\<>&"):
        assert code(text) == f"`{text}`"


@pytest.mark.parametrize(
    "text",
    [
        "loses +0.0012, with 95% confidence -0.0014 at least and +0.0038 at most; about 112,710 rows would pass it",
        "1.20 ms over 1,000 requests of one row",
        "bootstrap, 400 resamples",
        "of 2 answers of the dataset's probes 0 failed",
    ],
)
def test_sentences_of_ours_are_shown_as_they_are(text: str) -> None:
    assert words(text) == text


@pytest.mark.parametrize(
    "text", [*(t for t in HOSTILE if t and t != "'quoted'"), "www.example.invalid", "see GH-12", ":rocket:", "a" * 900]
)
def test_what_is_no_sentence_of_ours_is_a_code_span(text: str) -> None:
    assert words(text).startswith("`")


@given(st.text(max_size=80))
def test_any_sentence_stays_in_its_cell(text: str) -> None:
    kinds = [token.type for token in parsed(table(["a", "b"], [[words(text), code("next")]], "ll"))]
    assert kinds.count("td_open") == 2
    assert not {"html_inline", "html_block", "link_open", "image", "heading_open", "strong_open", "em_open"} & set(
        kinds
    )
