"""From a PostgreSQL table to a typed table: `trunkline ingest` beside DuckDB's own scanner (the limit).

    python benchmarks/databases.py --rounds 3 --rows 3000000

The rows are TPC-H's lineitem, in a server that this script starts. The contestants take turns, each as a whole process,
imports included, into a fresh DuckLake; afterwards the rows that arrived are counted. `trunkline` replaces the table in
one transaction, `cursor` appends it by its indexed key in windows of a million rows, `adbc` takes Arrow from ADBC's
driver. CPU and memory are the contestant's, without the server's. How to read the table: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lineitem import COLUMNS, PROFILE, attach_lake

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "benchmarks" / ".work" / "databases"
LIMIT = "duckdb"
MEANS = {
    "trunkline": "load: replace",
    "cursor": "cursor: l_orderkey, batch_rows: 1000000",
    "adbc": "load: replace, through: adbc, driver: postgresql",
}


@dataclass(frozen=True)
class Contestant:
    """What to run, and the table in which its rows must be found."""

    name: str
    command: tuple[str, ...]
    table: str


@dataclass(frozen=True)
class Lap:
    """One run: seconds of wall and CPU, peak resident MB."""

    wall: float
    cpu: float
    peak: float


def run_duckdb(dsn: str) -> None:
    """The limit: one statement, nothing recorded, no row told from another."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.execute("load postgres_scanner")
        attach_lake(connection, "data_path 'lake.files'")
        connection.execute(f"attach '{dsn}' as pg (type postgres, read_only)")
        connection.execute("create table lake.lineitem as select * from pg.lineitem")


def fill(dsn: str, rows: str) -> None:
    """Make the server's table, and put the extensions where DuckDB's LOAD finds them."""
    import duckdb
    from duckdb_extensions import import_extension

    for extension in ("tpch", "ducklake", "sqlite_scanner", "postgres_scanner"):
        import_extension(extension)
    with duckdb.connect() as connection:
        connection.execute(f"load tpch; load postgres_scanner; attach '{dsn}' as pg (type postgres)")
        connection.execute(f"call dbgen(sf = {int(rows) / 5_990_000})")
        columns = ", ".join(f"{name} {type_}" for name, type_ in COLUMNS.items())
        connection.execute(f"call postgres_execute('pg', 'create table lineitem ({columns})')")
        connection.execute(f"insert into pg.lineitem from lineitem limit {int(rows)}")
        connection.execute("call postgres_execute('pg', 'create index on lineitem (l_orderkey)')")
        connection.execute("call postgres_execute('pg', 'analyze lineitem')")


def count_rows(table: str) -> None:
    """Print how many rows a contestant's lake holds, and the sum of a column as a check of the types."""
    import duckdb

    with duckdb.connect() as connection:
        attach_lake(connection, "read_only")
        found = connection.sql(f"select count(*), sum(l_extendedprice) from {table}").fetchall()
    print(json.dumps([str(value) for value in found[0]]))


CHILDREN: dict[str, Callable[..., None]] = {"run_duckdb": run_duckdb, "fill": fill, "count_rows": count_rows}


def child(function: str, *arguments: str) -> tuple[str, ...]:
    """The command that calls one function of this file in a process of its own."""
    return (sys.executable, str(Path(__file__).resolve()), "--child", function, *arguments)


def run(contestant: Contestant, dsn: str) -> tuple[Lap, str]:
    """One lap in a fresh folder, and what arrived."""
    folder = WORK / "lap"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text("name: bench\nprofile: bench\nversion: '1.0'\n")
    (folder / "profiles.yml").write_text(PROFILE)
    options = f"connector: sql, dsn: env:SHOP, {MEANS.get(contestant.name, '')}"
    meta = f"{{name: lineitem, config: {{meta: {{trunkline: {{{options}}}}}}}, columns: ["
    listed = ", ".join(f'{{name: {name}, data_type: "{type_}"}}' for name, type_ in COLUMNS.items())
    sources = f"sources:\n  - name: tpch\n    schema: raw\n    tables:\n      - {meta}{listed}]}}\n"
    (folder / "models" / "sources.yml").write_text(sources)
    environ = os.environ | {"HOME": str(WORK / "home"), "SHOP": dsn, "DO_NOT_TRACK": "1"}
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        started = time.perf_counter()
        process = subprocess.Popen(contestant.command, cwd=folder, env=environ, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = "\n".join((folder / name).read_text(errors="replace")[-2000:] for name in ("stdout", "stderr"))
        sys.exit(f"{contestant.name} failed with exit code {process.returncode}:\n{said}")
    command = child("count_rows", contestant.table)
    found = subprocess.run(command, cwd=folder, env=environ, stdout=subprocess.PIPE, text=True, check=True).stdout
    return Lap(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024), found


def report(laps: dict[str, list[Lap]], rows: int) -> None:
    """Print medians, and ratios to the limit."""
    walls = {name: median(lap.wall for lap in runs) for name, runs in laps.items()}
    cpus = {name: median(lap.cpu for lap in runs) for name, runs in laps.items()}
    print("\ncontestant      wall s   (best)   x wall    cpu s    x cpu  peak MB     rows/s")
    for name, runs in laps.items():
        wall, cpu, peak = walls[name], cpus[name], median(lap.peak for lap in runs)
        print(
            f"{name:<12}{wall:>10.2f}{min(lap.wall for lap in runs):>9.2f}{wall / walls[LIMIT]:>8.2f}x{cpu:>9.2f}"
            f"{cpu / cpus[LIMIT]:>8.2f}x{peak:>9,.0f}{rows / wall:>11,.0f}"
        )


def main() -> None:
    """Start a server, fill it, let the contestants take turns, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--rows", type=int, default=3_000_000, metavar="N")
    parser.add_argument("--only", nargs="*", default=list(MEANS), metavar="NAME", help="contestants beside the limit")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.contract import servers

    (WORK / "home").mkdir(parents=True, exist_ok=True)
    command = str(Path(sys.executable).with_name("trunkline"))
    with servers.postgres() as server:
        dsn = f"postgresql://{server.user}:{server.password}@127.0.0.1:{server.port}/{server.database('bench')}"
        environ = os.environ | {"HOME": str(WORK / "home")}
        subprocess.run(child("fill", dsn, str(arguments.rows)), env=environ, check=True)
        starters = [Contestant(LIMIT, child("run_duckdb", dsn), "lake.lineitem")]
        starters += [Contestant(name, (command, "ingest", "--json"), "lake.raw.lineitem") for name in arguments.only]
        laps: dict[str, list[Lap]] = {starter.name: [] for starter in starters}
        expected = ""
        for number in range(arguments.rounds):
            for contestant in starters:
                lap, found = run(contestant, dsn)
                expected = expected or found
                if found != expected:
                    sys.exit(f"{contestant.name} loaded {found.strip()}, expected {expected.strip()}")
                laps[contestant.name].append(lap)
                print(f"round {number + 1}: {contestant.name} {lap.wall:.2f} s", flush=True)
    report(laps, int(json.loads(expected)[0]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](*sys.argv[3:])
    else:
        main()
