"""Markdown that says what it is given and nothing else.

Names of models, columns and values come from a pull request, so they may be hostile: they are shown as code spans, in
which GitHub renders no links, mentions, images or HTML, and the few characters that could end a span or a table cell,
or that cannot be seen, are spelled out.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

_SPELLED_OUT = frozenset("`|\\<>&")
_LONGEST = 80


def code(text: str) -> str:
    r"""`text` as a code span that fits a table cell; `\x7c` and its like stand for what could break out of it.

    >>> print(code("a|b"))
    `a\x7cb`
    """
    shown = "".join(_character(character) for character in text[:_LONGEST])
    if len(text) > _LONGEST:
        shown += "…"
    # Spaces at both ends would be taken off, and a span of spaces only would be none.
    return f"`{shown}`" if shown.strip() == shown and shown else f"`'{shown}'`"


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
