"""TabM: an ensemble of perceptrons that share weights, from its authors' package. The home of tabm.

Gorishniy, Kotelnikov & Babenko, "TabM: Advancing tabular deep learning with parameter-efficient ensembling", ICLR 2025
(arXiv 2410.24210). The backbone and the embeddings of numbers are theirs; what feeds them is ours: numbers are
standardised, a missing one is its mean and has a flag, and categories with many codes are embedded instead of one-hot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import rtdl_num_embeddings
import tabm
import torch
from torch import nn

from trunkline.datasets.batches import Order
from trunkline.models.torch import FARTHEST, Scored
from trunkline.training.networks.loop import Plan
from trunkline.training.networks.mlp import Prepared
from trunkline.training.networks.tasks import answer_for, refuse_custom, task_loss
from trunkline.training.networks.torch import CHUNK, FittedTorch, fit_network, flags, unguarded

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.models.described import Columns
    from trunkline.training.networks.peers import Group
    from trunkline.training.networks.settings import TabM
    from trunkline.training.protocol import FitContext, TrainingData

__all__ = ["Ensemble", "fit_tabm"]

_ONE_HOT = 16  # codes
_SAMPLE = 100_000  # rows that the bins are measured on


class Ensemble(nn.Module):
    """Encoded rows [b, d] -> raw outputs of each of k members, [b, k] or [b, k, outputs]."""

    def __init__(
        self, columns: Columns, flagged: Sequence[bool], settings: TabM, bins: dict[int, npt.NDArray[np.float32]]
    ) -> None:
        """`bins` are the edges of those numbers, by their place among the numbers, that are embedded."""
        super().__init__()
        self.single = columns.outputs is None
        self.prepared = Prepared(columns, flagged)
        numbers = len(self.prepared.number_at) + len(self.prepared.flag_at)
        embedded = sorted(bins) if settings.number_embedding else []
        self.embedded_at = _indices(embedded)
        self.plain_at = _indices([place for place in range(numbers) if place not in bins or not embedded])
        widths = [1] * len(self.plain_at)
        self.piecewise = None
        if embedded:
            edges = [torch.from_numpy(bins[place]) for place in embedded]
            self.piecewise = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
                edges, settings.number_embedding, activation=False, version="B"
            )
            widths += [settings.number_embedding] * len(embedded)
        widths += self._categories(settings)
        start = None if settings.architecture == "tabm-packed" else "normal" if embedded else "random-signs"
        self.backbone = tabm.make_tabm_backbone(
            d_in=sum(widths),
            n_blocks=settings.depth or (2 if embedded else 3),
            d_block=settings.width,
            dropout=settings.dropout,
            k=settings.k,
            arch_type=settings.architecture,
            start_scaling_init=start,
            start_scaling_init_chunks=None if start is None else widths,
        )
        self.view = tabm.EnsembleView(k=settings.k)
        self.output = tabm.LinearEnsemble(settings.width, columns.outputs or 1, k=settings.k)

    def _categories(self, settings: TabM) -> list[int]:
        """Tables of the categories; the width of each feature they make."""
        sizes = self.prepared.sizes
        small = [place for place, size in enumerate(sizes) if size <= _ONE_HOT]
        large = [place for place, size in enumerate(sizes) if size > _ONE_HOT]
        # One-hot as one gather and one comparison: which column a slot looks at, and the code it stands for.
        self.slot_column = _indices([place for place in small for _ in range(sizes[place])])
        self.slot_code = _indices([code for place in small for code in range(sizes[place])])
        self.large_at = _indices(large)
        self.starts = _indices(np.cumsum([0, *(sizes[place] for place in large)])[:-1].tolist())
        self.embedding = None
        if large:
            self.embedding = nn.Embedding(sum(sizes[place] for place in large), settings.embedding)
            nn.init.normal_(self.embedding.weight, std=0.1)
            with torch.no_grad():
                self.embedding.weight[self.starts] = 0  # code 0: a category about which nothing is known
        return [sizes[place] for place in small] + [settings.embedding] * len(large)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Raw outputs of every member."""
        numbers, codes = self.prepared(x)
        parts = [numbers.index_select(1, self.plain_at)]
        if self.piecewise is not None:
            parts.append(self.piecewise(numbers.index_select(1, self.embedded_at)).flatten(1))
        if len(self.slot_code):
            parts.append((codes.index_select(1, self.slot_column) == self.slot_code).to(x.dtype))
        if self.embedding is not None:
            parts.append(self.embedding(codes.index_select(1, self.large_at) + self.starts).flatten(1))
        raw: torch.Tensor = self.output(self.backbone(self.view(torch.cat(parts, 1))))
        return raw.squeeze(2) if self.single else raw


def fit_tabm(estimator: TabM, data: TrainingData, context: FitContext) -> FittedTorch:
    """Fit all members together, each on its own loss; keep the epoch whose mean prediction validates best."""
    refuse_custom("TabM", data.task)

    def plan(columns: Columns, device: torch.device, group: Group) -> Plan:
        bins = _bins(data, columns, group, estimator.bins) if estimator.number_embedding else {}
        network = Ensemble(columns, flags(data, group), estimator, bins)
        answer = answer_for(data, group, members=True)
        loss = task_loss(data, estimator, answer, group)
        chunk = max(256, CHUNK // estimator.k)
        return Plan(Scored(network, answer), loss, estimator, unguarded, chunk)

    return FittedTorch(*fit_network(plan, data, context))


def _bins(data: TrainingData, columns: Columns, group: Group, count: int) -> dict[int, npt.NDArray[np.float32]]:
    """Quantiles of the standardised numbers of the training part, without repeats: the bins' edges, by their place.

    Numbers of two values or fewer, vectors and images have none.
    """
    sample = _sample(data, columns, group)
    found = {}
    for place, at in enumerate(columns.numbers):
        column = columns.owner(at)
        values = ((sample[:, at].astype(np.float64) - column.mean) / column.std).clip(-FARTHEST, FARTHEST)
        values = values[np.isfinite(values)]
        if column.width > 1 or len(np.unique(values)) < 3:
            continue
        edges = np.unique(np.quantile(values, np.linspace(0, 1, count + 1)).astype(np.float32))
        if len(edges) > 2:
            found[place] = edges
    return found


def _sample(data: TrainingData, columns: Columns, group: Group) -> npt.NDArray[np.float32]:
    """Rows of the training part by chance, of every rank's: [s, width]."""
    rows = max(1, _SAMPLE // group.world)
    batch = next(data.train.batches(Order(rows, seed=0)).epoch(0))
    return group.gather(batch.x)


def _indices(values: list[int]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.int64))
