"""One epoch of MLP and TabM: through an estimator, beside a hand-written torch loop on the same tensors.

    python benchmarks/training.py --rounds 5
    python benchmarks/training.py --rows 10000000 --device cuda --models mlp tabm      where there is a GPU

Both train the same network from the same first weights with the same optimiser, schedule and batch size, then score the
validation part and measure ROC AUC. The hand-written loop permutes and gathers with torch; ours goes through
`MLP(...).fit`: its checks, the dataset's own order of batches, the watch for losses that are no number, the copy of the
best epoch. They take turns within one process. How to read the table: benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from trunkline.estimators import MLP, TabM
from trunkline.models.described import describe
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.signature import Field, Signature
from trunkline.training.metrics import METRICS, roc_auc
from trunkline.training.protocol import FitContext, Matrix, TrainingData

NUMBERS, CATEGORIES, CODES = 20, 4, 50


def made(rows: int) -> TrainingData:
    """Twenty numbers, four categories of fifty codes, one in five rows held out."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, NUMBERS + CATEGORIES)).astype(np.float32)
    x[:, NUMBERS:] = random.integers(0, CODES, (rows, CATEGORIES))
    y = (x[:, 0] + np.sin(x[:, NUMBERS]) + random.normal(size=rows) > 1).astype(np.float32)
    columns = [EncodedColumn(f"n{index}", "number") for index in range(NUMBERS)]
    columns += [EncodedColumn(f"c{index}", "category", CODES) for index in range(CATEGORIES)]
    names = [str(code) for code in range(1, CODES)]
    encoder = Encoder(columns, {f"c{index}": names for index in range(CATEGORIES)})
    signature = Signature(tuple(Field(column.name, column.kind) for column in columns), "y")
    cut = rows * 4 // 5
    return TrainingData(Matrix(x[:cut], y[:cut]), Matrix(x[cut:], y[cut:]), encoder, signature, METRICS["roc_auc"])


def network(estimator: Any, data: TrainingData) -> nn.Module:
    """The very network of an estimator: [b, d] -> log-odds [b], or [b, k] of an ensemble."""
    columns, flags = describe(data.encoder, data.task), data.train.missing
    if isinstance(estimator, MLP):
        from trunkline.training.networks.mlp import Network

        return Network(columns, flags, estimator)
    from trunkline.training.networks.peers import Group
    from trunkline.training.networks.tabm import Ensemble, _bins

    bins = _bins(data, columns, Group(None, torch.device("cpu")), estimator.bins)
    return Ensemble(columns, flags, estimator, bins)


def by_hand(estimator: Any, data: TrainingData, device: str) -> float:
    """What one would write."""
    torch.manual_seed(0)
    x, y = torch.from_numpy(data.train.x).to(device), torch.from_numpy(data.train.y).to(device)
    model = network(estimator, data).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=estimator.lr, weight_decay=estimator.weight_decay, fused=True)
    steps = -(-len(y) // estimator.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    autocast = device != "cpu" and torch.cuda.is_bf16_supported()
    for index in torch.randperm(len(y), device=device).split(estimator.batch_size):
        xb, yb = x.index_select(0, index), y.index_select(0, index)
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=autocast):
            raw = model(xb)
        raw = raw.float()
        if isinstance(estimator, TabM):
            yb = yb[:, None].expand(raw.shape)
        loss = nn.functional.binary_cross_entropy_with_logits(raw.view(yb.shape), yb)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if estimator.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), estimator.clip)
        optimizer.step()
        schedule.step()
    return roc_auc(data.validation.y, scored(model.eval(), estimator, data, device))


def scored(model: nn.Module, estimator: Any, data: TrainingData, device: str) -> Any:
    """Probabilities of the validation part."""
    chunk = 32_768 // (estimator.k if isinstance(estimator, TabM) else 1)
    with torch.inference_mode():
        parts = torch.from_numpy(data.validation.x).split(chunk)
        raw = torch.cat([torch.sigmoid(model(part.to(device))).cpu() for part in parts])
    return (raw.mean(1) if isinstance(estimator, TabM) else raw).flatten().double().numpy()


def by_us(estimator: Any, data: TrainingData, device: str) -> float:
    """The same through the estimator."""
    told: list[float] = []
    threads = torch.get_num_threads()
    estimator.fit(data, FitContext(threads=threads, device=device, report=lambda step, value: told.append(value)))
    return told[-1]


def lap(run: Callable[..., float], *arguments: Any) -> tuple[float, float, float]:
    """Wall and CPU seconds, and the ROC AUC that it came to."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = run(*arguments)
    return time.perf_counter() - wall, time.process_time() - cpu, value


def table(name: str, estimator: Any, data: TrainingData, options: argparse.Namespace) -> None:
    """One model's laps."""
    contestants = {"hand-written": by_hand, "trunkline": by_us}
    laps: dict[str, list[tuple[float, float, float]]] = {contestant: [] for contestant in contestants}
    by_hand(estimator, data.select([f"n{i}" for i in range(NUMBERS)]), options.device)  # what is imported on first use
    for turn in range(options.rounds):
        for contestant in list(contestants)[:: 1 if turn % 2 else -1]:
            laps[contestant].append(lap(contestants[contestant], estimator, data, options.device))
    print(f"\n{name}: {len(data.train):,} rows a lap, {len(data.validation):,} scored, {options.device}")
    print(f"{'':14}{'wall s':>9}{'best':>9}{'cpu s':>9}{'best':>9}{'rows/s':>12}{'x wall':>8}{'x cpu':>8}{'auc':>8}")
    first = laps["hand-written"]
    for contestant, found in laps.items():
        walls, cpus, values = zip(*found, strict=True)
        best = [min(times[place] for times in laps[contestant]) for place in (0, 1)]
        ratios = [best[place] / min(times[place] for times in first) for place in (0, 1)]
        print(
            f"{contestant:14}{statistics.median(walls):9.2f}{best[0]:9.2f}{statistics.median(cpus):9.2f}{best[1]:9.2f}"
            f"{len(data.train) / best[0]:12,.0f}{ratios[0]:8.3f}{ratios[1]:8.3f}{values[-1]:8.4f}"
        )


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--models", nargs="+", choices=["mlp", "tabm"], default=["mlp"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = made(options.rows)
    models = {"mlp": MLP(epochs=1), "tabm": TabM(epochs=1, k=8, width=128)}
    for name in options.models:
        table(name, models[name], data, options)


if __name__ == "__main__":
    main()
