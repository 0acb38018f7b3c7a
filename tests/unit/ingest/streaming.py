"""What stands in for a load in tests of stream connectors: the scans of each batch are read by a real DuckDB."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.ingest.protocol import Batch, Reach, Since, Table
from trunkline.project.secrets import Secrets
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.load import REST, Column, Contract, QueryScan
from trunkline.warehouse.relation import Relation


def table(name: str = "t", *, load: str = "append", key: Sequence[str] = (), **options: Any) -> Table:
    """A table of source `s` with the columns a and b."""
    contract = Contract((Column("a", "BIGINT"), Column("b", "VARCHAR")), key=tuple(key))
    return Table(f"s.{name}", Relation("raw", name), contract, load, options)


@dataclass
class World:
    """Tables as the batches so far have made them, and the cursor after them."""

    root: Path
    tables: tuple[Table, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    held: dict[str, list[Any]] = field(default_factory=dict)
    cursor: Mapping[str, Any] | None = None
    told: list[str] = field(default_factory=list)
    loads: list[dict[str, int]] = field(default_factory=list)
    contracts: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.root / "scratch").mkdir(parents=True, exist_ok=True)
        self.reader: DuckDB = open_duckdb({"path": ":memory:"}, self.root)
        self.reader.execute("set preserve_insertion_order = true")  # as a load with a key has it
        self.secrets = Secrets(self.root, self.environ)

    def reach(self) -> Reach:
        """What a connector is made with."""
        return Reach(
            name="s",
            tables=self.tables,
            config={},
            root=self.root,
            scratch=self.root / "scratch",
            warehouse=self.reader,
            reader=lambda: self.reader,
            secret=self.secrets.resolve,
            progress=lambda text, done=None: self.told.append(text),
            now=lambda: dt.datetime.now(dt.UTC),
        )

    def since(self, refresh: bool = False) -> Since:
        """What the batches so far have left, as the driver tells it."""
        there = frozenset(self.held)
        anew = refresh or len(there) < len(self.tables)
        return Since(None if anew else self.cursor, contracts=self.contracts, refresh=anew, tables=there)

    def load(self, batches: Iterator[Batch], most: int | None = None) -> None:
        """Commit the batches, or the first of them: afterwards it is as if the process had been killed."""
        for number, batch in enumerate(batches, start=1):
            self._commit(batch)
            if number == most:
                batches.close()  # type: ignore[attr-defined]  # generators
                return

    def _commit(self, batch: Batch) -> None:
        load: dict[str, int] = {}
        for piece in batch.pieces:
            if piece.replace or piece.truncate:
                self.held[piece.table] = []
            assert isinstance(piece.scan, QueryScan)
            found = self.rows(piece.scan)
            self.held.setdefault(piece.table, []).extend(found)
            load[piece.table] = load.get(piece.table, 0) + len(found)
            contract = next(t.contract for t in self.tables if t.source == piece.table)
            self.contracts[piece.table] = [column.to_json() for column in contract.columns]
        self.cursor = batch.cursor if batch.cursor is not None else self.cursor
        json.dumps(self.cursor)
        self.loads.append(load)

    def rows(self, scan: QueryScan) -> list[Any]:
        """The rows of a scan, in order: JSON as data, columns as dicts; taken apart, without NULLs."""
        found = self.reader.query(scan.sql)
        if scan.shape == "json":
            return [json.loads(line) for (line,) in found]
        names = [name for name, _ in self.reader.describe(scan.sql)]
        rows = [dict(zip(names, row, strict=True)) for row in found]
        if scan.shape == "columns":
            return rows
        return [_whole(row) for row in rows]


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    rest = json.loads(row.pop(REST) or "{}")
    nested = {name: json.loads(value) for name, value in row.items() if str(value)[:1] in ("[", "{")}
    return {name: value for name, value in (row | nested | rest).items() if value is not None}
