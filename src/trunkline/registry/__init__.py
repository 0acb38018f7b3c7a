"""Runs and model versions: what was trained, from what, and under which name it can be served."""
