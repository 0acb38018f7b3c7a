"""What the full set loses without one group, or without one column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from trunkline.errors import TrainingError
from trunkline.training.experiments.cells import Recipe
from trunkline.training.experiments.comparison import Ablate

__all__ = ["ablations", "left_out"]

_MOST_COLUMNS = 100


def ablations(full: Recipe, groups: Mapping[str, Sequence[str]], by: Ablate) -> list[Recipe]:
    """The recipe of all features, once without each group or column."""
    parts = left_out(full.features, groups, by)
    return [
        replace(full, left_out=name, features=tuple(feature for feature in full.features if feature not in part))
        for name, part in parts.items()
    ]


def left_out(features: Sequence[str], groups: Mapping[str, Sequence[str]], by: Ablate) -> dict[str, frozenset[str]]:
    """What each ablation leaves out, by its name. Raises TrainingError where nothing would be left, or for too many."""
    if by == "groups":
        parts = {name: frozenset(columns) for name, columns in groups.items() if columns}
    else:
        parts = {feature: frozenset([feature]) for feature in features}
    if len(parts) < 2:
        only = "group" if by == "groups" else "column"
        raise TrainingError(
            f"there is only one {only} of features: without it nothing is left to train on",
            hint="--ablate columns leaves out one column at a time" if by == "groups" else "leave out --ablate",
        )
    if len(parts) > _MOST_COLUMNS:
        raise TrainingError(
            f"an ablation of {len(parts)} columns would fit the model as often, and {_MOST_COLUMNS} is the most",
            hint="--ablate groups, or --importance, which fits the model once",
        )
    return parts
