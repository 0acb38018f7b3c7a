"""Scoring a bundle with ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort

from trunkline.errors import IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Scorer", "session"]

_CHUNK = 1_024  # rows a call: the intermediate results of a network stay in the processor's cache
_ERRORS_ONLY = 3


class Scorer:
    """Probabilities from a bundle. One session, safe to call from several threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self._begin(bundle.encoder, session(bundle.model(), threads=threads))

    @classmethod
    def of(cls, encoder: Encoder, onnx: bytes, *, threads: int = 1) -> Scorer:
        """A scorer of a model that is no bundle yet: what the parity check looks at before anything is saved."""
        scorer = cls.__new__(cls)
        scorer._begin(encoder, session(onnx, threads=threads))
        return scorer

    def _begin(self, encoder: Encoder, opened: ort.InferenceSession) -> None:
        width = opened.get_inputs()[0].shape[1]
        if width != len(encoder.columns):
            raise IntegrityError(f"the model takes {width} features, but its encoder gives {len(encoder.columns)}")
        self.encoder = encoder
        self._run = opened.run

    def score(self, table: pa.Table) -> npt.NDArray[np.float64]:
        """Probabilities [n] of a table's rows. Raises DatasetError where its columns do not fit."""
        return self.score_matrix(self.encoder.encode(table))

    def score_columns(self, columns: Sequence[pa.ChunkedArray]) -> npt.NDArray[np.float64]:
        """Probabilities [n] of columns that are the encoder's, in its order. Raises DatasetError as `score` does."""
        return self.score_matrix(self.encoder.encode_columns(columns))

    def score_matrix(self, matrix: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Probabilities [n] of an encoded matrix, float32 [n, d]."""
        scores = np.empty(len(matrix), dtype=np.float64)
        for start in range(0, len(matrix), _CHUNK):
            part = matrix[start : start + _CHUNK]
            scores[start : start + _CHUNK] = self._run(["score"], {"features": part})[0]
        return scores

    def score_rows(self, rows: Sequence[Mapping[str, object]]) -> list[float]:
        """Probabilities of a request's rows, which must have passed `Signature.check_rows`."""
        if not rows:
            return []
        result: list[float] = self._run(["score"], {"features": self.encoder.encode_rows(rows)})[0].tolist()
        return result


def session(onnx: bytes, *, threads: int = 1) -> ort.InferenceSession:
    """A quiet CPU session. Raises IntegrityError for a model that cannot be run or breaks the contract:

    one input `features` float32 [n, d], one output `score` float32 [n].
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
    if inputs != [("features", "tensor(float)", 2)] or outputs != [("score", "tensor(float)", 1)]:
        raise IntegrityError(f"the model must map `features` float [n, d] to `score` float [n], not {inputs} {outputs}")
    return opened


def _described(values: Sequence[Any]) -> list[tuple[str, str, int]]:
    return [(value.name, value.type, len(value.shape)) for value in values]
