"""Probes for what was known when: times after the prediction, and values that changed after it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.datasets.findings import Finding
from trunkline.datasets.probes_subject import NUMBERS, TIMES, Subject, bars, share
from trunkline.errors import EngineError
from trunkline.warehouse.protocol import Snapshots
from trunkline.warehouse.relation import Relation

_SAMPLE = 20_000  # rows whose values are compared with earlier ones
_SNAPSHOTS = 3  # that are compared: the oldest, the newest, and one between
_FEWEST = 20  # rows that tell something
_CLOSE = 1e-9  # a number recomputed may differ by its last digits


def after_prediction(subject: Subject) -> list[Finding]:
    """Do features hold times that are later than the time of the prediction?"""
    probe = "after_prediction"
    time = subject.manifest.time
    names = [name for name in subject.features(probe) if subject.kind(name) in TIMES and name != time]
    if time is None:
        return [subject.skipped(probe, "the dataset has no `time`, so that nothing is later than it")]
    if not names:
        return [subject.ok(probe, "no feature is a time", 0.0)]
    rows = subject.source.parted_sql()
    counts = ", ".join(f"count(case when {_later(subject, name, time)} then 1 end)" for name in names)
    total, *later = subject.warehouse.query(f"select count(*), {counts} from ({rows}) p")[0]
    shares = {name: int(count) / max(1, int(total)) for name, count in zip(names, later, strict=True)}
    bound = subject.settings[probe].at_most
    plot = bars(f"share of rows in which it is later than {time}", shares, bound)
    suspects = [name for name in names if shares[name] > bound]
    if not suspects:
        return [subject.ok(probe, f"no time among the features is later than `{time}`", max(shares.values()), plot)]
    found = []
    for name in suspects:
        key, at, value = _example(subject, rows, name, time)
        text = (
            f"`{name}` is later than the prediction's `{time}` in {share(shares[name])} of the rows, such as {key!r}: "
            f"{value} after {at}. Only a time that is planned in advance may be."
        )
        found.append(subject.found(probe, text, shares[name], column=name, bars=plot))
    return found


def _later(subject: Subject, name: str, time: str) -> str:
    column, at = subject.quote(name), subject.quote(time)
    if subject.kind(name) == subject.kind(time):
        return f"{column} > {at}"
    if "timestamptz" not in (subject.kind(name), subject.kind(time)):
        return f"cast({column} as timestamp) > cast({at} as timestamp)"
    return f"{subject.moment(column)} > {subject.moment(at)}"


def _example(subject: Subject, rows: str, name: str, time: str) -> tuple[str, str, str]:
    columns = ", ".join(subject.quote(column) for column in (subject.manifest.key, time, name))
    row = subject.warehouse.query(
        f"select {columns} from ({rows}) p where {_later(subject, name, time)} "
        f"order by {subject.quote(subject.manifest.key)} limit 1"
    )[0]
    return str(row[0]), str(row[1]), str(row[2])


# -- values that changed


@dataclass(frozen=True)
class _Earlier:
    """A snapshot that an earlier dataset was made of."""

    snapshot: str
    columns: Mapping[str, str]
    made_at: dt.datetime


def as_of_change(subject: Subject) -> list[Finding]:
    """Do rows have other values now than in the snapshots of earlier datasets, which were taken after the prediction?

    What was known at a time does not change later: a feature that does is computed with what came after.
    """
    probe = "as_of_change"
    warehouse = subject.warehouse
    if subject.manifest.time is None:
        return [subject.skipped(probe, "the dataset has no `time`, so that nothing can have changed after it")]
    earlier = _snapshots(subject)
    if not earlier or not isinstance(warehouse, Snapshots):
        why = "there is no earlier snapshot of the table to compare with: the next datasets will have one"
        return [subject.skipped(probe, why)]
    changed: dict[str, float] = {}
    compared = 0
    for each in earlier:
        rows, shares = _compared(subject, each)
        if rows >= _FEWEST:
            compared = max(compared, rows)
            changed = {name: max(value, changed.get(name, 0.0)) for name, value in shares.items()}
    if not changed:
        why = f"earlier snapshots can no longer be read, or hold fewer than {_FEWEST} rows of their past"
        return [subject.skipped(probe, why)]
    return _judged(subject, changed, compared)


def _judged(subject: Subject, changed: Mapping[str, float], compared: int) -> list[Finding]:
    probe = "as_of_change"
    bound = subject.settings[probe].at_most
    plot = bars("share of rows whose value changed after the prediction", changed, bound)
    suspects = sorted((name for name in changed if changed[name] > bound), key=lambda name: -changed[name])
    if not suspects:
        text = f"features have the values they had in earlier snapshots ({compared:,} rows compared)"
        return [subject.ok(probe, text, max(changed.values()), plot)]
    return [
        subject.found(
            probe,
            f"`{name}` has another value now than in an earlier snapshot in {share(changed[name])} of {compared:,} "
            "rows, and both were taken after the prediction: it is computed with what came later, or the dbt model "
            "or its sources were corrected since.",
            changed[name],
            column=name,
            bars=plot,
        )
        for name in suspects
    ]


def _snapshots(subject: Subject) -> list[_Earlier]:
    """Of earlier datasets from the same relation: the oldest, the newest, and one between."""
    manifest = subject.manifest
    rows = subject.ledger.read("datasets", "where relation = ? order by created_at", [manifest.relation])
    found: dict[str, _Earlier] = {}
    for row in rows:
        if row["snapshot"] and row["snapshot"] != manifest.snapshot:
            held = row["manifest"] if isinstance(row["manifest"], Mapping) else json.loads(row["manifest"])
            columns = {str(name): str(type_) for name, type_ in held["schema"]}
            found.setdefault(str(row["snapshot"]), _Earlier(str(row["snapshot"]), columns, _moment(row["created_at"])))
    ordered = list(found.values())
    if len(ordered) <= _SNAPSHOTS:
        return ordered
    return [ordered[0], ordered[len(ordered) // 2], ordered[-1]]


def _moment(value: Any) -> dt.datetime:
    moment = value if isinstance(value, dt.datetime) else dt.datetime.fromisoformat(str(value))
    return moment.astimezone(dt.UTC)


def _compared(subject: Subject, earlier: _Earlier) -> tuple[int, dict[str, float]]:
    """Rows that both snapshots have, predicted before the earlier one; by feature the share of them that differ."""
    manifest, warehouse, source = subject.manifest, subject.warehouse, subject.source
    assert isinstance(warehouse, Snapshots)  # asked by `as_of_change`
    types = dict(source.schema)
    names = [name for name in subject.features("as_of_change") if earlier.columns.get(name) == types[name]]
    if not names or manifest.key not in earlier.columns:
        return 0, {}
    key = subject.quote(manifest.key)
    assert manifest.time is not None  # asked by `as_of_change`
    before = f"{subject.moment(f'n.{subject.quote(manifest.time)}')} <= {int(earlier.made_at.timestamp() * 1e6)}"
    counts = ", ".join(f"count(case when {_differs(subject, name)} then 1 end)" for name in names)
    chosen = subject.chosen(_SAMPLE / max(1, subject.rows("train", "validation", "test")))
    now = f"select * from ({source.parted_sql()}) p where {chosen}"
    then = f"(select * from {warehouse.at(Relation(*source.config['table']), earlier.snapshot)})"
    try:
        warehouse.query(f"select count(*) from {then} o")
    except EngineError:  # the snapshot has expired
        return 0, {}
    sql = f"select count(*), {counts} from ({now}) n join {then} o on n.{key} = o.{key} where {before}"
    row = warehouse.query(sql)[0]
    rows = int(row[0])
    return rows, {name: int(count) / max(1, rows) for name, count in zip(names, row[1:], strict=True)}


def _differs(subject: Subject, name: str) -> str:
    now, then = f"n.{subject.quote(name)}", f"o.{subject.quote(name)}"
    if subject.kind(name) in NUMBERS:
        now, then = (f"cast({value} as double)" for value in (now, then))
        far = f"abs({now} - {then}) > {_CLOSE} * (abs({now}) + abs({then}))"
        return f"({now} is null) <> ({then} is null) or {far}"
    return f"{now} is distinct from {then}"
