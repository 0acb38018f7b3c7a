"""Rows of several tables on their way into a batch: in memory, or in Parquet files once they are many."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from trunkline.ingest.blocks import Block, Shape
from trunkline.ledger.ids import new_id
from trunkline.warehouse.load import QueryScan
from trunkline.warehouse.load_sql import literal
from trunkline.warehouse.protocol import SourceReader


@dataclass
class _Run:
    """Rows of one table with one layout, in the order they came: those in the file first."""

    shape: Shape
    schema: pa.Schema
    truncate: bool
    blocks: list[pa.Table] = field(default_factory=list)
    file: Path | None = None
    writer: Any = None

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return sum(block.nbytes for block in self.blocks)

    def spill(self, scratch: Path) -> None:
        """Move what is in memory to the file, one row group a block."""
        import pyarrow.parquet as pq

        if self.file is None:
            self.file = scratch / f"{new_id('rows')}.parquet"
            # plain and fast: the file is read once, in a moment
            self.writer = pq.ParquetWriter(
                self.file, self.schema, compression="lz4", use_dictionary=False, write_statistics=False
            )
        for block in self.blocks:
            self.writer.write_table(block, row_group_size=max(1, block.num_rows))
        self.blocks.clear()

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self.writer is not None:
            self.writer.close()
            self.writer = None


class Gathered:
    """Rows by table. `bytes` are those in memory, `size` all of them."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._runs: dict[str, list[_Run]] = {}
        self.bytes = 0
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, block: Block, *, ordered: bool) -> None:
        """Add a block. Where the order of rows matters, rows of one layout do not move past those of another."""
        runs = self._runs.setdefault(block.table, [])
        run = _joinable(runs, block, ordered)
        if run is None or block.truncate:
            run = _Run(block.shape, block.rows.schema, block.truncate)
            runs.append(run)
        if block.rows.num_rows:
            run.blocks.append(block.rows)
        self.bytes += block.rows.nbytes
        self.size += block.rows.nbytes

    def extend(self, other: Gathered) -> None:
        """Take over what another holds, behind what is here."""
        for table, runs in other._runs.items():
            mine = self._runs.setdefault(table, [])
            for run in runs:
                last = mine[-1] if mine else None
                if last is not None and run.file is None and not run.truncate and _alike(last, run.shape, run.schema):
                    last.blocks += run.blocks
                else:
                    mine.append(run)
        self.bytes += other.bytes
        self.size += other.size
        other._runs, other.bytes, other.size = {}, 0, 0

    def spill(self) -> None:
        """Move all that is in memory to files."""
        for run in self._all():
            if run.blocks:
                run.spill(self._scratch)
        self.bytes = 0

    def scans(self, reader: SourceReader, stack: ExitStack) -> dict[str, list[tuple[QueryScan, bool]]]:
        """What each table holds, as scans in order, each with whether all rows before it are gone. Good while `stack`
        is."""
        return {
            table: [(_scan(run, reader, stack, self._scratch), run.truncate) for run in runs]
            for table, runs in self._runs.items()
        }

    def clear(self) -> None:
        """Forget all, and remove the files."""
        for run in self._all():
            run.close()
            if run.file is not None:
                run.file.unlink(missing_ok=True)
        self._runs, self.bytes, self.size = {}, 0, 0

    def _all(self) -> Iterator[_Run]:
        for runs in self._runs.values():
            yield from runs


def digest(reader: SourceReader, scans: Sequence[QueryScan]) -> str:
    """A hash of rows that neither their order nor their division changes."""
    rows = total = 0
    layouts = set()
    for scan in scans:
        # which types objects that were taken apart have depends on where one block ended
        sql = f"select columns(*)::varchar from ({scan.sql})" if scan.shape == "apart" else scan.sql
        ((count, hashes),) = reader.query(f"select count(*), sum(hash(t)::hugeint) from ({sql}) t")
        layouts.add(str(reader.describe(sql)))
        rows += int(count)
        total += int(hashes or 0)
    return f"{rows}:{total % 2**128:032x}:{'|'.join(sorted(layouts))}"


def _joinable(runs: list[_Run], block: Block, ordered: bool) -> _Run | None:
    for run in reversed(runs):
        if _alike(run, block.shape, block.rows.schema):
            return run
        if ordered or run.truncate:
            return None
    return None


def _alike(run: _Run, shape: Shape, schema: pa.Schema) -> bool:
    return run.shape == shape and bool(run.schema.equals(schema))


def _scan(run: _Run, reader: SourceReader, stack: ExitStack, scratch: Path) -> QueryScan:
    if run.file is None:
        rows = stack.enter_context(reader.handed(pa.concat_tables(run.blocks or [run.schema.empty_table()])))
    else:
        run.spill(scratch)
        run.close()
        rows = f"read_parquet({literal(str(run.file))})"
    return QueryScan(f"select * from {rows}", shape=run.shape)
