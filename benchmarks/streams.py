"""What a load adds to draining a stream: `trunkline ingest` beside the bare source (the limit) and dlt's own pipeline.

    python benchmarks/streams.py --scales 1 4 10 --rounds 3

Sources that do a source's work: `slow-rest`, pages of 1,000 rows from a server that takes 25 ms for each (100,000 rows
of 19 columns a scale); `parquet`, Arrow batches that pyarrow decodes from a file (500,000 rows of 16 columns). Sources
that do nothing but hand over, the worst case: `dicts`, a dlt resource of lists of dicts; `rest`, a server that answers
at once; `arrow`, record batches that are there already.

The contestants take turns, each as a whole process; `inner` is the time between the first import and the last row,
without the start of Python. How to read the table: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

from lineitem import PROFILE, attach_lake

HERE = Path(__file__).resolve()
WORK = HERE.parent / ".work" / "streams"
PAGE = 1000
ROWS = {"slow-rest": 100_000, "parquet": 500_000, "dicts": 100_000, "rest": 100_000, "arrow": 500_000}
LATENCY = 0.025  # seconds that the slow server takes for a page
BATCH = 50_000
COLUMNS = {
    "dicts": {"id": "bigint", "at": "timestamp", "name": "varchar", "amount": "double", "flag": "boolean"}
    | {f"n{i}": "bigint" for i in range(7)}
    | {f"t{i}": "varchar" for i in range(7)},
    "arrow": {"id": "bigint", "at": "date", "amount": "decimal(15,2)", "text": "varchar"}
    | {f"n{i}": "bigint" for i in range(6)}
    | {f"t{i}": "varchar" for i in range(6)},
}
COLUMNS |= {"rest": COLUMNS["dicts"], "slow-rest": COLUMNS["dicts"], "parquet": COLUMNS["arrow"]}
PARQUET = WORK / f"{ROWS['parquet']}.parquet"
SOURCE = f"import sys\nsys.path.insert(0, {str(HERE.parent)!r})\nfrom streams import stream\n"


# -- the streams


def page(number: int) -> list[dict[str, Any]]:
    """Rows of a page, from 0."""
    return [
        {
            "id": row,
            "at": f"2024-01-01T00:{row % 60:02}:00",
            "name": f"name {row}",
            "amount": row / 7,
            "flag": row % 2 == 0,
            **{f"n{i}": row * i for i in range(7)},
            **{f"t{i}": f"some text {row % 1000} {i}" for i in range(7)},
        }
        for row in range(number * PAGE, (number + 1) * PAGE)
    ]


def batches(rows: int) -> Iterator[Any]:
    """Record batches, each computed anew."""
    import pyarrow as pa

    for start in range(0, rows, BATCH):
        numbers = range(start, start + BATCH)
        columns: dict[str, Any] = {"id": pa.array(numbers, pa.int64())}
        columns["at"] = pa.array([dt.date(2024, 1, 1 + row % 28) for row in numbers])
        columns["amount"] = pa.array([Decimal(row % 100_000) / 4 for row in numbers], pa.decimal128(15, 2))
        columns["text"] = pa.array([f"text {row}" for row in numbers])
        columns |= {f"n{i}": pa.array([row * i for row in numbers], pa.int64()) for i in range(6)}
        columns |= {f"t{i}": pa.array([f"some text {row % 1000} {i}" for row in numbers]) for i in range(6)}
        yield pa.RecordBatch.from_pydict(columns)


def repeated(scale: int) -> Iterator[Any]:
    """The batches of one scale, again and again: nothing is computed after the first."""
    held = list(batches(ROWS["arrow"]))
    for _ in range(scale):
        yield from held


def decoded(scale: int) -> Iterator[Any]:
    """Batches of the file, read once a scale."""
    import pyarrow.parquet as pq

    for _ in range(scale):
        with pq.ParquetFile(PARQUET) as file:
            yield from file.iter_batches(BATCH)


def make_file() -> None:
    """The Parquet file, once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not PARQUET.exists():
        made = pa.Table.from_batches(batches(ROWS["parquet"]))
        pq.write_table(made, PARQUET.with_suffix(".new"), compression="zstd", row_group_size=BATCH)
        PARQUET.with_suffix(".new").rename(PARQUET)


