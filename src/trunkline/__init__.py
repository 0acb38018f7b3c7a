"""Trunkline: from data sources to a deployed, watched machine-learning model, in one project.

In a project's `ml/*.py`:

    import trunkline as tl
    from trunkline.estimators import MLP, LightGBM

    flights = tl.Dataset("flight_features", key=…, time=…, target=…, groups={…}, split=tl.split.by_time(…))

    @tl.model(dataset=flights, metric="roc_auc")
    def delay(trial: tl.Trial):
        return LightGBM(leaves=trial.suggest_int("leaves", 15, 255, log=True))
"""

from trunkline.project import split
from trunkline.project.declare import Dataset, Model, Trial, model

__all__ = ["Dataset", "Model", "Trial", "model", "split"]
