"""Rows per second of `select predict_…(…)` on DuckDB, beside bare ONNX Runtime on the same batches in the same run.

    python benchmarks/predict.py [--rows 1000000] [--threads 1] [--rounds 3] [--project demo]

The limit turns Arrow batches of 2,048 rows (DuckDB's own size) into a float32 matrix and runs the session: its
categories were coded before the clock starts. It has its batches at hand, or reads them from DuckDB. Ours gets the
table as a dbt model has it, and encodes inside. With `--project` the rows and the trees are those of a project made by
`make demo`; without it both are made up in the shape of the flights example: 43 numbers, 5 categories, gaps. The
network is trained here in both cases.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trunkline.estimators import MLP, LightGBM
from trunkline.models.bundle import Bundle
from trunkline.models.function import RETURNS, arguments, over_arrow
from trunkline.models.runtime import Scorer, session
from trunkline.models.signature import Signature
from trunkline.training.features import prepare
from trunkline.training.run import TrainSpec, train
from trunkline.warehouse.duckdb import DuckDB, open_duckdb
from trunkline.warehouse.protocol import PythonFunction
from trunkline.warehouse.relation import Relation

BATCH = 2048
CATEGORIES = {"carrier": 15, "origin": 3, "destination": 95, "plane_manufacturer": 27, "plane_model": 83}
NUMBERS = 43


def main() -> None:
    """Prints one table a bundle: medians over interleaved rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=1, help="of DuckDB, and of the loop around the bare session")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--project", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table, target = real(options.project) if options.project else made_up()
        for name, bundle in bundles(table, target, Path(folder), options.project):
            print(
                f"\n{name}: {len(bundle.signature.inputs)} inputs, {options.rows:,} rows, {options.threads} thread(s)"
            )
            compare(bundle, table, options.rows, options.threads, options.rounds)


