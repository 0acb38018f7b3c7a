"""One ingest step: what a source has that is new, each batch in one transaction with quarantine and ledger."""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trunkline.context import Job, StepContext, StepResult
from trunkline.errors import EngineError, TransientError, TrunklineError
from trunkline.graph.step import Step
from trunkline.ingest.protocol import Batch, Piece, Reach, Since, Source, Table, open_source
from trunkline.ledger.ids import new_id
from trunkline.ledger.ledger import LoadedFile
from trunkline.warehouse.load import Column, Contract, LoadCounts, LoadRequest
from trunkline.warehouse.protocol import Loader, turn
from trunkline.warehouse.relation import Relation
from trunkline.warehouse.retry import again


def run(job: Job, ctx: StepContext) -> StepResult:
    """Load what is new. Killed at any moment it leaves whole batches only, and goes on from there the next time.

    Where another writer came first, or the source or the warehouse was away for a moment, it looks and loads again.
    """
    done = _Done()
    return again(lambda: _run(job, ctx, done), ctx.progress)


@dataclass
class _Done:
    """What the batches of all tries have brought: rows by table, and files."""

    counts: dict[str, LoadCounts] = field(default_factory=dict)
    files: int = 0

    def add(self, table: str, counts: LoadCounts) -> None:
        self.counts[table] = self.counts.get(table, LoadCounts(0, 0, 0)) + counts


def _run(job: Job, ctx: StepContext, done: _Done) -> StepResult:
    if not isinstance(ctx.warehouse, Loader):
        raise EngineError(f"the {ctx.warehouse.name} warehouse takes no loads")
    first = ctx.ledger.begin()
    ingest = _Ingest(job, ctx, ctx.warehouse, done)
    try:
        ingest.scratch.mkdir(parents=True)
        source = ingest.open()
        with turn(ctx.warehouse) if source.exclusive else nullcontext():
            since = ingest.since(first)
            with closing(source.batches(since)) as batches:  # type: ignore[type-var]  # generators, closed early
                for batch in batches:
                    ingest.commit(batch)
    except TrunklineError as exc:
        # without `exc` itself in the chain: its text may hold a secret
        raise ingest.located(exc).with_traceback(exc.__traceback__) from exc.__cause__
    finally:
        shutil.rmtree(ingest.scratch, ignore_errors=True)
    return ingest.result(getattr(source, "notes", ()))


def tables(config: Mapping[str, Any]) -> tuple[Table, ...]:
    """The tables of an ingest step's config."""
    return tuple(
        Table(
            source=item["source"],
            relation=Relation(**item["relation"]),
            contract=Contract(
                tuple(Column.from_json(column) for column in item["contract"]),
                tuple(item["key"]),
                item["deleted"],
                item["order"],
                item["policy"],
            ),
            load=item["load"],
            options=item["options"],
        )
        for item in config["tables"]
    )


def reach_of(step: Step, ctx: StepContext, loader: Loader, scratch: Path) -> Reach:
    """What the source of an ingest step may use."""
    return Reach(
        name=step.subject,
        tables=tables(step.config),
        config=step.config,
        root=ctx.root,
        scratch=scratch,
        warehouse=ctx.warehouse,
        reader=loader.reader,
        secret=ctx.secrets.resolve,
        progress=ctx.progress,
        now=ctx.now,
    )


