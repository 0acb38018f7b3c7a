"""What the process apart does for `train`, `tune` and `compare`. Requests and results are JSON: `training/apart.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from trunkline.errors import TrainingError, did_you_mean
from trunkline.project.ml import Declared
from trunkline.training.boundary import build_with
from trunkline.training.inputs import Inputs, load_inputs
from trunkline.training.trial import DefaultTrial

Request = Mapping[str, Any]
Tell = Callable[[Any], None]


def train(request: Request, tell: Tell) -> dict[str, Any]:
    """Train once into the folder `out`; what became of it, without the bundle. Tells step and value."""
    from trunkline.training.run import TrainSpec, train

    inputs = _inputs(request)
    trained = train(
        TrainSpec(inputs.declared.name, inputs.model.build, request["metadata"]),
        inputs.data,
        params=request["params"],
        seed=request["seed"],
        threads=request["threads"],
        out=Path(request["out"]),
        report=lambda step, value: tell([step, value]),
    )
    return {field.name: getattr(trained, field.name) for field in fields(trained) if field.name != "bundle"}


def search(request: Request, tell: Tell) -> dict[str, Any]:
    """Search to the end, all trials in this process. Tells each trial's record."""
    from trunkline.training.optuna import SearchSpec, search

    inputs = _inputs(request)
    spec = SearchSpec(
        build=inputs.model.build,
        study_name=request["study"],
        storage=Path(request["storage"]),
        trials=request["trials"],
        first=inputs.model.first,
        seed=request["seed"],
        threads=request["threads"],
        timeout=request["timeout"],
    )
    return asdict(search(spec, inputs.data, on_trial=lambda record: tell(asdict(record))))


def compare(request: Request, tell: Tell) -> None:
    """Fit the whole ladder of feature groups. Tells each row."""
    from trunkline.training.compare import compare

    inputs = _inputs(request)
    compare(
        inputs.model.build,
        inputs.data,
        inputs.manifest.groups,
        _variations(inputs, request["params"], request["vary"]),
        seed=request["seed"],
        threads=request["threads"],
        on_row=lambda row: tell(asdict(row)),
    )


def _inputs(request: Request) -> Inputs:
    return load_inputs(Path(request["root"]), Declared(**request["declared"]), request["dataset_id"])


def _variations(inputs: Inputs, known: Mapping[str, Any], vary: str | None) -> dict[str, Mapping[str, Any]]:
    """The best known parameters alone, or a variation for each choice of the parameter `vary`."""
    if vary is None:
        return {build_with(inputs.model.build, known)[0].name: known}
    trial = DefaultTrial(known)
    inputs.model.build(trial)
    parameter = trial.space.get(vary)
    if parameter is None or parameter.choices is None:
        names = [name for name, space in trial.space.items() if space.choices is not None]
        raise TrainingError(
            f"model {inputs.model.name!r} has no categorical parameter {vary!r}.{did_you_mean(vary, names)}",
            file=inputs.model.file,
            line=inputs.model.line,
            hint=f"categorical parameters: {', '.join(names) or 'none'}",
        )
    return {str(c): known if trial.params[vary] == c else {vary: c} for c in parameter.choices}
