"""What a fitted model loses where the values of some columns are shuffled among the validation rows.

Breiman, "Random Forests", Machine Learning 45, 2001, section 10, on rows the model was not fitted on and with the
metric that chooses it. A group's columns are shuffled together, by one order of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from trunkline.training.experiments.comparison import Importance
from trunkline.training.experiments.contrasts import holm, pooled
from trunkline.training.metrics import Difference, Metric, paired_difference
from trunkline.training.protocol import Fitted, Matrix

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["MOST_ROWS", "importances", "places"]

MOST_ROWS = 25_000


def importances(
    fitted: Fitted,
    rows: Matrix,
    metric: Metric,
    parts: Mapping[str, Mapping[str, Sequence[int]]],
    *,
    repeats: int,
    seed: int,
    tell: Callable[[float], None] = lambda done: None,
) -> tuple[Importance, ...]:
    """The loss of the metric, for each name of each kind in `parts` (kind -> name -> columns of the matrix).

    The mean of `repeats` shuffles of at most 25,000 rows, the same shuffles for every name; largest loss first within
    a kind. `tell` hears how much is done, in [0, 1].
    """
    random = np.random.default_rng(seed)
    picked = _some(len(rows), random)
    x, y = rows.x[picked], rows.y[picked]
    orders = [random.permutation(len(y)) for _ in range(repeats)]
    before = fitted.predict(x)
    total = sum(map(len, parts.values()))
    found: list[Importance] = []
    for by, named in parts.items():
        losses: list[Difference] = []
        for columns in named.values():
            losses.append(_loss(fitted, (x, y, before), metric, np.asarray(columns), orders))
            tell((len(found) + len(losses)) / total)
        adjusted = holm([loss.p for loss in losses])
        listed = [
            Importance("group" if by == "group" else "column", name, *loss, p)
            for name, loss, p in zip(named, losses, adjusted, strict=True)
        ]
        found += sorted(listed, key=lambda one: -one.value)
    return tuple(found)


def places(columns: Mapping[str, slice], groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, list[int]]]:
    """The parts to shuffle: each group, and each column, with its places in the matrix (a vector takes several)."""
    each = {name: list(range(where.start, where.stop)) for name, where in columns.items()}
    together = {
        group: [place for name in names if name in each for place in each[name]] for group, names in groups.items()
    }
    return {"group": {name: listed for name, listed in together.items() if listed}, "column": each}


def _some(rows: int, random: np.random.Generator) -> npt.NDArray[np.intp]:
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(random.choice(rows, MOST_ROWS, replace=False))


def _loss(
    fitted: Fitted,
    known: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float64]],
    metric: Metric,
    columns: npt.NDArray[np.intp],
    orders: Sequence[npt.NDArray[np.int64]],
) -> Difference:
    """The mean over the shuffles; above 0 where the metric gets worse. `x` is as it was afterwards."""
    x, y, before = known
    kept, value = x[:, columns], metric.of(y, before)
    values: list[float] = []
    first = None
    try:
        for order in orders:
            x[:, columns] = kept[order]
            after = fitted.predict(x)
            first = first or paired_difference(metric, y, before, after)
            values.append(value - metric.of(y, after))
    finally:
        x[:, columns] = kept
    assert first is not None  # there is one shuffle at least
    loss = pooled(first, values)
    return loss if metric.higher_is_better else Difference(-loss.value, -loss.high, -loss.low, loss.p)
