"""The metrics that models are chosen by, task by task, with the uncertainty of each and of a difference.

`y` float [n] and `score` [n] or [n, k] are as `trunkline.models.task.Task` and `Matrix` have them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.errors import TrainingError, did_you_mean
from trunkline.models import measures
from trunkline.models.measures import average_precision, roc_auc
from trunkline.models.task import DEFAULT_METRICS, Task, TaskKind
from trunkline.project import declare
from trunkline.project.boundary import told, user_place

__all__ = [
    "Difference", "METRICS", "Metric", "average_precision", "brier", "interval", "log_loss", "measure_all",
    "metric_named", "metrics_of", "paired_difference", "roc_auc",
]  # fmt: skip

_Array = npt.NDArray[Any]
_Measure = Callable[[_Array, _Array], float]
_Rows = Callable[[_Array, _Array], _Array]
_Z95 = 1.959963984540054
_DRAWS = 200
_DRAWN = 100_000  # rows a draw, at most: more would take minutes


class Metric(NamedTuple):
    """A metric `function(y, score)` of outcomes and scores, its direction, and the tasks it is a metric of.

    `influence(y, score)` [n] says how much each row moves it (see `measures`); without one, uncertainty comes from
    bootstrap draws.
    """

    name: str
    function: _Measure
    higher_is_better: bool
    tasks: tuple[TaskKind, ...] = ("binary",)
    influence: _Rows | None = None

    def signed(self, value: float) -> float:
        """`value` so that more is better."""
        return value if self.higher_is_better else -value

    def of(self, y: _Array, score: _Array) -> float:
        """The metric of scores [n] or [n, k] for outcomes [n] (or [n, k] where the target is a vector)."""
        return self.function(y, score)


class Difference(NamedTuple):
    """A metric of one model less that of another on the same rows, its 95% interval, and the two-sided p of none."""

    value: float
    low: float
    high: float
    p: float


def log_loss(y: _Array, score: _Array) -> float:
    """Mean negative log-likelihood, in nats; probabilities are kept 1e-15 off 0 and 1."""
    return _mean(y, score, rows=measures.log_losses)


def brier(y: _Array, score: _Array) -> float:
    """Mean squared difference of probability and outcome, summed over the classes where there are several."""
    return _mean(y, score, rows=measures.brier_scores)


def _mean(y: _Array, score: _Array, *, rows: _Rows) -> float:
    return float(rows(y, score).mean())


def _mean_influence(y: _Array, score: _Array, *, rows: _Rows) -> _Array:
    each = rows(y, score)
    moved: _Array = (each - each.mean()) * (len(y) / max(len(y) - 1, 1)) ** 0.5
    return moved


def _root(y: _Array, score: _Array, *, rows: _Rows) -> float:
    return float(rows(y, score).mean() ** 0.5)


def _root_influence(y: _Array, score: _Array, *, rows: _Rows) -> _Array:
    root = _root(y, score, rows=rows)
    return _mean_influence(y, score, rows=rows) / (2 * root) if root else np.zeros(len(y))


def _of_rows(name: str, rows: _Rows, higher_is_better: bool, *tasks: TaskKind) -> Metric:
    """A metric that is the mean of what each row has."""
    return Metric(name, partial(_mean, rows=rows), higher_is_better, tasks, partial(_mean_influence, rows=rows))


_ALL = (
    Metric("roc_auc", roc_auc, True, ("binary",), measures.roc_auc_influence),
    Metric("average_precision", average_precision, True),
    _of_rows("log_loss", measures.log_losses, False, "binary", "multiclass"),
    _of_rows("brier", measures.brier_scores, False, "binary", "multiclass"),
    _of_rows("accuracy", measures.hits, True, "binary", "multiclass"),
    Metric("f1", measures.f1, True, ("binary",), measures.f1_influence),
    Metric("macro_f1", measures.macro_f1, True, ("multiclass",), measures.macro_f1_influence),
    Metric("roc_auc_ovr", measures.roc_auc_ovr, True, ("multiclass",), measures.roc_auc_ovr_influence),
    Metric(
        "rmse",
        partial(_root, rows=measures.square_errors),
        False,
        ("regression", "custom"),
        partial(_root_influence, rows=measures.square_errors),
    ),
    _of_rows("mae", measures.absolute_errors, False, "regression", "custom"),
    Metric("r2", measures.r2, True, ("regression",), measures.r2_influence),
    _of_rows("mape", measures.relative_errors, False, "regression"),
    Metric("median_ae", measures.median_ae, False, ("regression",)),
)


def _of_quantiles(quantiles: Sequence[float]) -> tuple[Metric, ...]:
    losses = partial(measures.pinball_losses, quantiles=tuple(quantiles))
    return (
        _of_rows("pinball_loss", losses, False, "quantile"),
        _of_rows("coverage", measures.covered, True, "quantile"),
    )


METRICS: dict[str, Metric] = {metric.name: metric for metric in (*_ALL, *_of_quantiles([0.5]))}
"""By name; pinball_loss is here that of a median, and `metrics_of` a task has that of its quantiles."""


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """The metrics of a task. Of a custom task they hold only where scores have the shape of the target."""
    if task.kind == "quantile":
        return _of_quantiles(task.quantiles)
    return tuple(metric for metric in METRICS.values() if task.kind in metric.tasks)


def measure_all(metric: Metric, task: Task, y: _Array, score: _Array) -> dict[str, float]:
    """The metric that chooses, and all others of the task that these scores have."""
    others = metrics_of(task) if task.kind != "custom" or y.shape == score.shape else ()
    return {each.name: each.of(y, score) for each in (metric, *others)}


def metric_named(given: str | declare.Metric | None, task: Task) -> Metric:
    """The metric that a model names, brings, or leaves to its task. Raises TrainingError with the close match."""
    if isinstance(given, declare.Metric):
        if given.name in METRICS:
            raise TrainingError(
                f"{given.name!r} is the name of a metric that Trunkline has: give yours another",
                file=given.file,
                line=given.line,
            )
        return Metric(given.name, partial(_own, given), given.higher_is_better, (task.kind,))
    name = DEFAULT_METRICS.get(task.kind) if given is None else given
    known = {metric.name: metric for metric in metrics_of(task)}
    if name is None:
        raise TrainingError(
            "a model with outputs of its own (task custom) needs a metric",
            hint='metric=tl.Metric("name", function, higher_is_better=True), or one of: ' + ", ".join(known),
        )
    if name not in known:
        of_others = "" if name not in METRICS else f" of a {task.kind} target"
        raise TrainingError(
            f"there is no metric {name!r}{of_others}.{did_you_mean(name, known)}",
            hint=f"the metrics of a {task.kind} target: {', '.join(known)}; or one of your own: metric=tl.Metric(...)",
        )
    return known[name]


def _own(metric: declare.Metric, y: _Array, score: _Array) -> float:
    """A metric of the user's, whose mistakes are shown in the user's lines."""
    locked = [array.view() for array in (y, score)]  # all trials share them
    for array in locked:
        array.flags.writeable = False
    try:
        value = metric.function(*locked)
    except Exception as exc:
        file, line = user_place(exc, (metric.file, metric.line))
        raise TrainingError(f"the metric {metric.name!r} failed with {told(exc)}", file=file, line=line) from exc
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        what = f"the metric {metric.name!r} gave {type(value).__name__} {value!r:.60}, which is no finite number"
        raise TrainingError(what, file=metric.file, line=metric.line)
    return number


# -- uncertainty


def interval(metric: Metric, y: _Array, score: _Array, *, seed: int = 0) -> tuple[float, float]:
    """A 95% interval: from the rows' influence (DeLong's for roc_auc, Wilson's for a share), else by bootstrap.

    One row tells nothing: then both ends are the metric.
    """
    value = metric.of(y, score)
    if metric.name in ("accuracy", "coverage"):
        return _wilson(value, len(y))
    if metric.influence is not None:
        reach = _Z95 * _spread(metric.influence(y, score))
        low, high = value - reach, value + reach
        return (max(0.0, low), min(1.0, high)) if metric.name.startswith("roc_auc") else (low, high)
    draws = _draws(lambda pick: metric.of(y[pick], score[pick]), len(y), seed)
    if not len(draws):
        return value, value
    ends = np.quantile(draws, (0.025, 0.975))
    if len(y) > _DRAWN:  # smaller samples than there are rows spread more, by a known factor
        ends = value + (ends - draws.mean()) * (_DRAWN / len(y)) ** 0.5
    return float(ends[0]), float(ends[1])


def paired_difference(metric: Metric, y: _Array, a: _Array, b: _Array, *, seed: int = 0) -> Difference:
    """The metric of scores `a` less that of scores `b` of the same rows.

    By the rows' influences (DeLong's test for roc_auc, the paired test of means for a mean), else from bootstrap draws
    of the same rows for both. The test is a normal one: of few rows its p is a little small.
    """
    value = metric.of(y, a) - metric.of(y, b)
    if metric.influence is not None:
        error = _spread(metric.influence(y, a) - metric.influence(y, b))
    else:
        draws = _draws(lambda pick: metric.of(y[pick], a[pick]) - metric.of(y[pick], b[pick]), len(y), seed)
        error = float(draws.std(ddof=1)) * min(1.0, _DRAWN / len(y)) ** 0.5 if len(draws) > 1 else 0.0
    p = math.erfc(abs(value) / error / 2**0.5) if error else float(value == 0)
    return Difference(value, value - _Z95 * error, value + _Z95 * error, p)


def _spread(influence: _Array) -> float:
    return float(np.square(influence).sum() ** 0.5 / len(influence))


def _wilson(share: float, rows: int) -> tuple[float, float]:
    """Wilson's interval of a share (JASA 22, 1927), which stays within 0 and 1."""
    z2 = _Z95**2 / rows
    middle, reach = share + z2 / 2, _Z95 * (share * (1 - share) / rows + z2 / (4 * rows)) ** 0.5
    return max(0.0, (middle - reach) / (1 + z2)), min(1.0, (middle + reach) / (1 + z2))


def _draws(measured: Callable[[npt.NDArray[np.int64]], float], rows: int, seed: int) -> npt.NDArray[np.float64]:
    """The metric of rows drawn anew. Draws that it does not accept (of one class only, say) are left out."""
    random = np.random.default_rng(seed)
    found: list[float] = []
    for _ in range(_DRAWS):
        pick = random.integers(0, rows, min(rows, _DRAWN))
        try:
            found.append(measured(pick))
        except TrainingError:
            continue
    return np.asarray(_finite(found))


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]
