"""The check that the exported model is the fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from trunkline.errors import IntegrityError
from trunkline.models.task import BINARY, Task
from trunkline.training.protocol import Fitted

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.models.encoder import Encoder

__all__ = ["MatrixScorer", "verify"]

_ROWS = 2_048
_CELLS = 1 << 24  # of the matrix that is looked at, so that images cannot fill the memory
_DAMAGED = 0.1  # share of the cells that are made missing in the second half of the rows
_TOLERANCE = 1e-4
_RANK_TOLERANCE = 1e-5
_ROUNDING = 8 * float(np.finfo(np.float32).eps)


class MatrixScorer(Protocol):
    """What serving scores with: `trunkline.models.runtime.Scorer`."""

    encoder: Encoder

    def score_matrix(self, matrix: npt.NDArray[np.float32], /) -> npt.NDArray[np.float64]:
        """Scores [n] or [n, k] of an encoded matrix."""


def verify(scorer: MatrixScorer, fitted: Fitted, matrix: npt.NDArray[np.float32], task: Task = BINARY) -> float:
    """Compare the served scores with the framework's own; the largest difference.

    Looks at 2,048 rows spread over `matrix` and the same rows with a tenth of their cells missing or unseen. Raises
    IntegrityError where any score differs by more than 1e-4, is not finite, or where two rows whose scores are more
    than 1e-5 apart swap places. Probabilities are compared as they are; numbers in units of their standard deviation
    over those rows, beside which float32's own rounding is allowed for.
    """
    rows = _probe(scorer.encoder, matrix)
    served, expected = scorer.score_matrix(rows), fitted.predict(rows)
    if served.shape != expected.shape:
        raise _differ(f"{list(served.shape)} scores are not {list(expected.shape)}")
    if not (np.isfinite(served).all() and np.isfinite(expected).all()):
        raise IntegrityError("the model gives scores that are not finite; it is not saved")
    worst = 0.0
    for one, other in zip(_columns(served), _columns(expected), strict=True):
        unit, rounding = (1.0, 0.0) if task.kind in ("binary", "multiclass") else _unit(other)
        apart = float(np.abs(one - other).max())
        in_order = one[np.argsort(other, kind="stable")]
        swapped = float((np.maximum.accumulate(in_order) - in_order).max())
        if apart > _TOLERANCE * unit + rounding or swapped > _RANK_TOLERANCE * unit + 2 * apart:
            raise _differ(f"they differ by up to {apart:.2g}")
        worst = max(worst, apart / unit)
    return worst


def _columns(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scores as [k, n]."""
    return scores[None] if scores.ndim == 1 else scores.T


def _unit(expected: npt.NDArray[np.float64]) -> tuple[float, float]:
    """What a difference of numbers is measured by, and how much of it is rounding."""
    largest = float(np.abs(expected).max())
    return float(expected.std()) or largest or 1.0, _ROUNDING * largest


def _differ(how: str) -> IntegrityError:
    return IntegrityError(
        f"the exported model does not score as the fitted one does: {how}",
        hint="this is a fault of Trunkline or of the model's export, not of the data; the model is not saved",
    )


def _probe(encoder: Encoder, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    count = max(16, min(_ROWS, _CELLS // matrix.shape[1]))
    picked = np.linspace(0, len(matrix) - 1, count).astype(np.int64)
    whole = matrix[picked]
    absent = np.concatenate(
        [np.full(column.width, 0.0 if column.cardinality else np.nan, np.float32) for column in encoder.columns]
    )
    hit = np.random.default_rng(0).random(whole.shape) < _DAMAGED
    for column in encoder.columns:
        place = encoder.places[column.name]
        if column.shape and not np.isnan(matrix[:, place]).any():  # complete lists and images: requests are, too
            hit[:, place] = False
        elif column.kind == "image":  # it is there or not
            hit[:, place] = hit[:, place.start : place.start + 1]
    return np.concatenate([whole, np.where(hit, absent, whole)])
