"""Projects of one source each, of every kind, and `ingest` in them, killed at a statement or at a moment."""

from __future__ import annotations

import contextlib
import gzip
import json
import random
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import yaml

from tests import warmed
from tests.e2e.conftest import Project
from tests.faults import state
from tests.faults.killing import Run, must_end_well

LINES = 60  # rows of a source, of which every 20th does not fit
PAGE = 20
_PATIENCE_SECONDS = 240.0
MODULES = ("tests.faults.loading",)

COLUMNS = [
    {"name": "id", "data_type": "bigint"},
    {"name": "version", "data_type": "bigint"},
    {"name": "name", "data_type": "varchar"},
    {"name": "amount", "data_type": "double"},
]


def rows(version: int = 0, first: int = 1, last: int = LINES) -> list[dict[str, Any]]:
    """Rows of a source. Every 20th has an amount that is no number."""
    return [
        {
            "id": n,
            "version": version + n,
            "name": f"row {n} of {version}",
            "amount": "much" if n % 20 == 0 else str(n / 4),
        }
        for n in range(first, last + 1)
    ]


@dataclass(frozen=True)
class Source:
    """One kind of source: what sources.yml says of it, how its data is made, and how it has changed by the second load.

    A source without a `change` is loaded for the first time.
    """

    name: str
    options: Mapping[str, Any]
    make: Callable[[Path], None]
    change: Callable[[Path], None] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    kills: int = 20


@dataclass(frozen=True)
class Ready:
    """A project before the load, what the load leaves undisturbed, and how many statements and seconds it takes."""

    source: Source
    start: Path
    done: Path
    tables: Mapping[str, Any]
    statements: int
    seconds: float

    def copy(self, root: Path) -> Path:
        """A copy of the project as it was before the load."""
        shutil.copytree(self.start, root)
        return root

    def attempt(self, root: Path, rng: random.Random) -> Run:
        """`ingest`, killed before or after a drawn statement, or, one time in four, at a drawn moment."""
        if rng.random() < 0.25:
            return ingest(root, self.source, seconds=rng.uniform(0.0, self.seconds))
        return ingest(root, self.source, at=rng.randint(1, self.statements), when=rng.choice(["before", "after"]))

    def must_be_whole(self, root: Path, told: str) -> None:
        """The project's tables are those of the undisturbed load, and nothing is left over."""
        found = state.loaded(root)
        assert found.keys() == self.tables.keys(), told
        for name, wanted in self.tables.items():
            assert found[name] == wanted, f"{told}: {name} is {found[name]}, undisturbed {wanted}"
        left = state.left_over(root, self.done)
        assert not left, f"{told}: {left}"


def ready(source: Source, place: Path) -> Ready:
    """The project of a source, and the same loaded."""
    Project(place, anew=True).run("init", "depot")
    project = Project(place / "depot").trusting()
    root = project.root
    for part in ("ml", "deploy", "data"):
        shutil.rmtree(root / part)
    for file in ("order_features.sql", "order_features.yml"):
        (root / "models" / file).unlink()
    table = {"name": "t", "config": {"meta": {"trunkline": dict(source.options)}}, "columns": COLUMNS}
    text = yaml.safe_dump({"sources": [{"name": "s", "schema": "raw", "tables": [table]}]})
    (root / "models" / "sources.yml").write_text(text)
    source.make(root)
    if source.change:
        must_end_well(ingest(root, source))
        source.change(root)
    done = place / "done"
    shutil.copytree(root, done)
    undisturbed = must_end_well(ingest(done, source))
    statements = int((done / "statements").read_text())
    return Ready(source, root, done, state.loaded(done), statements, undisturbed.seconds)


def ingest(
    root: Path,
    source: Source,
    *more: str,
    at: int = 0,
    when: str = "before",
    seconds: float | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Run:
    """`ingest`, killed before or after statement number `at`, if it comes to that; or after so many seconds.

    `meanwhile` is called again and again while it runs.
    """
    with started(root, source, str(at), when, *more) as (process, out, err):
        begun = time.monotonic()
        end = begun + (_PATIENCE_SECONDS if seconds is None else seconds)
        while process.poll() is None and time.monotonic() < end:
            if meanwhile is not None:
                meanwhile()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.02 if meanwhile is not None else max(0.0, end - time.monotonic()))
        process.kill()
        code, took = process.wait(30), time.monotonic() - begun
        return Run(code, text_of(out), text_of(err), took, 0)


@contextlib.contextmanager
def started(root: Path, source: Source, *arguments: str) -> Iterator[tuple[warmed.Process, IO[bytes], IO[bytes]]]:
    """`ingest` at work, with what it prints; ended with the block."""
    environ = {name: value.format(root=root) for name, value in source.environ.items()}
    command = ["-c", "import sys; from tests.faults.loading import run; run(sys.argv[1:])", *arguments]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = warmed.start(command, root, out=out, err=err, environ=environ, modules=MODULES)
        try:
            yield process, out, err
        finally:
            process.kill()
            process.wait(30)


def text_of(file: IO[bytes]) -> str:
    """What has been written to it."""
    file.seek(0)
    return file.read().decode()


def write_csv(file: Path, found: list[dict[str, Any]]) -> None:
    """A gzipped CSV file."""
    file.parent.mkdir(exist_ok=True)
    lines = [",".join(found[0]), *(",".join(str(value) for value in row.values()) for row in found)]
    file.write_bytes(gzip.compress("\n".join([*lines, ""]).encode()))


def write_sqlite(root: Path, found: list[dict[str, Any]]) -> None:
    """The table `t` of shop.sqlite: rows of these ids are these."""
    with closing(sqlite3.connect(root / "shop.sqlite")) as connection, connection:
        connection.execute("create table if not exists t (id integer primary key, version integer, name text, amount)")
        values = [tuple(row.values()) for row in found]
        connection.executemany("insert or replace into t values (?, ?, ?, ?)", values)


def write_script(root: Path, text: str, found: list[dict[str, Any]]) -> None:
    """A function of the project, and the rows it gives."""
    (root / "sources").mkdir(exist_ok=True)
    (root / "sources" / "rows.py").write_text(text)
    (root / "sources" / "rows.json").write_text(json.dumps(found))


_PAGES = f"""
import json
from pathlib import Path


def _pages(after):
    rows = json.loads((Path(__file__).parent / "rows.json").read_text())
    rows = [row for row in rows if row["version"] > after]
    for first in range(0, len(rows), {PAGE}):
        yield rows[first:first + {PAGE}]
"""
PYTHON = f"""{_PAGES}
import trunkline as tl


@tl.source
def t(since=None):
    for page in _pages((since or {{"after": 0}})["after"]):
        yield page
        yield tl.Checkpoint({{"after": page[-1]["version"]}})
"""
DLT = f"""{_PAGES}
import dlt


@dlt.resource
def t(version=dlt.sources.incremental("version", initial_value=0, row_order="asc")):
    yield from _pages(version.last_value)
"""
CONNECTOR = f"""{_PAGES}
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Operations as op


def schema(configuration):
    return [{{"table": "t", "primary_key": ["id"], "columns": {{"id": "LONG", "version": "LONG", "amount": "STRING"}}}}]


def update(configuration, state):
    for page in _pages(state.get("after", 0)):
        for row in page:
            op.upsert("t", row)
        op.checkpoint({{"after": page[-1]["version"]}})


connector = Connector(update=update, schema=schema)
"""
