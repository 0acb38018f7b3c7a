"""A fit by two workers of Ray Train: through Trunkline, and by a loop written by hand, on one Ray, taking turns.

    python benchmarks/on_ray.py [--rows 1000000] [--epochs 6] [--rounds 3]

Both read their own half of the same Parquet file, train the same network by DDP over gloo, one thread a worker, with a
global batch of 4,096, and score 50,000 validation rows after each epoch. By hand that is `TorchTrainer` with a
checkpoint an epoch, as Ray's documentation has it. Told are medians of the rounds: the seconds from the call to the end
of the first epoch without the epoch itself, those of an epoch, and those of the whole fit. Trunkline's include what it
does beside: learning the encoder, exporting, comparing the export with the model, writing the bundle.
"""

from __future__ import annotations

import argparse
import os
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trunkline.datasets.manifest import Manifest, Part
from trunkline.project.apart import held_apart
from trunkline.project.files import content_digest
from trunkline.training.apart import Apart, FitPlace
from trunkline.training.placement import Placement
from trunkline.training.subject import find_subject

_ID = "be9c" * 16
_NAMES = [f"x{place}" for place in range(12)]
_VALIDATION = 50_000
_CODE = f"""
import trunkline as tl
from trunkline.estimators import MLP

rows = tl.Dataset("rows", key="id", target="y", groups={{"all": {_NAMES!r}}}, split=tl.split.by_key())


@tl.model(dataset=rows, metric="roc_auc")
def net(trial: tl.Trial):
    return MLP(width=256, depth=2, epochs=EPOCHS, patience=EPOCHS, batch_size=2048)
"""


class Times(NamedTuple):
    """Seconds."""

    start: float
    epoch: float
    whole: float


def main() -> None:
    """Both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ray-bench-") as folder:
        root = _project(Path(folder), options.rows, options.epochs)
        request = {"cpus": 2, "token": secrets.token_hex(32)}
        begun = time.monotonic()
        with held_apart("trunkline.training.on_ray.head:hold", request, root=root) as told:
            print(f"Ray was there after {time.monotonic() - begun:.1f} s")
            placement = Placement(on="ray", workers=2, storage=str(root / ".trunkline" / "ray"), **told)
            by_hand, ours = [], []
            for turn in range(options.rounds):
                by_hand.append(_by_hand(root, placement, options.epochs, turn))
                print("by hand   ", *(f"{seconds:8.2f}" for seconds in by_hand[-1]), flush=True)
                ours.append(_through_trunkline(root, placement, turn))
                print("trunkline ", *(f"{seconds:8.2f}" for seconds in ours[-1]), flush=True)
    _show(by_hand, ours)


def _show(by_hand: list[Times], ours: list[Times]) -> None:
    print(f"{'':10} {'start s':>9} {'epoch s':>9} {'whole s':>9}")
    medians = []
    for name, rounds in {"by hand": by_hand, "trunkline": ours}.items():
        medians.append(Times(*(statistics.median(column) for column in zip(*rounds, strict=True))))
        print(f"{name:10}", *(f"{seconds:9.2f}" for seconds in medians[-1]))
    bare, full = medians
    print(f"ratio      {full.start / bare.start:9.2f} {full.epoch / bare.epoch:9.2f} {full.whole / bare.whole:9.2f}")


def _through_trunkline(root: Path, placement: Placement, turn: int) -> Times:
    stamps: list[float] = []
    state = root / ".trunkline"
    place = FitPlace(state, f"ours-{turn}", state / "bundles" / f".ours-{turn}")
    begun = time.monotonic()
    apart = Apart(find_subject(root, "net", _ID), seed=turn, threads=1, placement=placement)
    trained = apart.train({}, None, place, lambda step, value: stamps.append(time.monotonic()))
    whole = time.monotonic() - begun
    # what the workers tell is looked for five times a second: over all epochs that is nothing
    epoch = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    assert trained.value > 0.7, trained.value
    return Times(stamps[0] - begun - epoch, epoch, whole)


def _by_hand(root: Path, placement: Placement, epochs: int, turn: int) -> Times:
    """In a process of its own, which imports and connects as Trunkline's driver does."""
    import json
    import subprocess

    begun = time.monotonic()
    command = [sys.executable, __file__, "--by-hand", placement.address, str(root), str(epochs), str(turn)]
    environ = os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": placement.token,
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    whole = time.monotonic() - begun
    stamps = json.loads(done.stdout.splitlines()[-1])
    epoch = (stamps[-1] - stamps[0]) / (len(stamps) - 1)
    return Times(stamps[0] - begun - epoch, epoch, whole)


