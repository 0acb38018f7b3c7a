"""Each heavy library has one home: its imports, lazy ones included, are found in the files named here only."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

HOMES: dict[str, tuple[str, ...]] = {
    "PIL": ("models/images.py",),
    "adbc_driver_manager": ("ingest/adbc.py",),
    "airflow": (),  # its DAG file is rendered text
    "dbt": ("transform/dbt.py",),
    "dbt.adapters": ("transform/dbt.py", "transform/functions.py"),  # the plugin's base class
    "dlt": ("ingest/dlt_errors.py", "ingest/dlt_extract.py", "ingest/dlt_rest.py", "ingest/dlt_sql.py"),
    "duckdb": ("warehouse/duckdb.py",),
    "duckdb_extensions": ("warehouse/duckdb.py",),
    "fivetran_connector_sdk": ("ingest/fivetran_host.py",),
    "granian": ("serving/server.py",),
    "grpc": ("ingest/fivetran_host.py",),
    "lightgbm": ("training/trees/lightgbm.py", "datasets/adversarial.py"),
    "mlflow": (
        "registry/mlflow.py",
        "registry/mlflow_bulk.py",
        "registry/mlflow_calls.py",
        "registry/mlflow_model.py",
        "registry/mlflow_runs.py",
    ),
    "onnxmltools": ("training/trees/lightgbm.py",),
    "onnxruntime": ("models/runtime.py",),
    "optuna": (
        "training/search/databases.py",
        "training/search/journal.py",
        "training/search/optuna.py",
        "training/search/studies.py",
        "training/search/study.py",
    ),
    "ray": (
        "training/on_ray/ray.py",
        "training/on_ray/board.py",
        "training/on_ray/head.py",
        "training/on_ray/tune.py",
        "serving/ray_serve.py",
    ),
    "rtdl_num_embeddings": ("training/networks/tabm.py",),
    "safetensors": ("models/torch.py", "training/networks/state.py"),
    "skl2onnx": ("training/scikit/graph.py",),
    "snowflake": ("warehouse/snowflake.py",),
    "tabm": ("training/networks/tabm.py",),
    "torch": (
        "datasets/torch.py",
        "models/torch.py",
        "training/networks/tabm.py",
        "training/networks/torch.py",
        "training/networks/data.py",
        "training/networks/device.py",
        "training/networks/export.py",
        "training/networks/loop.py",
        "training/networks/mlp.py",
        "training/networks/peers.py",
        "training/networks/state.py",
        "training/networks/tasks.py",
        "training/networks/user.py",
        "training/networks/warm.py",
    ),
    "xgboost": ("training/trees/xgboost.py", "training/trees/xgboost_tracker.py"),
}


def imported(text: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in `text`: statements, and calls such as `import_module("ray.tune")`."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                yield from ((node.lineno, f"{module}.{alias.name}") for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield node.lineno, module


def strangers(file: str, text: str) -> list[str]:
    """The imports in `file` of libraries that live elsewhere."""
    found = []
    for line, name in imported(text):
        owners = [library for library in HOMES if f"{name}.".startswith(f"{library}.")]
        if owners and file not in HOMES[max(owners, key=len)]:
            found.append(f"{file}:{line} imports {name}")
    return found


def test_heavy_libraries_stay_at_home(sources: dict[str, str]) -> None:
    assert [breach for file, text in sources.items() for breach in strangers(file, text)] == []


@pytest.mark.parametrize(
    "text",
    [
        "import torch.nn as nn",
        "def f():\n    from mlflow import pyfunc",
        "import importlib\nimportlib.import_module('ray.tune')",
        "from dbt.adapters.duckdb.plugins import BasePlugin",
    ],
)
def test_a_stranger_is_noticed(text: str) -> None:
    assert len(strangers("gate/evidence.py", text)) == 1


def test_an_exception_reaches_no_further_than_it_says() -> None:
    assert strangers("transform/functions.py", "from dbt.adapters.duckdb.plugins import BasePlugin") == []
    assert strangers("transform/functions.py", "from dbt.cli.main import dbtRunner") != []
    assert strangers("gate/evidence.py", "from torchless import thing") == []
