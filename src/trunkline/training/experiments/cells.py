"""The fits of a comparison: one model, one seed. Each is kept as it ends, and is never made twice."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.errors import TrainingError
from trunkline.graph.step import digest
from trunkline.training.boundary import build_with
from trunkline.training.metrics import interval
from trunkline.training.protocol import Build, FitContext, Fitted, TrainingData
from trunkline.training.search.objectives import ADVICE

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["Cell", "Recipe", "Store", "fit"]


@dataclass(frozen=True)
class Recipe:
    """What one row of a comparison is made of: the groups, their features without `left_out`, and the parameters."""

    groups: tuple[str, ...]
    features: tuple[str, ...]
    variation: str
    params: Mapping[str, Any]
    left_out: str = ""

    @property
    def name(self) -> str:
        """In words."""
        features = f"all but {self.left_out}" if self.left_out else " + ".join(self.groups)
        return f"{features} with {self.variation}"


@dataclass(frozen=True)
class Cell:
    """A recipe with one seed on so many threads of a device: what determines the fit, beside data and code."""

    recipe: Recipe
    seed: int
    threads: int
    device: str = "cpu"

    @property
    def key(self) -> str:
        """What it is kept under."""
        recipe = self.recipe
        return digest([recipe.features, dict(recipe.params), self.seed, self.threads, self.device])[:24]


class Store:
    """What is known of a comparison's fits: one line of JSON each, and beside it the scores of the validation rows.

    The folder belongs to one dataset, one state of the code and one set of libraries. Several processes may add to it
    at once; a line that a kill cut short counts for nothing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = folder / "cells.jsonl"

    def read(self) -> dict[str, dict[str, Any]]:
        """All that is whole, by key."""
        found: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError):
            for line in self._lines.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    data = json.loads(line)
                    found[str(data["key"])] = data
        return found

    def add(self, key: str, data: Mapping[str, Any], scores: npt.NDArray[np.float64] | None = None) -> dict[str, Any]:
        """Keep `data`, which is JSON, and the scores: these first, so that a line never lacks them. What is kept."""
        kept = {"key": key, **data}
        if scores is not None:
            kept["shape"] = list(scores.shape)
            partial = self._folder / f".{key}.{os.getpid()}"
            partial.write_bytes(scores.astype("<f8").tobytes())
            partial.replace(self._scores(key))
        line = b"\n" + json.dumps(kept).encode() + b"\n"  # the first ends what a kill has left
        with open(self._lines, "ab", buffering=0) as lines:
            lines.write(line)
        return kept

    def scores(self, kept: Mapping[str, Any]) -> npt.NDArray[np.float64]:
        """The scores of the validation rows, [n] or [n, k], that were kept with a line."""
        found: npt.NDArray[np.float64] = np.fromfile(self._scores(kept["key"]), dtype="<f8").reshape(kept["shape"])
        return found

    def has_scores(self, kept: Mapping[str, Any]) -> bool:
        """Whether they are there, whole."""
        path = self._scores(kept["key"])
        return path.is_file() and path.stat().st_size == 8 * math.prod(kept["shape"])

    def _scores(self, key: str) -> Path:
        return self._folder / f"{key}.f64"


def fit(build: Build, data: TrainingData, cell: Cell) -> tuple[Fitted, dict[str, Any], npt.NDArray[np.float64]]:
    """Fit one cell: the model, what is kept of it, and its scores of the validation rows.

    `data` may have more features than the recipe takes. Raises TrainingError for the user's code or parameters, and
    for a metric that is no number.
    """
    begun = time.monotonic()
    part = data.select(cell.recipe.features)
    estimator, _ = build_with(build, cell.recipe.params)
    history: list[tuple[int, float]] = []
    context = FitContext(
        seed=cell.seed,
        threads=cell.threads,
        report=lambda step, value: history.append((step, value)),
        device=cell.device,
    )
    fitted = estimator.fit(part, context)
    y, scores = part.validation.y, fitted.predict(part.validation.x)
    value = float(data.metric.of(y, scores))
    if not math.isfinite(value):  # of a metric of the user's own this is told already
        raise TrainingError(f"{cell.recipe.name}: {data.metric.name} is {value}, which is no number", hint=ADVICE)
    low, high = interval(data.metric, y, scores, seed=cell.seed)
    kept = {
        "estimator": estimator.name,
        "value": value,
        "low": float(low),
        "high": float(high),
        "history": [[int(step), float(value)] for step, value in history],
        "seconds": time.monotonic() - begun,
    }
    return fitted, kept, scores
