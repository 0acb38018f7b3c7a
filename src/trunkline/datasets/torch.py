"""Batches as torch tensors, over the memory that NumPy wrote them to. One of the homes of torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trunkline.datasets.batches import Batches

__all__ = ["Tensors", "TorchBatches", "tensors"]


class Tensors(NamedTuple):
    """`x` float32 [b, d], NaN for missing; `y` float32 [b], or [b, k]."""

    x: torch.Tensor
    y: torch.Tensor


@dataclass(frozen=True)
class TorchBatches:
    """A rank's batches as tensors. Each iteration is the next epoch.

    `pinned` memory can be copied to a GPU while it computes: `x.to("cuda", non_blocking=True)`.
    """

    batches: Batches
    pinned: bool

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensors]:
        return self.epoch(self.batches.turn())

    def __repr__(self) -> str:
        return f"{self.batches!r} as tensors{' in pinned memory' if self.pinned else ''}"

    def epoch(self, number: int) -> Iterator[Tensors]:
        """The batches of the epoch of that number, from 0."""
        for x, y in self.batches.epoch(number, _pinned if self.pinned else None):
            yield Tensors(torch.from_numpy(x), torch.from_numpy(y))


def tensors(batches: Batches, *, pinned: bool | None = None) -> TorchBatches:
    """`batches` as tensors; in pinned memory where there is a GPU, unless told otherwise."""
    return TorchBatches(batches, torch.cuda.is_available() if pinned is None else pinned)


def _pinned(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """From torch's own cache of pinned memory, which hands nothing out again while a copy to a GPU reads it."""
    return torch.empty(shape, dtype=torch.float32, pin_memory=True).numpy()
