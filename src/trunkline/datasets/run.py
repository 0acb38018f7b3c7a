"""Build one dataset: check, split in the warehouse, export, seal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.datasets.manifest import Manifest, Part
from trunkline.datasets.vault import sealed_file
from trunkline.errors import DatasetError, EngineError, did_you_mean
from trunkline.graph.step import Step
from trunkline.project.files import content_digest
from trunkline.warehouse.protocol import ParquetWriter, Relation, Snapshots, Warehouse

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class _Source:
    """The relation as of one snapshot, and the declaration with the columns it names checked."""

    sql: str
    config: Mapping[str, Any]
    schema: tuple[tuple[str, str], ...]
    where: str
    snapshot: str

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
    _check(source, ctx.warehouse)
    name = str(step.config["name"])
    place = folder(ctx.state, name, fingerprint)
    scratch = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        parts = {part: _export(source, ctx, part, scratch, fingerprint) for part in PARTS}
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
    snapshot = warehouse.snapshot() if isinstance(warehouse, Snapshots) else ""
    sql = warehouse.at(relation, snapshot) if isinstance(warehouse, Snapshots) else warehouse.sql(relation)
    source = _Source(sql, config, (), step.where, snapshot)
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
    return _Source(sql, config, tuple((name, types[name]) for name in wanted), step.where, snapshot)


def _condition(source: _Source, part: str) -> str:
    split = source.config["split"]
    time = f'"{source.config["time"]}"'
    first, last = f"timestamp '{split['validation']}'", f"timestamp '{split['test']}'"
    if dict(source.schema)[source.config["time"]].upper().endswith("TIME ZONE"):
        first, last = f"timestamptz '{split['validation']}'", f"timestamptz '{split['test']}'"
    conditions = {
        "train": f"{time} < {first}",
        "validation": f"{time} >= {first} and {time} < {last}",
        "test": f"{time} >= {last}",
    }
    return f'({conditions[part]}) and "{source.config["target"]}" is not null'


def _check(source: _Source, warehouse: Warehouse) -> None:
    """Key unique and never null, time never null, both classes in every part. One query."""
    key, time, target = (f'"{source.config[role]}"' for role in ("key", "time", "target"))
    per_part = ", ".join(
        f"count(*) filter ({_condition(source, part)}), "
        f"count(distinct cast({target} as double)) filter ({_condition(source, part)})"
        for part in PARTS
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
    for part, rows, classes in zip(PARTS, counts[::2], counts[1::2], strict=True):
        if rows == 0:
            raise source.error(f"the {part} part is empty after the split", f"split: {source.config['split']}")
        if classes < 2:
            raise source.error(f"the target {target} has only one value in the {part} part")


def _export(source: _Source, ctx: StepContext, part: str, scratch: Path, fingerprint: str) -> Part:
    warehouse = ctx.warehouse
    if not isinstance(warehouse, ParquetWriter):
        raise EngineError(f"the {warehouse.name} warehouse cannot write Parquet yet")
    ctx.progress(f"exporting {part}")
    listed = ", ".join(f'"{name}"' for name, _ in source.schema)
    rows_sql = f"select {listed} from {source.sql} where {_condition(source, part)}"
    ordered = f'{rows_sql} order by "{source.config["time"]}", "{source.config["key"]}"'
    sealed = part == "test"
    path = sealed_file(ctx.state, source.config["name"], fingerprint) if sealed else scratch / f"{part}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    rows = warehouse.write_parquet(ordered, unfinished, key=ctx.vault_key() if sealed else None)
    unfinished.rename(path)
    positives, content = warehouse.query(
        f'select count(*) filter (cast("{source.config["target"]}" as double) > 0), '
        f"printf('%016x', bit_xor(hash(t))) from ({rows_sql}) t"
    )[0]
    return Part(part, rows, int(positives), str(content), None if sealed else path.name, content_digest(path))


def _manifest(source: _Source, ctx: StepContext, parts: dict[str, Part], fingerprint: str) -> Manifest:
    config = source.config
    unlabelled = ctx.warehouse.query(f'select count(*) from {source.sql} where "{config["target"]}" is null')[0][0]
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
