"""Declared datasets as steps: pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trunkline.graph.step import Step


@dataclass(frozen=True)
class Upstream:
    """What a dataset reads: the step that builds its relation, the relation, and the source tables above it."""

    step: str
    relation: tuple[str, str]
    sources: tuple[str, ...]


def step_name(dataset: str) -> str:
    """The name of the step that builds a dataset."""
    return f"dataset:{dataset}"


def dataset_step(declared: Mapping[str, Any], upstream: Upstream, after: tuple[str, ...], where: str) -> Step:
    """The step for one `tl.Dataset`. It runs after the tests `after` have passed."""
    config = {**declared, "table": list(upstream.relation), "sources": list(upstream.sources)}
    name = step_name(declared["name"])
    return Step(name, "dataset", needs=(upstream.step,), after=after, config=config, where=where)
