"""Build one dataset: check, split in the warehouse, export, seal."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.datasets import probes
from trunkline.datasets.checks import Counts, check
from trunkline.datasets.findings import Finding, read_findings, write_findings
from trunkline.datasets.manifest import Manifest, Part
from trunkline.datasets.publish import SEALED, fetch, location, publish
from trunkline.datasets.source import PARTS, Source, open_source
from trunkline.datasets.splits import folds, parted
from trunkline.datasets.vault import sealed_file
from trunkline.errors import EngineError, TransientError
from trunkline.project.files import content_digest
from trunkline.warehouse.protocol import ParquetWriter


def folder(state: Path, name: str, dataset_id: str) -> Path:
    """Where a dataset's open parts lie."""
    return state / "datasets" / name / dataset_id[:16]


def run(job: Job, ctx: StepContext) -> StepResult:
    """Export the dataset of this fingerprint, all or nothing, and write its ledger row.

    Where the project publishes datasets and another machine has built it already, that copy is fetched.
    """
    name, fingerprint = str(job.step.config["name"]), job.fingerprint
    place = folder(ctx.state, name, fingerprint)
    scratch = place.with_name(f".{place.name}.{os.getpid()}")  # what a kill leaves there the next run sweeps away
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        manifest = None if place.exists() else fetch(ctx, name, fingerprint, scratch)
        fetched = manifest is not None
        if manifest is None:
            manifest = built(job, ctx, scratch)
            if manifest.location:
                publish(ctx, manifest, scratch)
        findings = read_findings(scratch)
        put_in_place(scratch, place, sealed_file(ctx.state, name, fingerprint))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    with ctx.warehouse.transaction():
        if not ctx.ledger.read("datasets", "where dataset_id = ?", [fingerprint]):  # a kill may have come after it
            ctx.ledger.add("datasets", [_ledger_row(manifest, ctx)])
    return _result(manifest, findings, f", fetched from {manifest.location}" if fetched else "")


def built(job: Job, ctx: StepContext, scratch: Path, snapshot: str = "") -> Manifest:
    """The dataset's files in `scratch`, of the table as it is now, or as it was at `snapshot`."""
    with ctx.observed(f"checking {job.step.config['name']}"):
        source = parted(open_source(job.step, ctx.warehouse, snapshot), ctx.warehouse)
        counts = check(source, ctx.warehouse)
    parts = {part: _export(source, ctx, part, scratch, counts) for part in PARTS}
    manifest = _manifest(source, ctx, counts, parts, job.fingerprint)
    write_findings(scratch, _examined(source, ctx, manifest))
    manifest.write(scratch)
    return manifest


def _export(source: Source, ctx: StepContext, part: str, scratch: Path, counts: Counts) -> Part:
    warehouse = ctx.warehouse
    if not isinstance(warehouse, ParquetWriter):
        raise EngineError(f"the {warehouse.name} warehouse cannot write Parquet yet")
    sealed = part == "test"
    path = scratch / (SEALED if sealed else f"{part}.parquet")
    order = ", ".join(source.quote(name) for name in source.order)
    sql = f"select {source.columns_sql()} from {source.sql} where {source.condition(part)} order by {order}"
    with ctx.observed(f"exporting {part}: {counts.rows[part]:,} rows"):
        written = warehouse.write_parquet(sql, path, key=ctx.vault_key() if sealed else None)
    if written.rows != counts.rows[part]:
        raise TransientError(
            f"the {part} part of {source.config['name']!r} had {counts.rows[part]:,} rows, but {written.rows:,} came: "
            "the table was changed meanwhile",
            hint="run the same command again",
        )
    name = None if sealed else path.name
    digest, size = content_digest(path), path.stat().st_size
    return Part(part, written.rows, counts.labels[part], written.content, name, digest, size)


def _manifest(
    source: Source, ctx: StepContext, counts: Counts, parts: Mapping[str, Part], fingerprint: str
) -> Manifest:
    config = source.config
    return Manifest(
        dataset_id=fingerprint,
        content_id=content_id(source, parts),
        name=config["name"],
        relation=".".join(config["table"]),
        snapshot=source.snapshot,
        sql=source.parted_sql(),
        key=source.key,
        time=source.time,
        target=source.target,
        task=counts.task,
        groups=config["groups"],
        split=config["split"],
        schema=source.schema,
        parts=parts,
        load_ids=ctx.ledger.load_ids(config["sources"]),
        unlabelled=counts.unlabelled,
        left_out=counts.left_out,
        created_at=ctx.now().isoformat(),
        folds=folds(source, ctx.warehouse),
        location=location(ctx, config["name"], fingerprint),
    )


def content_id(source: Source, parts: Mapping[str, Part]) -> str:
    """The fingerprint of what is in the parts: equal for equal rows in equal columns and parts, wherever built."""
    from blake3 import blake3

    rows = {name: [part.rows, part.content] for name, part in parts.items()}
    roles = [source.key, source.time, source.target, source.config["groups"], source.config["split"]]
    told = json.dumps([roles, source.schema, rows], sort_keys=True)
    return blake3(told.encode()).hexdigest()


def _examined(source: Source, ctx: StepContext, manifest: Manifest) -> tuple[Finding, ...]:
    findings = probes.examine(source, ctx, manifest)
    failed = [finding.text for finding in findings if finding.outcome == "fail"]
    if failed:
        raise source.error(
            "\n".join(failed),
            "mend the dbt model; or, if it is as it should be, let the probe `warn` or `ignore` the feature: "
            "`probes=` of the tl.Dataset, docs/leakage.md",
        )
    return findings


def put_in_place(scratch: Path, place: Path, sealed: Path) -> None:
    """The manifest is last to be there, and first to be gone: a dataset that has one is whole."""
    shutil.rmtree(place, ignore_errors=True)
    sealed.parent.mkdir(parents=True, exist_ok=True)
    (scratch / SEALED).replace(sealed)
    scratch.rename(place)


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


def _result(manifest: Manifest, findings: Sequence[Finding], how: str) -> StepResult:
    rows = {part.name: part.rows for part in manifest.parts.values()}
    output = {
        "dataset_id": manifest.dataset_id,
        "content_id": manifest.content_id,
        "name": manifest.name,
        "rows": rows,
    }
    counts = ", ".join(f"{name} {count:,}" for name, count in rows.items())
    left = f", {manifest.left_out:,} in no part" if manifest.left_out else ""
    warnings = sum(finding.outcome == "warn" for finding in findings)
    warned = f"; {warnings} signs of leakage: `trunkline dataset show {manifest.name}`" if warnings else ""
    return StepResult(output, f"{counts} (sealed){left}, {len(manifest.features)} features{how}{warned}")
