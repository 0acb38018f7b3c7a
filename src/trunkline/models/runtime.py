"""Scoring a bundle: with ONNX Runtime on the CPU, or with PyTorch where the model is a module that ONNX cannot tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from trunkline.errors import IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    _Run = Callable[[list[str], dict[str, npt.NDArray[np.float32]]], Sequence[Any]]

__all__ = ["Scorer", "session"]

_CHUNK = 1_024  # rows a call: the intermediate results of a network stay in the processor's cache
_ERRORS_ONLY = 3


class Scorer:
    """Scores from a bundle: [n], or [n, k] where the task has several numbers a row (`Task.width`).

    Safe to call from several threads at once. `outputs` is k, or None.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1, root: Path | None = None) -> None:
        """`root` is the project whose code makes a module; that around the working directory, if not given."""
        if bundle.is_module:
            self._begin(bundle.encoder, _module(bundle, threads, root), bundle.signature.task, None)
            return
        opened = session(bundle.model(), threads=threads)
        self._begin(bundle.encoder, opened.run, bundle.signature.task, opened)

    @classmethod
    def of(cls, encoder: Encoder, onnx: bytes, *, threads: int = 1, task: Task | None = None) -> Scorer:
        """A scorer of a model that is no bundle yet: what the parity check looks at before anything is saved.

        Without `task`, the model says itself how many numbers a row has.
        """
        scorer = cls.__new__(cls)
        opened = session(onnx, threads=threads)
        scorer._begin(encoder, opened.run, task, opened)
        return scorer

    def _begin(self, encoder: Encoder, run: _Run, task: Task | None, opened: ort.InferenceSession | None) -> None:
        if opened is not None and (width := opened.get_inputs()[0].shape[1]) != encoder.width:
            raise IntegrityError(f"the model takes {width} features, but its encoder gives {encoder.width}")
        self.encoder, self._run = encoder, run
        self.outputs = self._measured() if opened is None else _outputs(opened, self._measured)
        if task is not None and self.outputs != task.width:
            found, wanted = (width or "one" for width in (self.outputs, task.width))
            raise IntegrityError(f"the model gives {found} numbers a row, but its task ({task.kind}) has {wanted}")

    def _measured(self) -> int | None:
        """How many numbers a row has, by scoring one."""
        scores = self._run(["score"], {"features": np.zeros((1, self.encoder.width), np.float32)})[0]
        return None if scores.ndim == 1 else int(scores.shape[1])

    def score(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Scores [n] or [n, k] of a table's rows. Raises DatasetError where its columns do not fit."""
        return self.score_matrix(self.encoder.encode(table))

    def score_columns(self, columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.float64]:
        """Scores of columns that are the encoder's, in its order. Raises DatasetError as `score` does."""
        return self.score_matrix(self.encoder.encode_columns(columns))

    def score_matrix(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Scores of an encoded matrix, float32 [n, d]."""
        shape = (len(matrix),) if self.outputs is None else (len(matrix), self.outputs)
        scores = np.empty(shape, dtype=np.float64)
        for start in range(0, len(matrix), _CHUNK):
            part = matrix[start : start + _CHUNK]
            scores[start : start + _CHUNK] = self._run(["score"], {"features": part})[0]
        return scores

    def score_rows(self, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """Scores of a request's rows, which must have passed `Signature.check_rows`: a float each, or a list of k."""
        if not rows:
            return []
        result: list[Any] = self._run(["score"], {"features": self.encoder.encode_rows(rows)})[0].tolist()
        return result


def session(onnx: bytes, *, threads: int = 1) -> ort.InferenceSession:
    """A quiet CPU session. Raises IntegrityError for a model that cannot be run or breaks the contract:

    one input `features` float32 [n, d], one output `score` float32 [n] or [n, k].
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        opened = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's own errors have no common class
        raise IntegrityError(f"ONNX Runtime cannot load the model: {exc}") from exc
    inputs, outputs = (_described(values) for values in (opened.get_inputs(), opened.get_outputs()))
    fits = [("score", "tensor(float)", rank) for rank in (1, 2)]
    if inputs != [("features", "tensor(float)", 2)] or len(outputs) != 1 or outputs[0] not in fits:
        raise IntegrityError(
            f"the model must map `features` float [n, d] to `score` float [n] or [n, k], not {inputs} {outputs}"
        )
    return opened


def _outputs(opened: ort.InferenceSession, measured: Callable[[], int | None]) -> int | None:
    """How many numbers a row has: None for one, in scores without a second dimension."""
    shape = opened.get_outputs()[0].shape
    if len(shape) == 1:
        return None
    return shape[1] if isinstance(shape[1], int) else measured()


def _described(values: Sequence[Any]) -> list[tuple[str, str, int]]:
    return [(value.name, value.type, len(value.shape)) for value in values]


def _module(bundle: Bundle, threads: int, root: Path | None) -> _Run:
    """The module of a bundle, called as an ONNX session is; by one thread at a time."""
    from trunkline.models.torch import open_module
    from trunkline.project.load import find_root

    weights, record = bundle.module()
    place = root or find_root(Path.cwd())
    scorer = open_module(weights, record, bundle.encoder, bundle.signature.task, root=place, threads=threads)
    taken = threading.Lock()

    def run(outputs: list[str], features: dict[str, npt.NDArray[np.float32]]) -> list[Any]:
        with taken:
            return [scorer.score_matrix(features["features"])]

    return run
