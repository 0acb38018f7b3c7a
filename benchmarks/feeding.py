"""Feeding training: shuffled batches from a Parquet file, load included, beside the floor and other loaders.

    python benchmarks/feeding.py --rounds 3                          the table, without peers that are not installed
    python benchmarks/feeding.py --peers ~/bench/bin/python          with Ray Data and HF datasets from that environment
    python benchmarks/feeding.py --scenes growth fit prefetch        what else the aims name

6,000,000 rows of 12 float32 features and a target, as our datasets are written (zstd, row groups of 122,880 rows), in
batches of 4,096, one epoch. Each contestant is a process of its own, they take turns, and each must have seen every
row: the sum of the targets is compared. Walks of more than 12 s are cut, and their rate counts for the rest. torch has
one thread, unless told otherwise: its threads wait for each other, and a busy machine makes that the measure.
How to read the tables: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

WORK = Path(__file__).resolve().parent / ".work" / "feeding"
ROWS, WIDTH, BATCH, CUT = 6_000_000, 12, 4_096, 12.0
FEATURES = [f"f{number}" for number in range(WIDTH)]
NAMES = [*FEATURES, "target"]


# -- the contestants: each yields (rows, sum of the targets) a batch; what is before the first batch is its load


def run_floor(file: Path) -> Iterator[tuple[int, float]]:
    """The floor: record batches into one matrix, one permutation, one `index_select` a batch."""
    import numpy as np
    import pyarrow.parquet as pq
    import torch

    with pq.ParquetFile(file) as opened:
        matrix = np.empty((opened.metadata.num_rows, len(NAMES)), np.float32)
        place = 0
        for rows in opened.iter_batches(65_536):
            for index, column in enumerate(rows.columns):
                matrix[place : place + len(rows), index] = column.to_numpy(zero_copy_only=False)
            place += len(rows)
    whole = torch.from_numpy(matrix)
    for index in torch.randperm(len(whole)).split(BATCH):
        batch = whole.index_select(0, index)
        yield len(batch), float(batch[:, -1].sum())


def run_floor_duckdb(file: Path) -> Iterator[tuple[int, float]]:
    """The same, read by DuckDB."""
    import duckdb
    import numpy as np
    import torch

    with duckdb.connect() as connection:
        rows = connection.sql(f"select count(*) from '{file}'").fetchall()[0][0]
        matrix, place = np.empty((rows, len(NAMES)), np.float32), 0
        for part in connection.sql(f"from '{file}'").to_arrow_reader(122_880):
            for index, column in enumerate(part.columns):
                matrix[place : place + len(part), index] = column.to_numpy(zero_copy_only=False)
            place += len(part)
    whole = torch.from_numpy(matrix)
    for index in torch.randperm(len(whole)).split(BATCH):
        batch = whole.index_select(0, index)
        yield len(batch), float(batch[:, -1].sum())


def run_trunkline(file: Path) -> Iterator[tuple[int, float]]:
    """Ours in memory: digest checked, encoder applied."""
    yield from _ours(file, None)


def run_trunkline_streamed(file: Path) -> Iterator[tuple[int, float]]:
    """Ours, told that 256 MB may be used."""
    yield from _ours(file, 256 << 20)


def _ours(file: Path, memory: int | None) -> Iterator[tuple[int, float]]:
    from trunkline.datasets.batches import Order, batches_of
    from trunkline.datasets.feed import Encoded, OpenPart, Target
    from trunkline.datasets.torch import tensors
    from trunkline.models.encoder import EncodedColumn, Encoder
    from trunkline.project.files import check_content

    check_content(file, file.with_suffix(".digest").read_text())
    encoder = Encoder([EncodedColumn(name, "number") for name in FEATURES], {})
    batches = batches_of(Encoded(OpenPart(file), encoder, Target("target")), Order(BATCH), memory=memory)
    assert batches.mode == ("memory" if memory is None else "streamed")
    for x, y in tensors(batches):
        yield len(x), float(y.sum())


def run_loader_best(file: Path) -> Iterator[tuple[int, float]]:
    """torch's DataLoader at its best: one fetch a batch."""
    from torch.utils.data import BatchSampler, DataLoader, RandomSampler

    data = _tensors(file)
    sampler = BatchSampler(RandomSampler(data), BATCH, drop_last=False)
    for x, y in DataLoader(data, sampler=sampler, batch_size=None):
        yield len(x), float(y.sum())


