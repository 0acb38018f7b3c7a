"""The estimators of a model function: `from trunkline.estimators import MLP, LightGBM`."""

from __future__ import annotations

from trunkline.training.estimators import MLP, LightGBM, Sklearn, TabM, Torch, XGBoost

__all__ = ["LightGBM", "MLP", "Sklearn", "TabM", "Torch", "XGBoost"]
