"""Fits and trials in the processes of Ray."""
