"""The training loop of all estimators in PyTorch: epochs, the best of them, checkpoints, pruning, several processes.

A fit is determined by its settings, seed, threads, device and peers. Taken up from a checkpoint it goes on as if it had
not been interrupted: weights, optimiser, schedule, the best epoch and the random numbers are those of the end of the
checkpoint's epoch, to the bit. Peers average gradients by DistributedDataParallel; rank 0 measures, and its verdict
(the metric, whether to stop, whether to save) is that of all.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trunkline.datasets.batches import Last, Order
from trunkline.errors import TrainingError
from trunkline.models.torch import Scored, scores
from trunkline.training.checkpoints import Paced
from trunkline.training.networks.data import Feed, feed_for
from trunkline.training.networks.device import autocast, compiled, compiler_told, compiles
from trunkline.training.networks.state import pack, unpack
from trunkline.training.protocol import FitContext, Matrix, Pruned, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.networks.peers import Group
    from trunkline.training.networks.settings import Loop
    from trunkline.training.networks.tasks import Loss

__all__ = ["Plan", "Progress", "fit"]

_WARM_UP = 0.1  # share of the steps
_LOOK = 64  # steps between two looks at the loss on a GPU, each of which waits for it
_WORTH = 100  # a save may take one part in so many of the time since the one before

_Guard = Callable[[str], contextlib.AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is fitted, and how. `optimizer` makes one for the weights; None is AdamW.

    `guard` surrounds all that may run code of the user's, and tells what goes wrong there. `idle` says that some
    weights may get no gradient, `chunk` is rows a call when predicting.
    """

    module: Scored
    loss: Loss
    settings: Loop
    guard: _Guard
    chunk: int
    optimizer: Callable[[Any], Any] | None = None
    idle: bool = False


@dataclass
class Progress:
    """How far a fit is: epochs done, and the best of them (`best` so that more is better)."""

    epoch: int = 0
    best: float = -math.inf
    best_epoch: int = 0


class _Outputs(nn.Module):
    """A network's raw outputs, as the one call that DistributedDataParallel and torch.compile wrap."""

    def __init__(self, scored: Scored) -> None:
        super().__init__()
        self.scored = scored

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scored.outputs(x)


def fit(plan: Plan, data: TrainingData, context: FitContext, device: torch.device, group: Group) -> None:
    """Fit the plan's module in place, and leave it with the weights of its best epoch, ready to predict."""
    settings, seed = plan.settings, context.seed
    plan.module.to(device)
    # Normalisation over a batch cannot do with a single row, so none is left for the last one.
    last: Last = "even" if len(data.train) % settings.batch_size == 1 else "keep"
    feed = feed_for(data.train, Order(settings.batch_size, seed, last=last), device, group, context.peers)
    steps = settings.epochs * len(feed)
    run = _Run(plan, data, context, device, group, feed, steps)
    progress = run.resumed()
    while progress.epoch < settings.epochs and progress.epoch - progress.best_epoch < settings.patience:
        run.epoch(progress.epoch + 1)
        run.judge(progress)
    plan.module.load_state_dict(run.weights)
    plan.module.eval()


