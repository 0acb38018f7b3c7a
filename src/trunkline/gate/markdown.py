"""Markdown that says what it is given and nothing else.

Names of models, columns and values come from a pull request, so they may be hostile: they are shown as code spans, in
which GitHub renders no links, mentions, images or HTML, and the few characters that could end a span or a table cell,
or that cannot be seen, are spelled out.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

__all__ = ["code", "details", "marker", "table", "words"]

_SPELLED_OUT = frozenset("`|\\<>&")
_LONGEST, _LONGEST_WORDS = 80, 400
# Letters, digits and marks that mean nothing to a Markdown parser, so that sentences of ours need no code span.
_PLAIN = re.compile(r"[A-Za-z0-9 .,;:%()+=/'–×≤≥-]*")
# What GitHub would turn into a link or a picture all the same: addresses, GH-12, :rocket:.
_LIVE = re.compile(r"://|www\.|mailto:|xmpp:|gh-\d|:[a-z0-9+-]+:", re.IGNORECASE)
_DEPLOYMENT = re.compile(r"[A-Za-z0-9_.-]+")


def code(text: str, longest: int = _LONGEST) -> str:
    r"""`text` as a code span that fits a table cell; `\x7c` and its like stand for what could break out of it.

    >>> print(code("a|b"))
    `a\x7cb`
    """
    shown = "".join(_character(character) for character in text[:longest])
    if len(text) > longest:
        shown += "…"
    # Spaces at both ends would be taken off, and a span of spaces only would be none.
    return f"`{shown}`" if shown.strip() == shown and shown else f"`'{shown}'`"


def words(text: str) -> str:
    """A sentence of ours as it is; what could be none, for it holds a character with a meaning, as a code span.

    >>> words("loses +0.0012, with 95% confidence"), words("see www.example.invalid")
    ('loses +0.0012, with 95% confidence', '`see www.example.invalid`')
    """
    plain = _PLAIN.fullmatch(text) and text == text.strip() and len(text) <= _LONGEST_WORDS
    harmless = plain and not _LIVE.search(text)
    return text if harmless else code(text, _LONGEST_WORDS)


def _character(character: str) -> str:
    # Other (C*): controls, bidirectional overrides, zero-width characters; Z*: line separators and odd spaces.
    unseen = unicodedata.category(character)[0] in "CZ" and character != " "
    if character not in _SPELLED_OUT and not unseen:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 65536 else f"\\U{number:08x}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    """The lines of a table. `align` has `l` or `r` for each column. Cells are Markdown already."""
    marks = {"l": ":--", "r": "--:"}
    lines = [head, [marks[side] for side in align], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def details(summary: str, lines: Sequence[str]) -> list[str]:
    """`lines` folded away under `summary`, which is ours."""
    return [f"<details><summary>{summary}</summary>", "", *lines, "", "</details>"]


def marker(deployment: str) -> str:
    """The line, unseen by people, by which the one comment on this deployment is found again.

    Raises `ValueError` for a name that no deployment may have.
    """
    if not _DEPLOYMENT.fullmatch(deployment):
        raise ValueError(f"no deployment is called {deployment!r}")
    return f"<!-- trunkline:gate:{deployment} -->"