def _drive_by_hand(address: str, root: str, epochs: str, turn: str) -> None:
    import json

    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    trainer = TorchTrainer(
        _loop,
        train_loop_config={"root": root, "epochs": int(epochs)},
        torch_config=TorchConfig(backend="gloo"),
        scaling_config=ScalingConfig(num_workers=2, resources_per_worker={"CPU": 1}),
        run_config=RunConfig(name=f"bare-{turn}", storage_path=f"{root}/.trunkline/ray"),
    )
    print(json.dumps(trainer.fit().return_value))


def _loop(config: dict[str, Any]) -> list[float]:
    """The hand-written loop of a worker; when each epoch ended."""
    import torch
    from ray import train
    from ray.train import Checkpoint
    from ray.train.torch import prepare_model
    from sklearn.metrics import roc_auc_score
    from torch import nn

    from trunkline.models.torch import FARTHEST

    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank = train.get_context().get_world_rank()
    folder = Path(config["root"], ".trunkline", "datasets", "rows", _ID[:16])
    x, y = _tensors(folder / "train.parquet")
    x, y = x[rank::2], y[rank::2]
    held_x, held_y = _tensors(folder / "validation.parquet")
    mean, std = x.mean(0), x.std(0)

    def prepared(x: torch.Tensor) -> torch.Tensor:
        # as the estimator's network does: a number may be missing or far off
        scaled = ((x - mean) / std).clamp(-FARTHEST, FARTHEST)
        return torch.where(torch.isnan(x), torch.zeros_like(scaled), scaled)

    layers = [nn.Linear(12, 256), nn.ReLU(), nn.Dropout(0.1), nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.1)]
    network = prepare_model(nn.Sequential(*layers, nn.Linear(256, 1)))
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    stamps = []
    for epoch in range(config["epochs"]):
        network.train()
        for rows in torch.randperm(len(x)).split(2048):
            logits = network(prepared(x[rows])).squeeze(1)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, y[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.inference_mode():
            score = network(prepared(held_x)).squeeze(1)
        value = float(roc_auc_score(held_y.numpy(), score.numpy()))
        with tempfile.TemporaryDirectory() as scratch:
            torch.save(network.state_dict(), f"{scratch}/model.pt")
            train.report({"epoch": epoch, "roc_auc": value}, checkpoint=Checkpoint.from_directory(scratch))
        stamps.append(time.monotonic())
    return stamps


def _tensors(path: Path) -> tuple[Any, Any]:
    import torch

    table = pq.read_table(path, columns=[*_NAMES, "y"])
    x = np.column_stack([table[name].to_numpy().astype(np.float32) for name in _NAMES])
    return torch.from_numpy(x), torch.from_numpy(table["y"].to_numpy().astype(np.float32))


def _project(root: Path, rows: int, epochs: int) -> Path:
    state = root / ".trunkline"
    folder = state / "datasets" / "rows" / _ID[:16]
    for made in (root / "ml", folder, state / "ray", state / "bundles", state / "checkpoints"):
        made.mkdir(parents=True)
    (root / "ml" / "rows.py").write_text(_CODE.replace("EPOCHS", str(epochs)))
    parts = {}
    for seed, (name, count) in enumerate({"train": rows, "validation": _VALIDATION}.items()):
        path = folder / f"{name}.parquet"
        pq.write_table(_table(count, seed), path, row_group_size=100_000)
        parts[name] = Part(name, count, {}, "", path.name, content_digest(path), path.stat().st_size)
    types = (("id", "BIGINT"), *((name, "DOUBLE") for name in _NAMES), ("y", "BOOLEAN"))
    Manifest(
        dataset_id=_ID,
        content_id="",
        name="rows",
        relation="rows",
        snapshot="1",
        sql="",
        key="id",
        time=None,
        target="y",
        task="binary",
        groups={"all": _NAMES},
        split={"by": "key"},
        schema=types,
        parts=parts,
        load_ids=(),
        unlabelled=0,
        left_out=0,
        created_at="",
    ).write(folder)
    return root


def _table(rows: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, len(_NAMES)))
    logit = numbers[:, 0] * numbers[:, 1] + np.sin(2 * numbers[:, 2])
    y = random.random(rows) < 1 / (1 + np.exp(-logit))
    return pa.table({"id": np.arange(rows), **dict(zip(_NAMES, numbers.T, strict=True)), "y": y})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--by-hand"]:
        _drive_by_hand(*sys.argv[2:])
    else:
        main()
