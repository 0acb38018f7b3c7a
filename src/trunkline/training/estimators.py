"""The estimators a model function may return: frozen records, whose frameworks load only when they fit."""

from __future__ import annotations

from trunkline.training.networks.settings import MLP, TabM, Torch
from trunkline.training.scikit.settings import Sklearn
from trunkline.training.trees.settings import LightGBM, XGBoost

__all__ = ["LightGBM", "MLP", "Sklearn", "TabM", "Torch", "XGBoost"]
