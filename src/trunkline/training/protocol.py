"""What training is made of: the data an estimator gets, the estimator, what it yields, and how it reports.

Light: numpy is imported by whoever brings an array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trunkline.errors import TrainingError
from trunkline.project.declare import Choice, Trial

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from trunkline.datasets.batches import Batches, Order
    from trunkline.datasets.feed import Encoded
    from trunkline.models.encoder import Encoder
    from trunkline.models.signature import Signature
    from trunkline.models.task import Task
    from trunkline.training.metrics import Metric

__all__ = [
    "Build", "Checkpoints", "Choice", "Estimator", "Exports", "FitContext", "Fitted", "Matrix", "Peers", "Pruned",
    "Reporter", "Streamed", "TakesPeers", "TrainingData", "Trial", "unheard",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Matrix:
    """Encoded rows and their target: `x` float32 [n, d] in C order with NaN for missing, `y` float32 [n].

    `y` is 0 or 1, the place of the class in `Task.classes`, or the number itself; [n, k] where the target is a vector.
    Shared by all trials of a search: nobody writes to it.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    lacks: tuple[bool, ...] | None = None

    def __len__(self) -> int:
        return len(self.y)

    @property
    def missing(self) -> tuple[bool, ...]:
        """Whether each column has a missing value: in all rows of the part, where these are a rank's share of them."""
        import numpy as np

        if self.lacks is not None:
            return self.lacks
        return tuple(bool(np.isnan(column).any()) for column in self.x.T)

    def batches(self, order: Order) -> Batches:
        """Its rows in batches, epoch by epoch."""
        from trunkline.datasets.batches import InMemory

        return InMemory(self.x, self.y, order)

    def select(self, positions: Sequence[int]) -> Matrix:
        """Only the columns at `positions`, in that order."""
        lacks = None if self.lacks is None else tuple(self.lacks[position] for position in positions)
        return Matrix(self.x.take(positions, axis=1), self.y, lacks)


@dataclass(frozen=True, eq=False)
class Streamed:
    """A training part that does not fit into memory: its rows are encoded as they are read, in every epoch.

    `y` float32 [n] or [n, k] is there, `missing` is what the pass that fitted the encoder saw, and batches take
    `memory` bytes.
    """

    rows: Encoded
    y: npt.NDArray[np.float32]
    missing: tuple[bool, ...]
    memory: int

    def __len__(self) -> int:
        return len(self.y)

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """Raises TrainingError: an estimator that needs all rows at once cannot have them."""
        size = 4 * len(self) * self.rows.width
        raise TrainingError(
            f"this estimator needs the training part in memory: {len(self):,} rows x {self.rows.width} features take"
            f" {size / 2**30:.1f} GiB, and {self.memory / 2**30:.1f} GiB may be used",
            hint="trunkline.estimators.MLP streams its batches; else use a larger machine, or fewer rows or features",
        )

    def batches(self, order: Order) -> Batches:
        """Its rows in batches, epoch by epoch."""
        from trunkline.datasets.batches import batches_of

        return batches_of(self.rows, order, memory=self.memory)

    def select(self, positions: Sequence[int]) -> Streamed:
        """Only the columns at `positions`, in that order."""
        whose = {at: name for name, place in self.rows.encoder.places.items() for at in range(place.start, place.stop)}
        encoder = self.rows.encoder.subset(dict.fromkeys(whose[position] for position in positions))
        missing = tuple(self.missing[position] for position in positions)
        return replace(self, rows=replace(self.rows, encoder=encoder), missing=missing)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training and validation parts, encoded once. The test part is not here, and nothing here leads to it."""

    train: Matrix | Streamed
    validation: Matrix
    encoder: Encoder
    signature: Signature
    metric: Metric

    @property
    def task(self) -> Task:
        """What is to be learned."""
        return self.signature.task

    def select(self, features: Sequence[str]) -> TrainingData:
        """The same rows with only `features`, in that order, without encoding again.

        Raises DatasetError for a name that is no input.
        """
        signature = self.signature.subset(features)
        places = (self.encoder.places[name] for name in features)
        picked = [at for place in places for at in range(place.start, place.stop)]
        return replace(
            self,
            train=self.train.select(picked),
            validation=self.validation.select(picked),
            encoder=self.encoder.subset(features),
            signature=signature,
        )


class Pruned(Exception):
    """Raised out of a Reporter: the trial will not catch up, stop fitting. Not an error; estimators let it pass."""


class Reporter(Protocol):
    """Told the validation metric as fitting goes on. Called from the thread that fits; may raise Pruned."""

    def __call__(self, step: int, value: float) -> None:
        """`step` counts up from 1 (an epoch, or a boosting round); `value` is the metric of `TrainingData`."""


def unheard(step: int, value: float) -> None:
    """A reporter that nobody listens to, and that prunes nothing."""


class Checkpoints(Protocol):
    """Where a fit keeps how far it is, so that it can go on after its process died. One fit at a time uses it."""

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the last `save`, or None: then the fit begins anew."""

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """Keep `files` (name -> content; no pickle) in place of the last ones, whole or not at all.

        Called after the `report` of the same `step`. Where there are peers, every one calls it at the same steps; only
        rank 0 brings files.
        """


