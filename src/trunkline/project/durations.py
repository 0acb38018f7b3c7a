"""Spans of time as people write them: `15 minutes`, `1 day`, `90s`."""

from __future__ import annotations

import datetime as dt
import re

_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
_SHORT = {"s": "second", "sec": "second", "m": "minute", "min": "minute", "h": "hour", "d": "day", "w": "week"}


def seconds(text: str) -> float:
    """The seconds of a span: numbers with units, `1 hour 30 minutes`. Raises `ValueError` for anything else.

    >>> seconds("1 hour 30 minutes")
    5400.0
    """
    left = _PART.sub("", text.strip().lower()).strip(" ,")
    parts = _PART.findall(text.lower())
    units = [_SECONDS.get(_SHORT.get(unit, unit.removesuffix("s"))) for _, unit in parts]
    if left or not parts or None in units:
        raise ValueError(f"{text!r} is no span of time: write it as 15 minutes, 2 hours or 1 day")
    return float(sum(float(number) * (unit or 0) for (number, _), unit in zip(parts, units, strict=True)))


def span(text: str) -> dt.timedelta:
    """A span as a difference of times. Raises `ValueError` for anything else."""
    return dt.timedelta(seconds=seconds(text))
