"""What the process apart does for `train`, `tune` and `compare`. Requests and results are JSON: `training/apart.py`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from trunkline.project.ml import Declared
from trunkline.training.inputs import Inputs, load_inputs
from trunkline.training.placement import Placement, device_for
from trunkline.training.protocol import FitContext
from trunkline.training.records import TrialRecord

Request = Mapping[str, Any]
Tell = Callable[[Any], None]


def train(request: Request, tell: Tell) -> dict[str, Any]:
    """Train once into the folder `out`; what became of it, without the bundle. Tells step and value."""
    placement = Placement(**request["placement"])
    if placement.on == "ray":
        _connect(placement)
        from trunkline.training.on_ray.ray import train as train_on_ray

        trained = train_on_ray(request, placement, lambda step, value: tell([step, value]))
    else:
        from trunkline.training.checkpoints import FolderCheckpoints
        from trunkline.training.run import TrainSpec, train_in

        inputs = _inputs(request)
        context = replace(_context(request, tell), checkpoints=FolderCheckpoints(Path(request["checkpoints"])))
        spec = TrainSpec(inputs.declared.name, inputs.model.build, request["metadata"])
        trained = train_in(context, spec, inputs.data, request["params"], Path(request["out"]))
    return trained.to_json()


def search(request: Request, tell: Tell) -> dict[str, Any]:
    """Search to the end. Tells `{"opened": …}` with the study as it is found, then `{"trial": …}` of each that ends."""
    from trunkline.training.search.optuna import OpenStudy, SearchSpec, records, search

    def opened(study: OpenStudy) -> None:
        found = [asdict(record) for record in records(study)]
        up = study.spec.higher_is_better[0]
        told = {"key": study.key, "objectives": study.spec.objectives, "higher_is_better": up, "trials": found}
        tell({"opened": told})

    placement = Placement(**request["placement"])
    inputs = _inputs(request)
    study = request["study"]
    here = study["path"] is not None
    spec = SearchSpec(
        build=inputs.model.build,
        study_name=study["name"],
        storage=Path(study["path"]) if here else study["url"],
        trials=study["trials"],
        first=inputs.model.first,
        seed=request["seed"],
        threads=request["threads"],
        timeout=study["timeout"],
        jobs=study["jobs"] if sys.platform == "linux" or study["jobs"] > 1 else 0,  # elsewhere a fork may be refused
        objectives=tuple(inputs.model.objectives),
        pruner=study["pruner"],
        model=inputs.declared.name,
        anew=study["anew"],
        device=placement.device,
    )

    def on_trial(record: TrialRecord) -> None:
        tell({"trial": asdict(record)})

    if placement.on == "inline":
        return asdict(search(spec, inputs.data, on_trial=on_trial, on_open=opened))
    _connect(placement)
    from trunkline.training.on_ray.tune import search_on_ray

    return asdict(search_on_ray(spec, inputs, Path(request["root"]), placement, on_trial=on_trial, on_open=opened))


def compare(request: Request, tell: Tell) -> dict[str, Any]:
    """A whole comparison. Tells what `training.experiments.compare.compare` does."""
    from trunkline.training.experiments.cells import Store
    from trunkline.training.experiments.compare import CompareSpec, compare
    from trunkline.training.experiments.variations import variations

    inputs = _inputs(request)
    spec = CompareSpec(
        build=inputs.model.build,
        groups=inputs.manifest.groups,
        variations=variations(inputs.model, request["params"], request["vary"]),
        store=Store(Path(request["folder"])),
        seeds=tuple(request["seeds"]),
        threads=request["threads"],
        device=device_for(request["placement"]["device"]),
        ablate=request["ablate"],
        repeats=request["repeats"],
        jobs=request["jobs"],
    )
    return compare(spec, inputs.data, tell).to_json()


def spin(request: Request, tell: Tell) -> dict[str, Any]:
    """Train once more on the data of a past run. Tells step and value."""
    from trunkline.training.experiments.spin import spin

    return spin(_inputs(request), request, _context(request, tell))


def _context(request: Request, tell: Tell) -> FitContext:
    """How one fit runs in this process; step and value are told."""
    return FitContext(
        seed=request["seed"],
        threads=request["threads"],
        report=lambda step, value: tell([step, value]),
        device=device_for(request["placement"]["device"]),
    )


def _connect(placement: Placement) -> None:
    """To Ray, before anything else of it is imported: it reads its settings then."""
    from trunkline.training.on_ray.head import connect

    connect(placement)


def _inputs(request: Request) -> Inputs:
    return load_inputs(Path(request["root"]), Declared(**request["declared"]), request["dataset_id"])
