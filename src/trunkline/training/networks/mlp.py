"""The multilayer perceptron: scaling, flags for missing numbers and embeddings are inside the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from trunkline.models.torch import FARTHEST

if TYPE_CHECKING:
    from trunkline.models.described import Columns
    from trunkline.training.networks.settings import MLP

__all__ = ["Network", "Prepared"]


class Prepared(nn.Module):
    """What has no weights: [b, d] -> scaled numbers, 0 where missing, with flags, float32 [b, k]; codes, int64 [b, c].

    `flagged[i]` says whether column i of the matrix was ever missing in the training part, and so gets a flag.
    """

    def __init__(self, columns: Columns, flagged: Sequence[bool]) -> None:
        super().__init__()
        numbers, codes = list(columns.numbers), list(columns.categories)
        owners = [columns.owner(place) for place in numbers]
        self.sizes = [columns.owner(place).cardinality for place in codes]
        self.number_at = _indices(numbers)
        self.flag_at = _indices([at for at, place in enumerate(numbers) if flagged[place]])
        self.code_at = _indices(codes)
        self.mean = _constant([column.mean for column in owners])
        self.scale = _constant([1 / column.std for column in owners])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers with flags, and codes."""
        numbers = x.index_select(1, self.number_at)
        missing = torch.isnan(numbers)
        scaled = ((numbers - self.mean) * self.scale).clamp(-FARTHEST, FARTHEST)
        scaled = torch.where(missing, torch.zeros_like(scaled), scaled)
        flags = missing.index_select(1, self.flag_at).to(x.dtype)
        return torch.cat([scaled, flags], 1), x.index_select(1, self.code_at).to(torch.int64)


class Network(nn.Module):
    """Encoded rows [b, d] -> raw outputs [b], or [b, k] where the task has several numbers a row."""

    def __init__(self, columns: Columns, flagged: Sequence[bool], settings: MLP) -> None:
        super().__init__()
        self.prepared = Prepared(columns, flagged)
        sizes = self.prepared.sizes
        self.starts = _indices(np.cumsum([0, *sizes])[:-1].tolist())
        # One table for all categories, so that looking up any number of them is one operation.
        self.embedding = nn.Embedding(max(sum(sizes), 1), settings.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.embedding.weight.requires_grad_(bool(sizes))
        with torch.no_grad():
            self.embedding.weight[self.starts] = 0  # code 0: a category about which nothing is known
        width = len(self.prepared.number_at) + len(self.prepared.flag_at) + len(sizes) * settings.embedding
        layers: list[nn.Module] = []
        for _ in range(settings.depth):
            layers += [nn.Linear(width, settings.width), nn.ReLU(), nn.Dropout(settings.dropout)]
            width = settings.width
        self.layers = nn.Sequential(*layers, nn.Linear(width, columns.outputs or 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw outputs of encoded rows."""
        numbers, codes = self.prepared(x)
        if len(self.starts):
            numbers = torch.cat([numbers, self.embedding(codes + self.starts).flatten(1)], 1)
        return self.layers(numbers)  # type: ignore[no-any-return]


def _indices(values: list[int]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.int64))


def _constant(values: list[float]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float32))
