"""Declared splits as SQL: one condition a part, over a row's own columns, with the same rows on every warehouse.

Shares are drawn by the MD5 of a value's text, which all engines agree on; where exact shares are asked for, one query
finds each class's bounds among those hashes first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trunkline.datasets.manifest import Fold
from trunkline.datasets.source import Source
from trunkline.project.durations import span
from trunkline.warehouse.protocol import Warehouse

MOST_STRATA = 1_000
_MILLION = 1_000_000
_AS_TEXT = ("BIGINT", "VARCHAR", "BOOLEAN", "DATE", "DECIMAL")  # whose text is the same on every warehouse


def parted(source: Source, warehouse: Warehouse) -> Source:
    """The source with the conditions of its split. Raises `DatasetError` for a column that cannot be split by."""
    split = source.config["split"]
    match split["by"]:
        case "time":
            first, last, gap = (
                dt.datetime.fromisoformat(split["validation"]),
                dt.datetime.fromisoformat(split["test"]),
                span(split.get("gap", "0d")),
            )
            conditions = _between(source, _Spans(None, first - gap, first, last - gap, last))
        case "rolling":
            origins = _origins(split)
            end = dt.datetime.fromisoformat(split["test"]) - span(split["gap"])
            last_fold = origins[-1]
            start = origins[0].start if split["window"] else None
            spans = _Spans(start, last_fold.trained, last_fold.validated, end, dt.datetime.fromisoformat(split["test"]))
            conditions = _between(source, spans)
        case "group" | "key":
            conditions = _by_hash(_hashed(source, split.get("column") or source.key), split)
        case _:
            conditions = _stratified(source, warehouse)
    return replace(source, conditions=conditions)


def folds(source: Source, warehouse: Warehouse) -> tuple[Fold, ...]:
    """The row ranges of a rolling split's folds; none for other splits. Raises `DatasetError` for an empty one."""
    split = source.config["split"]
    if split["by"] != "rolling":
        return ()
    origins = _origins(split)
    bounds = [bound for each in origins for bound in (each.start, each.trained, each.validated, each.ended)]
    before = [f"count(case when {_earlier(source, bound)} then 1 end)" if bound else "0" for bound in bounds]
    rows = f"({source.condition('train')}) or ({source.condition('validation')})"
    counts = [int(n) for n in warehouse.query(f"select {', '.join(before)} from {source.sql} where {rows}")[0]]
    found = []
    for number, each in enumerate(origins, 1):
        start, trained, validated, ended = counts[4 * number - 4 : 4 * number]
        for begin, end, what in ((start, trained, "to train on"), (validated, ended, "to validate on")):
            if begin == end:
                raise source.error(
                    f"fold {number} of {len(origins)} has no rows {what}: its validation begins {each.validated}",
                    "split.rolling: fewer `folds`, or another `horizon`",
                )
        found.append(Fold(trained, (validated, ended), start))
    return tuple(found)


# -- by time


@dataclass(frozen=True)
class _Spans:
    """Ends of the parts: train in [start, trained), validation in [validated, ended), test from `sealed` on."""

    start: dt.datetime | None
    trained: dt.datetime
    validated: dt.datetime
    ended: dt.datetime
    sealed: dt.datetime


@dataclass(frozen=True)
class _Origin:
    """One fold: it trains in [start, trained) and is validated in [validated, ended)."""

    start: dt.datetime | None
    trained: dt.datetime
    validated: dt.datetime
    ended: dt.datetime


def _origins(split: dict[str, Any]) -> list[_Origin]:
    """The folds, the earliest first. Each ends where the next one's training ends."""
    gap, horizon = span(split["gap"]), span(split["horizon"])
    window = span(split["window"]) if split["window"] else None
    ended, found = dt.datetime.fromisoformat(split["test"]) - gap, []
    for _ in range(split["folds"]):
        trained = ended - horizon - gap
        found.append(_Origin(trained - window if window else None, trained, ended - horizon, ended))
        ended = trained
    return found[::-1]


def _between(source: Source, spans: _Spans) -> dict[str, str]:
    def within(start: dt.datetime | None, end: dt.datetime) -> str:
        since = f"not {_earlier(source, start)} and " if start else ""
        return since + _earlier(source, end)

    return {
        "train": within(spans.start, spans.trained),
        "validation": within(spans.validated, spans.ended),
        "test": f"not {_earlier(source, spans.sealed)}",
    }


