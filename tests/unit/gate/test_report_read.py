"""A report from a stranger: what is no report is refused, and what is one is harmless, whatever it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tests.unit.gate.test_markdown import HOSTILE
from tests.unit.gate.test_report import RICH
from trunkline.errors import UserError
from trunkline.gate.report import LARGEST, read, to_json
from trunkline.gate.report_html import to_html
from trunkline.gate.report_markdown import to_markdown

GOOD: dict[str, Any] = json.loads(json.dumps(to_json(RICH)))
# What our own Markdown is made of. No link, image, raw tag or heading may come from a report.
LIVE = re.compile(r"://|www\.|@|#\d|gh-\d|:[a-z0-9+-]+:", re.IGNORECASE)  # what GitHub makes links and pictures of
OURS = {"<details>", "</details>", "<summary>", "</summary>", "<!--"}


def places(data: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value in `data`."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def changed(path: tuple[str | int, ...], value: object) -> bytes:
    """The report with another value at `path`."""
    if not path:
        return json.dumps(value).encode()
    made = json.loads(json.dumps(GOOD))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return json.dumps(made).encode()


def without(*path: str) -> bytes:
    """The report without a field."""
    made = json.loads(json.dumps(GOOD))
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return json.dumps(made).encode()


PLACES = sorted(places(GOOD), key=str)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b" " * (LARGEST + 1), "it has 1,048,577 bytes, and 1,048,576 is the limit"),
        (b"\xff{}", "no JSON"),
        (b"", "no JSON"),
        (b"[" * 500_000, "no JSON"),
        (b'{"a":' * 150_000, "no JSON"),
        (b"[]", "its schema is not trunkline.gate/2"),
        (b'{"schema": "trunkline.gate/1"}', "its schema is not trunkline.gate/2"),
        (changed(("deployment",), "a --> b"), "the deployment's name may only hold letters"),
        (changed(("deployment",), "x" * 500), "the deployment's name may only hold letters"),
        (changed(("passed",), True), "`passed` is not what its rules say"),
        (changed(("passed",), 0), "`passed` is not what its rules say"),
        (without("candidate", "sha256"), "$.candidate.sha256 is missing"),
        (changed(("candidate",), None), "$.candidate is no object"),
        (changed(("verdict", "rules", 0, "value"), "0.7"), "$.verdict.rules[0].value is no number"),
        (changed(("verdict", "rules", 0, "value"), 10**400), "$.verdict.rules[0].value is no number up to 1e300"),
        (changed(("verdict", "rules", 0, "status"), "passed"), "$.verdict.rules[0].status is none of pass, fail"),
        (changed(("evidence", "quality", "rows"), True), "$.evidence.quality.rows is no integer"),
        (changed(("evidence", "quality", "rows"), 2**60), "$.evidence.quality.rows is no integer up to 2^53"),
        (changed(("evidence", "parity", "example", "row", "carrier"), [[[[[[1]]]]]]), "goes deeper than 4"),
        (changed(("provenance",), {"x": "y" * 30_000}), "is longer than 20,000 characters"),
    ],
    ids=str,
)
def test_what_is_no_report_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UserError) as caught:
        read(data)
    assert says in caught.value.what
    assert caught.value.hint == "`trunkline gate` writes it as gate.json"


def test_what_a_newer_trunkline_adds_is_passed_over() -> None:
    assert read(changed(("evidence", "quality", "news"), {"more": [1, 2]})) == RICH


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(PLACES), st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=30), st.just([])))
def test_any_value_at_any_place_is_refused_or_rendered(path: tuple[str | int, ...], value: object) -> None:
    """Nothing but a `UserError`, and what is read can be rendered, is valid as HTML and fits a comment."""
    try:
        report = read(changed(path, value))
    except UserError:
        return
    assert len(to_markdown(report).encode()) < 65_536
    assert to_html(report).endswith("</html>\n")


def strings(data: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all texts but those that are one of few."""
    if isinstance(data, str):
        yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        if key not in ("schema", "deployment", "status", "kind", "model", "goal", "task", "ways"):
            yield from strings(value, (*path, key))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(strings(GOOD), key=str)),
        st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.text("|`<>![]()*_~#@:/w.-\n\\&", max_size=40)),
        min_size=1,
        max_size=12,
    )
)
def test_no_text_breaks_out(texts: dict[tuple[str | int, ...], str]) -> None:
    made = json.loads(json.dumps(GOOD))
    for path, value in texts.items():
        inner = made
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
    text = to_markdown(read(json.dumps(made).encode()))
    assert text.count("<!--") == 1
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        for leaf in (token, *(token.children or ())):
            assert leaf.type not in ("link_open", "image", "fence", "code_block", "hr", "blockquote_open")
            assert leaf.type != "text" or not LIVE.search(leaf.content)
            if leaf.type in ("html_inline", "html_block"):
                left = leaf.content
                for tag in OURS:
                    left = left.replace(tag, "")
                assert "<" not in left
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [line for line in to_markdown(RICH).splitlines() if line.startswith("#")]
