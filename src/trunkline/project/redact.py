"""Secrets taken out of texts that are shown: what a profile holds, and what looks like a password anyway."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_NAMED = re.compile(r"pass(word|wd|phrase)|pwd|secret|token|(^|_)key$|private_key$|connection_string", re.IGNORECASE)
_IN_TEXT = (
    (
        re.compile(r"(?i)\b(pass(?:word|wd|phrase)|pwd|secret|token)(\s*=\s*)('[^']*'|\"[^\"]*\"|[^\s'\";&]+)"),
        r"\1\2***",
    ),
    (re.compile(r"(://[^\s:/@]*:)[^\s/@]+(?=@)"), r"\1***"),
)


def redact(text: str, settings: Mapping[str, Any]) -> str:
    """`text` without the secrets of a dbt profile's `settings` and without passwords in connection strings."""
    for pattern, shown in _IN_TEXT:
        text = pattern.sub(shown, text)
    for secret in sorted(set(_secrets(settings)), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
    return text


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item, name)
    elif isinstance(value, str) and value and _NAMED.search(name):
        yield value
