"""Categories as numbers that trees can split: renumbered by what the target does in them.

Trees split a number in two, and a native split by sets of categories has no counterpart in ONNX's tree ensembles. So a
category of at most 255 codes (a histogram's bins) is renumbered in the training part, and the new numbers are looked
up inside the model:

- binary, regression, quantile: by the smoothed mean of the target, the order in which the best of all splits into two
  sets is one cut (Fisher, JASA 53, 1958);
- multiclass: by the first principal component of the smoothed rates of the classes, weighted by rows (Coppersmith,
  Hong & Hosking, Data Mining and Knowledge Discovery 3, 1999).

A category with more codes keeps its order by count: there the rates say more about single rows than about the
category, which measured worse on later data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    from trunkline.models.encoder import Encoder
    from trunkline.training.protocol import TrainingData

__all__ = ["Recoding", "cardinalities"]

_Add = Callable[[Sequence["npt.NDArray[np.float64]"]], "list[npt.NDArray[np.float64]]"]

_MOST_ORDERED = 255  # codes; LightGBM's default number of bins
_SMOOTHING = 100.0  # rows of the average rate that each category's rate is mixed with


@dataclass(frozen=True, eq=False)
class Recoding:
    """Which columns the trees see and how: the `kept` ones as they are, then the `ordered` ones renumbered.

    `table` float32 [sum of cardinalities] holds the new number of code `c` of ordered column `i` at `starts[i] + c`.
    """

    kept: npt.NDArray[np.int64]
    ordered: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    table: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, data: TrainingData, add: _Add = list) -> Recoding:
        """Order the small categories by the target in the training part; `add` adds up arrays of all peers."""
        sizes = cardinalities(data.encoder)
        ordered = [index for index, size in enumerate(sizes) if 2 < size <= _MOST_ORDERED]
        kept = [index for index in range(len(sizes)) if index not in ordered]
        classes = len(data.task.classes) if data.task.kind == "multiclass" else 0
        sums = [_sums(data.train.x[:, index], data.train.y, sizes[index], classes) for index in ordered]
        tables = [_ranks(found) for found in add(sums)]
        starts = np.cumsum([0, *(len(table) for table in tables)])[:-1]
        table = np.concatenate([np.empty(0, np.float32), *tables])
        return cls(np.array(kept, np.int64), np.array(ordered, np.int64), starts.astype(np.int64), table)

    def apply(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The matrix the trees see."""
        if not len(self.ordered):
            return x
        seen = np.empty_like(x)
        seen[:, : len(self.kept)] = x[:, self.kept]
        for index, column in enumerate(self.ordered):
            seen[:, len(self.kept) + index] = self.table[self.starts[index] + x[:, column].astype(np.int64)]
        return seen

    def nodes(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
        """`apply` as ONNX: its nodes, its constants, and the name of the matrix the trees see."""
        from onnx import TensorProto, helper, numpy_helper

        if not len(self.ordered):
            return [], [], "features"
        nodes = [
            helper.make_node("Gather", ["features", "kept"], ["numbers"], axis=1),
            helper.make_node("Gather", ["features", "ordered"], ["codes"], axis=1),
            helper.make_node("Cast", ["codes"], ["whole"], to=TensorProto.INT64),
            helper.make_node("Add", ["whole", "starts"], ["places"]),
            helper.make_node("Gather", ["table", "places"], ["ranks"]),
            helper.make_node("Concat", ["numbers", "ranks"], ["seen"], axis=1),
        ]
        arrays: dict[str, npt.NDArray[Any]] = {
            "kept": self.kept,
            "ordered": self.ordered,
            "starts": self.starts,
            "table": self.table,
        }
        return nodes, [numpy_helper.from_array(values, name) for name, values in arrays.items()], "seen"


def cardinalities(encoder: Encoder) -> list[int]:
    """For each column of the matrix, its number of codes; 0 for what is no category."""
    return [column.cardinality for column in encoder.columns for _ in range(column.width)]


def _sums(
    codes: npt.NDArray[np.float32], y: npt.NDArray[np.float32], size: int, classes: int
) -> npt.NDArray[np.float64]:
    """Rows of each code, then the sum of its targets or its rows of each class: float64 [size, 1 + (classes or 1)]."""
    index = codes.astype(np.int64)
    if not classes:
        return np.stack([np.bincount(index, minlength=size), np.bincount(index, weights=y, minlength=size)], axis=1)
    of_class = np.bincount(index * classes + y.astype(np.int64), minlength=size * classes).reshape(size, classes)
    return np.column_stack([of_class.sum(axis=1), of_class]).astype(np.float64)


def _ranks(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """The new number of each code, float32 [size]."""
    count, hits = sums[:, :1], sums[:, 1:]
    mean = hits.sum(axis=0) / max(count.sum(), 1)
    rate = (hits + _SMOOTHING * mean) / (count + _SMOOTHING)
    along = rate[:, 0] if rate.shape[1] == 1 else _component(rate - mean, count)
    ranks = np.empty(len(sums), np.float32)
    ranks[np.argsort(along, kind="stable")] = np.arange(len(sums), dtype=np.float32)
    return ranks


def _component(apart: npt.NDArray[np.float64], count: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where each code lies along the direction in which the rates differ most, [size]."""
    direction = np.linalg.eigh(apart.T @ (count * apart))[1][:, -1]
    along: npt.NDArray[np.float64] = apart @ (direction * np.sign(direction[np.abs(direction).argmax()]))
    return along