def _earlier(source: Source, bound: dt.datetime) -> str:
    """SQL that is true for rows before `bound`. A bound without a zone is in UTC."""
    assert source.time is not None  # `Dataset` refuses such splits without one
    column, type_ = source.quote(source.time), source.types[source.time].upper()
    utc = bound.astimezone(dt.UTC) if bound.tzinfo else bound.replace(tzinfo=dt.UTC)
    if type_ == "DATE":  # compared as dates, so that the engine can skip files; a bound within a day begins the next
        day = utc.date() + dt.timedelta(days=int(utc.time() > dt.time()))
        return f"({column} < cast('{day}' as date))"
    if type_.endswith("TIME ZONE"):
        return f"({column} < cast('{utc.isoformat(' ')}' as timestamptz))"
    return f"({column} < cast('{utc.replace(tzinfo=None).isoformat(' ')}' as timestamp))"


# -- by a hash


def _hashed(source: Source, name: str) -> str:
    """The MD5 of a column's text, with the split's salt before it."""
    salt = source.config["split"]["salt"]
    return f"md5({_literal(salt)} || {_text(source, name)})" if salt else f"md5({_text(source, name)})"


def _text(source: Source, name: str) -> str:
    type_ = dict(source.schema)[name]
    if not type_.startswith(_AS_TEXT):
        raise source.error(
            f"it is split by {name!r} of type {source.types[name]}, whose text differs between warehouses",
            "cast it in the dbt model to text, an integer or a date",
        )
    return source.value(name) if type_ == "VARCHAR" else f"cast({source.value(name)} as varchar)"


def _by_hash(hashed: str, split: dict[str, Any]) -> dict[str, str]:
    """Compared as text: the first `share` of all hashes, in hexadecimal, are below the bound."""
    sealed, validated = (int(share * 16**8) for share in (split["test"], split["test"] + split["validation"]))
    last = f"{validated - 1:08x}".ljust(32, "f")  # `between` computes the hash once
    return {
        "train": f"{hashed} >= '{validated:08x}'",
        "validation": f"{hashed} between '{sealed:08x}' and '{last}'",
        "test": f"{hashed} < '{sealed:08x}'",
    }


def _stratified(source: Source, warehouse: Warehouse) -> dict[str, str]:
    split = source.config["split"]
    name = split["stratify"] or source.target
    hashed, stratum = _hashed(source, source.key), f"coalesce({_text(source, name)}, '')"
    test, both = (round(share * _MILLION) for share in (split["test"], split["test"] + split["validation"]))
    bounds = ", ".join(
        f"max(case when place * {_MILLION} <= total * {share} + {_MILLION // 2} then hashed end)"
        for share in (test, both)
    )
    labelled = f"{source.sql} where {source.quote(source.target)} is not null"
    rows = f"select {stratum} as stratum, {hashed} as hashed from {labelled}"
    window = "over (partition by stratum"
    ranked = (
        f"select *, row_number() {window} order by hashed) as place, count(*) {window}) as total from ({rows}) as h"
    )
    found = warehouse.query(f"select stratum, {bounds} from ({ranked}) as r group by stratum order by stratum")
    if len(found) > MOST_STRATA:
        raise source.error(
            f"it is stratified by {name!r}, which has {len(found):,} values; {MOST_STRATA:,} are the most",
            "stratify by a column with few values, or use tl.split.by_key()",
        )
    sealed, validated = (_cases(stratum, found, bound) for bound in (1, 2))
    return {
        "train": f"{hashed} > {validated}",
        "validation": f"{hashed} > {sealed} and {hashed} <= {validated}",
        "test": f"{hashed} <= {sealed}",
    }


def _cases(stratum: str, found: Sequence[Sequence[Any]], bound: int) -> str:
    """The last hash that is in, by stratum; the empty text is before all hashes."""
    whens = " ".join(f"when {_literal(row[0])} then '{row[bound] or ''}'" for row in found)
    return f"case {stratum} {whens} else '' end" if whens else "''"


def _literal(text: str) -> str:
    """A text as SQL that both warehouses read alike: one of them takes a backslash for an escape."""
    return "(" + " || chr(92) || ".join(f"'{part}'" for part in text.replace("'", "''").split("\\")) + ")"
