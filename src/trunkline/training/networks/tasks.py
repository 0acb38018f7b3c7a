"""Losses of each task, and the answer that makes scores of a network's outputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from trunkline.errors import TrainingError
from trunkline.models.torch import Answer
from trunkline.training.networks.settings import dotted
from trunkline.training.weights import class_counts, class_weights

if TYPE_CHECKING:
    from trunkline.models.task import Task
    from trunkline.training.networks.peers import Group
    from trunkline.training.networks.settings import Loop
    from trunkline.training.protocol import TrainingData

__all__ = ["Loss", "answer_for", "refuse_custom", "task_loss"]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_BY_NAME: dict[str, Callable[..., torch.Tensor]] = {
    "mse": nn.functional.mse_loss,
    "mae": nn.functional.l1_loss,
    "huber": nn.functional.huber_loss,
}


def answer_for(
    data: TrainingData,
    group: Group,
    *,
    loss: str | Loss | None = None,
    own: Callable[[torch.Tensor], torch.Tensor] | None = None,
    members: bool = False,
) -> Answer:
    """The answer of the data's task; numbers are standardised by the training part, unless the loss is the user's."""
    mean, std = 0.0, 1.0
    if data.task.kind in ("regression", "quantile") and not callable(loss) and own is None:
        y = data.train.y.astype(np.float64)
        rows, total = group.sum([len(y), y.sum()])
        mean = float(total / rows)
        std = float(np.sqrt(group.sum([np.square(y - mean).sum()])[0] / rows)) or 1.0
    return Answer(data.task, mean=mean, std=std, members=members, own=own)


def task_loss(data: TrainingData, settings: Loop, answer: Answer, group: Group, loss: str | Loss | None = None) -> Loss:
    """The loss of (raw outputs, y), a number: the mean over rows, each weighed by its class if that is wanted."""
    weights = _weights(data, settings, group)
    by_row = _users(loss) if callable(loss) else _ours(data.task, answer, loss, "mean" if weights is None else "none")

    def mean(raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        if answer.members:
            y = y.repeat_interleave(raw.shape[1], 0)
            raw = raw.flatten(0, 1)
        lost = by_row(raw, y)
        if weights is not None:
            lost = _each(lost, y) * weights.to(y.device)[y.to(torch.int64)]
        return lost.mean() if lost.dim() else lost

    return mean


def refuse_custom(name: str, task: Task) -> None:
    """TrainingError where the target is a vector, which `Torch` alone learns."""
    if task.kind == "custom":
        raise TrainingError(
            f"{name} does not learn a target of several numbers",
            hint="trunkline.estimators.Torch does, with a module and a loss of yours",
        )


def _weights(data: TrainingData, settings: Loop, group: Group) -> torch.Tensor | None:
    """The weight of each class, float32 [k], by the rows of all ranks."""
    if settings.class_weights is None:
        return None
    counts = None
    if data.task.kind in ("binary", "multiclass"):
        counts = group.sum(class_counts(data.train.y, data.task)).astype(np.int64)
    return torch.from_numpy(class_weights(data.train.y, data.task, settings.class_weights, counts=counts))


def _users(loss: Loss) -> Loss:
    """The user's loss, of all rows or of each, as what can be learned from."""

    def looked_at(raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        lost: Any = loss(raw, y)
        if not isinstance(lost, torch.Tensor) or not lost.requires_grad:
            found = "a tensor without a gradient" if isinstance(lost, torch.Tensor) else f"a {type(lost).__name__}"
            raise TrainingError(
                f"the loss {dotted(loss)} gives {found}: nothing can be learned from it",
                hint="compute it from the outputs with torch's own operations, without .item(), .detach() or NumPy",
            )
        return lost

    return looked_at


def _ours(task: Task, answer: Answer, name: str | None, reduction: str) -> Loss:
    """The task's own loss, or the one of that name: of each row, or the mean over rows."""
    if name is not None or task.kind in ("regression", "custom"):
        return _of_numbers(name, task, answer, reduction)
    if task.kind == "binary":
        return partial(nn.functional.binary_cross_entropy_with_logits, reduction=reduction)
    if task.kind == "multiclass":
        return lambda raw, y: nn.functional.cross_entropy(raw, y.to(torch.int64), reduction=reduction)
    return _pinball(task, answer)


def _of_numbers(name: str | None, task: Task, answer: Answer, reduction: str) -> Loss:
    if task.kind not in ("regression", "custom"):
        raise TrainingError(
            f"loss={name!r} is for numbers, and the task is {task.kind}", hint="leave `loss` out, or give a function"
        )
    if name is None and task.kind == "custom":
        raise TrainingError("a target of several numbers needs a loss", hint='Torch(…, loss="mse"), or a function')
    measure = partial(_BY_NAME[name or "mse"], reduction=reduction)
    if task.kind == "custom" or answer.own is not None:
        return measure
    return lambda raw, y: measure(raw, (y - answer.mean) / answer.std)


def _pinball(task: Task, answer: Answer) -> Loss:
    """The mean over quantiles of max(q e, (q - 1) e), e = y - output: Koenker & Bassett, Econometrica 46(1), 1978."""
    levels = torch.tensor(task.quantiles)

    def loss(raw: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        error = ((y - answer.mean) / answer.std).unsqueeze(1) - raw
        level = levels.to(raw.device)
        return torch.maximum(level * error, (level - 1) * error).mean(1)

    return loss


def _each(lost: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    if lost.shape[:1] != y.shape[:1]:
        raise TrainingError(
            "class_weights weigh rows, but the loss gives one number for all of them",
            hint="return the loss of each row, [b], as with reduction='none'; or weigh in the loss itself",
        )
    return lost.flatten(1).mean(1) if lost.dim() > 1 else lost
