"""What training is made of: the data an estimator gets, the estimator, what it yields, and how it reports.

Light: numpy is imported by whoever brings an array.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from trunkline.errors import TrainingError
from trunkline.project.declare import Choice, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trunkline.datasets.batches import Batches, Order
    from trunkline.datasets.feed import Encoded
    from trunkline.models.encoder import Encoder
    from trunkline.models.signature import Signature

__all__ = [
    "Build", "Choice", "Estimator", "Fitted", "Matrix", "Pruned", "Reporter", "Streamed", "TrainingData", "Trial",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Matrix:
    """Encoded rows and their target: `x` float32 [n, d] in C order with NaN for missing, `y` float32 [n] of 0 and 1.

    Shared by all trials of a search: nobody writes to it.
    """

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def missing(self) -> tuple[bool, ...]:
        """Whether each column has a missing value."""
        import numpy as np

        return tuple(bool(np.isnan(column).any()) for column in self.x.T)

    def batches(self, order: Order) -> Batches:
        """Its rows in batches, epoch by epoch."""
        from trunkline.datasets.batches import InMemory

        return InMemory(self.x, self.y, order)

    def select(self, positions: Sequence[int]) -> Matrix:
        """Only the columns at `positions`, in that order."""
        return Matrix(self.x.take(positions, axis=1), self.y)


@dataclass(frozen=True, eq=False)
class Streamed:
    """A training part that does not fit into memory: its rows are encoded as they are read, in every epoch.

    `y` float32 [n] is there, `missing` is what the pass that fitted the encoder saw, and batches take `memory` bytes.
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
        names = self.rows.encoder.names
        encoder = self.rows.encoder.subset([names[position] for position in positions])
        missing = tuple(self.missing[position] for position in positions)
        return replace(self, rows=replace(self.rows, encoder=encoder), missing=missing)


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training and validation parts, encoded once. The test part is not here, and nothing here leads to it."""

    train: Matrix | Streamed
    validation: Matrix
    encoder: Encoder
    signature: Signature
    metric: str

    def select(self, features: Sequence[str]) -> TrainingData:
        """The same rows with only `features`, in that order, without encoding again.

        Raises DatasetError for a name that is no input.
        """
        signature = self.signature.subset(features)
        position = {name: index for index, name in enumerate(self.encoder.names)}
        picked = [position[name] for name in features]
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
        """`step` counts up from 1 (an epoch, or a boosting round); `value` is the metric of the dataset's spec."""


class Fitted(Protocol):
    """A fitted model. Owned by the caller; not to be used by two threads at once."""

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The framework's own probabilities [n] of an encoded matrix [n, d]."""

    def to_onnx(self) -> bytes:
        """The whole model as ONNX: `features` float32 [n, d] -> `score` float32 [n]. Same model, same bytes."""


class Estimator(Protocol):
    """A model that can be fitted: a frozen record of its settings."""

    @property
    def name(self) -> str:
        """Short name for leaderboards and logs, such as `mlp`."""

    def settings(self) -> dict[str, Any]:
        """Every setting as plain data; together with the seed and the thread count they determine the model."""

    def fit(self, data: TrainingData, *, seed: int, threads: int, report: Reporter) -> Fitted:
        """Fit on `data.train`, stop early and choose on `data.validation` by `data.metric`.

        Deterministic for a seed and a number of threads. Lets Pruned pass; raises TrainingError for data or settings
        that cannot be fitted and for a framework that is not installed.
        """


class Build(Protocol):
    """The user's model function: asks the trial for parameters and returns an estimator."""

    def __call__(self, trial: Any, /) -> Estimator:
        """Called once a trial; cheap, and without side effects."""
