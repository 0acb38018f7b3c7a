"""What estimators that want complete, scaled numbers are given instead of the matrix; in numpy, and in ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.training.protocol import TrainingData
from trunkline.training.trees.graph import bounded
from trunkline.training.trees.recoding import Recoding, cardinalities

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["Preparation"]

_BOUND = 1e38
_FARTHEST = 8.0  # standard deviations; what lies beyond is brought back


@dataclass(frozen=True, eq=False)
class Preparation:
    """The matrix as an estimator sees it: numbers, then flags of missing ones, then categories. A column without any

    value in the training part is left out.

    `recoding` orders categories by the target and leaves all columns in its own order; else `hot_at` and `hot_code`
    [h] say which column and code each one-hot column stands for. `fill` is None where missing stays NaN.
    """

    recoding: Recoding | None
    number_at: npt.NDArray[np.int64]
    flag_at: npt.NDArray[np.int64]
    hot_at: npt.NDArray[np.int64]
    hot_code: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32] | None
    scale: npt.NDArray[np.float32] | None
    fill: npt.NDArray[np.float32] | None

    @classmethod
    def fit(cls, data: TrainingData, *, impute: bool, scale: bool, one_hot: int) -> Preparation:
        """`one_hot` is the most columns a category gets; 0 for one number, ordered by the target."""
        sizes = cardinalities(data.encoder)
        recoding = None if one_hot else Recoding.fit(data)
        seen = list(range(len(sizes)))  # which column of the matrix each column of `base` is
        if recoding is not None:
            seen = [*recoding.kept.tolist(), *recoding.ordered.tolist()]
        base = data.train.x if recoding is None else recoding.apply(data.train.x)
        number_at = [
            place
            for place, index in enumerate(seen)
            if (recoding is not None or not sizes[index]) and not np.isnan(base[:, place]).all()
        ]
        means, stds = _moments(data, base, [(place, seen[place]) for place in number_at])
        hot = [(at, code) for at, size in enumerate(sizes) if one_hot for code in range(1, min(size, one_hot + 1))]
        missing = data.train.missing
        return cls(
            recoding=recoding,
            number_at=np.array(number_at, np.int64),
            flag_at=np.array([p for p, at in enumerate(number_at) if impute and missing[seen[at]]], np.int64),
            hot_at=np.array([at for at, _ in hot], np.int64),
            hot_code=np.array([code for _, code in hot], np.float32),
            mean=means if scale else None,
            scale=np.float32(1) / stds if scale else None,
            fill=(np.zeros_like(means) if scale else means) if impute else None,
        )

    @property
    def width(self) -> int:
        """Columns that the estimator sees."""
        return len(self.number_at) + len(self.flag_at) + len(self.hot_at)

    def apply(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """What the estimator sees, float32 [n, width]."""
        base = x if self.recoding is None else self.recoding.apply(x)
        numbers = np.clip(base[:, self.number_at], -_BOUND, _BOUND)
        missing = np.isnan(numbers)
        if self.mean is not None and self.scale is not None:
            with np.errstate(over="ignore"):
                numbers = np.clip((numbers - self.mean) * self.scale, -_FARTHEST, _FARTHEST)
        if self.fill is not None:
            numbers = np.where(missing, self.fill, numbers)
        hot = x[:, self.hot_at] == self.hot_code
        parts = [numbers, missing[:, self.flag_at], hot]
        return np.concatenate([part.astype(np.float32, copy=False) for part in parts], axis=1)

    def nodes(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """`apply` as ONNX, from `features` to `seen`."""
        graph, base = _Graph.begin(self.recoding)
        parts = self._numbers(graph, base) if len(self.number_at) else []
        if len(self.flag_at):
            flags = graph.add("Cast", ["missing"], "flags", to=1)  # to float32
            parts.append(graph.add("Gather", [flags, graph.hold("flag_at", self.flag_at)], "flagged", axis=1))
        if len(self.hot_at):
            codes = graph.add("Gather", ["features", graph.hold("hot_at", self.hot_at)], "hot_codes", axis=1)
            hot = graph.add("Equal", [codes, graph.hold("hot_code", self.hot_code)], "hot")
            parts.append(graph.add("Cast", [hot], "hot_columns", to=1))
        graph.add("Concat", parts, "seen", axis=1)
        return graph.steps, graph.constants

    def _numbers(self, graph: _Graph, base: str) -> list[str]:
        plain = graph.add("Gather", [base, graph.hold("number_at", self.number_at)], "plain", axis=1)
        numbers = graph.bound(plain, _BOUND, "limited")
        graph.add("IsNaN", [numbers], "missing")
        if self.mean is not None and self.scale is not None:
            apart = graph.add("Sub", [numbers, graph.hold("mean", self.mean)], "apart")
            scaled = graph.add("Mul", [apart, graph.hold("scale", self.scale)], "scaled")
            numbers = graph.bound(scaled, _FARTHEST, "near")
        if self.fill is not None:
            numbers = graph.add("Where", ["missing", graph.hold("fill", self.fill), numbers], "filled")
        return [numbers]


@dataclass(frozen=True)
class _Graph:
    """Nodes and constants as they are added."""

    steps: list[onnx.NodeProto]
    constants: list[onnx.TensorProto]

    @classmethod
    def begin(cls, recoding: Recoding | None) -> tuple[_Graph, str]:
        """With the recoding, and the name of the recoded matrix."""
        steps, constants, base = recoding.nodes() if recoding is not None else ([], [], "features")
        if base == "seen":  # which is the name of the result here
            base = "recoded"
            steps[-1].output[:] = [base]
        return cls(steps, constants), base

    def add(self, op: str, given: list[str], out: str, **attributes: Any) -> str:
        """A node; the name of what it gives."""
        from onnx import helper

        self.steps.append(helper.make_node(op, given, [out], **attributes))
        return out

    def hold(self, name: str, values: npt.NDArray[Any]) -> str:
        """A constant; its name."""
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def bound(self, name: str, bound: float, out: str) -> str:
        """The value within [-bound, bound]."""
        steps, limits = bounded(name, bound, out)
        self.steps.extend(steps)
        self.constants.extend(limits)
        return out


def _moments(
    data: TrainingData, base: npt.NDArray[np.float32], places: list[tuple[int, int]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and deviation of the columns at `places` (in `base`, in the matrix): numbers as the encoder measured them,

    renumbered categories as they are now.
    """
    columns = [column for column in data.encoder.columns for _ in range(column.width)]
    sizes = cardinalities(data.encoder)
    means, stds = np.empty(len(places), np.float32), np.empty(len(places), np.float32)
    for row, (place, index) in enumerate(places):
        means[row], stds[row] = columns[index].mean, columns[index].std
        if sizes[index]:
            means[row], stds[row] = base[:, place].mean(), base[:, place].std() or 1.0
    return means, stds
