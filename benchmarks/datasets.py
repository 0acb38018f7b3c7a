"""Building a dataset from DuckLake, hashes and all, beside DuckDB's own COPY of the same sorted query.

    python benchmarks/datasets.py --rows 10000000 --rounds 3
    python benchmarks/datasets.py --rows 1000000 --rounds 1 --splits time key     a minute's look

A table of `--rows` rows and 50 columns (numbers with two decimals, numbers with all their digits, whole numbers, texts
of 5 to 100,000 values, booleans), in no order. The limit writes it sorted by time and key as one Parquet file and does
nothing else. Ours checks keys, times and target, parts the rows, writes three sorted files, the last one encrypted,
hashes their rows and their bytes, writes manifest and ledger. With `--probes` the leakage probes run as well. Each is a
process of its own with the same memory limit; they take turns. How to read the table: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineitem import attach_lake

WORK = Path(__file__).resolve().parent / ".work" / "datasets"
MEMORY = "1GB"
TABLE = "features"
SPLITS = ("time", "key", "group", "stratified")

NUMBERS = {f"amount_{n}": "round(random() * 1000, 2)" for n in range(24)}
EXACT = {f"exact_{n}": "random()" for n in range(8)}
WHOLE = {f"count_{n}": f"cast(random() * {10 ** (n + 1)} as integer)" for n in range(7)}
TEXTS = {
    f"name_{size}": f"'v' || cast(floor(random() * {size}) as integer)" for size in (5, 20, 100, 1000, 10_000, 100_000)
}
FLAGS = {f"flag_{n}": "case when random() < 0.3 then null else random() < 0.5 end" for n in range(2)}
FEATURES = NUMBERS | EXACT | WHOLE | TEXTS | FLAGS


# -- the contestants: each in a process of its own


def run_duckdb() -> None:
    """The limit: one statement."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'; set temp_directory = 'spill'")
        attach_lake(connection, "read_only")
        names = ", ".join(("id", "happened_at", *FEATURES, "late"))
        rows = f"select {names} from lake.{TABLE} where late is not null order by happened_at, id"
        connection.execute(f"copy ({rows}) to 'limit.parquet' (format parquet)")


def run_trunkline(split: str, probes: str) -> None:
    """The dataset's step."""
    from trunkline.context import Job, StepContext
    from trunkline.datasets.run import run
    from trunkline.datasets.steps import Upstream, dataset_step
    from trunkline.ledger.ledger import Ledger
    from trunkline.project.probes import DEFAULTS
    from trunkline.project.secrets import Secrets
    from trunkline.registry.memory import MemoryRegistry
    from trunkline.warehouse.duckdb import open_duckdb

    root = Path.cwd()
    lake = {"path": "ducklake:sqlite:lake.sqlite", "alias": "lake", "options": {"data_path": "lake.files"}}
    extensions = ["ducklake", "sqlite_scanner"]
    target = {"path": ":memory:", "database": "lake", "extensions": extensions, "attach": [lake]}
    warehouse = open_duckdb({**target, "settings": {"memory_limit": MEMORY}}, root)
    context = StepContext(
        root=root,
        run_id="run_1",
        target="dev",
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=MemoryRegistry,
        progress=lambda text, done=None: None,
        vault_key=lambda: b"k" * 32,
        secrets=Secrets(root),
        who="bench",
        git_commit=lambda: None,
        threads=len(os.sched_getaffinity(0)),
    )
    off = {} if probes == "on" else dict.fromkeys(DEFAULTS, "off")
    step = dataset_step({**declared(split), "probes": off}, Upstream("build", ("main", TABLE), ()), (), "ml/bench.py:1")
    result = run(Job(step, "f" * 64, {}), context)
    warehouse.close()
    print(json.dumps(result.output["rows"]))


def declared(split: str) -> dict[str, Any]:
    """The dataset as a project declares it."""
    from trunkline.project import split as splits

    parted: dict[str, splits.Split] = {
        "time": splits.by_time(validation="2022-01-01", test="2022-07-01"),
        "key": splits.by_key(),
        "group": splits.by_group("name_10000"),
        "stratified": splits.stratified(),
    }
    roles = {"key": "id", "time": "happened_at", "target": "late", "task": None, "groups": {"all": list(FEATURES)}}
    return {"name": "bench", "relation": TABLE, **roles, "split": parted[split].to_json()}