def compare(bundle: Bundle, table: pa.Table, rows: int, threads: int, rounds: int) -> None:
    """Run the contestants in turn and print their medians."""
    table = table.select(bundle.signature.names)
    table = pa.concat_tables([table] * -(-rows // len(table))).slice(0, rows).combine_chunks()
    warehouse = open_duckdb({"path": ":memory:", "database": "memory", "settings": {"threads": threads}}, Path())
    select = in_duckdb(warehouse, bundle, table)
    matrix = bundle.encoder.encode(table)
    coded = pa.table({name: matrix[:, i].astype(np.float64) for i, name in enumerate(bundle.encoder.names)})
    connection(warehouse).register("coded", coded)
    warehouse.execute("create table memory.main.coded_rows as select * from coded")
    scorer, batches = Scorer(bundle), [batch.columns for batch in cut(table)]
    contestants: dict[str, Callable[[], float]] = {
        "bare ONNX Runtime": bare(bundle, coded, threads),
        "bare, from DuckDB": lambda: sum(pooled(bare_scorer(bundle), from_duckdb(warehouse), threads)),
        "encoder + session": lambda: sum(pooled(scorer.score_columns, batches, threads)),
        "select predict(…)": lambda: float(warehouse.query(select)[0][0]),
    }
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    sums: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in contestants.items():
            wall, cpu = time.perf_counter(), time.process_time()
            sums[name] = run()
            took[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    warehouse.close()
    if not np.allclose(list(sums.values()), sums["bare ONNX Runtime"], rtol=1e-6):
        raise SystemExit(f"the contestants disagree: {sums}")
    print(f"  {'':20} {'rows/s':>10} {'wall s':>8} {'x bare':>7} {'cpu s':>8} {'x bare':>7}")
    first = None
    for name, laps in took.items():
        wall, cpu = (statistics.median(lap[part] for lap in laps) for part in (0, 1))
        first = first or (wall, cpu)
        print(f"  {name:20} {rows / wall:10,.0f} {wall:8.2f} {wall / first[0]:7.2f} {cpu:8.2f} {cpu / first[1]:7.2f}")


def in_duckdb(warehouse: DuckDB, bundle: Bundle, table: pa.Table) -> str:
    """Put the rows into a table and the bundle into a function; the query over both."""
    connection(warehouse).register("given", table)
    warehouse.execute("create table memory.main.given_rows as select * from given")
    function = PythonFunction(Relation("main", "predict"), arguments(bundle.signature), RETURNS, "", "")
    warehouse.create_function(function, over_arrow(bundle.signature.names, lambda: Scorer(bundle)))
    inputs = ", ".join(warehouse.quote(name) for name in bundle.signature.names)
    return f"select sum(memory.main.predict({inputs})) from memory.main.given_rows"


def from_duckdb(warehouse: DuckDB) -> Iterator[list[pa.ChunkedArray]]:
    """The coded rows, read from DuckDB in its own batches."""
    reader = connection(warehouse).sql("select * from memory.main.coded_rows").to_arrow_reader(BATCH)
    return (pa.Table.from_batches([batch]).columns for batch in reader)


def connection(warehouse: DuckDB) -> Any:
    """The connection below our adapter, for what no user of it does."""
    return warehouse._connection


def bare(bundle: Bundle, coded: pa.Table, threads: int) -> Callable[[], float]:
    """Arrow batch → matrix → session, with the categories coded beforehand."""
    batches = [batch.columns for batch in cut(coded)]
    return lambda: sum(pooled(bare_scorer(bundle), batches, threads))


def bare_scorer(bundle: Bundle) -> Callable[[list[pa.ChunkedArray]], Any]:
    """What one would write by hand."""
    run = session(bundle.model()).run

    def score(columns: list[pa.ChunkedArray]) -> Any:
        part = np.empty((len(columns[0]), len(columns)), np.float32)
        for index, column in enumerate(columns):
            part[:, index] = column.to_numpy()
        return run(["score"], {"features": part})[0].astype(np.float64)

    return score


def pooled(score: Callable[[Any], Any], batches: Iterable[Any], threads: int) -> Iterator[float]:
    """The sum of each batch's scores, batches shared out among threads."""
    if threads == 1:
        yield from (float(score(batch).sum()) for batch in batches)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(lambda batch: float(score(batch).sum()), batches)


def cut(table: pa.Table) -> list[pa.Table]:
    """The table in DuckDB's batches."""
    return [table.slice(start, BATCH) for start in range(0, len(table), BATCH)]


def bundles(table: pa.Table, target: str, folder: Path, project: Path | None) -> Iterator[tuple[str, Bundle]]:
    """Trees and a network, by the training code; the trees of `project` if there is one."""
    part = len(table) * 3 // 4
    types = [(field.name, "varchar" if field.type == pa.string() else "double") for field in table.schema]
    signature = Signature.from_schema(types, target=target)
    data = prepare(table.slice(0, part), table.slice(part), signature)
    if project:
        yield "LightGBM", Bundle.open(next((project / ".trunkline" / "bundles").iterdir()))
    else:
        trees = LightGBM(leaves=63, rounds=150, min_leaf=300, feature_fraction=0.5, early_stopping=150)
        yield "LightGBM", train(TrainSpec("bench", lambda _: trees), data, threads=2, out=folder / "trees").bundle
    network = MLP(width=256, depth=2, epochs=1)
    yield "MLP", train(TrainSpec("bench", lambda _: network), data, threads=2, out=folder / "network").bundle


def real(project: Path) -> tuple[pa.Table, str]:
    """The first 100,000 rows of the demo's training part, without its key and time."""
    (dataset,) = (project / ".trunkline" / "datasets" / "flight_features").iterdir()
    table = pq.read_table(dataset / "train.parquet").slice(0, 100_000)
    return table.drop_columns(["flight_id", "scheduled_departure"]), "late"


def made_up(rows: int = 100_000) -> tuple[pa.Table, str]:
    """Rows in the shape of the flights, with something to learn in them."""
    random = np.random.default_rng(0)
    columns: dict[str, Any] = {
        name: pa.array([f"{name} {code}" for code in random.zipf(1.5, rows) % size])
        for name, size in CATEGORIES.items()
    }
    numbers = random.normal(size=(NUMBERS, rows))
    late = numbers[:6].sum(axis=0) + np.abs(numbers[7]) + random.normal(size=rows) > 3
    for index, values in enumerate(numbers):
        columns[f"number_{index}"] = pa.array(values, mask=random.random(rows) < (0.1 if index % 3 == 0 else 0.0))
    return pa.table({**columns, "late": pa.array(late)}), "late"


if __name__ == "__main__":
    main()
