"""Probabilities corrected by what held-out rows showed: Platt's sigmoid, temperature, isotonic. Inside the graph too.

The correction is fitted on the whole validation part, which no tree and no weight was fitted on. It was used to stop
and is used to choose, though, and the model's validation metrics are then measured on the rows of the correction. For
`sigmoid` and `temperature`, of one or two numbers (for each class), that flatters the log loss by about 1/n for each;
for `isotonic`, which bends as the rows do, by more, so give it some thousand rows. The sealed test part knows neither:
the gate's figures are the honest ones.

- `sigmoid`: of the log-odds z, sigmoid(a z + b), with Platt's smoothed targets (Advances in Large Margin Classifiers,
  1999); of several classes each for itself, then divided by their sum.
- `temperature`: a alone; of several classes softmax(a log p) (Guo, Pleiss, Sun & Weinberger, ICML 2017).
- `isotonic`: centred isotonic regression, which rises between the centres of the blocks where the plain one has steps
  (Oron & Flournoy, Statistics in Biopharmaceutical Research 9, 2017), so that the order of rows stays; of several
  classes as `sigmoid`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from trunkline.errors import TrainingError
from trunkline.training.protocol import Fitted, TrainingData

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

__all__ = ["CalibratedModel", "calibrate"]

_LEAST, _MOST = 1e-12, 1 - 2**-15  # probabilities: float32 is fine near 0, but near 1 it leaves log-odds few digits
_STEEPEST = 50.0  # slope of an isotonic correction: it multiplies the float32 error of the exported probabilities
_LINE = ("knot", "height", "slope")
_STEPS = 100  # of Newton's method, at most


class _Curve(Protocol):
    """A correction of one probability."""

    def of(self, p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The corrected probabilities [n]."""

    def nodes(self, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same in ONNX: from `name` [n, 1] to `name` + "_corrected" [n, 1]."""


def calibrate(fitted: Fitted, data: TrainingData, method: str) -> CalibratedModel:
    """The model with its probabilities corrected. Raises TrainingError for a task that has none."""
    if data.task.kind not in ("binary", "multiclass"):
        raise TrainingError(
            f"calibrate={method!r} corrects probabilities, and a {data.task.kind} model answers numbers",
            hint="leave `calibrate` out",
        )
    y, score = data.validation.y, fitted.predict(data.validation.x)
    if data.task.kind == "binary":
        return CalibratedModel(fitted, (_CURVES[method](score, y > 0.5),))
    if method == "temperature":
        return CalibratedModel(fitted, (), _temperature(np.log(np.clip(score, _LEAST, 1)), y.astype(np.int64)))
    return CalibratedModel(fitted, tuple(_CURVES[method](score[:, k], y == k) for k in range(score.shape[1])))


@dataclass(frozen=True, eq=False)
class CalibratedModel:
    """A fitted model and a curve for each probability it answers; or, of several classes, the factor `sharpness`."""

    fitted: Fitted
    curves: tuple[_Curve, ...]
    sharpness: float = 1.0

    def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Corrected probabilities: [n], or [n, k]."""
        score = self.fitted.predict(x)
        if score.ndim == 1:
            return self.curves[0].of(score)
        if not self.curves:
            powers = np.clip(score, _LEAST, 1) ** self.sharpness
        else:
            powers = np.stack([curve.of(score[:, k]) for k, curve in enumerate(self.curves)], axis=1)
        shares: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return shares

    def to_onnx(self) -> bytes:
        """The model's graph with the correction after it."""
        import onnx
        from onnx import helper

        model = onnx.load_model_from_string(self._uncalibrated())
        for node in model.graph.node:
            node.output[:] = ["uncalibrated" if name == "score" else name for name in node.output]
        nodes, constants = self._nodes()
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(constants)
        if not any(opset.domain == "ai.onnx.ml" for opset in model.opset_import):
            model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
        content: bytes = model.SerializeToString(deterministic=True)
        return content

    def _uncalibrated(self) -> bytes:
        try:
            return self.fitted.to_onnx()
        except TrainingError as exc:
            what = f"a model is calibrated in its ONNX graph, and this one has none: {exc.what}"
            raise TrainingError(what, hint="leave `calibrate` out, or use layers that ONNX knows") from exc

    def _nodes(self) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        from onnx import helper

        axis = _constant("calibration_axis", np.array([1], np.int64))
        if not self.curves:
            limits = _limits("calibration")
            sharp = _constant("calibration_sharpness", np.float32(self.sharpness))
            return [
                helper.make_node("Clip", ["uncalibrated", *(limit.name for limit in limits)], ["calibration_clipped"]),
                helper.make_node("Log", ["calibration_clipped"], ["calibration_log"]),
                helper.make_node("Mul", ["calibration_log", sharp.name], ["calibration_sharp"]),
                helper.make_node("Softmax", ["calibration_sharp"], ["score"], axis=1),
            ], [*limits, sharp]
        if len(self.curves) == 1:
            nodes, constants = self.curves[0].nodes("calibration_0")
            before = helper.make_node("Unsqueeze", ["uncalibrated", axis.name], ["calibration_0"])
            after = helper.make_node("Squeeze", ["calibration_0_corrected", axis.name], ["score"])
            return [before, *nodes, after], [axis, *constants]
        nodes, constants = [], [axis]
        for k, curve in enumerate(self.curves):
            place = _constant(f"calibration_{k}_place", np.array([k], np.int64))
            nodes.append(helper.make_node("Gather", ["uncalibrated", place.name], [f"calibration_{k}"], axis=1))
            more, values = curve.nodes(f"calibration_{k}")
            nodes, constants = nodes + more, [*constants, place, *values]
        corrected = [f"calibration_{k}_corrected" for k in range(len(self.curves))]
        nodes += [
            helper.make_node("Concat", corrected, ["calibration_all"], axis=1),
            helper.make_node("ReduceSum", ["calibration_all", axis.name], ["calibration_sum"], keepdims=1),
            helper.make_node("Div", ["calibration_all", "calibration_sum"], ["score"]),
        ]
        return nodes, constants


@dataclass(frozen=True)
class _Sigmoid:
    """sigmoid(a z + b) of the log-odds z."""

    a: float
    b: float

    @classmethod
    def fit(cls, p: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> _Sigmoid:
        """Both numbers."""
        z = _log_odds(p)
        a, b = _logistic(np.stack([z, np.ones_like(z)], axis=1), _smoothed(hit))
        return cls(a, b)

    @classmethod
    def steep(cls, p: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> _Sigmoid:
        """`a` alone: temperature."""
        (a,) = _logistic(_log_odds(p)[:, None], _smoothed(hit))
        return cls(a, 0.0)

    def of(self, p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The corrected probabilities."""
        return _sigmoid(self.a * _log_odds(p) + self.b)

    def nodes(self, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same in ONNX."""
        from onnx import helper

        limits = _limits(name)
        one = _constant(f"{name}_one", np.float32(1))
        numbers = [_constant(f"{name}_a", np.float32(self.a)), _constant(f"{name}_b", np.float32(self.b))]
        steps = [
            ("Clip", [name, *(limit.name for limit in limits)], "clipped"),
            ("Sub", [one.name, f"{name}_clipped"], "other"),
            ("Div", [f"{name}_clipped", f"{name}_other"], "odds"),
            ("Log", [f"{name}_odds"], "z"),
            ("Mul", [f"{name}_z", f"{name}_a"], "scaled"),
            ("Add", [f"{name}_scaled", f"{name}_b"], "moved"),
            ("Sigmoid", [f"{name}_moved"], "corrected"),
        ]
        return [helper.make_node(op, given, [f"{name}_{out}"]) for op, given, out in steps], [*limits, one, *numbers]


@dataclass(frozen=True, eq=False)
class _Isotonic:
    """Straight lines between knots (`x` rising, float32 [m]; `y` [m]), level beyond the first and the last."""

    x: npt.NDArray[np.float32]
    y: npt.NDArray[np.float64]

    @classmethod
    def fit(cls, p: npt.NDArray[np.float64], hit: npt.NDArray[np.bool_]) -> _Isotonic:
        """Pools rows, in the order of `p`, until rates rise; then pools what would rise too steeply."""
        order = np.argsort(p, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(p[order])), len(p) - 1)  # equal probabilities are one block
        rows, sums, hits = (
            np.diff(np.cumsum(values)[ends], prepend=0) for values in (np.ones(len(p)), p[order], hit[order] * 1.0)
        )
        blocks = _pooled(zip(rows.tolist(), sums.tolist(), hits.tolist(), strict=True), _falls)
        # A block without hits, or of hits alone, is as sure as its rows are many (Laplace's rule of succession).
        smooth = [(n, s, h if 0 < h < n else n * (1 if h == 0 else n + 1) / (n + 2)) for n, s, h in blocks]
        n, s, h = np.array(_pooled(smooth, _too_steep)).T
        return cls((s / n).astype(np.float32), h / n)

    def of(self, p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The corrected probabilities."""
        return np.interp(p, self.x.astype(np.float64), self.y)

    def nodes(self, name: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same in ONNX: a tree finds the line (its knot, height and slope), whatever their number."""
        from onnx import helper

        slopes = np.diff(self.y) / np.diff(self.x.astype(np.float64))
        lines = np.stack([np.append(self.x[:1], self.x), np.append(self.y[:1], self.y), [0, *slopes, 0]], axis=1)
        tree, parts = _search(self.x.tolist(), lines), _constant(f"{name}_parts", np.ones(3, np.int64))
        steps = [
            helper.make_node("TreeEnsembleRegressor", [name], [f"{name}_line"], domain="ai.onnx.ml", **tree),
            helper.make_node("Split", [f"{name}_line", parts.name], [f"{name}_{part}" for part in _LINE], axis=1),
            helper.make_node("Sub", [name, f"{name}_knot"], [f"{name}_beyond"]),
            helper.make_node("Mul", [f"{name}_beyond", f"{name}_slope"], [f"{name}_rise"]),
            helper.make_node("Add", [f"{name}_height", f"{name}_rise"], [f"{name}_corrected"]),
        ]
        return steps, [parts]


_CURVES: dict[str, Callable[[npt.NDArray[np.float64], npt.NDArray[np.bool_]], _Curve]] = {
    "sigmoid": _Sigmoid.fit,
    "temperature": _Sigmoid.steep,
    "isotonic": _Isotonic.fit,
}

_Block = tuple[float, float, float]  # rows, sum of probabilities, hits


def _pooled(found: Iterable[_Block], joins: Callable[[_Block, _Block], bool]) -> list[_Block]:
    """Neighbours pooled from left to right, and back, wherever `joins(left, right)`."""
    blocks: list[_Block] = []
    for block in found:
        while blocks and joins(blocks[-1], block):
            n, s, h = blocks.pop()
            block = (n + block[0], s + block[1], h + block[2])
        blocks.append(block)
    return blocks


def _falls(last: _Block, following: _Block) -> bool:
    return last[2] * following[0] >= following[2] * last[0]


def _too_steep(last: _Block, following: _Block) -> bool:
    run = following[1] / following[0] - last[1] / last[0]
    rise = following[2] / following[0] - last[2] / last[0]
    return rise <= 0 or run < 1e-9 or rise > _STEEPEST * run


def _search(knots: Sequence[float], lines: npt.NDArray[np.float64]) -> dict[str, Any]:
    """A balanced tree from a value to the line of the knots around it, as TreeEnsembleRegressor's attributes.

    Line i holds from knot i-1 (included) to knot i.
    """
    nodes: list[tuple[str, float, int, int]] = []
    leaves: list[tuple[int, int]] = []

    def grow(first: int, last: int) -> int:
        """The node that leads to the lines `first` to `last`."""
        place = len(nodes)
        if first == last:
            nodes.append(("LEAF", 0.0, 0, 0))
            leaves.append((place, first))
            return place
        middle = (first + last) // 2
        nodes.append(("BRANCH_LT", knots[middle], 0, 0))
        nodes[place] = ("BRANCH_LT", knots[middle], grow(first, middle), grow(middle + 1, last))
        return place

    grow(0, len(knots))
    modes, values, lower, upper = (list(column) for column in zip(*nodes, strict=True))
    return {
        "n_targets": 3, "nodes_treeids": [0] * len(nodes), "nodes_nodeids": list(range(len(nodes))),
        "nodes_featureids": [0] * len(nodes), "nodes_modes": modes, "nodes_values": values,
        "nodes_truenodeids": lower, "nodes_falsenodeids": upper,
        "target_treeids": [0] * 3 * len(leaves), "target_nodeids": [node for node, _ in leaves for _ in range(3)],
        "target_ids": [0, 1, 2] * len(leaves),
        "target_weights": [float(value) for _, line in leaves for value in lines[line]],
    }  # fmt: skip


def _logistic(design: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Coefficients [m] of a logistic regression of `target` in [0, 1] on `design` [n, m]: damped Newton."""
    found = np.eye(1, design.shape[1])[0]  # begins with the probabilities as they are

    def loss(at: npt.NDArray[np.float64]) -> float:
        z = design @ at
        return float((np.logaddexp(0, z) - target * z).sum())

    for _ in range(_STEPS):
        p = _sigmoid(design @ found)
        slope = design.T @ (p - target)
        curve = design.T @ (design * (p * (1 - p))[:, None]) + 1e-9 * np.eye(len(found))
        step = np.linalg.solve(curve, slope)
        rate = 1.0
        while rate > 1e-6 and loss(found - rate * step) > loss(found):
            rate /= 2
        found = found - rate * step
        if np.abs(rate * step).max() < 1e-10:
            break
    return tuple(found.tolist())


def _temperature(logs: npt.NDArray[np.float64], y: npt.NDArray[np.int64]) -> float:
    """The factor of the log-probabilities [n, k] with the least log loss, within [1/20, 20]."""
    sharp, right = 1.0, logs[np.arange(len(y)), y]
    for _ in range(_STEPS):
        powers = np.exp(sharp * (logs - logs.max(axis=1, keepdims=True)))
        p = powers / powers.sum(axis=1, keepdims=True)
        mean = (p * logs).sum(axis=1)
        spread = (p * np.square(logs)).sum() - np.square(mean).sum()
        step = (mean - right).sum() / max(float(spread), 1e-9)
        before, sharp = sharp, float(np.clip(sharp - np.clip(step, -sharp, sharp / 2), 0.05, 20.0))
        if abs(sharp - before) < 1e-10:
            break
    return sharp


def _smoothed(hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Platt's targets: a little less than 1, a little more than 0."""
    hits, rows = int(hit.sum()), len(hit)
    return np.where(hit, (hits + 1) / (hits + 2), 1 / (rows - hits + 2))


def _log_odds(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    kept = np.clip(p, _LEAST, _MOST)
    odds: npt.NDArray[np.float64] = np.log(kept) - np.log1p(-kept)
    return odds


def _sigmoid(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low = np.exp(-np.abs(z))
    return np.where(z >= 0, 1 / (1 + low), low / (1 + low))


def _limits(name: str) -> list[onnx.TensorProto]:
    return [_constant(f"{name}_least", np.float32(_LEAST)), _constant(f"{name}_most", np.float32(_MOST))]


def _constant(name: str, value: Any) -> onnx.TensorProto:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(value), name)