class _Run:
    """One fit under way."""

    def __init__(
        self,
        plan: Plan,
        data: TrainingData,
        context: FitContext,
        device: torch.device,
        group: Group,
        feed: Feed,
        steps: int,
    ) -> None:
        self.plan, self.data, self.context = plan, data, context
        self.device, self.group, self.feed = device, group, feed
        self.optimizer = _optimizer(plan)
        rate = _cosine if plan.settings.schedule == "cosine" else _constant
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: rate(step, steps))
        outputs = _parallel(plan, device, group)
        self.forward = compiled(outputs) if compiles(plan.settings, device, steps) else outputs
        self.weights: dict[str, torch.Tensor] = plan.module.state_dict()
        self.saving = _Saving(context.checkpoints)
        self.share = _on_device(data.validation.x[group.stretch(len(data.validation))], device)

    def epoch(self, number: int) -> None:
        """One pass over the training part. Raises TrainingError where the loss is no longer a number."""
        if not self.group.alone:  # so that no rank's random numbers need to be in a checkpoint
            torch.manual_seed(_mixed(self.context.seed, number, self.group.rank))
        self.plan.module.train()
        watch = _Watch(number, self)
        for x, y in self.feed.epoch(number):
            watch.add(self._step(x, y, number))
        watch.end()

    def _step(self, x: torch.Tensor, y: torch.Tensor, epoch: int) -> torch.Tensor:
        with self.plan.guard(f"in epoch {epoch}"), compiler_told():
            with autocast(self.plan.settings, self.device):
                raw = self.forward(x)
            loss = self.plan.loss(raw.float(), y)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if self.plan.settings.clip is not None:
                nn.utils.clip_grad_norm_(self.plan.module.parameters(), self.plan.settings.clip)
            self.optimizer.step()
            self.schedule.step()
        return loss.detach()

    def judge(self, progress: Progress) -> None:
        """Measure the epoch just done, keep it if it is the best, report it, and save it."""
        progress.epoch += 1
        found = self._scores()
        value, pruned = math.nan, False
        if self.group.rank == 0:
            value = self.data.metric.of(self.data.validation.y, found)
            pruned = self._reported(progress.epoch, value)
        value, stop, save = self.group.of_first([value, pruned, self.saving.due()])
        if (signed := self.data.metric.signed(value)) > progress.best:
            progress.best, progress.best_epoch = signed, progress.epoch
            self.weights = {name: tensor.clone() for name, tensor in self.plan.module.state_dict().items()}
        if stop:
            raise Pruned
        if save:
            self.saving.save(progress.epoch, self._state(progress) if self.group.rank == 0 else None)

    def _reported(self, epoch: int, value: float) -> bool:
        """Whether the reporter wants the fit to end; alone, it says so itself."""
        if self.group.alone:
            self.context.report(epoch, value)
            return False
        try:
            self.context.report(epoch, value)
        except Pruned:
            return True
        return False

    def _scores(self) -> npt.NDArray[np.float64]:
        """Of the whole validation part, each rank's share of it joined."""
        with self.plan.guard("on the validation part"):
            mine = scores(self.plan.module.eval(), self.share, device=str(self.device), chunk=self.plan.chunk)
        return self.group.gather(mine)

    def _state(self, progress: Progress) -> dict[str, bytes]:
        current = self.plan.module.state_dict()
        chance = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            chance["cuda"] = torch.cuda.get_rng_state(self.device)
        return pack(
            {
                "weights": dict(current),
                "best_weights": None if progress.best_epoch == progress.epoch else dict(self.weights),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "chance": chance,
                "progress": vars(progress).copy(),
            }
        )

    def resumed(self) -> Progress:
        """Go to where the checkpoint is; else begin."""
        files = None if self.context.checkpoints is None else self.context.checkpoints.load()
        if files is None:
            return Progress()
        state = unpack(files)
        self.plan.module.load_state_dict(state["weights"])
        best = state["weights"] if state["best_weights"] is None else state["best_weights"]
        self.weights = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["chance"]["cpu"])
        if self.device.type == "cuda" and "cuda" in state["chance"]:
            torch.cuda.set_rng_state(state["chance"]["cuda"], self.device)
        return Progress(**state["progress"])


class _Watch:
    """Looks at the losses of an epoch: at each on the CPU, now and then on a GPU, at the end among peers."""

    def __init__(self, epoch: int, run: _Run) -> None:
        self._epoch, self._run, self._losses = epoch, run, list[torch.Tensor]()
        self._every = 1 if run.device.type == "cpu" else _LOOK
        self._seen = 0

    def add(self, loss: torch.Tensor) -> None:
        """The loss of the next step."""
        self._losses.append(loss)
        if self._run.group.alone and len(self._losses) >= self._every:
            self._look()

    def end(self) -> None:
        """Of the epoch."""
        if self._losses or not self._run.group.alone:
            self._look()

    def _look(self) -> None:
        first = 0
        if not (len(self._losses) == 1 and math.isfinite(self._losses[0].item())):
            bad = (~torch.stack(self._losses).isfinite()).nonzero().flatten().tolist() if self._losses else []
            first = -(self._seen + bad[0] + 1) if bad else -(2**53)
            first = int(self._run.group.most([first])[0])  # the first step of any rank
            if first > -(2**53):
                raise _not_finite(self._run.data, self._epoch, -first)
        self._seen += len(self._losses)
        self._losses.clear()