def run_loader_plain(file: Path) -> Iterator[tuple[int, float]]:
    """torch's DataLoader as people write it."""
    from torch.utils.data import DataLoader

    for x, y in DataLoader(_tensors(file), batch_size=BATCH, shuffle=True):
        yield len(x), float(y.sum())


def run_loader_workers(file: Path) -> Iterator[tuple[int, float]]:
    """The same with two workers."""
    from torch.utils.data import DataLoader

    for x, y in DataLoader(_tensors(file), batch_size=BATCH, shuffle=True, num_workers=2):
        yield len(x), float(y.sum())


def _tensors(file: Path) -> Any:
    import pandas as pd
    import torch
    from torch.utils.data import TensorDataset

    frame = pd.read_parquet(file)
    x = torch.tensor(frame[FEATURES].to_numpy("float32"))
    return TensorDataset(x, torch.tensor(frame["target"].to_numpy("float32")))


def run_hf_streaming(file: Path) -> Iterator[tuple[int, float]]:
    """HF datasets, streamed with a buffer of 100,000 rows to shuffle in."""
    import datasets

    data = datasets.load_dataset("parquet", data_files=str(file), split="train", streaming=True)
    for batch in data.shuffle(seed=0, buffer_size=100_000).with_format("torch").iter(BATCH):
        yield len(batch["target"]), float(batch["target"].sum())


