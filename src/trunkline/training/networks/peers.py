"""The processes that fit one network together, over torch's default process group. Alone, all of it costs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from trunkline.datasets.torch import Tensors

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.training.protocol import Peers

__all__ = ["Group", "common_batches", "evened"]


class Group:
    """This process among its peers. Every rank must call the same methods in the same order."""

    def __init__(self, peers: Peers | None, device: torch.device) -> None:
        self.rank, self.world = (peers.rank, peers.world) if peers is not None else (0, 1)
        # NCCL moves tensors of the GPU only, gloo those of the CPU.
        nccl = peers is not None and dist.get_backend() == "nccl"
        self._device = device if nccl else torch.device("cpu")

    @property
    def alone(self) -> bool:
        """Whether there are no peers."""
        return self.world == 1

    def sum(self, values: npt.NDArray[Any] | Sequence[float]) -> npt.NDArray[np.float64]:
        """Place by place, over all ranks."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def most(self, values: npt.NDArray[Any] | Sequence[float]) -> npt.NDArray[np.float64]:
        """The greatest of all ranks, place by place."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def of_first(self, values: Sequence[float]) -> list[float]:
        """What rank 0 gave, on every rank."""
        if self.alone:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.broadcast(shared, 0)
        return shared.tolist()

    def gather(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The rows of all ranks [n, …], in the order of ranks, on every rank."""
        if self.alone:
            return rows
        counts = self.sum(np.eye(self.world)[self.rank] * len(rows)).astype(np.int64)
        padded = np.zeros((counts.max(), *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        mine = torch.from_numpy(padded).to(self._device)
        parts = [torch.empty_like(mine) for _ in counts]
        dist.all_gather(parts, mine)
        return np.concatenate([part[:count].cpu().numpy() for part, count in zip(parts, counts, strict=True)])

    def stretch(self, rows: int) -> slice:
        """This rank's share of rows that every rank holds."""
        return slice(rows * self.rank // self.world, rows * (self.rank + 1) // self.world)

    def _reduced(self, values: npt.NDArray[Any] | Sequence[float], how: Any) -> npt.NDArray[np.float64]:
        found = np.array(values, np.float64)
        if self.alone:
            return found
        shared = torch.from_numpy(found).to(self._device)
        dist.all_reduce(shared, how)
        return shared.cpu().numpy()


def common_batches(rows: int, world: int, batch_size: int) -> int:
    """Batches of an epoch on every rank: as `Order(last="even")` counts them for `rows` of all ranks."""
    fewest, most = rows // world, -(-rows // world)
    return min(fewest, -(-most // batch_size))


def evened(batches: Iterator[Tensors], have: int, count: int) -> Iterator[Tensors]:
    """The same rows in `count` batches where a rank `have`s one more or one fewer: ranks differ by one row at most.

    With one row fewer the last batch may be missing: the one before it is full, and is split. Where a batch is a single
    row, a rank with a row more has a batch more, and two become one.
    """
    for place, batch in enumerate(batches, 1):
        if place == min(have, count) and have < count:
            half = len(batch.y) // 2
            yield Tensors(batch.x[:half], batch.y[:half])
            yield Tensors(batch.x[half:], batch.y[half:])
        elif place == count < have:
            last = next(batches)
            yield Tensors(torch.cat([batch.x, last.x]), torch.cat([batch.y, last.y]))
        else:
            yield batch
