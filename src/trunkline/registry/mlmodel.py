"""What of MLflow's formats can be worked out without MLflow. Pure but for reading `signature.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from trunkline.registry.address import shown
from trunkline.registry.protocol import RunRecord

BUNDLE_PATH = "data/bundle"

Point = tuple[str, int, float]

# MLflow's limits on one `log_batch` call are 100 params, 1,000 metrics and 1,000 of both.
_PARAMS = 100
_POINTS = 900

# `double` would refuse a frame whose column happens to hold whole numbers only, and `datetime` one with time zones: the
# bundle's own encoder takes both, and checks more than MLflow can.
_TYPES = {"number": "any", "category": "string", "boolean": "boolean"}


def input_columns(signature_file: Path) -> list[tuple[str, str]]:
    """Name and MLflow type ("string", "boolean", "any") of each input, in order, from a bundle's `signature.json`."""
    inputs = json.loads(signature_file.read_bytes())["inputs"]
    return [(field["name"], _type(field)) for field in inputs]


def _type(field: dict[str, object]) -> str:
    example = field.get("example")
    # A category may be a code: MLflow would refuse a column of integers that is declared as text.
    if field["kind"] == "category" and example is not None and not isinstance(example, str):
        return "any"
    return _TYPES.get(str(field["kind"]), "any")


def output_columns(signature_file: Path) -> list[tuple[str, str]]:
    """Name and type ("double", "string", "doubles" for a list, "map" for numbers by name) of each column of a frame of

    predictions: those of `models/answer.py`, row by row.
    """
    task: Any = json.loads(signature_file.read_bytes())["task"]
    kind = task if isinstance(task, str) else task["kind"]
    if kind == "multiclass":
        return [("class", "string"), ("probabilities", "map")]
    if kind == "quantile":
        return [(f"q{100 * quantile:g}", "double") for quantile in task["quantiles"]]
    return [("scores", "doubles")] if kind == "custom" else [("score", "double")]


def dataset_source(uri: str) -> tuple[str, dict[str, str]]:
    """MLflow's kind of a source and its data, for a path or URL; a login in it is left out.

    A kind that MLflow does not know is shown by its page, too, but `mlflow.data.get_source` cannot read it back.

    >>> dataset_source("s3://team/flights/")
    ('s3', {'uri': 's3://team/flights/'})
    """
    scheme, bare = urlsplit(uri).scheme, shown(uri)
    if scheme in ("http", "https"):
        return "http", {"url": bare}
    kinds = {"": "local", "file": "local", "s3": "s3", "gs": "gs", "hdfs": "hdfs", "wasbs": "wasbs", "abfss": "abfss"}
    return kinds.get(scheme, "trunkline"), {"uri": bare}


def batches(run: RunRecord) -> Iterator[tuple[Sequence[tuple[str, str]], Sequence[Point]]]:
    """The params and the metric points of `run`, in the fewest calls that MLflow's limits allow."""
    params = [(name, str(value)) for name, value in run.params.items()]
    points: list[Point] = [(name, 0, float(value)) for name, value in run.metrics.items()]
    points += [(name, step, float(value)) for name, curve in run.curves.items() for step, value in curve]
    calls = max(-(-len(params) // _PARAMS), -(-len(points) // _POINTS))
    for call in range(calls):
        yield (
            params[call * _PARAMS : (call + 1) * _PARAMS],
            points[call * _POINTS : (call + 1) * _POINTS],
        )


def milliseconds(time: datetime | None) -> int:
    """MLflow's time stamps; None means now."""
    return int((time or datetime.now(UTC)).timestamp() * 1000)
