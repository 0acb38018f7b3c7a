"""Writing and reading the ledger through any warehouse."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trunkline.errors import EngineError
from trunkline.graph.plan import Past
from trunkline.ledger.ids import new_id
from trunkline.ledger.schema import SCHEMA, TABLES, relation
from trunkline.warehouse.protocol import Records, Turns, Warehouse
from trunkline.warehouse.relation import Relation


@dataclass(frozen=True)
class LoadedFile:
    """A file some load has read: its path, its digest, and the load."""

    path: str
    digest: str
    load_id: str


@dataclass(frozen=True)
class StepEnd:
    """How a step ended: `status` is done or failed; done has a fingerprint, its parts and an output."""

    step: str
    kind: str
    status: str
    fingerprint: str
    parts: Mapping[str, Any]
    output: Mapping[str, Any]
    error: str | None
    started_at: dt.datetime
    finished_at: dt.datetime


class Ledger:
    """The ledger of one warehouse. Its tables are made at the first write; before that everything reads as empty.

    Writes join the caller's transaction if one is open. Same thread rules as the warehouse.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._there: set[str] | None = None

    # -- writing

    def prepare(self) -> bool:
        """Make the ledger's schema and tables if they are not there. Outside a transaction: tables are made before.

        Whether there was no ledger before.
        """
        there = self._tables()
        if not set(TABLES) - there:
            return False
        with self._warehouse.transaction() if self._within else nullcontext():
            for table in sorted(TABLES):  # all of them: a ledger that lacks one is older, and may lack columns too
                self._records().create(relation(table), TABLES[table])
        self._there = there | set(TABLES)
        return not there

    def begin(self) -> bool:
        """`prepare`, except that a first ledger is left to `transaction`, where that can make it: one commit less."""
        return True if self._within and not self._tables() else self.prepare()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The warehouse's, with the ledger's tables there: made in it where it can hold that, else before it."""
        if not self._within:
            self.prepare()
        try:
            with self._warehouse.transaction():
                self.prepare()
                yield
        except BaseException:
            self._there = None  # what was made in it is gone with it
            raise

    @property
    def _within(self) -> bool:
        """Whether tables can be made inside a transaction: a catalog with one writer does that."""
        return isinstance(self._warehouse, Turns)

    def complete(self, table: str) -> None:
        """Add the columns that a table of an older ledger lacks. Outside a transaction, as `prepare`."""
        self.prepare()
        there = {name.lower() for name, _ in self._warehouse.columns(relation(table))}
        if {name for name, _ in TABLES[table]} - there:
            self._records().create(relation(table), TABLES[table])

    def add(self, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows, given as column → value; JSON columns take plain data, columns left out are NULL."""
        if not rows:
            return
        self.prepare()
        columns = TABLES[table]
        values = [[_value(row.get(name), kind) for name, kind in columns] for row in rows]
        self._records().insert(relation(table), columns, values)

    def _records(self) -> Records:
        if not isinstance(self._warehouse, Records):
            raise EngineError(f"the {self._warehouse.name} warehouse cannot keep the ledger")
        return self._warehouse

    def finish_steps(self, run_id: str, ended: Sequence[StepEnd]) -> None:
        """One row for each step that ended, in one transaction."""
        rows = [{"step_run_id": new_id("step"), "run_id": run_id, **asdict(end)} for end in ended]
        if rows:
            with self.transaction():
                self.add("step_runs", rows)

    def finish_run(
        self, run_id: str, target: str, git_commit: str | None, status: str, started_at: dt.datetime
    ) -> None:
        """One row for a command that ran steps; `status` is done, failed or interrupted."""
        with self.transaction():
            row = {"run_id": run_id, "target": target, "git_commit": git_commit, "status": status}
            self.add("runs", [{**row, "started_at": started_at, "finished_at": dt.datetime.now(dt.UTC)}])

    def add_predictions(self, file: Path) -> int:
        """Append a spooled NDJSON file of predictions; those the ledger has already are passed over. Rows added."""
        self.complete("predictions")
        columns, key = TABLES["predictions"], "prediction_id"
        with (
            self._records().appending(relation("predictions"), columns, file, key=key) as append,
            self._warehouse.transaction(),
        ):
            return append()

    def supersede(self, source: str, load_id: str) -> None:
        """Rows quarantined by earlier loads of a table wait no more: `load_id` has read the whole source anew."""
        self._warehouse.execute(
            f"update {self.table('quarantine')} set resolved_by = ? "
            "where table_name = ? and resolved_by is null and load_id <> ?",
            [load_id, source, load_id],
        )

    def release(self, look_id: str, released: Mapping[str, Any]) -> None:
        """Keep with a look what was shown of it."""
        (row,) = self.read("looks", "where look_id = ?", [look_id])
        with self._warehouse.transaction():
            self._warehouse.execute(f"delete from {self.table('looks')} where look_id = ?", [look_id])
            self.add("looks", [{**row, "released": released}])

    # -- reading

    def table(self, name: str) -> str:
        """The quoted name of a ledger table."""
        return self._warehouse.sql(relation(name))

    def relation(self, name: str) -> Relation:
        """Where a ledger table lives."""
        return relation(name)

    def read(self, table: str, tail: str = "", parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows of a ledger table as dicts; `tail` is SQL from `where` on. Empty before the first write."""
        if table not in self._tables():
            return []
        kinds = TABLES[table]
        listed = ", ".join(self._warehouse.quote(name) for name, _ in kinds)
        rows = self._warehouse.query(f"select {listed} from {self.table(table)} {tail}", parameters)
        return [{name: _plain(value, type_) for (name, type_), value in zip(kinds, row, strict=True)} for row in rows]

    def past(self) -> dict[str, Past]:
        """The last success of every step."""
        rows = self.read(
            "step_runs",
            "where status = 'done' qualify row_number() over (partition by step order by step_run_id desc) = 1",
        )
        return {r["step"]: Past(r["fingerprint"], r["parts"] or {}, r["output"] or {}) for r in rows}

    def loaded_files(self, source: str) -> dict[str, LoadedFile]:
        """The files loaded into a source table, by path; the latest load of each."""
        rows = self.read("load_files", "where source = ? order by load_id", [source])
        return {r["path"]: LoadedFile(r["path"], r["digest"], r["load_id"]) for r in rows}

    def last_cursor(self, unit: str) -> dict[str, Any] | None:
        """The last batch of a unit: its `load_id`, and the `cursor` after it (None for a source that keeps none)."""
        rows = self.read("cursors", "where unit = ? order by load_id desc limit 1", [unit])
        return rows[0] if rows else None

    def last_contract(self, source: str) -> list[Any] | None:
        """The contract that a source table's last load was held to."""
        rows = self.read("loads", "where source = ? order by load_id desc limit 1", [source])
        return rows[0]["contract"] if rows else None

    def load_ids(self, sources: Sequence[str]) -> tuple[str, ...]:
        """The loads whose rows the given source tables hold now, oldest first."""
        rows = self.read("loads", "order by load_id")
        found: dict[str, list[str]] = {source: [] for source in sources}
        for row in rows:
            if row["source"] in found:
                if row["mode"] == "replace":
                    found[row["source"]].clear()
                found[row["source"]].append(row["load_id"])
        return tuple(sorted(load_id for ids in found.values() for load_id in ids))

    def _tables(self) -> set[str]:
        if self._there is None:
            self._there = {name for schema, name in self._warehouse.relations() if schema == SCHEMA}
        return self._there


def _value(value: Any, kind: str) -> Any:
    return json.dumps(value, default=str) if kind == "json" and value is not None else value


def _plain(value: Any, kind: str) -> Any:
    return json.loads(value) if kind == "json" and isinstance(value, str) else value
