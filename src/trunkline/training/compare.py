"""A ladder of feature groups times variations of parameters: what each group of features is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trunkline.errors import TrainingError
from trunkline.training.boundary import build_with
from trunkline.training.metrics import interval
from trunkline.training.protocol import Build, FitContext, TrainingData
from trunkline.training.records import Row

__all__ = ["Row", "compare"]


def compare(
    build: Build,
    data: TrainingData,
    groups: Mapping[str, Sequence[str]],
    variations: Mapping[str, Mapping[str, Any]],
    *,
    seed: int = 0,
    threads: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Fit every variation (label -> parameters) on the first group, then the first two, and so on.

    Groups are taken in the order they are declared in. `on_row` hears each row when it is done. Raises TrainingError
    for the user's code or parameters, DatasetError for a feature that is no input.
    """
    if not groups:
        raise TrainingError("there are no feature groups to compare", hint="declare `groups` in the dataset")
    variations = variations or {"default": {}}
    for params in variations.values():
        build_with(build, params)  # a wrong parameter is told before anything is fitted
    rows = []
    names = list(groups)
    for rung in range(1, len(names) + 1):
        features = list(dict.fromkeys(feature for name in names[:rung] for feature in groups[name]))
        part = data.select(features)
        for label, params in variations.items():
            row = _row(build, part, tuple(names[:rung]), label, params, seed, threads)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def _row(
    build: Build,
    data: TrainingData,
    groups: tuple[str, ...],
    label: str,
    params: Mapping[str, Any],
    seed: int,
    threads: int,
) -> Row:
    begun = time.monotonic()
    estimator, _ = build_with(build, params)
    fitted = estimator.fit(data, FitContext(seed=seed, threads=threads))
    y, score = data.validation.y, fitted.predict(data.validation.x)
    low, high = interval(data.metric, y, score, seed=seed)
    return Row(
        groups=groups,
        features=len(data.encoder.columns),
        variation=label,
        estimator=estimator.name,
        metric=data.metric.name,
        value=data.metric.of(y, score),
        low=low,
        high=high,
        seconds=time.monotonic() - begun,
    )
