"""One training: model function -> fitted estimator -> outcome, checked -> bundle.

Fitting and finishing are apart, so that the first can be done by several processes and the second by one of them, on
another machine than the one that keeps the bundle.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trunkline.errors import TrainingError
from trunkline.models.bundle import Bundle
from trunkline.training.boundary import build_with, plain_settings
from trunkline.training.exported import exported
from trunkline.training.metrics import interval, measure_all
from trunkline.training.parity import verify
from trunkline.training.protocol import (
    Build,
    Estimator,
    FitContext,
    Fitted,
    Reporter,
    TakesPeers,
    TrainingData,
    unheard,
)
from trunkline.training.records import Trained

if TYPE_CHECKING:
    from trunkline.training.features import Learned

__all__ = ["Fit", "Outcome", "TrainSpec", "Trained", "finish", "fit", "refuse_peers", "save", "train", "train_in"]

_HISTORY = "history.json"


@dataclass(frozen=True)
class TrainSpec:
    """What to train. `metadata` is JSON that goes into the bundle as it is (dataset fingerprint, git commit, …);

    without times in it, the same training gives the same digest.
    """

    name: str
    build: Build
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fit:
    """A fitted estimator, the parameters it was made with, what it reported, and how long it took."""

    estimator: Estimator
    params: Mapping[str, Any]
    fitted: Fitted
    history: tuple[tuple[int, float], ...]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """A finished fit as plain data: the files of its model, what goes into the bundle, and what does not."""

    files: Mapping[str, bytes]
    metadata: Mapping[str, Any]
    interval: tuple[float, float]
    history: tuple[tuple[int, float], ...]
    parity: float
    seconds: float


def train(
    spec: TrainSpec,
    data: TrainingData,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
    out: Path,
    report: Reporter | None = None,
) -> Trained:
    """Build, fit, export, check and write the model to the directory `out`.

    `report(step, value)` hears the validation metric as it goes; what it raises ends the training. Deterministic for
    a seed and a number of threads. Raises TrainingError for the user's code, parameters or data; IntegrityError if
    the exported model scores differently, and then nothing is written.
    """
    return train_in(FitContext(seed=seed, threads=threads, report=report or unheard), spec, data, params, out)


def train_in(
    context: FitContext, spec: TrainSpec, data: TrainingData, params: Mapping[str, Any] | None, out: Path
) -> Trained:
    """`train` with a context of one's own: a device, checkpoints."""
    made = fit(spec.build, data, params, context)
    return save(spec.name, finish(spec, data, made, context), data, out)


def fit(build: Build, data: TrainingData, params: Mapping[str, Any] | None, context: FitContext) -> Fit:
    """Build the estimator and fit it, from the last checkpoint if there is one. Every peer calls this."""
    begun = time.monotonic()
    estimator, asked = build_with(build, params)
    refuse_peers(estimator, 1 if context.peers is None else context.peers.world)
    plain_settings(estimator)
    remembered = _Remembered(context)
    checkpoints = remembered if context.checkpoints is not None else None
    fitted = estimator.fit(data, replace(context, report=remembered.report, checkpoints=checkpoints))
    return Fit(estimator, asked, fitted, tuple(remembered.history), time.monotonic() - begun)


def refuse_peers(estimator: Estimator, world: int) -> None:
    """Refuse to have several processes fit what would take the rows of one for all. Raises TrainingError."""
    if world > 1 and not (isinstance(estimator, TakesPeers) and estimator.takes_peers):
        raise TrainingError(
            f"{estimator.name} is fitted by one process, not by {world}: each would see its own rows alone",
            hint="set `workers: 1` under `training: ray:`, or use LightGBM, XGBoost or an estimator of PyTorch; one of"
            " your own says `takes_peers = True` where it heeds context.peers (docs/estimators.md)",
        )


def finish(spec: TrainSpec, data: TrainingData, made: Fit, context: FitContext) -> Outcome:
    """Score the validation part, export, and compare the export with the fitted model. One of the peers calls this."""
    begun = time.monotonic()
    score, y = made.fitted.predict(data.validation.x), data.validation.y
    files, scorer = exported(made.fitted, data)
    parity = verify(scorer, made.fitted, data.validation.x, data.task)
    peers = context.peers
    metadata = {
        **spec.metadata,
        "model": spec.name,
        "seed": context.seed,
        "rows": {"train": peers.rows if peers else len(data.train), "validation": len(data.validation)},
        **({"workers": peers.world} if peers else {}),
        "estimator": made.estimator.name,
        "params": dict(made.params),
        "settings": plain_settings(made.estimator),
        "metric": data.metric.name,
        "metrics": measure_all(data.metric, data.task, y, score),
    }
    return Outcome(
        files=files,
        metadata=metadata,
        interval=interval(data.metric, y, score, seed=context.seed),
        history=made.history,
        parity=parity,
        seconds=made.seconds + time.monotonic() - begun,
    )


def save(name: str, outcome: Outcome, data: TrainingData | Learned, out: Path) -> Trained:
    """Write the bundle to the directory `out`, with the encoder and the signature of `data`."""
    told = outcome.metadata
    bundle = Bundle.write(
        out,
        signature=data.signature,
        encoder=data.encoder,
        onnx=outcome.files,
        metadata=told,
    )
    return Trained(
        name=name,
        **{key: told[key] for key in ("estimator", "params", "settings", "metric", "metrics")},
        interval=outcome.interval,
        history=outcome.history,
        parity=outcome.parity,
        seconds=outcome.seconds,
        bundle=bundle,
    )


class _Remembered:
    """What a fit reports, kept with its checkpoints: a fit that goes on has the whole curve to show.

    What another version of Trunkline has left is passed over: it may fit in another way, or keep something else.
    """

    def __init__(self, context: FitContext) -> None:
        self.history: list[tuple[int, float]] = []
        self._context = context
        self.pause: float = getattr(context.checkpoints, "pause", 0.0)

    def report(self, step: int, value: float) -> None:
        """Keep it and pass it on."""
        self.history.append((step, value))
        self._context.report(step, value)

    def load(self) -> Mapping[str, bytes] | None:
        """The files of the fit; what was reported up to them is history again."""
        assert self._context.checkpoints is not None
        files = self._context.checkpoints.load()
        kept = json.loads(files.get(_HISTORY, b"{}")) if files is not None else {}
        if files is None or kept.get("trunkline") != version("trunkline"):
            return None
        self.history[:] = [(step, value) for step, value in kept["history"]]
        return {name: content for name, content in files.items() if name != _HISTORY}

    def save(self, step: int, files: Mapping[str, bytes] | None) -> None:
        """The files of the fit with its history."""
        assert self._context.checkpoints is not None
        told = {"trunkline": version("trunkline"), "history": self.history}
        whole = None if files is None else {**files, _HISTORY: json.dumps(told).encode()}
        self._context.checkpoints.save(step, whole)
