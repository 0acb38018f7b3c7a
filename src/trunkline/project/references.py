"""Secrets in sources.yml are references: what is a secret itself is refused at its line, before anything reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from trunkline.project import yaml

_SECRET = re.compile(
    r"pass(word|wd|phrase)|(^|_)pwd$|secret$|(^|_)token$|api_?key$|(private|secret|access|account)_key$|"
    r"connection_string|credential|(^|_)sas$|^authorization$",
    re.IGNORECASE,
)
_PASSWORD = re.compile(r"://[^\s:/@]*:[^\s@]+@|\bpass(word|wd)\s*=\s*\S", re.IGNORECASE)
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*\Z|file:(?!//)\S+\Z")
_ENV_VAR = re.compile(r"\{\{.*env_var\(")


def check(document: yaml.Document, options: Mapping[str, Any], places: tuple[yaml.Place, ...]) -> None:
    """Raise `ProjectError` for a password, a key or a token that stands in a source's options.

    `places` are where the options may stand: those of the table, then those of its source. No message shows the value.
    """
    for path, text in _texts(options):
        name = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
        secret = bool(_SECRET.search(name))
        if _REFERENCE.match(text) or not (secret or name == "dsn" or _PASSWORD.search(text)):
            continue
        place = next(((*place, *path) for place in places if (*place, *path) in document.lines), (*places[0], *path))
        example = re.sub(r"\W+", "_", name).upper()
        if _ENV_VAR.search(text):
            raise document.error(
                f"{name}: dbt writes the value of env_var into target/manifest.json", place, hint=f"say env:{example}"
            )
        if secret or _PASSWORD.search(text):
            raise document.error(
                f"{name}: a secret is named here, not written down",
                place,
                hint=f"say {name}: env:{example} and export {example}=…, or {name}: file:PATH",
            )


def references(options: Mapping[str, Any]) -> Iterator[str]:
    """All references in a source's options, as they are written."""
    yield from (text for _, text in _texts(options) if _REFERENCE.match(text) or _ENV_VAR.search(text))


def _texts(value: Any, path: yaml.Place = ()) -> Iterator[tuple[yaml.Place, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))
    elif isinstance(value, str) and value:
        yield path, value