@dataclass(frozen=True)
class Peers:
    """The processes that fit one model together, each on rows of its own: `TrainingData.train` holds this rank's.

    No rank has more than one row more than another; `rows` is their sum. `settings` are what a framework needs to find
    the others (LightGBM's `machines`, …); torch's process group is initialised already.
    """

    rank: int
    world: int
    rows: int
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FitContext:
    """How a fit runs: what is no setting of the model. Seed, threads, device and peers together determine its result.

    `device` is `cpu`, `cuda` or `cuda:1`; what cannot use it runs on the CPU.
    """

    seed: int = 0
    threads: int = 1
    report: Reporter = unheard
    device: str = "cpu"
    checkpoints: Checkpoints | None = None
    peers: Peers | None = None


class Fitted(Protocol):
    """A fitted model. Owned by the caller; not to be used by two threads at once."""

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The framework's own scores of an encoded matrix [n, d]: [n], or [n, k] where the task has a `width` k."""

    def to_onnx(self) -> bytes:
        """The whole model as ONNX: `features` float32 [n, d] -> `score` float32 [n] or [n, k]. Same model, same bytes.

        Raises TrainingError where it cannot be told in ONNX.
        """


@runtime_checkable
class Exports(Protocol):
    """A fitted model that can be told without ONNX, where `to_onnx` raises. Asked only then."""

    @property
    def root(self) -> Path:
        """The folder of the project whose code the files name. Raises as `files` does."""

    def files(self) -> Mapping[str, bytes]:
        """`model.safetensors` and `module.json`, for `trunkline.models.torch.open_module`. Same model, same bytes.

        Raises TrainingError for a network whose code no file of the project holds.
        """


class Estimator(Protocol):
    """A model that can be fitted: a frozen record of its settings."""

    @property
    def name(self) -> str:
        """Short name for leaderboards and logs, such as `mlp`."""

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data; together with the context they determine the model."""

    def fit(self, data: TrainingData, context: FitContext) -> Fitted:
        """Fit on `data.train`, stop early and choose on `data.validation` by `data.metric`.

        Deterministic for a context. Lets Pruned pass; raises TrainingError for data or settings that cannot be fitted,
        for a task the estimator does not know, and for a framework that is not installed.
        """


@runtime_checkable
class TakesPeers(Protocol):
    """An estimator that several processes can fit together, each on rows of its own: it heeds `FitContext.peers`.

    Asked before a fit by more than one; an estimator that says nothing is fitted by one process.
    """

    @property
    def takes_peers(self) -> bool:
        """Whether it does."""


class Build(Protocol):
    """The user's model function: asks the trial for parameters and returns an estimator."""

    def __call__(self, trial: Any, /) -> Estimator:
        """Called once a trial; cheap, and without side effects."""
