"""Batches where they are needed: on the CPU, or on a GPU, copied while it computes, or kept there where they fit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import torch

from trunkline.datasets.batches import Order
from trunkline.datasets.torch import Tensors, TorchBatches, tensors
from trunkline.training.networks.peers import Group, common_batches, evened
from trunkline.training.protocol import Matrix

if TYPE_CHECKING:
    from trunkline.training.protocol import Peers, Streamed

__all__ = ["Feed", "feed_for", "fits"]

_SHARE = 0.5  # of a GPU's free memory


class Feed(Protocol):
    """The batches of each epoch, on the device. Equal orders give equal batches."""

    def __len__(self) -> int:
        """Batches of an epoch; the same on every rank."""

    def epoch(self, number: int) -> Iterator[Tensors]:
        """The batches of the epoch of that number, from 0."""


def feed_for(train: Matrix | Streamed, order: Order, device: torch.device, group: Group, peers: Peers | None) -> Feed:
    """The feed of this rank's rows."""
    rows = peers.rows if peers is not None else len(train)
    count = common_batches(rows, group.world, order.batch_size)
    if device.type == "cuda" and isinstance(train, Matrix) and fits(train, device):
        return _Resident(train, order, device, count)
    return _Moved(tensors(train.batches(order), pinned=device.type == "cuda"), device, count)


def fits(matrix: Matrix, device: torch.device) -> bool:
    """Whether a matrix and its target may be kept on a GPU."""
    free, _ = torch.cuda.mem_get_info(device)
    return matrix.x.nbytes + matrix.y.nbytes <= _SHARE * free


class _Moved:
    """Batches made on the CPU; to a GPU they are copied from pinned memory, while it works on the one before."""

    def __init__(self, batches: TorchBatches, device: torch.device, count: int) -> None:
        self._batches, self._device, self._count = batches, device, count

    def __len__(self) -> int:
        return self._count

    def epoch(self, number: int) -> Iterator[Tensors]:
        batches: Iterator[Tensors] = self._batches.epoch(number)
        if len(self._batches) != self._count:
            batches = evened(batches, len(self._batches), self._count)
        if self._device.type == "cpu":
            return batches
        return (
            Tensors(x.to(self._device, non_blocking=True), y.to(self._device, non_blocking=True)) for x, y in batches
        )


class _Resident:
    """All rows on the GPU: an epoch is a permutation made there, a batch is one gather."""

    def __init__(self, matrix: Matrix, order: Order, device: torch.device, count: int) -> None:
        self._x = torch.from_numpy(matrix.x).to(device)
        self._y = torch.from_numpy(matrix.y).to(device)
        self._order, self._device, self._count = order, device, count

    def __len__(self) -> int:
        return self._count

    def epoch(self, number: int) -> Iterator[Tensors]:
        seed = int(self._order.chance(number).integers(2**63 - 1))
        chance = torch.Generator(self._device).manual_seed(seed)
        index = torch.randperm(len(self._y), generator=chance, device=self._device)
        for part in index.tensor_split(self._count):
            yield Tensors(self._x.index_select(0, part), self._y.index_select(0, part))
