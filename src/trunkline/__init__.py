"""Trunkline: from data sources to a deployed, watched machine-learning model, in one project.

In a project's `ml/*.py`:

    import trunkline as tl
    from trunkline.estimators import MLP, LightGBM

    flights = tl.Dataset("flight_features", key=…, time=…, target=…, groups={…}, split=tl.split.by_time(…))

    @tl.model(dataset=flights, metric="roc_auc")
    def delay(trial: tl.Trial):
        return LightGBM(leaves=trial.suggest_int("leaves", 15, 255, log=True))

In its `sources/*.py`:

    @tl.source
    def orders(url, since):
        for page in pages(url, after=since):
            yield page["orders"]
            yield tl.Checkpoint(page["next"])

In a notebook, once `trunkline run` has built it:

    tl.open(".").dataset("flights").train.torch(batch_size=4096)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.project import split
from trunkline.project.declare import Checkpoint, Dataset, Metric, Model, Source, Trial, model, source

if TYPE_CHECKING:
    from pathlib import Path

    from trunkline.notebook import OpenProject

__all__ = ["Checkpoint", "Dataset", "Metric", "Model", "Source", "Trial", "model", "open", "source", "split"]


def open(path: Path | str = ".") -> OpenProject:
    """The project in `path` or above it, for reading its datasets. Raises ProjectError if there is none.

    `open(".").dataset("flights").train.arrow()` is a part as an Arrow table.
    """
    from trunkline.notebook import open_project

    return open_project(path)
