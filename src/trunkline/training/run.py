"""One training: model function -> fitted estimator -> bundle, checked before it is saved."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer
from trunkline.training.boundary import build_with
from trunkline.training.metrics import interval, metrics_of
from trunkline.training.parity import verify
from trunkline.training.protocol import Build, FitContext, Reporter, TrainingData
from trunkline.training.records import Trained

__all__ = ["TrainSpec", "Trained", "train"]


@dataclass(frozen=True)
class TrainSpec:
    """What to train. `metadata` is JSON that goes into the bundle as it is (dataset fingerprint, git commit, …);

    without times in it, the same training gives the same digest.
    """

    name: str
    build: Build
    metadata: Mapping[str, Any] = field(default_factory=dict)


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
    begun = time.monotonic()
    estimator, asked = build_with(spec.build, params)
    history: list[tuple[int, float]] = []

    def heard(step: int, value: float) -> None:
        history.append((step, value))
        if report is not None:
            report(step, value)

    fitted = estimator.fit(data, FitContext(seed=seed, threads=threads, report=heard))
    score, y = fitted.predict(data.validation.x), data.validation.y
    onnx = fitted.to_onnx()
    parity = verify(Scorer.of(data.encoder, onnx), fitted, data.validation.x)
    trained: dict[str, Any] = {
        "estimator": estimator.name,
        "params": asked,
        "settings": estimator.settings(),
        "metric": data.metric.name,
        "metrics": {metric.name: metric.of(y, score) for metric in metrics_of(data.task.kind)},
    }
    rows = {"train": len(data.train), "validation": len(data.validation)}
    metadata = {**spec.metadata, "model": spec.name, "seed": seed, "rows": rows, **trained}
    bundle = Bundle.write(out, signature=data.signature, encoder=data.encoder, onnx=onnx, metadata=metadata)
    return Trained(
        name=spec.name,
        **trained,
        interval=interval(data.metric, y, score, seed=seed),
        history=tuple(history),
        parity=parity,
        seconds=time.monotonic() - begun,
        bundle=bundle,
    )
