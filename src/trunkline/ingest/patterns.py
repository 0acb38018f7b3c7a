"""What a `path` of the `files` connector means: globs, dates in names, and where they may lead."""

from __future__ import annotations

import datetime as dt
import glob
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trunkline.errors import SourceError
from trunkline.project.dates import DATE, PARTS

_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class Pattern:
    """A path with its dates still in it. `since` is the first date that counts."""

    path: str
    since: str | None = None

    @property
    def remote(self) -> bool:
        """Whether it is the URL of a store."""
        return "://" in self.path

    @property
    def glob(self) -> str:
        """The path as a glob, dates of any day."""
        return DATE.sub(lambda found: _parts(found[1], 0), self.path)

    def wanted(self, names: Iterable[str]) -> list[str]:
        """The names whose date counts. Raises `SourceError` for one whose date is none."""
        found = DATE.search(self.path)
        if found is None:
            return list(names)
        first = dt.datetime.fromisoformat(self.since).replace(tzinfo=None) if self.since else dt.datetime.min
        shape = self._shape(found)
        return [name for name in names if self._date(name, shape, found[1]) >= first]

    def _shape(self, found: re.Match[str]) -> re.Pattern[str]:
        before, after = self.path[: found.start()], self.path[found.end() :]
        return re.compile(rf"{_regex(before)}({_parts(found[1], 1)}){_regex(after)}\Z", re.DOTALL)

    @staticmethod
    def _date(name: str, shape: re.Pattern[str], form: str) -> dt.datetime:
        there = shape.search(name)
        try:
            if there is None:
                raise ValueError("no date")
            return dt.datetime.strptime(there[1], form)
        except ValueError as exc:
            raise SourceError(
                f"{name}: the date in its name is none: {exc}", hint="rename the file, or make `path` more narrow"
            ) from exc


def local(root: Path, pattern: Pattern) -> list[Path]:
    """The files of this machine that a pattern finds, sorted by path; each file once, however many names lead to it.

    Raises `SourceError` for a relative path that leads out of the project, and for a name that is not UTF-8.
    """
    path = pattern.path
    if not Path(path).is_absolute() and not _within(path):
        raise SourceError(
            f"{path!r} leads out of the project", hint="write an absolute path for files that lie elsewhere"
        )
    exact = root / path
    names = [str(exact)] if exact.is_file() else glob.glob(str(_escaped(root) / pattern.glob), recursive=True)
    once: dict[str, Path] = {}
    # of several names the file's own counts, not those of links to it
    for file in sorted(map(Path, names), key=lambda file: (file.is_symlink(), len(file.parts), str(file))):
        if file.is_file():
            once.setdefault(os.path.realpath(file), file)
    found = [str(file) for file in once.values()]
    for name in found:
        _check_name(name)
    kept = set(pattern.wanted(found))
    return sorted(file for file in once.values() if str(file) in kept)


def _check_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        shown = os.fsencode(name)
        raise SourceError(f"the name of {shown!r} is not UTF-8", hint="rename the file") from exc


def _within(path: str) -> bool:
    """Whether a relative path stays below where it begins."""
    depth = 0
    for part in path.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return False
    return True


def _escaped(root: Path) -> Path:
    """The project's own folder means itself, whatever is in its name."""
    return Path(glob.escape(str(root)))


def _parts(form: str, which: int) -> str:
    """A date's format as a glob (0) or a regular expression (1)."""
    pieces = re.split(r"(%.)", form)
    return "".join(
        PARTS[piece][which] if piece in PARTS else (re.escape(piece) if which else piece) for piece in pieces
    )


def _regex(text: str) -> str:
    """A glob as a regular expression."""
    meant, end = [], 0
    for found in _GLOB.finditer(text):
        meant += [re.escape(text[end : found.start()]), _wildcard(found[0])]
        end = found.end()
    return "".join([*meant, re.escape(text[end:])])


def _wildcard(text: str) -> str:
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return known.get(text) or "[" + text[1:-1].replace("\\", r"\\").replace("!", "^", 1 if text[1] == "!" else 0) + "]"
