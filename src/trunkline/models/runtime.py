"""Scoring a bundle: with ONNX Runtime on the CPU, or with PyTorch where the model is a module that ONNX cannot tell."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read as it is imported: from 1.32 on it would report to its maker
import onnxruntime as ort

from trunkline.errors import EngineError, IntegrityError
from trunkline.models.bundle import Bundle
from trunkline.models.encoder import Encoder
from trunkline.models.task import Task

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    _Run = Callable[[list[str], dict[str, npt.NDArray[np.float32]]], Sequence[Any]]

__all__ = ["Scorer", "most_memory", "session"]

_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_ARENA = dict.fromkeys(("arena_extend_strategy", "initial_chunk_size_bytes", "max_dead_bytes_per_chunk"), -1)  # as is
_SHARE = 0.5
"""Of the machine's memory, that models may have in one process."""
_CHUNK = 1_024  # rows a call: the intermediate results of a network stay in the processor's cache
_FATAL_ONLY = 4  # errors come as exceptions
_LONGEST_ERROR = 400


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
        self.encoder, self._run = encoder, run if opened is None else _telling(run)
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
            found = self._run(["score"], {"features": part})[0]
            if found.shape != (wanted := (len(part), *shape[1:])):  # NumPy would stretch what is too short
                raise EngineError(f"the model gives scores of shape {list(found.shape)}, not {list(wanted)}")
            scores[start : start + _CHUNK] = found
        return scores

    def score_rows(self, rows: Sequence[Mapping[str, object]]) -> list[Any]:
        """Scores of a request's rows, which must have passed `Signature.check_rows`: a float each, or a list of k."""
        if not rows:
            return []
        result: list[Any] = self._run(["score"], {"features": self.encoder.encode_rows(rows)})[0].tolist()
        return result


def session(onnx: bytes, *, threads: int = 1) -> ort.InferenceSession:
    """A quiet CPU session. Raises IntegrityError for a model that cannot be run or breaks the contract:

    one input `features` float32 [n, d], one output `score` float32 [n] or [n, k]. All sessions of a process together
    have `most_memory()` for their tensors: what asks for more is refused.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if _bounded():
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        opened = ort.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # ONNX Runtime's own errors have no common class
        raise IntegrityError(f"ONNX Runtime cannot load the model: {_shown(exc)}") from exc
    inputs, outputs = (_described(values) for values in (opened.get_inputs(), opened.get_outputs()))
    fits = [("score", "tensor(float)", rank) for rank in (1, 2)]
    if inputs != [("features", "tensor(float)", 2)] or len(outputs) != 1 or outputs[0] not in fits:
        raise IntegrityError(
            f"the model must map `features` float [n, d] to `score` float [n] or [n, k], not {inputs} {outputs}"
        )
    return opened


def most_memory() -> int:
    """Bytes that models may have in one process: half of the machine's memory, or of what this container may have."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # none is set, or there is no such thing here
            most = min(most, int(Path(limit).read_text("ascii")))
    return int(most * _SHARE)


@functools.cache
def _bounded() -> bool:
    """Give ONNX Runtime its one allocator of this process, which knows an end. Whether this version of it can."""
    try:
        memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
        ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"max_mem": most_memory(), **_ARENA}))
    except (AttributeError, RuntimeError, TypeError):  # an older one, in a warehouse
        return False
    return True


def _shown(exc: Exception) -> str:
    """What ONNX Runtime says, in one line of what can be printed: the names in it are the model's."""
    text = " ".join("".join(c if c.isprintable() else " " for c in str(exc)).split())
    return text if len(text) <= _LONGEST_ERROR else f"{text[:_LONGEST_ERROR]}…"


def _telling(run: _Run) -> _Run:
    """`run` with ONNX Runtime's errors, which have no common class, as `EngineError`."""

    def told(outputs: list[str], given: dict[str, npt.NDArray[np.float32]]) -> Sequence[Any]:
        try:
            return run(outputs, given)
        except MemoryError:
            raise
        except Exception as exc:
            raise EngineError(f"the model cannot score: {_shown(exc)}") from exc

    return told


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
