"""The multilayer perceptron in PyTorch, and its export to ONNX. The home of torch.

Batches come from `trunkline.datasets`, in memory or streamed; the network itself scales numbers and looks codes up.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from trunkline.datasets.batches import Order
from trunkline.datasets.torch import Tensors, tensors
from trunkline.training.protocol import FitContext, Reporter, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.models.encoder import EncodedColumn
    from trunkline.training.estimators import MLP

__all__ = ["FittedTorch", "Network", "fit_mlp"]

_FARTHEST = 8.0  # standard deviations; what lies beyond is brought back
_WARM_UP = 0.1  # share of the steps
_CHUNK = 32_768  # rows a call when predicting


class Network(nn.Module):
    """Encoded rows [n, d] -> probability [n]. Scaling, flags for missing numbers and embeddings are inside."""

    def __init__(self, columns: tuple[EncodedColumn, ...], flagged: Sequence[bool], settings: MLP) -> None:
        """`flagged[i]` says whether column i was ever missing in the training part, and so gets a flag."""
        super().__init__()
        numbers = [index for index, column in enumerate(columns) if not column.cardinality]
        codes = [index for index, column in enumerate(columns) if column.cardinality]
        sizes = [columns[index].cardinality for index in codes]
        self.number_at = _indices(numbers)
        self.flag_at = _indices([place for place, index in enumerate(numbers) if flagged[index]])
        self.code_at = _indices(codes)
        self.starts = _indices(np.cumsum([0, *sizes])[:-1].tolist())
        self.mean = _constant([columns[index].mean for index in numbers])
        self.scale = _constant([1 / columns[index].std for index in numbers])
        # One table for all categories, so that looking up any number of them is one operation.
        self.embedding = nn.Embedding(max(sum(sizes), 1), settings.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        with torch.no_grad():
            self.embedding.weight[self.starts] = 0  # code 0: a category about which nothing is known
        width = len(numbers) + len(self.flag_at) + len(codes) * settings.embedding
        layers: list[nn.Module] = []
        for _ in range(settings.depth):
            layers += [nn.Linear(width, settings.width), nn.ReLU(), nn.Dropout(settings.dropout)]
            width = settings.width
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def prepare(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What has no weights: scaled numbers with flags, float32 [n, k], and rows of the embedding, int64 [n, c]."""
        numbers = x.index_select(1, self.number_at)
        missing = torch.isnan(numbers)
        scaled = ((numbers - self.mean) * self.scale).clamp(-_FARTHEST, _FARTHEST)
        scaled = torch.where(missing, torch.zeros_like(scaled), scaled)
        flags = missing.index_select(1, self.flag_at).to(x.dtype)
        return torch.cat([scaled, flags], 1), x.index_select(1, self.code_at).to(torch.int64) + self.starts

    def logits(self, numbers: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Log-odds [n] of prepared rows."""
        if len(self.code_at):
            numbers = torch.cat([numbers, self.embedding(codes).flatten(1)], 1)
        return self.layers(numbers).squeeze(1)  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities [n] of encoded rows."""
        return torch.sigmoid(self.logits(*self.prepare(x)))


def fit_mlp(estimator: MLP, data: TrainingData, context: FitContext) -> FittedTorch:
    """Fit by AdamW on the log loss; keep the epoch that validates best. See `Estimator.fit`."""
    with _torch(context.seed, context.threads):
        network = Network(data.encoder.columns, data.train.missing, estimator)
        _fit(network, estimator, data, Order(estimator.batch_size, context.seed), context.report)
    return FittedTorch(network.eval(), len(data.encoder.columns), context.threads)


def _fit(network: Network, settings: MLP, data: TrainingData, order: Order, report: Reporter) -> None:
    metric = data.metric
    train = tensors(data.train.batches(order), pinned=False)
    steps = settings.epochs * len(train)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    best, best_epoch, weights = -math.inf, 0, network.state_dict()
    for epoch in range(1, settings.epochs + 1):
        _epoch(network, train.epoch(epoch), optimizer, schedule)
        value = metric.of(data.validation.y, _scores(network.eval(), data.validation.x))
        signed = metric.signed(value)
        if signed > best:
            best, best_epoch = signed, epoch
            weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        report(epoch, value)
        if epoch - best_epoch >= settings.patience:
            break
    network.load_state_dict(weights)


def _epoch(
    network: Network,
    batches: Iterable[Tensors],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    network.train()
    for x, y in batches:
        loss = nn.functional.binary_cross_entropy_with_logits(network.logits(*network.prepare(x)), y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()


def _scores(module: nn.Module, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """A module's probabilities [n] of an encoded matrix."""
    with torch.inference_mode():
        chunks = torch.from_numpy(np.ascontiguousarray(x)).split(_CHUNK)
        return torch.cat([module(chunk) for chunk in chunks]).double().numpy()


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at `step`: linear warm-up, then a cosine to zero."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@dataclass(frozen=True, eq=False)
class FittedTorch:
    """A fitted module of encoded rows, float32 [n, width] -> probability [n], in evaluation mode."""

    module: nn.Module
    width: int
    threads: int

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The module's probabilities [n]."""
        with _torch(0, self.threads):
            return _scores(self.module, x)

    def to_onnx(self) -> bytes:
        """The module through torch.export, without names, paths and stack traces of this machine."""
        with _quiet():
            program = torch.onnx.export(
                self.module,
                (torch.zeros(2, self.width),),
                dynamo=True,
                external_data=False,
                verbose=False,
                input_names=["features"],
                output_names=["score"],
                dynamic_shapes=({0: torch.export.Dim("n")},),
            )
        assert program is not None
        model = program.model_proto
        del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
        for node in model.graph.node:
            node.doc_string = node.name = ""
            del node.metadata_props[:]
        for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
            del value.metadata_props[:]
        return model.SerializeToString(deterministic=True)  # type: ignore[no-any-return]


@contextlib.contextmanager
def _torch(seed: int, threads: int) -> Iterator[None]:
    """PyTorch's process-wide settings for one fit: seed and thread count, given back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecated calls and of packages it could use; neither is the user's business."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _indices(values: list[int]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.int64))


def _constant(values: list[float]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float32))
