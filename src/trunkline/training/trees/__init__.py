"""Gradient boosted trees: LightGBM and XGBoost."""
