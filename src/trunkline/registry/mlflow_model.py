"""What MLflow keeps of a bundle and of a dataset, in its own formats. A home of mlflow."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.registry.mlmodel import BUNDLE_PATH, dataset_source, input_columns, output_columns
from trunkline.registry.protocol import DatasetInput

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput as MlflowInput
    from mlflow.entities import LoggedModel
    from mlflow.models import ModelSignature

__all__ = ["inputs_of", "save_model"]

_LOADER = "trunkline.models.pyfunc"
_DIGEST = 36  # characters that MLflow keeps of a dataset's digest


def save_model(
    scratch: Path, bundle_dir: Path, logged: LoggedModel, run_id: str, example: Mapping[str, object] | None
) -> Path:
    """A `python_function` model folder below `scratch`, with the bundle's files at `BUNDLE_PATH`."""
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    # MLflow keeps the folder under its own name: this link gives every bundle the same one.
    link = scratch / Path(BUNDLE_PATH).name
    link.symlink_to(bundle_dir.absolute(), target_is_directory=True)
    model = Model(logged.artifact_location, run_id, model_id=logged.model_id, model_uuid=logged.model_id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path=scratch / "model",
            loader_module=_LOADER,
            data_path=str(link),
            mlflow_model=model,
            signature=_signature(bundle_dir),
            input_example=pd.DataFrame([example]) if example else None,
            # Given, so that MLflow does not load the model in a child process to find out.
            pip_requirements=[f"trunkline=={importlib.metadata.version('trunkline')}"],
        )
    return scratch / "model"


def inputs_of(datasets: Sequence[DatasetInput]) -> list[MlflowInput]:
    """Datasets as MLflow's inputs of a run, one for each part: it tells them apart by name and digest."""
    from mlflow.entities import Dataset, InputTag
    from mlflow.entities import DatasetInput as MlflowInput

    made = []
    for one in datasets:
        kind, source = dataset_source(one.source)
        dataset = Dataset(one.name, one.digest[:_DIGEST], kind, json.dumps(source))
        made.append(MlflowInput(dataset, [InputTag("mlflow.data.context", one.context)]))
    return made


def _signature(bundle_dir: Path) -> ModelSignature:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec
    from mlflow.types.schema import AnyType, Array, Map

    numbers: dict[str, Array | Map] = {"doubles": Array(DataType.double), "map": Map(DataType.double)}
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType() if kind == "any" else DataType[kind], name)
        for name, kind in input_columns(bundle_dir / "signature.json")
    ]
    told: list[ColSpec | TensorSpec] = [
        ColSpec(numbers[kind] if kind in numbers else DataType[kind], name)
        for name, kind in output_columns(bundle_dir / "signature.json")
    ]
    return ModelSignature(inputs=Schema(columns), outputs=Schema(told))
