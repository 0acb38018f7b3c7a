"""One load of a project's sources, as `ingest` does it, without what a command asks before and records after it.

`run` is started by `ingesting.py` in a process that has imported this module. It counts the statements that the
warehouse is given, and the process kills itself before or after one of them if it is asked to.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import trunkline.ingest.archives  # what a load imports when it needs it: here before the fork
import trunkline.ingest.dlt_extract
import trunkline.ingest.dlt_rest
import trunkline.ingest.python
import trunkline.ingest.rest
import trunkline.ingest.sql_native
import trunkline.ingest.sql_sqlite  # noqa: F401
from trunkline.context import Job, StepContext
from trunkline.errors import TrunklineError
from trunkline.ingest import run as driver
from trunkline.ingest import streams
from trunkline.ledger.ledger import Ledger
from trunkline.orchestration.compile import compile_project
from trunkline.project.load import Project, load_project
from trunkline.project.secrets import Secrets
from trunkline.registry.protocol import Registry
from trunkline.warehouse.duckdb import DuckDB, open_duckdb

NAMES = {"before": signal.SIGKILL, "after": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}


def run(arguments: Sequence[str]) -> None:
    """`AT WHEN [refresh]`: load; at statement number AT be killed `before` or `after` it, or get SIGTERM (`term`) or
    SIGINT (`interrupt`) before it. The number of statements that it took is in the file `statements` at the end."""
    at, when, *more = arguments
    counted = _count(int(at), when)
    # a batch at each checkpoint
    streams.Limits = partial(streams.Limits, batch_bytes=1, block_bytes=1)  # type: ignore[misc, assignment]
    root = Path.cwd()
    shutil.rmtree(root / ".trunkline" / "tmp", ignore_errors=True)  # as a command does, once it is its turn
    try:
        _load(root, refresh="refresh" in more)
    except TrunklineError as exc:
        sys.exit(f"{type(exc).__name__}: {exc}")
    (root / "statements").write_text(str(counted[0]))


def _load(root: Path, *, refresh: bool) -> None:
    project = load_project(root, None)
    compiled = compile_project(project, parse=_nothing, best={}, kinds=("ingest",), versions={})
    warehouse = open_duckdb(project.target.settings, root)
    try:
        for step in compiled.graph:
            driver.run(Job(step, "", {}, refresh=refresh), _context(project, warehouse))
    finally:
        warehouse.close()


def _count(at: int, when: str) -> list[int]:
    """Count the warehouse's statements from now on, and send the signal at number `at`."""
    real, count = DuckDB.run, [0]

    def counted(self: DuckDB, *args: Any, **kwargs: Any) -> Any:
        count[0] += 1
        due = count[0] == at
        if due and when != "after":
            os.kill(os.getpid(), NAMES[when])
        result = real(self, *args, **kwargs)
        if due and when == "after":
            os.kill(os.getpid(), NAMES[when])
        return result

    DuckDB.run = counted  # type: ignore[method-assign]
    return count


def _context(project: Project, warehouse: DuckDB) -> StepContext:
    return StepContext(
        root=project.root,
        run_id="run",
        target=project.target.name,
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=_no_registry,
        progress=lambda text, done=None: None,
        vault_key=bytes,
        secrets=Secrets(project.root),
        who="test",
        git_commit=lambda: None,
    )


def _nothing() -> dict[str, Any]:
    raise AssertionError("a load asks dbt nothing")


def _no_registry() -> Registry:
    raise AssertionError("a load asks for no registry")
