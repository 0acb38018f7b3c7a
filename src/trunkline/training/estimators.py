"""The estimators a model function may return: frozen records, whose frameworks load only when they fit."""

from __future__ import annotations

from trunkline.training.settings_sklearn import Sklearn
from trunkline.training.settings_torch import MLP, TabM, Torch
from trunkline.training.settings_trees import LightGBM, XGBoost

__all__ = ["LightGBM", "MLP", "Sklearn", "TabM", "Torch", "XGBoost"]
