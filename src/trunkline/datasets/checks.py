"""What must hold before a dataset is exported, each broken rule told in one message; and the counts by the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.datasets.manifest import Task
from trunkline.datasets.source import PARTS, Source, is_list
from trunkline.warehouse.protocol import Warehouse

MOST_LABELS = 50
MOST_CLASSES = 1_000
_SHOWN = 3
_NUMBERS = ("BIGINT", "DOUBLE", "DECIMAL")


@dataclass(frozen=True)
class Counts:
    """The rows of each part, those of each class in it, and the rows in no part: without a target, or left out."""

    task: Task
    rows: Mapping[str, int]
    labels: Mapping[str, Mapping[str, int]]
    unlabelled: int
    left_out: int


@dataclass(frozen=True)
class _Tally:
    """What one look at the relation finds in one part, or (None) in no part."""

    rows: int
    keys: int
    times: int
    groups: int
    targets: int
    binary: int
    ones: int
    broken: int
    least: Any
    greatest: Any


def check(source: Source, warehouse: Warehouse) -> Counts:
    """Raises `DatasetError` for the first rule that is broken: rows, keys, times, groups, the target, the parts."""
    tallies = _tallies(source, warehouse)
    everything = tallies.values()
    total = sum(tally.rows for tally in everything)
    if not total:
        raise source.error(
            f"dbt model {source.config['relation']!r} has no rows", "`trunkline ingest`, or look at its SQL"
        )
    _check_keys(source, warehouse, total, sum(tally.keys for tally in everything))
    for role, name, there in (
        ("time", source.time, sum(tally.times for tally in everything)),
        ("group", source.config["split"].get("column"), sum(tally.groups for tally in everything)),
    ):
        if name and there < total:
            raise source.error(
                f"the {role} {source.quote(name)} is null in {total - there:,} of {total:,} rows: they are in no part",
                f"leave them out in the dbt model: `where {name} is not null`",
            )
    _check_target(source, tallies, total)
    task = _task(source, warehouse, tallies)
    return Counts(
        task=task,
        rows={part: tallies[part].rows for part in PARTS},
        labels=_labels(source, warehouse, task, tallies),
        unlabelled=total - sum(tally.targets for tally in everything),
        left_out=tallies[None].targets if None in tallies else 0,
    )


def _tallies(source: Source, warehouse: Warehouse) -> dict[str | None, _Tally]:
    """By part; one look at the few columns that matter."""
    type_ = _target_type(source)
    named = {"k": source.key, "t": source.time, "g": source.config["split"].get("column"), "y": source.target}
    columns = ", ".join(f"{source.quote(name) if name else '0'} as {role}" for role, name in named.items())
    binary = ones = broken = "0"
    if type_ == "BOOLEAN":
        binary, ones = "count(y)", "count(case when y then 1 end)"
    elif type_.startswith(_NUMBERS) and not is_list(type_):
        binary, ones = "count(case when y in (0, 1) then 1 end)", "count(case when y = 1 then 1 end)"
    if type_ == "DOUBLE":  # true of NaN and of infinity, whatever the engine holds NaN to be
        broken = "count(case when y - y <> 0 then 1 end)"
    least, greatest = ("null", "null") if type_ == "BOOLEAN" else ("min(y)", "max(y)")
    listed = f"count(*), count(k), count(t), count(g), count(y), {binary}, {ones}, {broken}, {least}, {greatest}"
    sql = f"select p, {listed} from (select {source.part_sql()} as p, {columns} from {source.sql}) as parted group by p"
    tallies: dict[str | None, _Tally] = {row[0]: _Tally(*row[1:]) for row in warehouse.query(sql)}
    empty = _Tally(0, 0, 0, 0, 0, 0, 0, 0, None, None)
    return {**dict.fromkeys(PARTS, empty), **tallies}


def _check_keys(source: Source, warehouse: Warehouse, total: int, there: int) -> None:
    key = source.quote(source.key)
    if there < total:
        raise source.error(
            f"the key {key} is null in {total - there:,} of {total:,} rows",
            f"leave them out in the dbt model, or name a column that tells rows apart as `key` (not {source.key!r})",
        )
    twice = f"select {key} as k, count(*) as n from {source.sql} group by {key} having count(*) > 1"
    found = warehouse.query(f"select k, n, count(*) over () from ({twice}) as twice order by n desc, k limit {_SHOWN}")
    if found:
        shown = ", ".join(f"{value} ({rows:,} rows)" for value, rows, _ in found)
        more = ", …" if found[0][2] > len(found) else ""
        raise source.error(
            f"the key {key} is not unique: {found[0][2]:,} values are there more than once: {shown}{more}",
            "is a join in the dbt model at fault? Make it unique, or name the column that is in `key`",
        )


def _target_type(source: Source) -> str:
    type_ = dict(source.schema)[source.target]
    if type_ != "BOOLEAN" and not type_.startswith((*_NUMBERS, "VARCHAR")) and not is_list(type_):
        raise source.error(
            f"the target {source.quote(source.target)} has type {source.types[source.target]}, which nothing predicts",
            f"make it a boolean, a number, text or a list of numbers in the dbt model {source.config['relation']!r}",
        )
    return type_


def _check_target(source: Source, tallies: Mapping[str | None, _Tally], total: int) -> None:
    target, split = source.quote(source.target), source.config["split"]
    if not any(tally.targets for tally in tallies.values()):
        raise source.error(
            f"the target {target} is null in every row ({total:,})",
            "look at how the dbt model makes it; is a join empty?",
        )
    broken = sum(tally.broken for tally in tallies.values())
    if broken:
        raise source.error(
            f"the target {target} is NaN or infinite in {broken:,} rows",
            f"make it null there in the dbt model: rows without a target are in no part; or `where isfinite({target})`",
        )
    for part in PARTS:
        if not tallies[part].rows:
            counts = ", ".join(f"{name} {tallies[name].rows:,}" for name in PARTS)
            raise source.error(f"the {part} part is empty after the split: {counts}", _where_rows_are(source, split))


def _where_rows_are(source: Source, split: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name}={value!r}" for name, value in split.items() if name != "by" and value not in (None, ""))
    return f"change the split ({told}), or give the dbt model {source.config['relation']!r} more rows"


# -- classes


def _task(source: Source, warehouse: Warehouse, tallies: Mapping[str | None, _Tally]) -> Task:
    declared: Task | None = source.config.get("task")
    type_, target = _target_type(source), source.quote(source.target)
    fits: tuple[Task, ...]
    if type_ == "BOOLEAN":
        fits = ("binary",)
    elif is_list(type_):
        fits = ("custom",)
    elif type_ != "VARCHAR" and all(tally.binary == tally.targets for tally in tallies.values()):
        fits = ("binary", "regression")
    elif type_ in ("BIGINT", "VARCHAR"):
        classes = int(warehouse.query(f"select count(distinct {target}) from {source.sql}")[0][0])
        named: tuple[Task, ...] = ("binary",) if classes == 2 else ("multiclass",)
        number: tuple[Task, ...] = ("regression",) if type_ == "BIGINT" else ()
        fits = number + named if classes > MOST_LABELS else named + number
        if classes > MOST_CLASSES and (declared or fits[0]) == "multiclass":
            raise source.error(
                f"the target {target} has {classes:,} classes; {MOST_CLASSES:,} are the most",
                "put rare ones together in the dbt model; a number that is regressed on must have a numeric type",
            )
    else:
        fits = ("regression",)
    if declared == "regression" and is_list(type_):  # of several numbers
        return "custom"
    if declared not in (None, *fits):
        given = source.types[source.target]
        raise source.error(
            f"task={declared!r} does not fit the target {target} of type {given}: it is {fits[0]}",
            "leave `task` out, or give the target another type in the dbt model (text and integers are classes)",
        )
    return declared or fits[0]


def _labels(
    source: Source, warehouse: Warehouse, task: Task, tallies: Mapping[str | None, _Tally]
) -> dict[str, dict[str, int]]:
    """The rows of each class in each part. Raises `DatasetError` where a part has one value only."""
    type_, target = _target_type(source), source.quote(source.target)
    if task in ("regression", "custom"):
        for part in PARTS:
            if tallies[part].least == tallies[part].greatest:
                raise _one_value(source, part, tallies[part].least)
        return {part: {} for part in PARTS}
    if type_ == "BOOLEAN" or all(tally.binary == tally.targets > 0 for tally in (tallies[part] for part in PARTS)):
        names = ("false", "true") if type_ == "BOOLEAN" else ("0", "1")
        found = {part: {names[0]: t.rows - t.ones, names[1]: t.ones} for part, t in tallies.items() if part}
    else:
        found = {part: {} for part in PARTS}
        sql = f"select {source.part_sql()} as part, cast({target} as varchar) as label from {source.sql}"
        grouped = (
            f"select part, label, count(*) as n from ({sql}) as parted where part is not null group by part, label"
        )
        for part, label, rows in warehouse.query(f"{grouped} order by part, n desc, label"):
            found[part][label] = int(rows)
    for part in PARTS:
        there = [label for label, rows in found[part].items() if rows]
        if len(there) < 2:
            raise _one_value(source, part, there[0])
    return {part: _largest(labels) for part, labels in found.items()}


def _largest(labels: Mapping[str, int]) -> dict[str, int]:
    return dict(list(labels.items())[:MOST_LABELS])


def _one_value(source: Source, part: str, value: object) -> Exception:
    return source.error(
        f"the target {source.quote(source.target)} has only one value in the {part} part: {value}",
        "there is nothing to learn or to measure: change the split (tl.split.stratified keeps the shares of classes), "
        "or look at how the dbt model makes the target",
    )
