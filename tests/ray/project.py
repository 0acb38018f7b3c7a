"""A project with one dataset of 20,000 rows and four models, without dbt: as its training steps find it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trunkline.datasets.manifest import Manifest, Part
from trunkline.project.files import content_digest
from trunkline.training.apart import FitPlace
from trunkline.training.subject import Subject, find_subject

DATASET_ID = "5eed" * 16
_ROWS = {"train": 20_000, "validation": 4_000}
_NUMBERS = [f"x{place}" for place in range(6)]

_CODE = '''
from pathlib import Path

import trunkline as tl
from trunkline.estimators import MLP, LightGBM, XGBoost

trips = tl.Dataset(
    "trips",
    key="id",
    target="late",
    groups={"all": ["x0", "x1", "x2", "x3", "x4", "x5", "kind"]},
    split=tl.split.by_key(),
)


def confined():
    """Whoever runs this must not see the vault."""
    if Path("dbt_free").exists():  # the project's own folder, not a copy of it
        try:
            Path(".trunkline/vault/secret").read_text()
        except PermissionError:
            return
        raise RuntimeError("the vault can be read")


@tl.model(dataset=trips, metric="roc_auc")
def net(trial: tl.Trial):
    confined()
    return MLP(width=64, depth=1, lr=trial.suggest_float("lr", 1e-4, 1e-1), epochs=80, patience=80, batch_size=512)


@tl.model(dataset=trips, metric="roc_auc")
def trees(trial: tl.Trial):
    confined()
    leaves = trial.suggest_int("leaves", 4, 31, log=True)
    return LightGBM(leaves=leaves, lr=0.01, rounds=2400, early_stopping=2400, min_leaf=20)


@tl.model(dataset=trips, metric="roc_auc")
def few(trial: tl.Trial):
    confined()
    leaves = trial.suggest_int("leaves", 4, 31, log=True)
    return LightGBM(leaves=leaves, lr=0.05, rounds=400, early_stopping=400, min_leaf=20)


@tl.model(dataset=trips, metric="roc_auc", first={"rounds": 100})
def quick(trial: tl.Trial):
    confined()
    return XGBoost(depth=3, lr=trial.suggest_float("lr", 0.01, 0.3), rounds=trial.suggest_int("rounds", 50, 100))
'''


def write_project(root: Path) -> Path:
    """Write it below `root`."""
    (root / "ml").mkdir()
    (root / "ml" / "trips.py").write_text(_CODE)
    (root / "dbt_free").touch()
    state = root / ".trunkline"
    for name in ("bundles", "checkpoints", "ray", "studies", "vault"):
        (state / name).mkdir(parents=True)
    (state / "vault" / "secret").write_text("sealed")
    _write_dataset(state / "datasets" / "trips" / DATASET_ID[:16])
    return root


def subject(root: Path, model: str) -> Subject:
    """One of its models on its dataset."""
    return find_subject(root, model, DATASET_ID)


def fit_place(root: Path, key: str) -> FitPlace:
    """Where a fit of that key keeps what it has."""
    return FitPlace(root / ".trunkline", key, root / ".trunkline" / "bundles" / f".{key}")


def _write_dataset(folder: Path) -> None:
    folder.mkdir(parents=True)
    parts = {}
    for seed, (name, rows) in enumerate(_ROWS.items()):
        path = folder / f"{name}.parquet"
        table = _table(rows, seed)
        pq.write_table(table, path, row_group_size=2_500)
        part = Part(name, rows, {}, "", path.name, content_digest(path), path.stat().st_size)
        parts[name] = replace(part, labels={"true": int(np.sum(table["late"].to_numpy()))})
    types = [("id", "BIGINT"), *((name, "DOUBLE") for name in _NUMBERS), ("kind", "VARCHAR"), ("late", "BOOLEAN")]
    Manifest(
        dataset_id=DATASET_ID,
        content_id="",
        name="trips",
        relation="trips",
        snapshot="1",
        sql="",
        key="id",
        time=None,
        target="late",
        task="binary",
        groups={"all": [*_NUMBERS, "kind"]},
        split={"by": "key"},
        schema=tuple(types),
        parts=parts,
        load_ids=(),
        unlabelled=0,
        left_out=0,
        created_at="2026-01-01T00:00:00+00:00",
    ).write(folder)


def _table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, len(_NUMBERS)))
    kind = random.integers(0, 5, rows)
    logit = numbers[:, 0] * numbers[:, 1] + np.sin(2 * numbers[:, 2]) + (kind == 3)
    late = random.random(rows) < 1 / (1 + np.exp(-logit))
    columns = {"id": np.arange(rows), **dict(zip(_NUMBERS, numbers.T, strict=True))}
    return pa.table({**columns, "kind": [f"k{value}" for value in kind], "late": late})
