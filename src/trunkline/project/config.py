"""`trunkline.yml`: small and optional."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from trunkline.project import yaml

ADDRESS = r"^[A-Za-z0-9_.-]+:\d{1,5}$"
"""A Ray cluster's: that of its head's store, which `ray start --head` prints (`HOST:6379`)."""


class Tracking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which MLflow server keeps runs and versions. `MLFLOW_TRACKING_URI` wins over `uri`; neither: a local store.

    `registry_uri` is where versions are kept if not where runs are; `MLFLOW_REGISTRY_URI` wins over it. `patience` is
    for how many seconds a server that does not answer is tried again.
    """

    uri: str | None = None
    registry_uri: str | None = None
    patience: Annotated[float, msgspec.Meta(ge=0)] = 15.0
    experiment: str | None = None


SEEDS = 2**32
"""How many seeds there are, from 0: what every library takes."""

_Seed = Annotated[int, msgspec.Meta(ge=0, lt=SEEDS)]
_AtLeastOne = Annotated[int, msgspec.Meta(ge=1)]
_NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class Ray(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How training uses Ray. `workers` fit one model together; a search has as many trials at once as there is room.

    Without `address` (`HOST:6379`, on a node of the cluster) each command has a Ray of its own on this machine.
    `storage` is a folder or URL that all nodes see, for parts, code and checkpoints: not needed where they see the
    project's folder. `restarts` is how often a fit goes on after a worker died.
    """

    address: Annotated[str, msgspec.Meta(pattern=ADDRESS)] | None = None
    workers: _AtLeastOne = 1
    cpus_per_worker: _AtLeastOne = 1
    gpus_per_worker: _NotNegative = 0
    storage: str | None = None
    restarts: _NotNegative = 3


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of training. `threads` 0 means all cores; `device` auto means a GPU where there is one."""

    seed: _Seed = 1
    threads: int = 0
    on: Literal["inline", "ray"] = "inline"
    device: Annotated[str, msgspec.Meta(pattern=r"^(auto|cpu|cuda(:\d+)?)$")] = "auto"
    ray: Ray = Ray()

    def placed(self, on: str | None) -> Training:
        """With `--on`: `inline`, `ray`, or the address of a Ray cluster; None changes nothing."""
        if on is None:
            return self
        if on in ("inline", "ray"):
            return msgspec.structs.replace(self, on=on)
        return msgspec.structs.replace(self, on="ray", ray=msgspec.structs.replace(self.ray, address=on))


class Datasets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where datasets are published: an object store's URL or a shared folder, and the secret that opens it.

    `storage` is what a source's `storage` is: `type`, `key_id`, `secret`, `endpoint` …, secrets by reference.
    """

    location: str | None = None
    storage: dict[str, Any] = {}


class Search(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the trials of `tune` are kept: a journal in this checkout, or a database that many machines share.

    `storage` is the address of a PostgreSQL database, by reference (`env:SEARCH_DATABASE`): it holds a password.
    """

    storage: str | None = None


class Ci(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `trunkline ci github` writes into the workflows that it cannot tell from the project's other files.

    `branch` is what is deployed (default: the repository's own default branch), `target` the dbt target of gate, deploy
    and retrain, `secrets` names of more of the repository's secrets that they need, `retrain` when to retrain, as cron
    says it, in UTC.
    """

    branch: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._/-]*$")] | None = None
    target: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")] | None = None
    secrets: tuple[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], ...] = ()
    retrain: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9*/,-]+( [A-Za-z0-9*/,-]+){4}$")] = "17 4 * * 1"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    tracking: Tracking = Tracking()
    training: Training = Training()
    datasets: Datasets = Datasets()
    search: Search = Search()
    ci: Ci = Ci()

    def with_training(self, training: Training) -> Config:
        """The same but for training."""
        return msgspec.structs.replace(self, training=training)


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


def registry_uri(config: Config, environ: Mapping[str, str]) -> str | None:
    """Where versions are kept if not where runs are: environment, then file."""
    return environ.get("MLFLOW_REGISTRY_URI") or config.tracking.registry_uri
