"""Tags that name where a run or a version comes from. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import metadata

__all__ = ["git_tags", "listed", "own_version"]

_LONGEST = 5000  # characters of one tag: MLflow takes 8,000 bytes


def git_tags(commit: str | None) -> dict[str, str]:
    """The commit, and whether files differed from it, of a commit with `+` for that; empty outside git.

    >>> git_tags("4be1c7a+")
    {'trunkline.git_commit': '4be1c7a', 'trunkline.git_dirty': 'true'}
    """
    if not commit:
        return {"trunkline.git_commit": "", "trunkline.git_dirty": ""}
    return {
        "trunkline.git_commit": commit.removesuffix("+"),
        "trunkline.git_dirty": "true" if commit.endswith("+") else "false",
    }


def listed(name: str, words: Sequence[str]) -> dict[str, str]:
    """Words as a tag, with spaces between them; where they are too many for one, the others are in `NAME.2`, ….

    >>> listed("loads", ["a", "b"])
    {'loads': 'a b'}
    """
    return {name if place == 1 else f"{name}.{place}": text for place, text in enumerate(_texts(words), 1)}


def own_version() -> dict[str, str]:
    """Which Trunkline this is."""
    return {"trunkline.version": metadata.version("trunkline")}


def _texts(words: Sequence[str]) -> Iterator[str]:
    text = ""
    for word in words:
        if text and len(text) + len(word) >= _LONGEST:
            yield text
            text = ""
        text = f"{text} {word}" if text else word
    yield text
