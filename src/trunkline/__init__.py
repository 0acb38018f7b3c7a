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
"""

from trunkline.project import split
from trunkline.project.declare import Checkpoint, Dataset, Model, Source, Trial, model, source

__all__ = ["Checkpoint", "Dataset", "Model", "Source", "Trial", "model", "source", "split"]
