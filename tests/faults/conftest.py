"""Projects to disturb. Each is made once, and a test works on a copy."""

from __future__ import annotations

import shutil
import subprocess
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from tests.api import Api, serving
from tests.contract import servers
from tests.e2e.conftest import Project
from tests.faults import killing, state

DISK_BYTES = 48 << 20

SOURCES = """\
sources:
  - name: depot
    schema: raw
    tables:
      - name: orders
        config: {meta: {trunkline: {connector: files, path: "data/orders*.csv*"}}}
        columns:
          - {name: order_id, data_type: bigint}
          - {name: ordered_at, data_type: timestamp}
          - {name: country, data_type: varchar}
          - {name: items, data_type: integer}
          - {name: amount, data_type: double}
      - name: events
        config: {meta: {trunkline: {connector: files, path: "data/events*.ndjson"}}}
        columns:
          - {name: event_id, data_type: bigint}
          - {name: kind, data_type: varchar}
          - {name: at, data_type: timestamp}
      - name: prices
        config: {meta: {trunkline: {connector: files, path: "data/prices*.parquet", load: replace}}}
        columns:
          - {name: sku, data_type: bigint}
          - {name: price, data_type: "decimal(10, 2)"}
"""


@dataclass(frozen=True)
class Scene:
    """A project before a command (`start`) and after it (`done`), undisturbed; what tables and state hold then."""

    start: Path
    done: Path
    command: str
    undisturbed: killing.Run
    tables: dict[str, object]

    def copy(self, root: Path) -> Path:
        """A copy of the project as it was before the command."""
        shutil.copytree(self.start, root)
        return root


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Postgres]:
    """A PostgreSQL server."""
    with servers.postgres() as server:
        yield server


@pytest.fixture
def fresh() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def api() -> Iterator[Api]:
    """An API over HTTP."""
    with serving() as server:
        yield server


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory of `DISK_BYTES`."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system; the limit on file sizes is tested instead")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def empty_depot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of three sources with their first files, nothing loaded yet."""
    place = tmp_path_factory.mktemp("depot")
    Project(place).run("init", "depot")
    root = Project(place / "depot").trusting().root
    for part in ("ml", "deploy", "data"):
        shutil.rmtree(root / part)
    for file in ("order_features.sql", "order_features.yml"):
        (root / "models" / file).unlink()
    (root / "models" / "sources.yml").write_text(SOURCES)
    write_first_files(root / "data")
    return root


@pytest.fixture(scope="session")
def first_load(empty_depot: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """The first `ingest`: neither catalog nor table is there before it."""
    return _scene(empty_depot, "ingest", tmp_path_factory.mktemp("first") / "depot")


@pytest.fixture(scope="session")
def next_load(first_load: Scene, empty_depot: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A later `ingest`: new files beside loaded ones, and a replaced one."""
    start = first_load.copy(tmp_path_factory.mktemp("next") / "depot")
    killing.must_end_well(killing.run(start, "ingest"))
    write_next_files(start / "data")
    return _scene(start, "ingest", tmp_path_factory.mktemp("next_done") / "depot")


@pytest.fixture(scope="session")
def whole_line(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """`trunkline run` of the start project, from its files to a registered model."""
    place = tmp_path_factory.mktemp("line")
    Project(place).run("init", "shop")
    return _scene(Project(place / "shop").trusting().root, "run", tmp_path_factory.mktemp("line_done") / "shop")


def _scene(start: Path, command: str, root: Path) -> Scene:
    shutil.copytree(start, root)
    undisturbed = killing.must_end_well(killing.run(root, command))
    return Scene(start, root, command, undisturbed, state.tables(root))


def write_first_files(data: Path) -> None:
    """CSV with rows of every fault, plain, gzipped and in an archive; NDJSON with lines that are none; Parquet."""
    data.mkdir()
    _csv(data / "orders_1.csv", 0, 60_000)
    with (data / "orders_1.csv").open("a") as file:
        file.write("not a number,2025-01-01 00:00:00,DE,1,1.5\n7,yesterday,DE,2.5,x\n8,2025-01-01 00:00:00,DE\n")
    _csv(data / "orders_2.csv.gz", 60_000, 90_000)
    _csv(data / "packed.csv", 90_000, 120_000)
    with zipfile.ZipFile(data / "orders_3.csv.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(data / "packed.csv", "orders_3.csv")
    (data / "packed.csv").unlink()
    _ndjson(data / "events_1.ndjson", 0, 40_000)
    with (data / "events_1.ndjson").open("a") as file:
        file.write('{"event_id": "one", "kind": "view", "at": "2025-01-01T00:00:00"}\nno json at all\n[1, 2]\n')
    _parquet(data / "prices.parquet", 20_000, 7)


def write_next_files(data: Path) -> None:
    """More files for both tables that append, and another price list."""
    _csv(data / "orders_4.csv", 120_000, 180_000)
    with (data / "orders_4.csv").open("a") as file:
        file.write("9,2025-02-30 00:00:00,DE,1,1.5\n")
    _ndjson(data / "events_2.ndjson", 40_000, 60_000)
    _parquet(data / "prices.parquet", 25_000, 11)


def _csv(file: Path, first: int, end: int) -> None:
    rows = (
        "i as order_id, timestamp '2025-01-01' + interval (i) second as ordered_at, "
        "['DE', 'FR', 'NL', 'PL'][i % 4 + 1] as country, i % 9 + 1 as items, (i * 37 % 10007) / 100 as amount"
    )
    duckdb.sql(f"copy (select {rows} from range({first}, {end}) t(i)) to '{file}' (format csv)")


def _ndjson(file: Path, first: int, end: int) -> None:
    rows = (
        "i as event_id, ['view', 'cart', 'buy'][i % 3 + 1] as kind, timestamp '2025-01-01' + interval (i) minute as at"
    )
    duckdb.sql(f"copy (select {rows}, i % 5 as extra from range({first}, {end}) t(i)) to '{file}' (format json)")


def _parquet(file: Path, rows: int, factor: int) -> None:
    select = f"i as sku, case when i % 1000 = 0 then 'free' else ((i * {factor} % 9973) / 100)::varchar end as price"
    duckdb.sql(f"copy (select {select} from range({rows}) t(i)) to '{file}' (format parquet)")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many processes the tests have killed."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    kills = [value for report in reports for name, value in report.user_properties if name == "kills"]
    if kills:
        terminalreporter.write_line(f"faults: {sum(kills)} commands were killed")
