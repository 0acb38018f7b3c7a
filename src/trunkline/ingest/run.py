"""One ingest step: new files into the raw table, in one transaction with quarantine and ledger."""

from __future__ import annotations

import datetime as dt
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.errors import ContractError, EngineError, SourceError, TransientError, UserError
from trunkline.graph.step import Step
from trunkline.ingest import files
from trunkline.ledger.ids import new_id
from trunkline.warehouse.protocol import FileLoader, FileScan, LoadCounts, LoadRequest, Relation, turn
from trunkline.warehouse.retry import again


def run(job: Job, ctx: StepContext) -> StepResult:
    """Load what is new. Killed at any moment it leaves either nothing or everything of this load.

    Where another writer came first, or the warehouse was away for a moment, it looks and loads again.
    """
    return again(lambda: _run(job, ctx), ctx.progress)


def _run(job: Job, ctx: StepContext) -> StepResult:
    warehouse = ctx.warehouse
    if not isinstance(warehouse, FileLoader):
        raise EngineError(f"the {warehouse.name} warehouse cannot scan files yet")
    ctx.ledger.prepare()
    load = _Load(job.step, ctx, new_id("load"), ctx.now())
    try:
        with turn(ctx.warehouse):  # the list of loaded files must not change between the look and the load
            replace = job.step.config["load"] == "replace" or load.contract_changed()
            new = load.changed_set() if replace else load.new_files()
            counts = load.carry_out(warehouse, new, replace=replace) if new else None
    except (SourceError, ContractError) as exc:
        raise load.located(exc) from exc
    finally:
        shutil.rmtree(load.scratch, ignore_errors=True)
    return _result(load.relation, counts, len(new))


@dataclass(frozen=True)
class _Load:
    step: Step
    ctx: StepContext
    load_id: str
    started_at: dt.datetime

    @property
    def source(self) -> str:
        return str(self.step.config["source"])

    @property
    def relation(self) -> Relation:
        return Relation(**self.step.config["relation"])

    @property
    def scratch(self) -> Path:
        return self.ctx.state / "tmp" / self.load_id

    @property
    def wanted(self) -> list[list[Any]]:
        """Path, digest and size of every file the source means now."""
        return [list(item) for item in self.step.config["files"]]

    def contract_changed(self) -> bool:
        """Whether the table's rows were held to another contract; such a table is made anew from its files.

        Raises `ContractError` if rows would be lost: the table is appended to, and one of its files is not there.
        """
        last = self.ctx.ledger.read("loads", "where source = ? order by load_id desc limit 1", [self.source])
        if not last or last[0]["contract"] == self.step.config["contract"] or not self._there():
            return False
        gone = sorted(set(self.ctx.ledger.loaded_files(self.source)) - {path for path, _, _ in self.wanted})
        if gone and self.step.config["load"] == "append":  # a replaced table never held on to its files
            raise ContractError(
                f"the contract of {self.source} has changed, but its file {gone[0]} is no longer there to reload",
                hint="bring the file back, or undo the change",
            )
        return True

    def changed_set(self) -> list[list[Any]]:
        """All files, for a table that is made anew; none if it holds exactly these files under this contract."""
        known = self.ctx.ledger.loaded_files(self.source)
        latest = max((file.load_id for file in known.values()), default=None)
        held = {file.path: file.digest for file in known.values() if file.load_id == latest}
        same = held == {path: digest for path, digest, _ in self.wanted}
        return [] if same and self._there() and not self.contract_changed() else self.wanted

    def new_files(self) -> list[list[Any]]:
        """Files that no load has read yet; all of them if the table is not there."""
        known = self.ctx.ledger.loaded_files(self.source) if self._there() else {}
        for path, digest, _ in self.wanted:
            if path in known and known[path].digest != digest:
                raise SourceError(
                    f"{path} has changed since load {known[path].load_id}; appending it would load its old rows twice",
                    hint="give new data a new file name, or set `load: replace`",
                )
        return [item for item in self.wanted if item[0] not in known]

    def carry_out(self, warehouse: FileLoader, new: list[list[Any]], *, replace: bool) -> LoadCounts:
        """Rows, quarantine and ledger in one transaction."""
        root, declared = self.ctx.root, self.step.config["format"]
        by_format = files.readable([root / path for path, _, _ in new], self.scratch, declared)
        requests = [
            self._request(format_, paths, replace=replace and index == 0)
            for index, (format_, paths) in enumerate(sorted(by_format.items()))
        ]
        before = self._latest()
        with self.ctx.observed(f"loading {self.source}"), ExitStack() as stack:
            loads = [stack.enter_context(warehouse.staged(request, self.ctx.progress)) for request in requests]
            with self.ctx.warehouse.transaction():
                if self._latest() != before:  # where writers take no turns, another load may have come first
                    raise TransientError(
                        f"another process has just loaded {self.source}", hint="run the same command again"
                    )
                counts = sum((load() for load in loads), LoadCounts(0, 0, 0))
                self._record(new, counts, "replace" if replace else "append")
        return counts

    def _latest(self) -> str | None:
        rows = self.ctx.ledger.read("loads", "where source = ? order by load_id desc limit 1", [self.source])
        return rows[0]["load_id"] if rows else None

    def located(self, exc: UserError) -> UserError:
        """The error at the source's line in the user's project, without the name of our scratch folder."""
        file, _, line = self.step.where.rpartition(":")
        what = exc.what.replace(f"{self.scratch}/", "").replace(f"{self.ctx.root}/", "")
        return type(exc)(what, file=file, line=int(line), hint=exc.hint)

    def _there(self) -> bool:
        return bool(self.ctx.warehouse.columns(self.relation))

    def _request(self, format_: files.Format, paths: list[str], *, replace: bool) -> LoadRequest:
        config = self.step.config
        return LoadRequest(
            name=self.source,
            target=self.relation,
            columns=tuple((name, type_) for name, type_ in config["contract"]),
            scan=FileScan(tuple(paths), format_, tuple(config["null_values"]), config["delimiter"]),
            quarantine=self.ctx.ledger.relation("quarantine"),
            load_id=self.load_id,
            loaded_at=self.started_at,
            replace=replace,
        )

    def _record(self, new: list[list[Any]], counts: LoadCounts, mode: str) -> None:
        if counts.read != counts.loaded + counts.quarantined:
            raise EngineError(f"{self.source}: the counts of the load do not add up: {counts}")
        row = {
            "load_id": self.load_id,
            "run_id": self.ctx.run_id,
            "source": self.source,
            "relation": str(self.relation),
            "mode": mode,
            "contract": self.step.config["contract"],
            "rows_read": counts.read,
            "rows_loaded": counts.loaded,
            "rows_quarantined": counts.quarantined,
            "started_at": self.started_at,
            "finished_at": self.ctx.now(),
        }
        self.ctx.ledger.add("loads", [row])
        read = {"load_id": self.load_id, "source": self.source}
        self.ctx.ledger.add("load_files", [{**read, "path": p, "digest": d, "size": s} for p, d, s in new])


def _result(relation: Relation, counts: LoadCounts | None, files_read: int) -> StepResult:
    output: dict[str, Any] = {"relation": [relation.schema, relation.name]}
    if counts is None:
        return StepResult(output, "no new files")
    output.update(read=counts.read, loaded=counts.loaded, quarantined=counts.quarantined, files=files_read)
    summary = f"{counts.read:,} rows read = {counts.loaded:,} loaded + {counts.quarantined:,} quarantined"
    return StepResult(output, summary)
