"""From files to a typed table: `trunkline ingest` beside DuckDB alone (the limit) and dlt (a peer).

    python benchmarks/ingest.py --rounds 3 --rows 1 --scenes csv parquet small more many merge memory

`--rows` is TPC-H's scale factor: 1 is lineitem with 6,001,215 rows and 773 MB of CSV. Scenes: one CSV file; one Parquet
file; 100 rows, and four times all, beside the limit; a tenth of the rows in 1,000 files beside the same in one; 1% of
the rows merged into all beside loading all; and 1, 4 and 10 times the rows. The first contestant of a scene is what the
others are compared to. The contestants take turns, each as a whole process, imports included, into a fresh DuckLake;
afterwards the rows that arrived are counted.
How to read the tables: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lineitem import COLUMNS, PROFILE, attach_lake

WORK = Path(__file__).resolve().parent / ".work" / "ingest"

PROJECT = {
    "dbt_project.yml": "name: bench\nprofile: bench\nversion: '1.0'\n",
    "profiles.yml": PROFILE,
}

SOURCES = """\
sources:
  - name: tpch
    schema: raw
    tables:
      - name: lineitem
        config: {meta: {trunkline: {connector: files, OPTIONS}}}
        columns:
""" + "".join(f'          - {{name: {name}, data_type: "{type_}"}}\n' for name, type_ in COLUMNS.items())


# -- the contestants: each runs in a process of its own, in an empty folder that holds `lineitem.csv`


def run_duckdb(file: str = "lineitem.csv") -> None:
    """The limit: one statement, nothing recorded, no row told from another."""
    _create(f"read_csv('{file}', all_varchar=true)")


def run_duckdb_parquet() -> None:
    """The limit for Parquet."""
    _create("read_parquet('lineitem.parquet')")


def _create(rows: str) -> None:
    import duckdb

    casts = ", ".join(f"try_cast({name} as {type_}) as {name}" for name, type_ in COLUMNS.items())
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        attach_lake(connection, "data_path 'lake.files'")
        connection.execute(f"create table lake.lineitem as select {casts} from {rows}")


def run_dlt_pyarrow() -> None:
    """dlt with an Arrow resource: pyarrow reads and casts the CSV in blocks."""
    import dlt
    import pyarrow as pa
    import pyarrow.csv

    types = {"bigint": pa.int64(), "decimal(15,2)": pa.decimal128(15, 2), "varchar": pa.string(), "date": pa.date32()}
    options = pyarrow.csv.ConvertOptions(column_types={name: types[type_] for name, type_ in COLUMNS.items()})

    @dlt.resource(name="lineitem")
    def lineitem() -> Iterator[pa.Table]:
        blocks = pyarrow.csv.ReadOptions(block_size=16 << 20)
        for batch in pyarrow.csv.open_csv("lineitem.csv", read_options=blocks, convert_options=options):
            yield pa.Table.from_batches([batch])

    dlt_pipeline().run(lineitem())


def run_dlt_duckdb() -> None:
    """dlt with its reader that lets DuckDB read the CSV and hands Arrow on."""
    from dlt.sources.filesystem import filesystem, read_csv_duckdb

    files = filesystem(bucket_url=str(Path.cwd()), file_glob="lineitem.csv")
    rows = files | read_csv_duckdb(chunk_size=200_000, use_pyarrow=True, dtype=COLUMNS)
    dlt_pipeline().run(rows.with_name("lineitem"))


def dlt_pipeline() -> Any:
    """A dlt pipeline into a DuckLake like the others'."""
    import dlt
    from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials

    here = Path.cwd()
    credentials = DuckLakeCredentials(
        "lake", catalog=f"sqlite:///{here}/lake.sqlite", storage=f"file://{here}/lake.files"
    )
    destination = dlt.destinations.ducklake(credentials=credentials)
    return dlt.pipeline("bench", destination=destination, dataset_name="raw", pipelines_dir=str(here / "pipelines"))


def make_data(scale: str, folder: str) -> None:
    """Write TPC-H's lineitem in every shape, and put the extensions where DuckDB's LOAD finds them."""
    import duckdb
    from duckdb_extensions import import_extension

    for extension in ("tpch", "ducklake", "sqlite_scanner"):
        import_extension(extension)
    with duckdb.connect(f"{folder}.duckdb") as connection:
        connection.execute("load tpch")
        connection.execute(f"call dbgen(sf = {float(scale)})")
        connection.execute(f"copy lineitem to '{folder}/lineitem.csv' (header, delimiter ',')")
        connection.execute(f"copy lineitem to '{folder}/lineitem.parquet' (format parquet)")
        changed = "* replace (l_comment || '!' as l_comment)"
        connection.execute(
            f"copy (select {changed} from lineitem where hash(l_orderkey, l_linenumber) % 100 = 0) "
            f"to '{folder}/changed.csv' (header, delimiter ',')"
        )
    Path(f"{folder}.duckdb").unlink()
    cut(Path(folder))
    for times in (4, 10):
        repeat(Path(folder), times)


