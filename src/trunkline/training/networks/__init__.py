"""Estimators in PyTorch: one loop for all of them."""
