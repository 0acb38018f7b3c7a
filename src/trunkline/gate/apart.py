"""Scores of the sealed part by a model that nobody here has made: by a process apart that can keep nothing.

A bundle may come from anywhere. An ONNX graph is data, but ONNX Runtime is a large program in C++ that reads it, and a
graph may ask for any memory and time; a bundle of weights is run by code of the project, whose digests say which code,
not what it does. So either is given the inputs of the sealed part where it reaches neither vault, warehouse nor
network and can write nothing (`project/apart.py`), with an end to its memory and its time. It gets no outcomes.
"""

from __future__ import annotations

import math
import mmap
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from trunkline.errors import EngineError, TrainingError
from trunkline.gate.metrics import Floats
from trunkline.models.bundle import Bundle
from trunkline.models.runtime import Scorer, most_memory
from trunkline.project.apart import run_apart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ApartScorer", "score"]

_SECONDS = 120.0
_SECONDS_A_ROW = 0.01


@dataclass(frozen=True)
class ApartScorer:
    """A `TableScorer` of the bundle; `root` is the project, whose code makes the model where that is a module."""

    bundle: Bundle
    root: Path

    def score(self, table: pa.Table) -> Floats:
        """Scores [n] or [n, k].

        Raises IntegrityError where the model cannot be run, or the project's code is not that of the bundle, and
        EngineError where it takes more memory or time than it may.
        """
        import pyarrow as pa

        given = table.select(list(self.bundle.signature.names))
        with tempfile.TemporaryFile() as rows, tempfile.TemporaryFile() as scores:  # no name: gone with the processes
            with pa.ipc.new_file(pa.PythonFile(rows, "w"), given.schema) as out:
                out.write_table(given)
            rows.flush()
            self._ask(rows.fileno(), scores.fileno(), len(table))
            return self._read(scores, len(table))

    def _ask(self, rows: int, scores: int, count: int) -> None:
        place = {"bundle": str(self.bundle.path.resolve()), "sha256": self.bundle.sha256, "root": str(self.root)}
        request = {**place, "rows": rows, "scores": scores}
        within = _SECONDS + _SECONDS_A_ROW * count
        job = "trunkline.gate.apart:score"
        try:
            run_apart(job, request, root=self.root, sealed=True, handed=(rows, scores), within=within)
        except TimeoutError as exc:
            what = f"the model has not scored {count:,} rows in {within:,.0f} s, and was stopped"
            raise EngineError(what, file=self.bundle.path) from exc
        except TrainingError as exc:
            if self.bundle.is_module or not isinstance(exc.__cause__, ChildProcessError):
                raise
            code = exc.__cause__.args[0]
            how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
            hint = f"it may have {most_memory() / 1e9:.1f} GB of memory"
            raise EngineError(f"the process that scored the model {how}", file=self.bundle.path, hint=hint) from exc

    def _read(self, scores: IO[bytes], count: int) -> Floats:
        width = self.bundle.signature.task.width
        shape = (count,) if width is None else (count, width)
        if os.fstat(scores.fileno()).st_size != 8 * math.prod(shape):
            raise EngineError("the process that scored the model gave another number of scores", file=self.bundle.path)
        scores.seek(0)
        return np.fromfile(scores, np.float64).reshape(shape)


def score(request: Mapping[str, Any], tell: object) -> dict[str, Any]:
    """Scores the rows of one handed file into another. In the process apart."""
    import pyarrow as pa

    mapped = mmap.mmap(request["rows"], 0, prot=mmap.PROT_READ)
    table = pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
    _limit(most_memory())
    bundle = Bundle.open(Path(request["bundle"]), expect_sha256=request["sha256"])
    try:
        scores = Scorer(bundle, root=Path(request["root"])).score(table)
    except MemoryError as exc:
        raise EngineError("the model asks for more memory than it may have", file=bundle.path) from exc
    with os.fdopen(request["scores"], "wb") as out:
        out.write(scores.tobytes())
    return {}


def _limit(most: int) -> None:
    """An end to the private memory of this process, where the system has one: what it holds now, and `most`."""
    if sys.platform.startswith("linux"):
        held = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (held + most, held + most))