def stream(kind: str, scale: int, url: str = "") -> Any:
    """The dlt resource of a kind."""
    import dlt

    if kind.endswith("rest"):
        from dlt.sources.rest_api import rest_api_source

        return rest_api_source(rest(url)).resources["rows"]

    @dlt.resource(name="rows")
    def rows() -> Iterator[Any]:
        if kind == "arrow":
            yield from repeated(scale)
        elif kind == "parquet":
            yield from decoded(scale)
        else:
            for number in range(ROWS[kind] * scale // PAGE):
                yield page(number)

    return rows


def rest(url: str) -> Any:
    """The declaration of the server's API."""
    endpoint = {"path": "rows", "data_selector": "data"}
    paginator = {"type": "page_number", "base_page": 1, "total_path": "pages"}
    return {"client": {"base_url": url, "paginator": paginator}, "resources": [{"name": "rows", "endpoint": endpoint}]}


def serve(scale: int, seconds: float) -> None:
    """Pages over HTTP, encoded before the first request; each takes so many seconds."""
    pages = ROWS["rest"] * scale // PAGE
    bodies = [json.dumps({"data": page(number), "pages": pages}).encode() for number in range(100)]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16

        def do_GET(self) -> None:
            time.sleep(seconds)
            body = bodies[(int(self.path.rpartition("page=")[2]) - 1) % len(bodies)]
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


# -- the contestants


def run_drain(kind: str, scale: int, url: str) -> None:
    """The limit: the source alone, its rows dropped."""
    started = time.perf_counter()
    for _ in stream(kind, scale, url):
        pass
    print(json.dumps({"seconds": time.perf_counter() - started}))


def run_insert(kind: str, scale: int, url: str) -> None:
    """The source into a DuckLake by DuckDB alone: every 10 batches inserted as they are."""
    import duckdb
    import pyarrow as pa

    started = time.perf_counter()
    with duckdb.connect() as connection:
        attach_lake(connection, "data_path 'lake.files'")
        listed = ", ".join(f'"{name}" {type_}' for name, type_ in COLUMNS[kind].items())
        connection.execute(f"create schema lake.raw; create table lake.raw.rows ({listed})")
        given = iter(stream(kind, scale, url))
        while held := list(islice(given, 10)):
            connection.register("held", pa.Table.from_batches(held))
            connection.execute("insert into lake.raw.rows from held")
    print(json.dumps({"seconds": time.perf_counter() - started}))


def run_dlt(kind: str, scale: int, url: str) -> None:
    """dlt's own pipeline into DuckLake."""
    import dlt
    from dlt.destinations.impl.ducklake.configuration import DuckLakeCredentials

    started = time.perf_counter()
    here = Path.cwd()
    credentials = DuckLakeCredentials(
        "lake", catalog=f"sqlite:///{here}/lake.sqlite", storage=f"file://{here}/lake.files"
    )
    lake = dlt.destinations.ducklake(credentials=credentials)
    pipeline = dlt.pipeline("bench", destination=lake, dataset_name="raw", pipelines_dir=str(here / "pipelines"))
    pipeline.run(stream(kind, scale, url), loader_file_format="parquet")
    print(json.dumps({"seconds": time.perf_counter() - started}))


def make_project(kind: str, scale: int, url: str) -> None:
    """A project in this folder that loads the stream."""
    columns = "".join(f'          - {{name: {name}, data_type: "{type_}"}}\n' for name, type_ in COLUMNS[kind].items())
    if kind.endswith("rest"):
        declared = rest(url)
        options = {"connector": "rest", "client": declared["client"], "endpoint": declared["resources"][0]["endpoint"]}
    else:
        options = {"connector": "dlt", "source": "sources/rows.py:stream", "arguments": {"kind": kind, "scale": scale}}
    files = {
        "dbt_project.yml": "name: bench\nprofile: bench\nversion: '1.0'\n",
        "profiles.yml": PROFILE,
        "sources/rows.py": SOURCE,
        "models/sources.yml": "sources:\n  - name: bench\n    schema: raw\n    tables:\n      - name: rows\n"
        f"        config: {{meta: {{trunkline: {json.dumps(options)}}}}}\n        columns:\n{columns}",
    }
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


# -- the referee


def lap(name: str, kind: str, scale: int, url: str) -> dict[str, float]:
    """One run in a fresh folder: seconds of wall, CPU and by its own account, peak MB; all rows must be there."""
    folder = WORK / "lap"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [sys.executable, str(HERE), "--child", name, kind, str(scale), url]
    if name == "trunkline":
        subprocess.run([sys.executable, str(HERE), "--child", "project", kind, str(scale), url], cwd=folder, check=True)
        command = [str(Path(sys.executable).with_name("trunkline")), "ingest", "--json"]
    quiet = {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "CRITICAL", "HOME": str(WORK / "home")}
    started = time.perf_counter()
    with (folder / "stdout").open("w+b") as out, (folder / "stderr").open("w+b") as err:
        process = subprocess.Popen(command, cwd=folder, env=os.environ | quiet, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - started
    if process.returncode:
        sys.exit(f"{name} failed:\n" + (folder / "stderr").read_text(errors="replace")[-3000:])
    said = (folder / "stdout").read_text()
    told = json.loads(said if name == "trunkline" else said.splitlines()[-1])
    inner = told["seconds"] if name != "trunkline" else sum(step["seconds"] for step in told["ran"])
    if name != "drain":
        check(folder, ROWS[kind] * scale)
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024, "inner": inner}


def check(folder: Path, expected: int) -> None:
    """Stop unless all rows are in the lake."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("load ducklake; load sqlite_scanner")
        lake = f"attach 'ducklake:sqlite:{folder}/lake.sqlite' as lake (data_path '{folder}/lake.files', "
        connection.execute(f"{lake} override_data_path true, read_only)")
        ((found,),) = connection.sql("select count(*) from lake.raw.rows").fetchall()
    if found != expected:
        sys.exit(f"{found:,} rows, not {expected:,}")


def main() -> None:
    """Let the contestants take turns, print a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", type=int, nargs="*", default=[1, 4], metavar="N")
    parser.add_argument("--rounds", type=int, default=1, help="the best of so many counts")
    parser.add_argument("--streams", nargs="*", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--without", nargs="*", default=[], choices=["dlt", "insert"], help="leave these out")
    given = parser.parse_args()
    (WORK / "home").mkdir(parents=True, exist_ok=True)
    # in a process of its own: the memory of this one would be counted with each contestant's
    subprocess.run([sys.executable, str(HERE), "--child", "file"], check=True)
    print("stream     scale  contestant    wall s  inner s  x inner   cpu s    x cpu  peak MB")
    for kind in given.streams:
        names = ["drain", "trunkline", *([] if kind.endswith("rest") or kind == "dicts" else ["insert"]), "dlt"]
        for scale in given.scales:
            with serving(kind, scale) as url:
                turns(kind, scale, url, [name for name in names if name not in given.without], given.rounds)


@contextmanager
def serving(kind: str, scale: int) -> Iterator[str]:
    """The server's address, where the stream has one."""
    if not kind.endswith("rest"):
        yield ""
        return
    command = [sys.executable, str(HERE), "--child", "serve", str(scale), str(LATENCY if kind == "slow-rest" else 0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.kill()


def turns(kind: str, scale: int, url: str, names: list[str], rounds: int) -> None:
    """Runs of the contestants in turns; the best of each, beside the limit's, which comes first."""
    laps = [{name: lap(name, kind, scale, url) for name in names} for _ in range(rounds)]
    best = {name: {key: min(found[name][key] for found in laps) for key in laps[0][name]} for name in names}
    limit = best[names[0]]
    for name, found in best.items():
        print(
            f"{kind:<10}{scale:>6}  {name:<12}{found['wall']:>8.1f}{found['inner']:>9.1f}"
            f"{found['inner'] / limit['inner']:>8.2f}x{found['cpu']:>8.1f}{found['cpu'] / limit['cpu']:>8.2f}x"
            f"{found['peak']:>9,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        what, arguments = sys.argv[2], sys.argv[3:]
        if what == "serve":
            serve(int(arguments[0]), float(arguments[1]))
        elif what == "file":
            make_file()
        else:
            kinds = {"drain": run_drain, "insert": run_insert, "dlt": run_dlt, "project": make_project}
            kinds[what](arguments[0], int(arguments[1]), arguments[2])
    else:
        main()
