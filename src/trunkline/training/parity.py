"""The check that the exported model is the fitted model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from trunkline.errors import IntegrityError
from trunkline.training.protocol import Fitted

if TYPE_CHECKING:
    import numpy.typing as npt

    from trunkline.models.encoder import Encoder

__all__ = ["MatrixScorer", "verify"]

_ROWS = 2_048
_DAMAGED = 0.1  # share of the cells that are made missing in the second half of the rows
_TOLERANCE = 1e-4
_RANK_TOLERANCE = 1e-5


class MatrixScorer(Protocol):
    """What serving scores with: `trunkline.models.runtime.Scorer`."""

    encoder: Encoder

    def score_matrix(self, matrix: npt.NDArray[np.float32], /) -> npt.NDArray[np.float64]:
        """Probabilities [n] of an encoded matrix."""


def verify(scorer: MatrixScorer, fitted: Fitted, matrix: npt.NDArray[np.float32]) -> float:
    """Compare the served scores with the framework's own; the largest difference.

    Looks at 2,048 rows spread over `matrix` and the same rows with a tenth of their cells missing or unseen. Raises
    IntegrityError where any score differs by more than 1e-4, is not finite, or where two rows whose scores are more
    than 1e-5 apart swap places.
    """
    rows = _probe(scorer.encoder, matrix)
    served, expected = scorer.score_matrix(rows), fitted.predict(rows)
    if not (np.isfinite(served).all() and np.isfinite(expected).all()):
        raise IntegrityError("the model gives scores that are not finite; it is not saved")
    worst = float(np.abs(served - expected).max())
    in_order = served[np.argsort(expected, kind="stable")]
    swapped = float((np.maximum.accumulate(in_order) - in_order).max())
    if worst > _TOLERANCE or swapped > _RANK_TOLERANCE + 2 * worst:
        raise IntegrityError(
            f"the exported model does not score as the fitted one does: they differ by up to {worst:.2g}",
            hint="this is a fault of Trunkline or of the model's export, not of the data; the model is not saved",
        )
    return worst


def _probe(encoder: Encoder, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    picked = np.linspace(0, len(matrix) - 1, _ROWS).astype(np.int64)
    whole = matrix[picked]
    absent = np.array([0.0 if column.cardinality else np.nan for column in encoder.columns], np.float32)
    hit = np.random.default_rng(0).random(whole.shape) < _DAMAGED
    return np.concatenate([whole, np.where(hit, absent, whole)])
