"""The Ray of a command, and the way to one. A home of ray.

Runs in confined processes only (`project/apart.py`): one holds the Ray as long as the command lasts, the others, in
which the command's jobs run, connect to it. What it starts inherits the confinement.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from trunkline.errors import EngineError, TrainingError
from trunkline.project.reaper import begin_session
from trunkline.training.placement import Placement

__all__ = ["connect", "hold"]

_OBJECTS = 128 << 20  # bytes of shared memory: rows are read from files, so little more than results passes through it

# Read once by Ray, when it is imported.
_SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # the project's code works in the project's folder
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # a head that is gone is noticed soon
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",  # a checkpoint waits for the controller to look
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def hold(request: Mapping[str, Any], tell: Callable[[Any], None]) -> None:
    """Start a Ray on this machine, tell its address and token, and wait to be ended: Ray ends with this process."""
    begin_session()
    ray = _ray(request["token"])
    context = ray.init(
        num_cpus=request["cpus"],
        include_dashboard=False,
        object_store_memory=_OBJECTS,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=request["scratch"],
    )
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())  # in place of Ray's, which writes a traceback
    tell({"address": context.address_info["gcs_address"], "token": request["token"]})
    while True:
        signal.pause()


def connect(placement: Placement) -> Any:
    """The module `ray`, connected. Raises EngineError where nobody answers, TrainingError where it is not installed."""
    ray = _ray(placement.token)
    try:
        ray.init(address=placement.address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as exc:
        told = str(exc).partition("\n")[0]
        raise EngineError(
            f"Ray at {placement.address} cannot be reached: {told}",
            hint="run this on a node of the cluster, with the address that `ray start --head` printed (docs/ray.md)",
        ) from exc
    return ray


def _ray(token: str) -> Any:
    os.environ.update(_SETTINGS)
    if token:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token)
    try:
        import ray
    except ModuleNotFoundError as exc:
        hint = "pip install 'trunkline[ray]'"
        raise TrainingError("training on Ray needs ray, which is not installed", hint=hint) from exc
    return ray
