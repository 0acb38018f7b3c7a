"""A folder of files, the source that reads them and a DuckDB, loaded by the real driver."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from trunkline.context import Job, StepContext
from trunkline.ingest import files, run
from trunkline.ingest.steps import ingest_step, polled
from trunkline.ledger.ledger import Ledger
from trunkline.project.connectors import FilesOptions
from trunkline.project.contracts import Column
from trunkline.project.files import digests
from trunkline.project.secrets import Secrets
from trunkline.project.sources import SourceTable, SourceUnit
from trunkline.warehouse.duckdb import DuckDB, open_duckdb

COLUMNS = (("a", "BIGINT"), ("b", "VARCHAR"))


@dataclass
class Depot:
    """Files below `root`, and what was loaded of them into `raw.t`."""

    root: Path
    lake: DuckDB
    columns: tuple[tuple[str, str], ...] = COLUMNS
    environ: Mapping[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def write(self, name: str, data: str | bytes) -> Path:
        """A file of the depot."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def table(self, path: str, **options: Any) -> SourceTable:
        """The source as sources.yml declares it."""
        given = {"connector": "files", "path": path, **options}
        contract = tuple(Column(name, type_, 5) for name, type_ in self.columns)
        parsed = msgspec.convert(given, FilesOptions)
        return SourceTable("s", "t", None, "raw", contract, parsed, self.root / "models/s.yml", 3, 4)

    def job(self, path: str, *, refresh: bool = False, **options: Any) -> Job:
        """The step, as planned now."""
        table = self.table(path, **options)
        unit = SourceUnit(table.key, (table,))
        found = () if polled(unit) else digests(self.root, files.find(self.root, table))
        return Job(ingest_step(unit, found), "", {}, refresh)

    def ingest(self, path: str, *, refresh: bool = False, **options: Any) -> dict[str, int]:
        """Plan and load; the counts, empty where nothing was new. What is read is loaded or in the quarantine."""
        return self.run(self.job(path, refresh=refresh, **options))

    def run(self, job: Job) -> dict[str, int]:
        """Load."""
        before = self.quarantined()
        ledger = Ledger(self.lake)
        secrets = Secrets(self.root, self.environ)
        context = StepContext(
            root=self.root,
            run_id="run",
            target="dev",
            warehouse=self.lake,
            ledger=ledger,
            registry=NotImplemented,
            progress=lambda text, done=None: self.told.append(text),
            vault_key=NotImplemented,
            secrets=secrets,
            who="test",
            git_commit=lambda: None,
        )
        output = run.run(job, context).output
        self.notes = list(output.get("notes", ()))
        counts = {name: int(output.get(name, 0)) for name in ("read", "loaded", "quarantined")}
        assert counts["read"] == counts["loaded"] + counts["quarantined"]
        assert self.quarantined() - before == counts["quarantined"]
        assert not list((self.root / ".trunkline" / "tmp").glob("*"))
        return counts

    def rows(self) -> list[tuple[Any, ...]]:
        """The table's rows, in order."""
        names = ", ".join(f'"{name}"' for name, _ in self.columns)
        return self.lake.query(f"select {names} from raw.t order by all")

    def quarantined(self) -> int:
        """How many rows are in the quarantine."""
        there = ("trunkline", "quarantine") in self.lake.relations()
        return int(self.lake.query("select count(*) from trunkline.quarantine")[0][0]) if there else 0

    def reasons(self) -> list[str]:
        """Why rows are in the quarantine."""
        found = self.lake.query("select cast(errors as varchar) from trunkline.quarantine")
        return sorted(error["reason"] for (errors,) in found for error in json.loads(errors))

    def ledger_files(self) -> list[str]:
        """The files that the ledger knows."""
        return [str(path) for (path,) in self.lake.query("select path from trunkline.load_files order by path")]


@contextmanager
def depot(root: Path) -> Iterator[Depot]:
    """An empty one."""
    lake = open_duckdb({"path": ":memory:"}, root)
    try:
        yield Depot(root, lake)
    finally:
        lake.close()
