"""Estimators, and the training, comparison and search of models. Knows arrays and Arrow tables only."""