class _Saving:
    """When to save: as often as the checkpoints like, and for a hundredth of the time at most."""

    def __init__(self, checkpoints: Any) -> None:
        self._checkpoints = checkpoints
        self._pause = checkpoints.pause if isinstance(checkpoints, Paced) else 0.0
        self._since, self._cost = time.monotonic(), 0.0

    def due(self) -> bool:
        """Whether to save now."""
        if self._checkpoints is None:
            return False
        wait = max(self._pause, _WORTH * self._cost) if self._pause else 0.0
        return time.monotonic() - self._since >= wait

    def save(self, epoch: int, files: dict[str, bytes] | None) -> None:
        """Hand the files over."""
        begun = time.monotonic()
        self._checkpoints.save(epoch, files)
        self._since = time.monotonic()
        self._cost = self._since - begun


def _optimizer(plan: Plan) -> torch.optim.Optimizer:
    weights = [weight for weight in plan.module.parameters() if weight.requires_grad]
    settings = plan.settings
    if plan.optimizer is None:
        return torch.optim.AdamW(weights, lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    with plan.guard("in its optimizer"):
        made = plan.optimizer(weights)
    if not isinstance(made, torch.optim.Optimizer):
        raise TrainingError(
            f"Torch(optimizer=…) gave a {type(made).__name__}, which is no torch.optim.Optimizer",
            hint="optimizer=lambda weights: torch.optim.SGD(weights, lr=0.1)",
        )
    return made


def _parallel(plan: Plan, device: torch.device, group: Group) -> nn.Module:
    outputs = _Outputs(plan.module)
    if group.alone:
        return outputs
    places = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(outputs, device_ids=places, find_unused_parameters=plan.idle)


def _on_device(x: npt.NDArray[np.float32], device: torch.device) -> torch.Tensor:
    """The validation rows, kept on a GPU where there is room for them beside everything else."""
    rows = torch.from_numpy(np.ascontiguousarray(x))
    if device.type == "cuda" and x.nbytes <= torch.cuda.mem_get_info(device)[0] // 4:
        return rows.to(device)
    return rows


def _not_finite(data: TrainingData, epoch: int, step: int) -> TrainingError:
    advice = "lower lr, or clip gradients (clip=1.0)"
    if isinstance(data.train, Matrix):
        advice += f"; look at the scale of {_farthest(data)}"
    return TrainingError(f"the loss is no longer a number in epoch {epoch}, step {step}", hint=advice)


def _farthest(data: TrainingData) -> str:
    """The input with the largest standardised value, as words."""
    worst, words = -1.0, "the inputs"
    for name, mean, std, values in _numbers(data):
        with np.errstate(invalid="ignore", over="ignore"):
            reach = float(np.nan_to_num(np.abs(values - mean) / std, nan=0.0, posinf=np.inf).max(initial=0.0))
        if reach > worst:
            far = "is infinite" if math.isinf(reach) else f"reaches {reach:,.0f} standard deviations from its mean"
            worst, words = reach, f"column {name!r}, which {far}"
    return words


def _numbers(data: TrainingData) -> Iterator[tuple[str, float, float, npt.NDArray[np.float32]]]:
    from trunkline.models.described import describe

    for column in describe(data.encoder, data.task):
        if not column.cardinality:
            yield column.name, column.mean, column.std, data.train.x[:, column.place]


def _cosine(step: int, steps: int) -> float:
    """Share of the learning rate at `step`: linear warm-up, then a cosine to zero."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _constant(step: int, steps: int) -> float:
    return 1.0


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence([number % 2**64 for number in numbers]).generate_state(1, np.uint64)[0] >> 1)
