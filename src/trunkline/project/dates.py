"""Dates in the paths of files: `data/{date:%Y/%m/%d}/*.csv`."""

from __future__ import annotations

import datetime as dt
import re

DATE = re.compile(r"\{date:([^{}]*)\}")
# each part of a date: what a glob finds it by, and the regular expression that it is
PARTS = {
    "%Y": ("[0-9][0-9][0-9][0-9]", r"\d{4}"),
    "%y": ("[0-9][0-9]", r"\d{2}"),
    "%m": ("[0-9][0-9]", r"\d{2}"),
    "%d": ("[0-9][0-9]", r"\d{2}"),
    "%H": ("[0-9][0-9]", r"\d{2}"),
    "%M": ("[0-9][0-9]", r"\d{2}"),
    "%S": ("[0-9][0-9]", r"\d{2}"),
    "%j": ("[0-9][0-9][0-9]", r"\d{3}"),
}


def check(path: str, since: str | None) -> None:
    """Raise `ValueError` for a path that cannot be meant."""
    dates = DATE.findall(path)
    if "{date" in DATE.sub("", path) or len(dates) > 1:
        raise ValueError("`path` may hold one date, as in data/{date:%Y/%m/%d}/*.csv")
    for form in dates:
        for part in re.findall(r"%.?", form):
            if part not in PARTS:
                raise ValueError(f"{part} in `path` is no part of a date that is known: {' '.join(PARTS)}")
        if not {"%Y", "%y"} & set(re.findall(r"%.", form)):
            raise ValueError("the date in `path` needs a year, %Y")
    if since is not None:
        if not dates:
            raise ValueError("`since` needs a date in `path`, as in data/{date:%Y-%m-%d}.csv")
        dt.datetime.fromisoformat(since)
