"""Estimators in PyTorch: from their settings to a fitted network and its export. The home of torch.

The loop is `loop.py`; losses and answers are `tasks.py`; a network of the user's is `user.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trunkline.errors import TrainingError
from trunkline.models.described import Columns, describe
from trunkline.models.torch import Scored, scores, using
from trunkline.training.networks.device import device_of, seeded
from trunkline.training.networks.export import to_onnx
from trunkline.training.networks.loop import Plan, fit
from trunkline.training.networks.mlp import Network
from trunkline.training.networks.peers import Group
from trunkline.training.networks.state import weights_bytes
from trunkline.training.networks.tasks import answer_for, refuse_custom, task_loss
from trunkline.training.networks.user import built, factory_of, guarded, idle_weights, looked_at
from trunkline.training.protocol import FitContext, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.networks.settings import MLP, Torch

__all__ = ["CHUNK", "FittedModule", "FittedTorch", "fit_mlp", "fit_network", "fit_torch", "flags", "unguarded"]

CHUNK = 32_768
"""Rows a call when predicting."""
_PROBE = 4  # rows


@dataclass(frozen=True, eq=False)
class FittedTorch:
    """A fitted network of encoded rows, float32 [n, width] -> scores [n] or [n, k], in evaluation mode."""

    module: Scored
    width: int
    threads: int
    device: str = "cpu"
    chunk: int = CHUNK

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The network's scores."""
        with using(self.threads):
            return scores(self.module, x, device=self.device, chunk=self.chunk)

    def to_onnx(self) -> bytes:
        """The network through torch.export."""
        return to_onnx(self.module, self.width)


@dataclass(frozen=True, eq=False)
class FittedModule(FittedTorch):
    """A fitted network of the user's, which can be told in files where ONNX cannot tell it."""

    settings: Torch | None = None

    @property
    def root(self) -> Path:
        """The project's folder. Raises TrainingError for code that no file of a project holds."""
        assert self.settings is not None
        return factory_of(self.settings)[0]

    def files(self) -> Mapping[str, bytes]:
        """`model.safetensors` and `module.json`. Raises as `root` does."""
        assert self.settings is not None
        return {"model.safetensors": weights_bytes(self.module), "module.json": factory_of(self.settings)[1].to_json()}


def fit_mlp(estimator: MLP, data: TrainingData, context: FitContext) -> FittedTorch:
    """Fit by AdamW on the task's loss; keep the epoch that validates best. See `Estimator.fit`."""
    refuse_custom("MLP", data.task)

    def plan(columns: Columns, device: torch.device, group: Group) -> Plan:
        network = Network(columns, flags(data, group), estimator)
        answer = answer_for(data, group)
        loss = task_loss(data, estimator, answer, group)
        return Plan(Scored(network, answer), loss, estimator, unguarded, CHUNK)

    return FittedTorch(*fit_network(plan, data, context))


def fit_torch(estimator: Torch, data: TrainingData, context: FitContext) -> FittedModule:
    """Fit a network of the user's. See `Estimator.fit`."""

    def plan(columns: Columns, device: torch.device, group: Group) -> Plan:
        answer = answer_for(data, group, loss=estimator.loss, own=estimator.answer)
        loss = task_loss(data, estimator, answer, group, estimator.loss)
        module = Scored(built(estimator, columns), answer).to(device)
        rows = torch.from_numpy(data.validation.x[:_PROBE]).to(device)
        with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
            looked_at(module, estimator, columns, rows)
            idle = not group.alone and idle_weights(module, estimator, rows)
        guard = guarded(estimator, alone=group.alone)
        return Plan(module, loss, estimator, guard, CHUNK, estimator.optimizer, idle)

    return FittedModule(*fit_network(plan, data, context), settings=estimator)


def fit_network(
    make: Callable[[Columns, torch.device, Group], Plan], data: TrainingData, context: FitContext
) -> tuple[Scored, int, int, str, int]:
    """Make a plan under the context's seed and fit it: the fields of a `FittedTorch`."""
    device = device_of(context)
    group = Group(context.peers, device)
    columns = describe(data.encoder, data.task)
    if group.most([float(not np.isfinite(data.train.y).all())])[0]:
        raise TrainingError(f"the target {data.signature.target!r} is not a finite number in every training row")
    with seeded(context.seed, context.threads, device):
        plan = make(columns, device, group)
        fit(plan, data, context, device, group)
    return plan.module, columns.width, context.threads, str(device), plan.chunk


def flags(data: TrainingData, group: Group) -> list[bool]:
    """Whether each column of the matrix was ever missing, in the rows of any rank."""
    return [bool(missing) for missing in group.most([float(missing) for missing in data.train.missing])]


def unguarded(place: str) -> contextlib.AbstractContextManager[Any]:
    """The guard of our own networks: what goes wrong in them is not the user's."""
    return contextlib.nullcontext()
