"""A dataset built from a table, without a project around it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.contract.servers import ObjectStore
from trunkline.context import Job, StepContext
from trunkline.datasets.manifest import Manifest, read_manifest
from trunkline.datasets.run import folder, run
from trunkline.datasets.steps import Upstream, dataset_step
from trunkline.datasets.vault import sealed_file
from trunkline.ledger.ledger import Ledger
from trunkline.project.config import Datasets
from trunkline.project.probes import DEFAULTS
from trunkline.project.secrets import Secrets
from trunkline.project.split import Split, by_time
from trunkline.registry.memory import MemoryRegistry
from trunkline.warehouse.duckdb import open_duckdb
from trunkline.warehouse.protocol import ParquetWriter, Warehouse

KEY = b"k" * 32
BY_TIME = by_time(validation="2025-01-03", test="2025-01-05")
ROWS = (
    "select i as id, timestamp '2025-01-01' + interval (i) hour as at, i % 7 as a, 'x' || (i % 3) as b, "
    "case when i % 11 = 0 then null else i % 2 = 0 end as late from range(144) t(i)"
)


def context(warehouse: Warehouse, root: Path) -> StepContext:
    """What a step gets."""
    return StepContext(
        root=root,
        run_id="run_1",
        target="dev",
        warehouse=warehouse,
        ledger=Ledger(warehouse),
        registry=MemoryRegistry,
        progress=lambda text, done=None: None,
        vault_key=lambda: KEY,
        secrets=Secrets(root),
        who="tester",
        git_commit=lambda: None,
    )


def declared(split: Split = BY_TIME, **changes: Any) -> dict[str, Any]:
    """The declaration of a dataset of `ROWS`, in the table `main.mart`."""
    groups = {"one": ["a"], "two": ["b"]}
    plain = {"name": "mart", "relation": "mart", "key": "id", "time": "at", "target": "late", "task": None}
    quiet = dict.fromkeys(DEFAULTS, "off")  # the probes have tests of their own
    return {**plain, "probes": quiet, "groups": groups, "split": split.to_json(), **changes}


def build(ctx: StepContext, data: dict[str, Any], fingerprint: str = "f" * 64, schema: str = "main") -> Manifest:
    """Run the dataset's step; its manifest."""
    step = dataset_step(data, Upstream("build:mart", (schema, "mart"), ()), (), "ml/m.py:4")
    run(Job(step, fingerprint, {}), ctx)
    return read_manifest(folder(ctx.state, data["name"], fingerprint))


def tables(ctx: StepContext, manifest: Manifest) -> dict[str, pa.Table]:
    """All parts, the sealed one too, as the gate would read them."""
    import pyarrow.parquet as pq

    place = folder(ctx.state, manifest.name, manifest.dataset_id)
    found = {part: pq.read_table(place / f"{part}.parquet") for part in ("train", "validation")}
    assert isinstance(ctx.warehouse, ParquetWriter)
    sealed = sealed_file(ctx.state, manifest.name, manifest.dataset_id)
    return {**found, "test": ctx.warehouse.read_sealed(sealed, KEY)}


def ids(ctx: StepContext, manifest: Manifest) -> dict[str, list[int]]:
    """The keys of each part, in the order of its rows."""
    return {part: table.column("id").to_pylist() for part, table in tables(ctx, manifest).items()}


def _machine(root: Path, datasets: Datasets) -> StepContext:
    root.mkdir(parents=True)
    warehouse = open_duckdb({"path": "local.duckdb"}, root)
    warehouse.execute(f"create table main.mart as {ROWS}")
    environ = {"KEY": ObjectStore.key_id, "SECRET": ObjectStore.secret}
    return replace(context(warehouse, root), datasets=datasets, secrets=Secrets(root, environ))


@contextlib.contextmanager
def two_machines(tmp_path: Path, datasets: Datasets) -> Iterator[tuple[StepContext, StepContext]]:
    """Two machines that share nothing but the store."""
    machines = [_machine(tmp_path / name, datasets) for name in ("one", "two")]
    yield machines[0], machines[1]
    for each in machines:
        each.warehouse.close()


def must_share(one: StepContext, two: StepContext) -> None:
    """What one has built, the other fetches, and needs nothing else for it."""
    built = build(one, declared())
    two.warehouse.execute("drop table main.mart")  # nothing to build it from
    assert build(two, declared()) == built
    assert ids(two, built) == ids(one, built)
    assert [row["dataset_id"] for row in two.ledger.read("datasets")] == [built.dataset_id]
