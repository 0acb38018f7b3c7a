"""What a training on a past run's inputs leaves behind, as records. Light: no framework is loaded here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trunkline.training.records import Trained

__all__ = ["Against", "Spun", "ToSpin"]


@dataclass(frozen=True)
class ToSpin:
    """What to train once more: `known` are the past parameters, `wanted` those that must be taken instead.

    `past` is the folder of the past bundle, None where it is gone; the new one is written to `out`.
    """

    known: Mapping[str, Any]
    wanted: Mapping[str, Any]
    out: Path
    past: Path | None


@dataclass(frozen=True)
class Against:
    """One metric of the past model, `before`, and of the new one, `after`, both as they would be served.

    `value` is the new one's less the past one's on the same rows, with its 95% interval and two-sided p.
    """

    metric: str
    before: float
    after: float
    value: float
    low: float
    high: float
    p: float
    higher_is_better: bool


@dataclass(frozen=True)
class Spun:
    """The training, how it compares with the past one, metric by metric, and why not where `against` is empty."""

    trained: Trained
    against: tuple[Against, ...]
    why: str