def run_ray(file: Path) -> Iterator[tuple[int, float]]:
    """Ray Data with its global shuffle."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.read_parquet(str(file)).random_shuffle(seed=0)
    for batch in data.iter_torch_batches(batch_size=BATCH):
        yield len(batch["target"]), float(batch["target"].sum())


CONTESTANTS: dict[str, Callable[[Path], Iterator[tuple[int, float]]]] = {
    "floor (pyarrow)": run_floor,
    "floor (duckdb)": run_floor_duckdb,
    "trunkline": run_trunkline,
    "trunkline streamed": run_trunkline_streamed,
    "DataLoader, at its best": run_loader_best,
    "DataLoader, 2 workers": run_loader_workers,
    "DataLoader, plain": run_loader_plain,
    "HF datasets, streamed": run_hf_streaming,
    "Ray Data": run_ray,
}
PEERS = {"HF datasets, streamed": "datasets", "Ray Data": "ray"}


# -- one lap, in the contestant's process


def lap(contestant: str, file: Path) -> None:
    """Walk an epoch; print what it took as JSON."""
    import torch  # everyone needs it, so its import is measured apart

    torch.set_num_threads(int(os.environ["FEEDING_THREADS"]))
    imported = time.perf_counter()
    imported_cpu = _cpu()
    rows, total, first = 0, 0.0, None
    cut = False
    for count, targets in CONTESTANTS[contestant](file):
        first = time.perf_counter() if first is None else first
        rows, total = rows + count, total + targets
        cut = time.perf_counter() - first > float(os.environ["FEEDING_CUT"])
        if cut:
            break
    assert first is not None
    walk = time.perf_counter() - first
    done = {
        "rows": rows,
        "sum": total,
        "load": first - imported,
        "walk": walk,
        "cut": cut,
        "cpu": _cpu() - imported_cpu,
    }
    print("LAP " + json.dumps(done), flush=True)
    os._exit(0)  # workers and daemons need no farewell


def _cpu() -> float:
    """CPU seconds of this process and of its children that ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def measure(python: str, contestant: str, file: Path) -> dict[str, Any] | None:
    """A lap in a fresh process, watched for its memory; None where a peer is not installed."""
    if (library := PEERS.get(contestant)) and subprocess.run(
        [python, "-c", f"import {library}"], capture_output=True, check=False
    ).returncode:
        return None
    begun = time.perf_counter()
    command = [python, __file__, "--lap", contestant, "--file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = [0]
        watcher = threading.Thread(target=_watch, args=(process, peak))
        watcher.start()
        out, err = process.communicate(timeout=600)
        wall = time.perf_counter() - begun
        watcher.join()
    line = next((line for line in out.splitlines() if line.startswith("LAP ")), None)
    if line is None:
        raise SystemExit(f"{contestant} failed:\n{err[-3000:]}")
    done: dict[str, Any] = json.loads(line.removeprefix("LAP "))
    rows = rows_of(file)
    if done["cut"]:  # the rest at the rate of what was walked
        more = done["walk"] * (rows / done["rows"] - 1)
        wall, done["cpu"] = wall + more, done["cpu"] * rows / done["rows"]
        done["walk"] += more
    elif (done["rows"], done["sum"]) != (rows, rows // 2):
        raise SystemExit(f"{contestant} saw {done['rows']:,} rows with a sum of {done['sum']:,}")
    print(f"  {contestant}: {wall:.1f} s", file=sys.stderr, flush=True)
    return {**done, "wall": wall, "peak": peak[0] / 2**20}


def _watch(process: subprocess.Popen[str], peak: list[int]) -> None:
    """The largest sum of the proportional set sizes of a process and all below it, in bytes."""
    while process.poll() is None:
        peak[0] = max(peak[0], sum(_pss(pid) for pid in _tree(process.pid)))
        time.sleep(0.05)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield from _tree(int(child))


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


# -- the data


def rows_of(file: Path) -> int:
    """As its name says."""
    return int(file.stem)


def data(rows: int) -> Path:
    """The file of so many rows, written once. Half of the targets are 1."""
    file = WORK / f"{rows}.parquet"
    if not file.exists():
        import duckdb

        from trunkline.project.files import content_digest

        WORK.mkdir(parents=True, exist_ok=True)
        columns = ", ".join(
            f"cast(hash(i, {k}) % 100000 / 1000.0 + i / {rows}.0 as float) as f{k}" for k in range(WIDTH)
        )
        query = f"select {columns}, i % 2 as target from range({rows}) t(i)"
        unfinished = file.with_suffix(".unfinished")
        with duckdb.connect() as connection:
            connection.execute(
                f"copy ({query}) to '{unfinished}' (format parquet, compression zstd, row_group_size 122880)"
            )
        file.with_suffix(".digest").write_text(content_digest(unfinished))
        unfinished.rename(file)
    with file.open("rb", buffering=0) as opened:  # into the page cache: the disk is nobody's merit
        while opened.read(1 << 24):
            pass
    return file


# -- the scenes


def main_scene(options: argparse.Namespace) -> None:
    """All contestants in turn."""
    os.environ["FEEDING_CUT"] = str(CUT)
    file = data(options.rows)
    names = options.only or list(CONTESTANTS)
    laps: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for number in range(options.rounds):
        for name in names:
            if number and laps[name] and laps[name][0]["cut"]:
                continue  # once is enough to tell
            python = options.peers if name in PEERS else sys.executable
            done = measure(python, name, file)
            if done is None:
                if not number:
                    print(f"{name}: {PEERS[name]} is not installed; see --peers")
                continue
            laps[name].append(done)
    load = f"load average {os.getloadavg()[0]:.1f}"
    print(f"\n{rows_of(file):,} rows x {WIDTH} float32 and a target, batches of {BATCH:,}, {load}")
    _table({name: found for name, found in laps.items() if found})


def growth_scene(options: argparse.Namespace) -> None:
    """Streamed, with 1, 3 and 10 times the rows: memory must not grow. In memory first, for its speed."""
    os.environ["FEEDING_CUT"] = "inf"  # to the end: memory may grow late
    laps: dict[str, list[dict[str, Any]]] = {}
    scenes = [("trunkline", 1), *(("trunkline streamed", times) for times in (1, 3, 10))]
    for _ in range(options.rounds):
        for name, times in scenes:
            done = measure(sys.executable, name, data(times * options.rows))
            assert done is not None
            laps.setdefault(f"{name}, {times}x", []).append(done)
    print()
    _table(laps)


def fit_scene(options: argparse.Namespace) -> None:
    """Fitting the encoder beside reading what it is fitted on."""
    import pyarrow as pa

    from trunkline.datasets.feed import OpenPart, whole
    from trunkline.models.fitting import Fitting
    from trunkline.models.signature import Signature

    part = OpenPart(data(options.rows))
    signature = Signature.from_schema([(name, "FLOAT") for name in FEATURES], target="target")
    found: dict[str, list[tuple[float, float]]] = {"reading": [], "fitting": []}
    for _ in range(2 * options.rounds + 1):
        for name, take in {"reading": lambda rows: None, "fitting": Fitting(signature).add}.items():
            rows: Iterable[pa.RecordBatch] = part.read(whole(part), FEATURES)
            begun, cpu = time.perf_counter(), _cpu()
            for batch in rows:
                take(batch)
            found[name].append((time.perf_counter() - begun, _cpu() - cpu))
    reading, both = (min(cpu for _, cpu in found[name]) for name in ("reading", "fitting"))
    walls = [min(wall for wall, _ in found[name]) for name in ("reading", "fitting")]
    print(f"\nreading {reading:.2f} s of CPU ({walls[0]:.2f} s), reading and fitting {both:.2f} s ({walls[1]:.2f} s)")
    print(f"fitting takes {(both - reading) / reading:.2f} of the CPU of reading (aim: 1)")


def prefetch_scene(options: argparse.Namespace) -> None:
    """Whether a thread that prepares the next batch helps a training step: a small network, short walks, the best."""
    import queue

    import numpy as np
    import torch

    from trunkline.datasets.batches import InMemory, Order
    from trunkline.datasets.torch import Tensors, tensors

    torch.set_num_threads(options.threads)
    random = np.random.default_rng(0)
    held = random.random((400_000, WIDTH), np.float32), random.random(400_000, np.float32)
    network = torch.nn.Sequential(torch.nn.Linear(WIDTH, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def ahead(batches: Iterable[Tensors]) -> Iterator[Tensors]:
        ready: queue.Queue[Tensors | None] = queue.Queue(2)

        def prepare() -> None:
            for batch in batches:
                ready.put(batch)
            ready.put(None)

        threading.Thread(target=prepare, daemon=True).start()
        while (batch := ready.get()) is not None:
            yield batch

    def walk(batches: Iterable[Tensors], train: bool) -> float:
        begun = time.perf_counter()
        for x, y in batches:
            if train:
                optimizer.zero_grad()
                (network(x).squeeze(1) - y).square().mean().backward()
                optimizer.step()
        return time.perf_counter() - begun

    print()
    for train in (False, True):
        found: dict[str, list[float]] = {"asked for": [], "in a thread": []}
        for number in range(10 * options.rounds):
            made = tensors(InMemory(*held, Order(BATCH)), pinned=False)
            found["asked for"].append(walk(made.epoch(number), train))
            found["in a thread"].append(walk(ahead(made.epoch(number)), train))
        steps = -(-len(held[1]) // BATCH)
        said = ", ".join(f"{name} {min(times) / steps * 1e3:.3f} ms" for name, times in found.items())
        print(f"a batch {'with a small training step' if train else 'alone'}: {said}")


SCENES = {"main": main_scene, "growth": growth_scene, "fit": fit_scene, "prefetch": prefetch_scene}


def _table(laps: dict[str, list[dict[str, Any]]]) -> None:
    """Medians, and ratios to the first contestant, without the import of torch."""
    heads = ("contestant", "laps", "wall s", "load s", "walk s", "load+walk", "x", "cpu s", "x cpu", "peak MB")
    lines = []
    first: tuple[float, float] | None = None
    for name, found in laps.items():
        wall, load, walk, cpu, peak = (
            statistics.median(one[key] for one in found) for key in ("wall", "load", "walk", "cpu", "peak")
        )
        both = statistics.median(one["load"] + one["walk"] for one in found)
        first = first or (both, cpu)
        cut = " (cut)" if found[0]["cut"] else ""
        lines.append(
            (name, str(len(found)), f"{wall:.1f}", f"{load:.2f}", f"{walk:.2f}{cut}", f"{both:.2f}",
             f"{both / first[0]:.2f}", f"{cpu:.2f}", f"{cpu / first[1]:.2f}", f"{peak:,.0f}")
        )  # fmt: skip
    for line in (heads, ("---",) * len(heads), *lines):
        print("| " + " | ".join(line) + " |")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=["main"])
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS)
    parser.add_argument("--peers", default=sys.executable, help="a Python that has ray and datasets")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--lap", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lap:
        lap(options.lap, options.file)
    os.environ["FEEDING_THREADS"] = str(options.threads)
    for scene in options.scenes:
        SCENES[scene](options)


if __name__ == "__main__":
    main()
