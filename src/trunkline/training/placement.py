"""Where a fit runs: in the child process itself, or on Ray. Light: Ray is not loaded here."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from trunkline.project.config import Training

__all__ = ["Placement", "device_for", "of_fingerprint", "place", "reachable"]


@dataclass(frozen=True)
class Placement:
    """Where fits run, and on what. What a fit's result depends on is `of_fingerprint`.

    On Ray, `workers` processes fit one model together, with `cpus` threads and `gpus` each; `address` is the cluster's,
    and `token` opens the one that this command started itself. `storage` is a folder or URL that all its nodes see;
    `shared` says that they see the project's folder too. `restarts` is how often a fit goes on after a worker died.
    """

    on: Literal["inline", "ray"] = "inline"
    device: str = "auto"
    address: str = ""
    token: str = field(default="", repr=False)
    workers: int = 1
    cpus: int = 1
    gpus: int = 0
    storage: str = ""
    shared: bool = True
    restarts: int = 3


def place(training: Training, state: Path, head: Callable[[], Mapping[str, Any]]) -> Placement:
    """The placement that `trunkline.yml` and `--on` ask for. `head` starts this command's own Ray if one is needed."""
    if training.on == "inline":
        return Placement(device=training.device)
    ray = training.ray
    reached = {"address": ray.address, "token": ""} if ray.address else head()
    return Placement(
        on="ray",
        device=training.device,
        address=reached["address"],
        token=reached["token"],
        workers=ray.workers,
        cpus=ray.cpus_per_worker,
        gpus=ray.gpus_per_worker,
        storage=ray.storage or str(state / "ray"),
        shared=not ray.storage,
        restarts=ray.restarts,
    )


def device_for(asked: str) -> str:
    """The device of this machine that `auto` means: a GPU where torch can use one."""
    if asked != "auto":
        return asked
    if not (Path("/dev/nvidia0").exists() and find_spec("torch")):
        return "cpu"
    from trunkline.training.networks.device import best_device  # brings torch, which a machine with a GPU is to use

    return best_device()


def reachable(address: str) -> bool:
    """Whether something answers at a cluster's address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError:
        return False
    return True


def of_fingerprint(training: Training) -> dict[str, Any]:
    """What of the placement changes the model: rows and gradients are shared by so many workers.

    Neither Ray itself nor the device is in it: they change the last bits only, and a model is not trained anew because
    another machine has a GPU.
    """
    return {"workers": training.ray.workers} if training.on == "ray" and training.ray.workers > 1 else {}