def cut(folder: Path) -> None:
    """A tenth of the rows, as one file and as 1,000."""
    (folder / "many").mkdir()
    with (folder / "lineitem.csv").open("rb") as whole, (folder / "tenth.csv").open("wb") as tenth:
        header = whole.readline()
        lines = whole.readlines((folder / "lineitem.csv").stat().st_size // 10)
        tenth.write(header)
        tenth.writelines(lines)
    (folder / "small.csv").write_bytes(header + b"".join(lines[:100]))
    for number in range(1000):
        part = lines[number * len(lines) // 1000 : (number + 1) * len(lines) // 1000]
        (folder / "many" / f"{number:03}.csv").write_bytes(header + b"".join(part))


def repeat(folder: Path, times: int) -> None:
    """One file with the rows many times."""
    with (folder / f"times{times}.csv").open("wb") as target:
        for number in range(times):
            with (folder / "lineitem.csv").open("rb") as source:
                header = source.readline()
                target.write(header if number == 0 else b"")
                shutil.copyfileobj(source, target, 8 << 20)


def count_rows(table: str) -> None:
    """Print how many rows a contestant's lake holds, and the sum of a column as a check of the types."""
    import duckdb

    with duckdb.connect() as connection:
        attach_lake(connection, "read_only")
        found = connection.sql(f"select count(*), sum(l_extendedprice) from {table}").fetchall()
    print(json.dumps([str(value) for value in found[0]]))


CHILDREN: dict[str, Callable[..., None]] = {
    "run_duckdb": run_duckdb,
    "run_dlt_pyarrow": run_dlt_pyarrow,
    "run_dlt_duckdb": run_dlt_duckdb,
    "run_duckdb_parquet": run_duckdb_parquet,
    "make_data": make_data,
    "count_rows": count_rows,
}


# -- the referee


@dataclass(frozen=True)
class Contestant:
    """What to run, with which files and options, and the table in which its rows must be found.

    With `later` the files of `inputs` are loaded beforehand, and those of `later` are what is timed. Contestants with
    the same `rows` end with the same rows.
    """

    name: str
    command: tuple[str, ...]
    table: str
    inputs: tuple[str, ...] = ("lineitem.csv",)
    options: str = "path: lineitem.csv"
    later: tuple[str, ...] = ()
    rows: str = "all"


@dataclass(frozen=True)
class Lap:
    """One run: seconds of wall and CPU, peak resident MB of the largest process, seconds by its own account."""

    wall: float
    cpu: float
    peak: float
    inner: float | None


def child(function: str, *arguments: str) -> tuple[str, ...]:
    """The command that calls one function of this file in a process of its own."""
    return (sys.executable, str(Path(__file__).resolve()), "--child", function, *arguments)


def scenes(only: Sequence[str]) -> dict[str, list[Contestant]]:
    """The contestants of each scene; dlt takes part where it is installed, and was asked for."""
    ours = (str(Path(sys.executable).with_name("trunkline")), "ingest", "--json")
    table, limit = "lake.raw.lineitem", "lake.lineitem"
    merge = "load: merge, key: [l_orderkey, l_linenumber]"
    csv = [
        Contestant("duckdb", child("run_duckdb"), limit),
        Contestant("trunkline", ours, table),
        Contestant("dlt-pyarrow", child("run_dlt_pyarrow"), table),
        Contestant("dlt-duckdb", child("run_dlt_duckdb"), table),
    ]
    if importlib.util.find_spec("dlt") is None:
        print("dlt is not installed: left out (pip install 'trunkline[bench]')")
        csv = csv[:2]
    return {
        "csv": [each for each in csv if not only or each.name in ("duckdb", *only)],
        "parquet": [
            Contestant("duckdb", child("run_duckdb_parquet"), limit, ("lineitem.parquet",)),
            Contestant("trunkline", ours, table, ("lineitem.parquet",), "path: lineitem.parquet"),
        ],
        "more": [
            Contestant("duckdb 4x", child("run_duckdb", "times4.csv"), limit, ("times4.csv",), rows="4x"),
            Contestant("trunkline 4x", ours, table, ("times4.csv",), "path: times4.csv", rows="4x"),
        ],
        "small": [
            Contestant("duckdb 100", child("run_duckdb", "small.csv"), limit, ("small.csv",), rows="small"),
            Contestant("trunkline 100", ours, table, ("small.csv",), "path: small.csv", rows="small"),
        ],
        "many": [
            Contestant("one file", ours, table, ("tenth.csv",), "path: tenth.csv", rows="tenth"),
            Contestant("1,000 files", ours, table, ("many",), "path: many/*.csv", rows="tenth"),
        ],
        "merge": [
            Contestant("load all", ours, table),
            Contestant("merge 1%", ours, table, options=f'path: "*.csv", {merge}', later=("changed.csv",)),
        ],
        "memory": [
            Contestant("1x", ours, table),
            Contestant("4x", ours, table, ("times4.csv",), "path: times4.csv", rows="4x"),
            Contestant("10x", ours, table, ("times10.csv",), "path: times10.csv", rows="10x"),
        ],
    }


def environment() -> dict[str, str]:
    """An empty home, nobody phones home from it, and compiled modules are kept as where a package is installed."""
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | quiet | {"HOME": str(WORK / "home")}


def run(contestant: Contestant, data: Path) -> Lap:
    """One lap in a fresh folder, and the check that all rows arrived."""
    folder = WORK / "lap"
    shutil.rmtree(folder, ignore_errors=True)
    texts = {**PROJECT, "models/sources.yml": SOURCES.replace("OPTIONS", contestant.options)}
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    link(contestant.inputs, data, folder)
    if contestant.later:
        timed(contestant, folder)
        link(contestant.later, data, folder)
    lap = timed(contestant, folder)
    check(contestant, folder, data)
    return lap


def link(names: Sequence[str], data: Path, folder: Path) -> None:
    """Put files, or folders of files, into the project."""
    for name in names:
        if (data / name).is_dir():
            shutil.copytree(data / name, folder / name, copy_function=os.link)
        else:
            os.link(data / name, folder / name)


def timed(contestant: Contestant, folder: Path) -> Lap:
    """One process from start to end."""
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        started = time.perf_counter()
        process = subprocess.Popen(contestant.command, cwd=folder, env=environment(), stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        said = "\n".join((folder / name).read_text(errors="replace")[-2000:] for name in ("stdout", "stderr"))
        sys.exit(f"{contestant.name} failed with exit code {process.returncode}:\n{said}")
    inner = own_seconds((folder / "stdout").read_text())
    return Lap(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, inner)


def check(contestant: Contestant, folder: Path, data: Path) -> None:
    """Stop unless the table holds what the first with these rows held."""
    command = child("count_rows", contestant.table)
    found = subprocess.run(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True, check=True).stdout
    expected = data / f"{contestant.rows}.expected"
    if not expected.exists():
        expected.write_text(found)
    if found != expected.read_text():
        sys.exit(f"{contestant.name} loaded {found.strip()}, expected {expected.read_text().strip()}")


def own_seconds(stdout: str) -> float | None:
    """Seconds of work by a contestant's own JSON account, or None where it gives none."""
    try:
        account = json.loads(stdout)
    except ValueError:
        return None
    return sum(step["seconds"] for step in account["ran"])


def report(scene: str, starters: Sequence[Contestant], laps: dict[str, list[Lap]], data: Path) -> None:
    """Print medians, and ratios to the first."""
    limit = median(laps[starters[0].name])
    titles = ("wall s", "(best)", "x wall", "cpu s", "x cpu", "peak MB", "rows/s", "inner s")
    print(f"\n{scene:<13}" + "".join(f"{title:>11}" for title in titles))
    for starter in starters:
        runs = laps[starter.name]
        lap = median(runs)
        rows = int(json.loads((data / f"{starter.rows}.expected").read_text())[0])
        cells = (
            f"{lap.wall:.2f}",
            f"{min(each.wall for each in runs):.2f}",
            f"{lap.wall / limit.wall:.2f}x",
            f"{lap.cpu:.2f}",
            f"{lap.cpu / limit.cpu:.2f}x",
            f"{lap.peak:,.0f}",
            "-" if starter.later else f"{rows / lap.wall:,.0f}",
            "-" if lap.inner is None else f"{lap.inner:.2f}",
        )
        print(f"{starter.name:<13}" + "".join(f"{cell:>11}" for cell in cells))


def median(runs: Sequence[Lap]) -> Lap:
    """The median of each measure by itself."""
    inner = [lap.inner for lap in runs if lap.inner is not None]
    return Lap(
        wall=statistics.median(lap.wall for lap in runs),
        cpu=statistics.median(lap.cpu for lap in runs),
        peak=statistics.median(lap.peak for lap in runs),
        inner=statistics.median(inner) if inner else None,
    )


def main() -> None:
    """Generate the files once, let the contestants take turns, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--rows", type=float, default=1.0, metavar="SF", help="TPC-H scale factor (default 1)")
    parser.add_argument("--scenes", nargs="*", default=["csv"], choices=list(scenes([])), metavar="NAME")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="contestants of csv beside the limit")
    arguments = parser.parse_args()
    (WORK / "home").mkdir(parents=True, exist_ok=True)
    data = WORK / f"data-{arguments.rows:g}"
    if not (data / "made").exists():
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir()
        subprocess.run(child("make_data", str(arguments.rows), str(data)), env=environment(), check=True)
        (data / "made").touch()
    for scene in arguments.scenes:
        starters = scenes(arguments.only)[scene]
        laps: dict[str, list[Lap]] = {starter.name: [] for starter in starters}
        for number in range(arguments.rounds):
            for contestant in starters:
                lap = run(contestant, data)
                laps[contestant.name].append(lap)
                print(f"{scene}, round {number + 1}: {contestant.name} {lap.wall:.2f} s", flush=True)
        report(scene, starters, laps, data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](*sys.argv[3:])
    else:
        main()