def make_data(rows: str) -> None:
    """The table, in no order: keys and times are scattered."""
    import duckdb
    from duckdb_extensions import import_extension

    for extension in ("ducklake", "sqlite_scanner", "httpfs"):
        import_extension(extension)
    values = {
        "id": "(i * 2654435761) % 1099511627776",  # odd times, modulo a power of two: each once
        "happened_at": "timestamp '2020-01-01' + to_seconds(cast(random() * 3 * 365 * 86400 as integer))",
        "late": "random() < 0.2",
        **FEATURES,
    }
    listed = ", ".join(f"{value} as {name}" for name, value in values.items())
    with duckdb.connect() as connection:
        connection.execute(f"set memory_limit = '{MEMORY}'; set preserve_insertion_order = false")
        attach_lake(connection, "data_path 'lake.files'")
        connection.execute("select setseed(0.5)")
        connection.execute(f"create table lake.{TABLE} as select {listed} from range({int(rows)}) as t(i)")


CHILDREN: dict[str, Callable[..., None]] = {
    "run_duckdb": run_duckdb,
    "run_trunkline": run_trunkline,
    "make_data": make_data,
}


# -- the referee


@dataclass(frozen=True)
class Lap:
    """One run: seconds of wall and of CPU, peak resident MB, bytes written."""

    wall: float
    cpu: float
    peak: float
    size: float


def lap(name: str, *arguments: str) -> Lap:
    """Run one contestant in the folder of the data; what it writes is measured and removed."""
    started = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, *arguments]
    with (WORK / "out.txt").open("wb") as out:
        process = subprocess.Popen(command, cwd=WORK, stdout=out, env=os.environ | {"HOME": str(WORK / "home")})
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(f"{name} ended with {process.returncode}")
    written = [*WORK.glob("limit.parquet"), *WORK.glob(".trunkline/*/bench/**/*.parquet")]
    size = sum(file.stat().st_size for file in written) / 1e6
    for made in ("limit.parquet", ".trunkline", "spill"):
        path = WORK / made
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return Lap(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, size)


def data(rows: int) -> None:
    """Made once, and again for another number of rows."""
    note = WORK / "rows.txt"
    if note.exists() and note.read_text() == str(rows):
        return
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "home").mkdir(parents=True)
    print(f"making {rows:,} rows …", flush=True)
    lap("make_data", str(rows))
    note.write_text(str(rows))


def table(laps: dict[str, list[Lap]]) -> None:
    """Medians, and the ratios to the limit by wall and by CPU."""
    print(f"{'':24} {'wall s':>8} {'cpu s':>8} {'x wall':>7} {'x cpu':>6} {'peak MB':>8} {'written MB':>11}")
    limit = laps["duckdb COPY"]

    def median(found: list[Lap], name: str) -> float:
        return float(statistics.median(getattr(each, name) for each in found))

    for name, found in laps.items():
        wall, cpu = median(found, "wall"), median(found, "cpu")
        ratios = f"{wall / median(limit, 'wall'):7.2f} {cpu / median(limit, 'cpu'):6.2f}"
        print(f"{name:24} {wall:8.1f} {cpu:8.1f} {ratios} {median(found, 'peak'):8.0f} {median(found, 'size'):11.0f}")


def main() -> None:
    """Take turns; print the table after every round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--splits", nargs="+", choices=SPLITS, default=["time", "key"])
    parser.add_argument("--probes", action="store_true", help="once more with the leakage probes")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        CHILDREN[given.child[0]](*given.child[1:])
        return
    data(given.rows)
    contestants: dict[str, tuple[str, ...]] = {"duckdb COPY": ("run_duckdb",)}
    contestants |= {f"trunkline by {split}": ("run_trunkline", split, "off") for split in given.splits}
    if given.probes:
        contestants["trunkline with probes"] = ("run_trunkline", given.splits[0], "on")
    laps: dict[str, list[Lap]] = {name: [] for name in contestants}
    for _ in range(given.rounds):
        for name, command in contestants.items():
            laps[name].append(lap(*command))
            print(f"{name}: {laps[name][-1].wall:.1f} s, {laps[name][-1].cpu:.1f} s of CPU", flush=True)
        table(laps)


if __name__ == "__main__":
    main()
