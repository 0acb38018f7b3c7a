"""Comparing many fits on the same rows, and a past one once more."""
