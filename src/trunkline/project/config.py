"""`trunkline.yml`: small and optional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from trunkline.project import yaml


class Tracking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which MLflow server keeps runs and versions. `MLFLOW_TRACKING_URI` wins over `uri`; neither: a local store."""

    uri: str | None = None
    experiment: str | None = None


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of training. `threads` 0 means all cores."""

    seed: int = 1
    threads: int = 0


class Datasets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where datasets are published: an object store's URL or a shared folder, and the secret that opens it.

    `storage` is what a source's `storage` is: `type`, `key_id`, `secret`, `endpoint` …, secrets by reference.
    """

    location: str | None = None
    storage: dict[str, Any] = {}


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tracking: Tracking = Tracking()
    training: Training = Training()
    datasets: Datasets = Datasets()


def read_config(root: Path) -> Config:
    """The project's `trunkline.yml`, or the defaults."""
    path = root / "trunkline.yml"
    if not path.exists():
        return Config()
    document = yaml.load(path)
    return Config() if document.data is None else yaml.convert(document, Config)


def tracking_uri(config: Config, root: Path, environ: Mapping[str, str]) -> str:
    """The address of the registry: environment, then file, then a SQLite store of this checkout."""
    uri = environ.get("MLFLOW_TRACKING_URI") or config.tracking.uri
    return uri or f"sqlite:///{root / '.trunkline' / 'mlflow' / 'mlflow.db'}"
