"""One ingest step: new files into the raw table, in one transaction with quarantine and ledger."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.errors import EngineError, SourceError
from trunkline.graph.step import Step
from trunkline.ingest import files
from trunkline.ledger.ids import new_id
from trunkline.warehouse.protocol import FileLoader, FileScan, LoadCounts, LoadRequest, Relation


def run(job: Job, ctx: StepContext) -> StepResult:
    """Load what is new. Killed at any moment it leaves either nothing or everything of this load."""
    step = job.step
    config = step.config
    warehouse = ctx.warehouse
    if not isinstance(warehouse, FileLoader):
        raise EngineError(f"the {warehouse.name} warehouse cannot scan files yet")
    load_id, started = new_id("load"), ctx.now()
    scratch = ctx.state / "tmp" / load_id
    ctx.ledger.prepare()
    try:
        with warehouse.writing():  # the list of loaded files must not change between the look and the load
            new = _new_files(step, ctx)
            if not new:
                return _result(step, ctx, None, 0)
            by_format = files.readable([ctx.root / path for path, _, _ in new], scratch, config["format"])
            with ctx.observed(f"loading {config['source']}"), warehouse.transaction():
                counts = LoadCounts(0, 0, 0)
                for index, (format_, paths) in enumerate(sorted(by_format.items())):
                    request = _request(
                        step,
                        ctx,
                        load_id,
                        FileScan(tuple(paths), format_, tuple(config["null_values"]), config["delimiter"]),
                        replace=config["load"] == "replace" and index == 0,
                    )
                    more = warehouse.load_files(request)
                    counts = LoadCounts(
                        counts.read + more.read, counts.loaded + more.loaded, counts.quarantined + more.quarantined
                    )
                _record(step, ctx, load_id, new, counts, started)
    except SourceError as exc:
        raise _located(exc, step, scratch) from exc
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return _result(step, ctx, counts, len(new))


def _new_files(step: Step, ctx: StepContext) -> list[list[Any]]:
    """Files not loaded yet: all of them, if any changed, when the table is replaced; else those with a new path."""
    wanted = [list(item) for item in step.config["files"]]
    known = ctx.ledger.loaded_files(step.config["source"])
    there = ctx.warehouse.columns(_relation(step))
    if not there:
        return wanted
    if step.config["load"] == "replace":
        last = _last_load(known)
        return [] if last == {path: digest for path, digest, _ in wanted} else wanted
    for path, digest, _ in wanted:
        if path in known and known[path].digest != digest:
            raise SourceError(
                f"{path} has changed since load {known[path].load_id}; appending it would load its old rows twice",
                hint="give new data a new file name, or set `load: replace`",
            )
    return [item for item in wanted if item[0] not in known]


def _last_load(known: Any) -> dict[str, str]:
    latest = max((f.load_id for f in known.values()), default=None)
    return {f.path: f.digest for f in known.values() if f.load_id == latest}


def _request(step: Step, ctx: StepContext, load_id: str, scan: FileScan, *, replace: bool) -> LoadRequest:
    return LoadRequest(
        name=step.config["source"],
        target=_relation(step),
        columns=tuple((name, type_) for name, type_ in step.config["contract"]),
        scan=scan,
        quarantine=ctx.ledger.relation("quarantine"),
        load_id=load_id,
        loaded_at=ctx.now(),
        replace=replace,
    )


def _relation(step: Step) -> Relation:
    return Relation(**step.config["relation"])


def _record(step: Step, ctx: StepContext, load_id: str, new: list[list[Any]], counts: LoadCounts, started: Any) -> None:
    if counts.read != counts.loaded + counts.quarantined:
        raise EngineError(f"{step.config['source']}: the counts of the load do not add up: {counts}")
    source = step.config["source"]
    ctx.ledger.add(
        "loads",
        [
            {
                "load_id": load_id,
                "run_id": ctx.run_id,
                "source": source,
                "relation": str(_relation(step)),
                "mode": step.config["load"],
                "contract": step.config["contract"],
                "rows_read": counts.read,
                "rows_loaded": counts.loaded,
                "rows_quarantined": counts.quarantined,
                "started_at": started,
                "finished_at": ctx.now(),
            }
        ],
    )
    ctx.ledger.add(
        "load_files",
        [
            {"load_id": load_id, "source": source, "path": path, "digest": digest, "size": size}
            for path, digest, size in new
        ],
    )


def _result(step: Step, ctx: StepContext, counts: LoadCounts | None, files_read: int) -> StepResult:
    relation = _relation(step)
    output: dict[str, Any] = {"relation": [relation.schema, relation.name]}
    if counts is None:
        return StepResult(output, "no new files")
    output.update(read=counts.read, loaded=counts.loaded, quarantined=counts.quarantined, files=files_read)
    summary = f"{counts.read:,} rows read = {counts.loaded:,} loaded + {counts.quarantined:,} quarantined"
    return StepResult(output, summary)


def _located(exc: SourceError, step: Step, scratch: Path) -> SourceError:
    """The error at the source's line in the user's project, without the name of our scratch folder."""
    file, _, line = step.where.rpartition(":")
    what = exc.what.replace(f"{scratch}/", "")
    return SourceError(what, file=file, line=int(line), hint=exc.hint)
