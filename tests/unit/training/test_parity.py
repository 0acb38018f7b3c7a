"""The exported model is the fitted one: probabilities, numbers of any size, several columns, wide inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from trunkline.errors import IntegrityError
from trunkline.models.encoder import EncodedColumn, Encoder
from trunkline.models.task import Task
from trunkline.training.parity import verify

Floats = npt.NDArray[np.float64]
WIDE = [EncodedColumn("v", "vector", shape=(2,)), EncodedColumn("p", "image", shape=(1, 2, 1))]
ENCODER = Encoder([EncodedColumn("x", "number"), *WIDE], {})
MATRIX = np.random.default_rng(0).random((500, 5)).astype(np.float32)
BAND = Task("quantile", quantiles=(0.1, 0.9))


@dataclass
class Exported:
    """A scorer whose scores are the fitted ones, changed."""

    change: Callable[[Floats], Floats]
    scale: float = 1.0
    outputs: int | None = None
    encoder: Encoder = ENCODER
    saw: npt.NDArray[np.float32] | None = None

    def predict(self, x: npt.NDArray[np.float32]) -> Floats:
        """The fitted model's scores: the first column, 0 where missing."""
        self.saw = x
        one = self.scale * np.nan_to_num(x[:, 0].astype(np.float64))
        return one if self.outputs is None else np.stack([one + place for place in range(self.outputs)], 1)

    def score_matrix(self, matrix: npt.NDArray[np.float32]) -> Floats:
        """The exported one's."""
        return self.change(self.predict(matrix)).astype(np.float32).astype(np.float64)

    def to_onnx(self) -> bytes:
        """Not asked for."""
        raise NotImplementedError


def verified(exported: Exported, task: Task) -> float:
    """The difference that is found."""
    return verify(exported, exported, MATRIX, task)


def test_numbers_are_compared_in_units_of_their_spread() -> None:
    for scale in (1e-6, 1.0, 1e9):
        assert verified(Exported(lambda s: s, scale), Task("regression")) < 1e-6
        with pytest.raises(IntegrityError, match="does not score as the fitted one does"):
            verified(Exported(lambda s: s * 1.01, scale), Task("regression"))
    with pytest.raises(IntegrityError, match="differ by up to 0.01"):
        verified(Exported(lambda s: s + 0.01), Task())


def test_rounding_of_numbers_far_from_zero_is_allowed_for() -> None:
    far = Exported(lambda s: s, 1.0)
    far.predict = lambda x: 1e7 + np.nan_to_num(x[:, 0].astype(np.float64))  # type: ignore[method-assign]
    assert 0 < verified(far, Task("regression")) < 2  # a unit of float32 there is 1, and so is the spread


def test_every_column_is_compared() -> None:
    assert verified(Exported(lambda s: s, outputs=2), BAND) < 1e-6

    def second(scores: Floats) -> Floats:
        return scores + np.array([0.0, 0.1])

    with pytest.raises(IntegrityError, match="differ by up to 0.1"):
        verified(Exported(second, outputs=2), BAND)
    with pytest.raises(IntegrityError, match=r"\[\d+\] scores are not \[\d+, 2\]"):
        verified(Exported(lambda s: s[:, 0], outputs=2), BAND)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(IntegrityError, match="not finite"):
        verified(Exported(lambda s: np.where(s > 0.5, np.nan, s)), Task())


def test_lists_and_images_go_missing_only_where_they_do_in_the_data() -> None:
    exported = Exported(lambda s: s)
    verified(exported, Task())
    assert exported.saw is not None
    assert np.isnan(exported.saw).any(axis=0).tolist() == [True, False, False, False, False]
    global_matrix = MATRIX.copy()
    global_matrix[0, 1:] = np.nan
    verify(exported, exported, global_matrix)
    missing = np.isnan(exported.saw)
    assert missing[:, 1].any()
    assert (missing[:, 1] != missing[:, 2]).any()  # one number of a list
    assert (missing[:, 3] == missing[:, 4]).all()  # a whole image
