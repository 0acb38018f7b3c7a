"""No process of ours lets MLflow load a pickle: its own default is to load them."""

from __future__ import annotations

NO_PICKLES = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
"""For the environment of this process and of each one it starts."""
