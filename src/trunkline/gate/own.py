"""A metric of the user's on the sealed part: measured by a process apart that can keep nothing of what it is given.

The function is the user's, and what it is called with are outcomes of the test part. So it runs as `ml/` code does
during training (`project/apart.py`), and besides it can write nowhere but into a folder that goes with it, and connect
to nobody. It gets outcomes and scores, no inputs and no keys. What comes back are numbers: one for each resample.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trunkline.errors import TrainingError
from trunkline.gate.metrics import Bootstrap, Floats, resampled
from trunkline.gate.quality import OwnMetric
from trunkline.project.apart import run_apart
from trunkline.project.boundary import user_code
from trunkline.project.ml import Declared, load_model

if TYPE_CHECKING:
    from trunkline.project.declare import Metric

__all__ = ["measure", "own_metric"]

_RESAMPLES = 400
_FEWEST = 50
_SECONDS = 60.0
"""How long resamples are drawn; a slow metric gets fewer of them, but these at least."""
_LONGEST = 600.0
"""Seconds after which a metric that has not been measured on these is stopped."""


def own_metric(root: Path, declared: Declared, *, classes: bool, seed: int = 0) -> OwnMetric | None:
    """The metric that a declared model brings, or None if it names one of Trunkline's.

    `classes` says whether resamples keep the rows of each class.
    """
    told = declared.data["metric"]
    if not isinstance(told, Mapping):
        return None

    def ask(outcome: npt.NDArray[Any], scores: Sequence[Floats]) -> Bootstrap:
        with tempfile.TemporaryDirectory(prefix="trunkline-") as folder:
            request = {
                "root": str(root),
                "declared": asdict(declared),
                "outcome": _written(outcome, Path(folder) / "outcome"),
                "scores": _written(np.array(scores), Path(folder) / "scores"),
                "classes": classes,
                "seed": seed,
            }
            try:
                found = run_apart("trunkline.gate.own:measure", request, root=root, sealed=True, within=_LONGEST)
            except TimeoutError as exc:
                raise _late(told["name"], len(outcome), declared) from exc
        return Bootstrap(np.array(found["value"]), np.array(found["resampled"]))

    return OwnMetric(str(told["name"]), "higher" if told["higher_is_better"] else "lower", ask)


def _late(name: object, rows: int, declared: Declared) -> TrainingError:
    return TrainingError(
        f"the metric {str(name)!r} was not measured on {rows:,} rows and {_FEWEST} resamples of them in {_LONGEST:g} s,"
        " and was stopped",
        file=declared.file,
        line=declared.line,
        hint="compute it with NumPy on whole arrays, without a loop over rows",
    )


def measure(request: Mapping[str, Any], tell: object) -> dict[str, Any]:
    """The metric of each model on the rows, and on as many resamples as there is time for. In the process apart."""
    root, declared = Path(request["root"]), Declared(**request["declared"])
    outcome, scores = _read(request["outcome"]), _read(request["scores"])
    metric: Any = load_model(root, declared).metric
    y = outcome.astype(np.float32)  # as in training
    value = [_value(metric, y, score) for score in scores]
    strata = outcome if request["classes"] else np.zeros(len(outcome), np.int8)
    drawn: list[list[float]] = []
    until = time.monotonic() + _SECONDS
    for weights in resampled(strata, _RESAMPLES, request["seed"]):
        if len(drawn) >= _FEWEST and time.monotonic() > until:
            break
        rows = np.repeat(np.arange(len(y)), weights.astype(np.int64))
        drawn.append([_value(metric, y[rows], score[rows]) for score in scores])
    return {"value": value, "resampled": drawn}


def _written(array: npt.NDArray[Any], file: Path) -> dict[str, Any]:
    """The plain bytes of an array in a file, and how to read them."""
    array.tofile(file)
    return {"file": str(file), "type": array.dtype.str, "shape": array.shape}


def _read(told: Mapping[str, Any]) -> npt.NDArray[Any]:
    return np.fromfile(told["file"], np.dtype(told["type"])).reshape(told["shape"])


def _value(metric: Metric, y: npt.NDArray[np.float32], score: Floats) -> float:
    for array in (y, score):
        array.flags.writeable = False
    with user_code(f"metric {metric.name!r} failed", metric.file, error=TrainingError):
        value = float(metric.function(y, score))
    if not isfinite(value):
        what = f"the metric {metric.name!r} gave {value}, which is no number to judge by"
        raise TrainingError(what, file=metric.file, line=metric.line)
    return value
