"""The pieces of the report's page. Cells and contents are HTML already; `coded` and `text` make it of what is not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from trunkline.datasets.drawing import text

__all__ = ["card", "coded", "fold", "html_table", "key", "prose"]

_KEYS = {
    "candidate": "candidate",
    "champion": "champion",
    "champion line": "champion (broken line)",
    "bound": "bound of a rule",
    "diagonal": "scores that mean what they say, or know nothing",
}


def card(content: str) -> str:
    """A box."""
    return f'<div class="card">{content}</div>'


def coded(name: str) -> str:
    """A name of the user's."""
    return f"<code>{text(name, 120)}</code>"


def prose(words: str) -> str:
    """Words for people; what stands between backticks is a name."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text(words, 2000))


def fold(summary: str, content: str) -> str:
    """`content` behind a line that opens it."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def key(*kinds: str, alone: bool = False) -> str:
    """What the marks of a drawing mean; `alone`: there is no champion."""
    kinds = tuple(kind for kind in kinds if not (alone and kind.startswith("champion")))
    return f'<ul class="key">{"".join(f"""<li><i class="{kind}"></i>{_KEYS[kind]}</li>""" for kind in kinds)}</ul>'


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A table; `align` has `l` or `r` for each column. The first cell of a row is its heading."""
    sides = ["" if side == "l" else ' class="r"' for side in align]
    top = "".join(f'<th scope="col"{side}>{name}</th>' for name, side in zip(head, sides, strict=True))
    body = "".join(f"<tr>{_cells(row, sides)}</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _cells(row: Sequence[str], sides: Sequence[str]) -> str:
    first, *others = zip(row, sides, strict=True)
    return f'<th scope="row"{first[1]}>{first[0]}</th>' + "".join(f"<td{side}>{cell}</td>" for cell, side in others)
