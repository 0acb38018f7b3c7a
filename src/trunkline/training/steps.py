"""Declared models as steps: pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trunkline.graph.step import Step


def step_name(model: str) -> str:
    """The name of the step that trains a model."""
    return f"train:{model}"


def train_step(
    declared: Mapping[str, Any],
    dataset_step: str,
    *,
    code: str,
    versions: Mapping[str, str],
    params: Mapping[str, Any] | None,
    run: Mapping[str, Any],
    where: str,
) -> Step:
    """The step that trains one `@tl.model` once, with `params` (the best known) or the first ones.

    `run` is what else changes the model: the seed, and what of the placement does.
    """
    config = {**declared, "params": dict(params) if params is not None else None, **run}
    return Step(
        step_name(declared["name"]),
        "train",
        needs=(dataset_step,),
        code=code,
        config=config,
        versions=versions,
        where=where,
    )