class _Ingest:
    def __init__(self, job: Job, ctx: StepContext, warehouse: Loader, done: _Done) -> None:
        self._job = job
        self._ctx = ctx
        self._loader = warehouse
        self.tables = {table.source: table for table in tables(job.step.config)}
        self.scratch: Path = ctx.state / "tmp" / new_id("ingest")
        self._latest: str | None = None
        self._loaded: frozenset[str] = frozenset()
        self._done = done

    def open(self) -> Source:
        """The connector's source."""
        return open_source(reach_of(self._job.step, self._ctx, self._loader, self.scratch))

    def since(self, first: bool) -> Since:
        """What earlier loads left, by the ledger; the batches of this one begin from there. None did at the `first`."""
        ledger, warehouse = self._ctx.ledger, self._ctx.warehouse
        there = frozenset(name for name, table in self.tables.items() if warehouse.columns(table.relation))
        whole = len(there) == len(self.tables)
        if first:
            return Since(refresh=self._job.refresh or not whole, tables=there)
        last = self._last()
        self._latest = last["load_id"] if last else None
        files: dict[str, Mapping[str, LoadedFile]] = {name: ledger.loaded_files(name) for name in there}
        held = {name: contract for name in self.tables if (contract := ledger.last_contract(name)) is not None}
        self._loaded = frozenset(held)
        return Since(
            cursor=last["cursor"] if last and whole and not self._job.refresh else None,
            files=files,
            contracts={name: contract for name, contract in held.items() if name in there},
            refresh=self._job.refresh or not whole,
            tables=there,
        )

    def _last(self) -> dict[str, Any] | None:
        return self._ctx.ledger.last_cursor(self._job.step.subject)

    def commit(self, batch: Batch) -> None:
        """Rows, quarantine, files, cursor and ledger in one transaction; or what the source has in its place."""
        try:
            self._commit(batch)
        except TrunklineError as exc:
            other = batch.instead(exc) if batch.instead is not None else None
            if other is None:
                raise
            self._commit(other)

    def _commit(self, batch: Batch) -> None:
        if not batch.pieces and not batch.registered and batch.cursor is None:
            return
        load_id, at = new_id("load"), self._ctx.now()
        requests = [self._request(piece, load_id, at) for piece in batch.pieces]
        with self._ctx.observed(f"loading {self._job.step.subject}"), ExitStack() as stack:
            loads = [stack.enter_context(self._loader.staged(request, self._ctx.progress)) for request in requests]
            with self._ctx.ledger.transaction():
                last = self._last()
                if (last["load_id"] if last else None) != self._latest:
                    raise TransientError(
                        f"another process has just loaded {self._job.step.subject}", hint="run the same command again"
                    )
                counts = [load() for load in loads]
                if batch.check is not None:
                    batch.check()
                self._record(batch, last, load_id, self._rows(batch, counts, load_id, at))
        self._latest = load_id
        self._done.files += sum(len(piece.files) for piece in batch.pieces)
        for piece, count in zip(batch.pieces, counts, strict=True):
            self._done.add(piece.table, count)
        for table in batch.registered:
            self._done.add(table.table, LoadCounts(table.rows, table.rows, 0))

    def _request(self, piece: Piece, load_id: str, at: dt.datetime) -> LoadRequest:
        table = self.tables[piece.table]
        return LoadRequest(
            name=table.source,
            target=table.relation,
            contract=replace(table.contract, order=piece.order) if piece.order else table.contract,
            scan=piece.scan,
            quarantine=self._ctx.ledger.relation("quarantine"),
            load_id=load_id,
            loaded_at=at,
            replace=piece.replace,
            truncate=piece.truncate,
        )

    def _record(self, batch: Batch, last: Mapping[str, Any] | None, load_id: str, rows: Mapping[str, Any]) -> None:
        """The ledger's rows of a batch: cursor, loads, files. `last` is the batch before."""
        ledger, unit = self._ctx.ledger, self._job.step.subject
        kept = last["cursor"] if last else None
        cursor = batch.cursor if batch.cursor is not None else kept
        ledger.add("cursors", [{"load_id": load_id, "unit": unit, "cursor": cursor, "saved_at": self._ctx.now()}])
        ledger.add("loads", list(rows.values()))
        for name, row in rows.items():
            if row["mode"] == "replace":
                ledger.supersede(name, load_id)
        read = [
            {"load_id": load_id, "source": piece.table, "path": file.path, "digest": file.digest, "size": file.size}
            for piece in batch.pieces
            for file in piece.files
        ]
        ledger.add("load_files", read)

    def _rows(
        self, batch: Batch, counts: Sequence[LoadCounts], load_id: str, at: dt.datetime
    ) -> dict[str, dict[str, Any]]:
        """A row of `loads` for each table of a batch."""
        rows: dict[str, dict[str, Any]] = {}
        for piece, count in zip(batch.pieces, counts, strict=True):
            if count.read != count.loaded + count.quarantined:
                raise EngineError(f"{piece.table}: the counts of the load do not add up: {count}")
            row = rows.setdefault(piece.table, self._row(piece.table, load_id, at))
            if self._takes_the_place(piece):
                row["mode"] = "replace"
            row["rows_read"] += count.read
            row["rows_loaded"] += count.loaded
            row["rows_quarantined"] += count.quarantined
        for found in batch.registered:
            told = {"mode": "registered", "rows_read": found.rows, "rows_loaded": found.rows}
            rows[found.table] = self._row(found.table, load_id, at) | told
        return rows

    def _takes_the_place(self, piece: Piece) -> bool:
        """Whether nothing of earlier loads is left in the table; a first load takes nobody's place."""
        table = self.tables[piece.table]
        anew = piece.replace and (table.load.startswith("replace") or table.source in self._loaded)
        return anew or (piece.truncate and table.contract.mark is None)

    def _row(self, source: str, load_id: str, at: dt.datetime) -> dict[str, Any]:
        table = self.tables[source]
        return {
            "load_id": load_id,
            "run_id": self._ctx.run_id,
            "source": source,
            "relation": str(table.relation),
            "mode": "merge" if table.contract.key else "append",
            "connector": self._job.step.config["connector"],
            "contract": table.contract.to_json(),
            "rows_read": 0,
            "rows_loaded": 0,
            "rows_quarantined": 0,
            "started_at": at,
            "finished_at": self._ctx.now(),
        }

    def located(self, exc: TrunklineError) -> TrunklineError:
        """The error at the source's line in the user's project, without secrets and the name of our scratch folder."""
        file, _, line = self._job.step.where.rpartition(":")
        what = exc.what.replace(f"{self.scratch}/", "").replace(f"{self._ctx.root}/", "")
        hint = self._ctx.secrets.clean(exc.hint) if exc.hint else None
        place = (exc.file, exc.line) if exc.file else (file, int(line))
        return type(exc)(self._ctx.secrets.clean(what), file=place[0], line=place[1], hint=hint)

    def result(self, notes: Sequence[str] = ()) -> StepResult:
        """What this load left behind; `notes` are what the source has to say of it."""
        relations = [[table.relation.schema, table.relation.name] for table in self.tables.values()]
        output: dict[str, Any] = {"relation": relations[0], "relations": relations, "version": self._latest or ""}
        total = sum(self._done.counts.values(), LoadCounts(0, 0, 0))
        if notes:
            output["notes"] = list(notes)
        told = "".join(f"\n  {note}" for note in notes)
        if not self._done.counts:
            return StepResult(output, f"nothing new{told}")
        output.update(read=total.read, loaded=total.loaded, quarantined=total.quarantined, files=self._done.files)
        output["evolved"] = [list(column) for column in total.evolved]
        summary = f"{total.read:,} rows read = {total.loaded:,} loaded + {total.quarantined:,} quarantined"
        if total.deleted:
            summary += f" ({total.deleted:,} of them deletions)"
        return StepResult(output, summary + told)
