"""A load on Snowflake: rows that DuckDB has read and judged are brought there, then moved within the transaction.

A statement that makes a table commits what is open, so everything is made in `staged`, outside the transaction: the
target, and temporary tables that go with the session. A kill at any moment leaves the target ready and without a row
of the load; the one exception is a replaced table whose columns changed, which one statement swaps together with its
new rows: its ledger row follows, and killed between the two the next run does both again.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.warehouse import landing
from trunkline.warehouse.broken import broken
from trunkline.warehouse.landing import Brought
from trunkline.warehouse.load import LoadCounts, LoadRequest
from trunkline.warehouse.protocol import Tell
from trunkline.warehouse.snowflake_load_sql import Landed
from trunkline.warehouse.snowflake_merge_sql import Changes
from trunkline.warehouse.snowflake_target import Target

if TYPE_CHECKING:
    from trunkline.warehouse.snowflake import Snowflake

_EXAMPLES = 3


@contextlib.contextmanager
def staged(warehouse: Snowflake, request: LoadRequest, tell: Tell) -> Iterator[Callable[[], LoadCounts]]:
    """What `Loader.staged` promises: files → Parquet → stage → temporary table; what is given moves them from there."""
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="load-", dir=warehouse.engine().scratch()))
        load = _Load(warehouse, request)
        brought = load.read(Path(scratch) / "files", tell)
        rows = load.bring(brought, stack.enter_context(warehouse.temporary("table")), tell)
        changes = None
        if request.contract.key:
            changes = load.change(rows, stack.enter_context(warehouse.temporary("table")))
        load.rebuild(changes or rows)
        yield lambda: load.move(rows, changes or rows)


class _Load:
    """One load, step by step; all but the last before the transaction."""

    def __init__(self, warehouse: Snowflake, request: LoadRequest) -> None:
        self._on = warehouse
        self._request = request
        self._target = Target(warehouse, request)
        self._rebuilds = self._updates = False
        self._counts = LoadCounts(0, 0, 0)

    def read(self, folder: Path, tell: Tell) -> Brought:
        """The rows, judged, in files on this machine."""
        request, engine = self._request, self._on.engine()
        tell(f"reading {request.name}")
        brought = landing.land(engine, request, self._target.contract(), folder)
        if request.contract.policy == "fail" and (found := landing.misfits(engine, brought))[0]:
            raise broken(request.name, *found)
        if request.contract.policy == "evolve":
            brought = landing.widened(engine, brought, request.load_id, self._target.loses)
        return brought

    def bring(self, brought: Brought, table: str, tell: Tell) -> Landed:
        """The files into a landing table, and the target ready for them."""
        policy = self._request.contract.policy
        self._rebuilds = self._target.ready(brought.contract.types)
        landed = Landed(table, brought.contract.types)
        self._on.execute(landed.create())
        self._on.upload(brought.files, table, tell)
        read, bad, deleted, updates = (int(count) for count in self._on.query(landed.count())[0])
        if bad and policy == "fail":  # for Snowflake's types
            raise broken(self._request.name, bad, [str(row[0]) for row in self._on.query(landed.examples(_EXAMPLES))])
        self._counts = LoadCounts(read, read - bad, bad, deleted, brought.evolved)
        self._updates = bool(updates)
        return landed

    def change(self, landed: Landed, table: str) -> Changes:
        """What becomes of each key, in a table of its own."""
        contract = self._request.contract
        mark = contract.mark.name if contract.mark else None
        changes = Changes(table, landed, contract.key, contract.order, self._updates, mark)
        self._on.execute(changes.create())
        return changes

    def rebuild(self, rows: Landed | Changes) -> None:
        """A replaced table whose columns changed, in one statement: readers see the old table or the new one."""
        if self._rebuilds:
            select = rows.select(self._request.load_id, self._request.loaded_at)
            self._on.execute(f"create or replace table {self._target.sql} copy grants as {select}")

    def move(self, landed: Landed, rows: Landed | Changes) -> LoadCounts:
        """Within the transaction: rows into the target and the quarantine."""
        request, target = self._request, self._target.sql
        if not self._rebuilds:
            mark = request.contract.mark
            if request.truncate and not request.replace and mark is not None:
                self._on.execute(f"update {target} set {self._on.quote(mark.name)} = true")
            elif request.truncate or request.replace:
                self._on.execute(f"delete from {target}")
            for statement in rows.apply(target, request.load_id, request.loaded_at):
                self._on.execute(statement)
        if self._counts.quarantined:
            quarantine, name = self._on.sql(request.quarantine), request.name
            statement = landed.quarantine(quarantine, table=name, load_id=request.load_id, at=request.loaded_at)
            self._on.execute(statement)
        return self._counts
