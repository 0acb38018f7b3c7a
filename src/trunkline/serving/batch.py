"""Batch scoring: the rows of a relation, each with its score, into a table that holds one row a key.

A batch is written in one transaction, and takes the place of what earlier batches wrote for the same keys: scoring
again doubles nothing, and a join on the key finds the latest score. Rows of other keys stay. Each row names its batch.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.context import StepContext
from trunkline.errors import DatasetError, EngineError, did_you_mean
from trunkline.ledger.ids import new_id
from trunkline.models.answer import LIST, columns
from trunkline.models.signature import Signature
from trunkline.models.task import Task
from trunkline.warehouse.protocol import ArrowReader, FunctionHost, Records
from trunkline.warehouse.relation import Relation

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from trunkline.models.bundle import Bundle

__all__ = ["BatchRequest", "BatchResult", "score_here", "score_in_warehouse"]

_OF_BATCH = (
    ("model", "VARCHAR"),
    ("sha256", "VARCHAR"),
    ("scored_at", "TIMESTAMP WITH TIME ZONE"),
    ("batch_id", "VARCHAR"),
)
_PIECE = 8_192  # rows a thread encodes and scores at a time


@dataclass(frozen=True)
class BatchRequest:
    """Rows of `source` (those for which the SQL `condition` holds) into `output`, named by the column `key`."""

    source: Relation
    key: str
    output: Relation
    reference: str
    condition: str | None = None


@dataclass(frozen=True)
class BatchResult:
    """What was written."""

    batch_id: str
    output: Relation
    rows: int
    seconds: float
    scored_at: datetime


def score_here(request: BatchRequest, bundle: Bundle, ctx: StepContext) -> BatchResult:
    """Read the rows as Arrow, score them in this process, and write the scores back. Memory does not grow with rows.

    Raises `DatasetError` for a relation or an output that does not fit. After that or a kill the output is as it was.
    """
    from trunkline.models.runtime import Scorer

    batch = _Batch(request, bundle, ctx)
    if not isinstance(ctx.warehouse, ArrowReader):
        raise EngineError(
            f"the {ctx.warehouse.name} warehouse hands over no Arrow", hint="score it with --in-warehouse"
        )
    total = batch.count_rows()
    with tempfile.TemporaryDirectory(prefix="trunkline-") as scratch:
        file = Path(scratch) / "scores.parquet"
        with closing(ctx.warehouse.read_arrow(batch.rows_sql())) as reader:
            batch.write_scores(reader, Scorer(bundle), file, total)
        ctx.progress(f"writing {request.output}")
        with batch.records.appending(request.output, batch.columns, file) as append:
            return batch.commit(append, in_warehouse=False)


def score_in_warehouse(request: BatchRequest, bundle: Bundle, function: Relation, ctx: StepContext) -> BatchResult:
    """Let the warehouse score the rows with `function`, the bundle as a SQL function: one INSERT … SELECT.

    Raises as `score_here` does.
    """
    batch = _Batch(request, bundle, ctx)
    batch.count_rows()
    with ctx.observed(f"scoring {request.source} in the warehouse"):
        return batch.commit(lambda: ctx.warehouse.execute(*batch.insert_sql(function)), in_warehouse=True)


class _Batch:
    """One batch, from the check of its columns to its row in the ledger."""

    def __init__(self, request: BatchRequest, bundle: Bundle, ctx: StepContext) -> None:
        if not isinstance(ctx.warehouse, Records):
            raise EngineError(f"the {ctx.warehouse.name} warehouse cannot keep scores")
        self._request, self._bundle, self._ctx = request, bundle, ctx
        self._clock, self._scored_at, self._id = time.perf_counter(), ctx.now(), new_id("batch")
        self.records: Records = ctx.warehouse
        self._task = bundle.signature.task
        # a warehouse without lists keeps several numbers as JSON
        told = [(name, self.records.several() if type_ == LIST else type_) for name, type_ in columns(self._task)]
        self.columns = ((request.key, _checked_columns(request, bundle, ctx)), *told, *_OF_BATCH)
        _check_output(request, self.columns, ctx)
        ctx.ledger.prepare()

    @cached_property
    def _values(self) -> list[Any]:
        """What is the same in every row of the batch, in the order of the output's last columns."""
        return [self._request.reference, self._bundle.sha256, self._scored_at, self._id]

    def _from(self) -> str:
        condition = f" where ({self._request.condition})" if self._request.condition else ""
        return f"{self._ctx.warehouse.sql(self._request.source)}{condition}"

    def _listed(self, names: Iterator[str] | list[str]) -> str:
        return ", ".join(map(self._ctx.warehouse.quote, names))

    def count_rows(self) -> int:
        """How many rows there are to score. Raises `DatasetError` unless every one has a key of its own."""
        return self._distinct(self._from(), str(self._request.source))

    def _distinct(self, rows: str, where: str) -> int:
        key = self._ctx.warehouse.quote(self._request.key)
        counted = f"select count(*), count({key}), count(distinct {key}) from {rows}"
        total, there, distinct = (int(count) for count in self._ctx.warehouse.query(counted)[0])
        if distinct != total:
            what = f"null in {total - there:,}" if there < total else f"not unique in {total - distinct:,}"
            raise DatasetError(f"the key {self._request.key!r} is {what} of {total:,} rows of {where}")
        return total

    def rows_sql(self) -> str:
        """The rows to score: the key, then the model's inputs in order."""
        return f"select {self._listed([self._request.key, *self._bundle.signature.names])} from {self._from()}"

    def insert_sql(self, function: Relation) -> tuple[str, list[Any]]:
        """The statement that scores them where they are, and its parameters. `function` is of plain identifiers."""
        warehouse, key = self._ctx.warehouse, self._ctx.warehouse.quote(self._request.key)
        call = f"{function}({self._listed([*self._bundle.signature.names])})"
        rows = f"select {key}, {call} as told from {self._from()}"
        assert isinstance(warehouse, FunctionHost)
        told = ", ".join(_told_sql(self._task, warehouse))
        return (
            f"insert into {warehouse.sql(self._request.output)} ({self._listed([name for name, _ in self.columns])}) "
            f"select {key}, {told}, ?, ?, ?, ? from ({rows}) scored"
        ), self._values

    def write_scores(self, reader: pa.RecordBatchReader, scorer: Any, file: Path, total: int) -> None:
        """Score batch by batch, into a Parquet file of the output's columns."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        own = {"DOUBLE": pa.float64(), "VARCHAR": pa.string(), LIST: pa.list_(pa.float64())}
        told = [own[type_] for _, type_ in columns(self._task)]
        of_batch = [own.get(type_, pa.timestamp("us", tz="UTC")) for _, type_ in _OF_BATCH]
        types = [reader.schema.types[0], *told, *of_batch]
        schema = pa.schema(list(zip((name for name, _ in self.columns), types, strict=True)))
        done = 0
        with pq.ParquetWriter(file, schema, compression="zstd") as out, _workers(self._ctx.threads) as each:
            for batch in reader:
                pieces = [batch.slice(start, _PIECE) for start in range(0, len(batch), _PIECE)]
                scores = list(each(lambda piece: scorer.score_columns(_inputs(piece)), pieces))
                answers = _told(self._task, np.concatenate(scores)) if scores else [pa.array([], t) for t in told]
                same = [pa.repeat(pa.scalar(v, t), len(batch)) for v, t in zip(self._values, of_batch, strict=True)]
                out.write_table(pa.table([batch.column(0), *answers, *same], schema=schema))
                done += len(batch)
                self._ctx.progress(f"scoring {self._request.source}", min(1.0, done / max(1, total)))

    def commit(self, insert: Callable[[], int], *, in_warehouse: bool) -> BatchResult:
        """Insert the batch, take out what it replaces, and record it: all of it or nothing."""
        request, warehouse = self._request, self._ctx.warehouse
        self.records.create(request.output, self.columns)
        output, key, id_ = warehouse.sql(request.output), warehouse.quote(request.key), warehouse.quote("batch_id")
        with warehouse.transaction():
            rows = insert()
            self._distinct(f"{output} where {id_} = '{self._id}'", str(request.output))
            mine = f"select {key} from {output} where {id_} = '{self._id}'"
            warehouse.execute(f"delete from {output} where {id_} <> '{self._id}' and {key} in ({mine})")
            seconds = time.perf_counter() - self._clock
            self._ctx.ledger.add("batches", [self._record(rows, seconds, in_warehouse)])
        return BatchResult(self._id, request.output, rows, seconds, self._scored_at)

    def _record(self, rows: int, seconds: float, in_warehouse: bool) -> dict[str, Any]:
        return {
            "batch_id": self._id,
            "reference": self._request.reference,
            "sha256": self._bundle.sha256,
            "relation": str(self._request.source),
            "condition": self._request.condition,
            "output": str(self._request.output),
            "in_warehouse": in_warehouse,
            "row_count": rows,
            "seconds": seconds,
            "who": self._ctx.who,
            "scored_at": self._scored_at,
        }


def _checked_columns(request: BatchRequest, bundle: Bundle, ctx: StepContext) -> str:
    """The type of the key. Raises `DatasetError` unless the relation has the key and every input, of its kind."""
    there = {name.lower(): type_ for name, type_ in ctx.warehouse.columns(request.source)}
    if not there:
        known = [f"{schema}.{name}" for schema, name in ctx.warehouse.relations()]
        raise DatasetError(
            f"there is no table {request.source}.{did_you_mean(str(request.source), known)}",
            hint="`trunkline run` builds the project's; --on names another",
        )
    wanted = {field.name: field for field in bundle.signature.inputs}
    missing = [name for name in (request.key, *wanted) if name.lower() not in there]
    if missing:
        listed = ", ".join(map(repr, missing))
        raise DatasetError(
            f"{request.source} lacks {listed}, which {request.reference} needs.{did_you_mean(missing[0], there)}",
            hint=f"it has: {', '.join(there)}",
        )
    given = Signature.from_schema([(name, there[name.lower()]) for name in wanted], target="")
    for field in given.inputs:
        if field.kind != wanted[field.name].kind:
            raise DatasetError(
                f"column {field.name!r} of {request.source} has type {there[field.name.lower()]}, but "
                f"{request.reference} takes a {wanted[field.name].kind} there",
                hint="cast it in the dbt model, or name another with --on",
            )
    return there[request.key.lower()]


def _check_output(request: BatchRequest, columns: tuple[tuple[str, str], ...], ctx: StepContext) -> None:
    """Raise `DatasetError` if the output is there and is something else than a table of such scores."""
    taken = [name for name, _ in columns[1:] if name.lower() == request.key.lower()]
    if taken:
        raise DatasetError(
            f"the key {request.key!r} has the name of a column of every table of scores",
            hint="rename the key in the dbt model, or score a view that does",
        )
    there = {name.lower(): type_ for name, type_ in ctx.warehouse.columns(request.output)}
    if not there:
        return
    for name, type_ in columns:
        if there.get(name.lower()) != type_:
            has = f"column {name!r} of type {there[name.lower()]}" if name.lower() in there else f"no column {name!r}"
            raise DatasetError(
                f"{request.output} has {has}: it is no table of scores by {request.key!r}",
                hint=f"name another with --into, or `drop table {request.output}` if it can go",
            )


def _told(task: Task, scores: npt.NDArray[np.float64]) -> list[pa.Array]:
    """Scores [n] or [n, k] as the columns that `models.answer.columns` names. What is not finite is null in a list."""
    import numpy as np
    import pyarrow as pa

    if scores.ndim == 1:
        return [pa.array(scores)]
    if task.kind == "quantile":
        return [pa.array(np.ascontiguousarray(column)) for column in scores.T]
    rows, width = scores.shape
    flat = pa.array(scores.ravel(), mask=~np.isfinite(scores.ravel()))
    several = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), flat)
    if task.kind == "custom":
        return [several]
    likely = scores.argmax(axis=1)
    return [pa.array(scores[np.arange(rows), likely]), pa.array(task.classes).take(pa.array(likely)), several]


def _told_sql(task: Task, warehouse: FunctionHost) -> list[str]:
    """The same columns as SQL, from the column `told` that holds what the function gave."""
    if task.width is None:
        return ["told"]
    each = [warehouse.number("told", place) for place in range(task.width)]
    if task.kind == "quantile":
        return each
    if task.kind == "custom":
        return ["told"]
    most = f"greatest({', '.join(each)})"
    names = (name.replace("'", "''") for name in task.classes)
    cases = " ".join(f"when {number} then '{name}'" for number, name in zip(each, names, strict=True))
    return [most, f"case {most} {cases} end", "told"]


def _inputs(piece: pa.RecordBatch) -> list[pa.ChunkedArray]:
    import pyarrow as pa

    return pa.Table.from_batches([piece]).columns[1:]  # type: ignore[no-any-return]


@contextmanager
def _workers(threads: int) -> Iterator[Callable[..., Any]]:
    """`map`, by as many threads."""
    if threads <= 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map
