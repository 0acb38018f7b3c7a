"""Amounts of bytes as people write them: `20 GB`, `512 MiB`."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g|t)?(i)?b?", re.IGNORECASE)


def size(text: str) -> int:
    """Bytes. Raises `ValueError` for what is no amount of them.

    >>> size("20 GB"), size("1 KiB")
    (20000000000, 1024)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no amount of bytes: write it as 500 MB or 20 GB")
    power = " kmgt".index((found[2] or " ").lower())
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)
