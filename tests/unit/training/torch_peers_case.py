"""One of two processes that fit one network: what became of it, as JSON. Run by test_torch_loop.py."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).parent.parent.parent.parent))

from tests.unit.training.torch_cases import Kept, made
from trunkline.estimators import MLP, Torch
from trunkline.models.task import Task
from trunkline.training.networks.peers import Group
from trunkline.training.networks.torch import flags
from trunkline.training.protocol import FitContext, Matrix, Peers, Pruned


class Odd(torch.nn.Module):
    """With a weight that has no part in the outputs."""

    def __init__(self, columns: Any) -> None:
        super().__init__()
        self.front, self.layer = columns.standardised(), torch.nn.Linear(columns.width, 1)
        self.idle = torch.nn.Parameter(torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The rest of it."""
        return self.layer(self.front(x))


class Leaves(Odd):
    """Whose second process ends in the third batch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """If it comes to that."""
        if rank and self.training and next(turns) == 2:
            os._exit(0)
        return super().forward(x)


class Saved(Kept):
    """Rank 0 brings files; here both ranks find them, as a cluster's storage would have it."""

    def save(self, step: int, files: Any) -> None:
        """Kept where both can read."""
        self.steps.append(step)
        if files is not None:
            for name, content in files.items():
                (folder / name).write_bytes(content)

    def load(self) -> dict[str, bytes] | None:
        """Of rank 0."""
        return {file.name: file.read_bytes() for file in folder.iterdir()} or None


rank, place = int(sys.argv[1]), Path(sys.argv[2])
folder = place / "checkpoint"
folder.mkdir(exist_ok=True)
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)

data = made(Task(), rows=607)
x, y = data.train.x, data.train.y
mine = slice(len(y) * rank // 2, len(y) * (rank + 1) // 2)
x, y = x[mine].copy(), y[mine]
if rank:
    x[torch.isnan(torch.from_numpy(x)).numpy()] = 0.0  # only the other rank has seen missing values
data = replace(data, train=Matrix(x, y))
peers = Peers(rank, 2, 404)
estimator = MLP(width=16, dropout=0.2, lr=0.02, epochs=5, batch_size=50, patience=5)


def weights(model: Any) -> Any:
    """Of the fitted network."""
    return [tensor.tolist() for tensor in model.module.parameters()]


reports: list[int] = []


def third(step: int, value: float) -> None:
    """Ends the fit at its third epoch."""
    reports.append(step)
    if step == 3:
        raise Pruned


whole = estimator.fit(data, FitContext(seed=5, peers=peers))
kept, pruned = Saved(), False
try:
    estimator.fit(data, FitContext(seed=5, peers=peers, report=third, checkpoints=kept))
except Pruned:
    pruned = True
dist.barrier()
resumed = estimator.fit(data, FitContext(seed=5, peers=peers, checkpoints=kept))
balanced = replace(estimator, class_weights="balanced", epochs=1).fit(data, FitContext(peers=peers))
Torch(module=Odd, epochs=1, batch_size=50).fit(data, FitContext(peers=peers))
told = {
    "weights": weights(whole),
    "resumed": weights(resumed),
    "balanced": weights(balanced),
    "auc": data.metric.of(data.validation.y, whole.predict(data.validation.x)),
    "pruned": pruned,
    "reports": reports,
    "saved": kept.steps[:2],
    "flags": flags(data, Group(peers, torch.device("cpu"))),
}
dist.barrier()
if rank:
    print(json.dumps(told), flush=True)  # noqa: T201
turns = itertools.count()
try:
    Torch(module=Leaves, epochs=2, batch_size=50).fit(data, FitContext(peers=peers))
except Exception as exc:  # noqa: BLE001  the test looks at it
    told["left"] = type(exc).__name__
with contextlib.suppress(RuntimeError):
    dist.destroy_process_group()
print(json.dumps(told))  # noqa: T201
