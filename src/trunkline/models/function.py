"""A bundle as a function over columns: what a warehouse calls from SQL.

One argument an input of the signature, in order, of a type that means the same in every warehouse; one score a row, or
a list of them where the task has several, in the order of `Task.names`.
Which rows share a batch is the engine's choice and changes no score by more than float32's rounding.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trunkline.models.answer import LIST
from trunkline.models.signature import Kind, Signature
from trunkline.models.task import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    import pyarrow as pa

    from trunkline.models.runtime import Scorer

__all__ = ["RETURNS", "TYPES", "arguments", "over_arrow", "over_pandas", "returns"]

TYPES: Mapping[Kind, str] = {
    "number": "DOUBLE",
    "category": "VARCHAR",
    "boolean": "BOOLEAN",
    "datetime": "TIMESTAMP",
    "vector": LIST,
    "image": "BLOB",
}
"""The SQL type in which a kind of input is handed over."""

RETURNS = "DOUBLE"
"""The SQL type of a score."""


def arguments(signature: Signature) -> tuple[tuple[str, str], ...]:
    """(name, SQL type) of the function's arguments."""
    return tuple((field.name, TYPES[field.kind]) for field in signature.inputs)


def returns(task: Task) -> str:
    """The SQL type of a row's score: that of several numbers where the task has them."""
    return RETURNS if task.kind in ("binary", "regression") else LIST


def over_arrow(names: Sequence[str], scorer: Callable[[], Scorer]) -> Callable[..., pa.Array]:
    """The function over Arrow columns. `scorer` is asked once, at the first batch: making the function costs nothing.

    Safe to call from several threads. It has one named parameter an argument, as DuckDB counts them.
    """
    found: list[Scorer] = []
    lock = threading.Lock()

    def call(*columns: pa.ChunkedArray) -> pa.Array:
        if not found:
            with lock:
                if not found:
                    found.append(scorer())
        return _listed(found[0].score_columns(columns))

    parameters = [inspect.Parameter(f"_{index}", inspect.Parameter.POSITIONAL_ONLY) for index in range(len(names))]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return call


def over_pandas(scorer: Scorer) -> Callable[[pd.DataFrame], pd.Series[float]]:
    """The function over a frame whose columns are the arguments in order, whatever their names: Snowflake's shape."""
    import pandas as pd

    kinds = [column.kind for column in scorer.encoder.columns]

    def call(frame: pd.DataFrame) -> pd.Series[float]:
        columns = [_arrow(frame.iloc[:, index], kind) for index, kind in enumerate(kinds)]
        scores = scorer.score_columns(columns)
        return pd.Series(scores if scores.ndim == 1 else scores.tolist())

    return call


def _listed(scores: npt.NDArray[np.float64]) -> pa.Array:
    """Scores [n] as they are, [n, k] as lists."""
    import numpy as np
    import pyarrow as pa

    if scores.ndim == 1:
        return pa.array(scores)
    ends = pa.array(np.arange(len(scores) + 1, dtype=np.int32) * scores.shape[1])
    return pa.ListArray.from_arrays(ends, pa.array(scores.ravel()))


def _arrow(series: pd.Series[Any], kind: Kind) -> pa.ChunkedArray:
    """A column as Arrow; what pandas calls missing is null. Times keep the unit they come in."""
    import pyarrow as pa

    given: dict[Kind, pa.DataType | None] = {
        "number": pa.float64(),
        "category": pa.string(),
        "boolean": pa.bool_(),
        "datetime": None,
        "vector": pa.list_(pa.float64()),
        "image": pa.binary(),
    }
    array = pa.array(series, type=given[kind], from_pandas=True)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
