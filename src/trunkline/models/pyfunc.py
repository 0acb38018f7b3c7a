"""A bundle as an MLflow model: `loader_module: trunkline.models.pyfunc` in its MLmodel file. Imports no mlflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trunkline.errors import DatasetError, did_you_mean
from trunkline.models.answer import answer, fields
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PyFunc"]


class PyFunc:
    """What `mlflow.pyfunc.load_model` calls. Thread-safe."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._names = list(bundle.signature.names)
        self._scorer = Scorer(bundle)

    def predict(self, model_input: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """A frame of the answers that the server gives (`answer.py`), a column for each of their names.

        `params` has no meaning here. Raises DatasetError for a column that is missing or holds what its field does not
        take.
        """
        import pandas as pd

        for name in self._names:
            if name not in model_input.columns:
                close = did_you_mean(name, map(str, model_input.columns))
                raise DatasetError(f"the input has no column {name!r}.{close}")
        try:
            table = pa.Table.from_pandas(model_input[self._names], preserve_index=False)
        except pa.ArrowException as exc:  # a column of mixed types
            raise DatasetError(f"the input's columns are not of one type each: {exc}") from exc
        task, scores = self.bundle.signature.task, self._scorer.score(table)
        if scores.ndim == 1:
            return pd.DataFrame({"score": scores}, index=model_input.index)
        told = [answer(task, score) for score in scores.tolist()]
        return pd.DataFrame(told, columns=list(fields(task)), index=model_input.index)


def _load_pyfunc(path: str) -> PyFunc:
    """MLflow's entry point: open the bundle at `path`, checking every byte of it."""
    return PyFunc(Bundle.open(Path(path)))
