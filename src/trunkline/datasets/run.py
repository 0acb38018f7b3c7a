"""Build one dataset: check, split in the warehouse, export, seal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.datasets.manifest import Manifest, Part
from trunkline.datasets.vault import sealed_file
from trunkline.errors import DatasetError, EngineError, did_you_mean
from trunkline.graph.step import Step
from trunkline.project.files import content_digest
from trunkline.warehouse.protocol import ParquetWriter, Snapshots, Warehouse
from trunkline.warehouse.relation import Relation

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Source:
    """The relation as of one snapshot, and the declaration with the columns it names checked."""

    sql: str
    config: Mapping[str, Any]
    schema: tuple[tuple[str, str], ...]
    where: str
    snapshot: str
    quote: Callable[[str], str]

    def error(self, what: str, hint: str | None = None) -> DatasetError:
        file, _, line = self.where.rpartition(":")
        return DatasetError(f"dataset {self.config['name']!r}: {what}", file=file, line=int(line), hint=hint)


def folder(state: Path, name: str, dataset_id: str) -> Path:
    """Where a dataset's open parts lie."""
    return state / "datasets" / name / dataset_id[:16]


def run(job: Job, ctx: StepContext) -> StepResult:
    """Export the dataset of this fingerprint, all or nothing, and write its ledger row."""
    step, fingerprint = job.step, job.fingerprint
    source = _open(step, ctx.warehouse)
    positives = _check(source, ctx.warehouse)
    name = str(step.config["name"])
    place = folder(ctx.state, name, fingerprint)
    scratch = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        parts = {part: _export(source, ctx, part, scratch, positives[part], fingerprint) for part in PARTS}
        manifest = _manifest(source, ctx, parts, fingerprint)
        manifest.write(scratch)
        shutil.rmtree(place, ignore_errors=True)
        scratch.rename(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with ctx.warehouse.transaction():
        if not ctx.ledger.read("datasets", "where dataset_id = ?", [fingerprint]):  # a kill may have come after it
            ctx.ledger.add("datasets", [_ledger_row(manifest, ctx)])
    counts = ", ".join(f"{part.name} {part.rows:,}" for part in parts.values())
    output = {"dataset_id": fingerprint, "name": name, "rows": {p.name: p.rows for p in parts.values()}}
    return StepResult(output, f"{counts} (sealed), {len(manifest.features)} features")


def _open(step: Step, warehouse: Warehouse) -> _Source:
    config = step.config
    relation = Relation(*config["table"])
    columns = warehouse.columns(relation)
    source = _Source(warehouse.sql(relation), config, (), step.where, "", warehouse.quote)
    if not columns:
        raise source.error(f"the table {relation} is not there", "`trunkline run` builds it")
    types = dict(columns)
    features = [column for group in config["groups"].values() for column in group]
    for role in ("key", "time", "target"):
        if config[role] not in types:
            raise source.error(
                f"dbt model {config['relation']!r} has no {role} column {config[role]!r}."
                f"{did_you_mean(config[role], types)}",
                f"it has: {', '.join(types)}",
            )
    for column in features:
        if column not in types:
            raise source.error(
                f"dbt model {config['relation']!r} has no feature {column!r}.{did_you_mean(column, types)}",
                f"it has: {', '.join(types)}",
            )
    wanted = dict.fromkeys([config["key"], config["time"], *features, config["target"]])
    schema = tuple((name, types[name]) for name in wanted)
    if not isinstance(warehouse, Snapshots):
        return replace(source, schema=schema)
    snapshot = warehouse.snapshot(relation)
    return replace(source, schema=schema, snapshot=snapshot, sql=warehouse.at(relation, snapshot))


def _condition(source: _Source, part: str) -> str:
    """SQL that is true for the rows of `part`; unlabelled rows belong to none."""
    split = source.config["split"]
    time, target = source.quote(source.config["time"]), source.quote(source.config["target"])
    zoned = dict(source.schema)[source.config["time"]].upper().endswith("TIME ZONE")
    first, last = (
        f"cast('{split[key]}' as {'timestamptz' if zoned else 'timestamp'})" for key in ("validation", "test")
    )
    conditions = {
        "train": f"{time} < {first}",
        "validation": f"{time} >= {first} and {time} < {last}",
        "test": f"{time} >= {last}",
    }
    return f"({conditions[part]}) and {target} is not null"


def _check(source: _Source, warehouse: Warehouse) -> dict[str, int]:
    """Key unique and never null, time never null, both classes in every part. One query; the positives of each part."""
    key, time, target = (source.quote(source.config[role]) for role in ("key", "time", "target"))
    value = f"cast({_number(source)} as double)"
    per_part = ", ".join(
        f"count(case when {where} then 1 end), count(distinct case when {where} then {value} end), "
        f"count(case when {where} and {value} > 0 then 1 end)"
        for where in (_condition(source, part) for part in PARTS)
    )
    total, keys, times, labels, *counts = warehouse.query(
        f"select count(*), count(distinct {key}), count({time}), count({target}), {per_part} from {source.sql}"
    )[0]
    if total == 0:
        raise source.error(f"dbt model {source.config['relation']!r} has no rows")
    if keys != total:
        raise source.error(
            f"the key {key} is not unique: {total:,} rows, {keys:,} keys", "add a dbt `unique` test to find them"
        )
    if times != total:
        raise source.error(f"the time {time} is null in {total - times:,} rows: they belong to no part")
    if labels == 0:
        raise source.error(f"the target {target} is null in every row")
    for part, rows, classes in zip(PARTS, counts[::3], counts[1::3], strict=True):
        if rows == 0:
            raise source.error(f"the {part} part is empty after the split", f"split: {source.config['split']}")
        if classes < 2:
            raise source.error(f"the target {target} has only one value in the {part} part")
    return {part: int(positives) for part, positives in zip(PARTS, counts[2::3], strict=True)}


def _number(source: _Source) -> str:
    """The target as SQL that casts to a number everywhere (a boolean does not on Snowflake)."""
    target = source.quote(source.config["target"])
    boolean = dict(source.schema)[source.config["target"]].upper() == "BOOLEAN"
    return f"case when {target} then 1 when not {target} then 0 end" if boolean else target


def _export(source: _Source, ctx: StepContext, part: str, scratch: Path, positives: int, fingerprint: str) -> Part:
    warehouse = ctx.warehouse
    if not isinstance(warehouse, ParquetWriter):
        raise EngineError(f"the {warehouse.name} warehouse cannot write Parquet yet")
    ctx.progress(f"exporting {part}")
    listed = ", ".join(source.quote(name) for name, _ in source.schema)
    order = ", ".join(source.quote(source.config[role]) for role in ("time", "key"))
    sql = f"select {listed} from {source.sql} where {_condition(source, part)} order by {order}"
    sealed = part == "test"
    path = sealed_file(ctx.state, source.config["name"], fingerprint) if sealed else scratch / f"{part}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    written = warehouse.write_parquet(sql, unfinished, key=ctx.vault_key() if sealed else None)
    unfinished.rename(path)
    name = None if sealed else path.name
    return Part(part, written.rows, positives, written.content, name, content_digest(path))


def _manifest(source: _Source, ctx: StepContext, parts: dict[str, Part], fingerprint: str) -> Manifest:
    config = source.config
    missing = f"select count(*) from {source.sql} where {source.quote(config['target'])} is null"
    unlabelled = ctx.warehouse.query(missing)[0][0]
    return Manifest(
        dataset_id=fingerprint,
        name=config["name"],
        relation=".".join(config["table"]),
        snapshot=source.snapshot,
        key=config["key"],
        time=config["time"],
        target=config["target"],
        groups=config["groups"],
        split=config["split"],
        schema=source.schema,
        parts=parts,
        load_ids=ctx.ledger.load_ids(config["sources"]),
        unlabelled=int(unlabelled),
        created_at=ctx.now().isoformat(),
    )


def _ledger_row(manifest: Manifest, ctx: StepContext) -> dict[str, Any]:
    return {
        "dataset_id": manifest.dataset_id,
        "run_id": ctx.run_id,
        "name": manifest.name,
        "relation": manifest.relation,
        "snapshot": manifest.snapshot,
        "manifest": manifest.to_json(),
        "created_at": manifest.created_at,
    }
