"""Scores of the sealed part by a model that is the project's own code: made by a process apart that can keep nothing.

A bundle of weights is run by code of the project (`models/torch.py`). Its digests say which code, not what it does. So
it is given the inputs of the test part where `ml/` code may look at them and tell nobody: as a metric of the user's is
(`gate/own.py`). It gets no outcomes.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trunkline.gate.metrics import Floats
from trunkline.models.bundle import Bundle
from trunkline.project.apart import run_apart

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ModuleScorer", "score"]


@dataclass(frozen=True)
class ModuleScorer:
    """A `TableScorer` of a bundle whose model is a module of the project in `root`."""

    bundle: Bundle
    root: Path

    def score(self, table: pa.Table) -> Floats:
        """Scores [n] or [n, k]. Raises IntegrityError where the project's code is not that of the bundle."""
        import pyarrow.feather as feather

        with tempfile.TemporaryDirectory(prefix="trunkline-") as folder:
            rows = Path(folder) / "inputs.arrow"
            feather.write_feather(
                table.select(list(self.bundle.signature.names)), str(rows), compression="uncompressed"
            )
            place = {"bundle": str(self.bundle.path.resolve()), "sha256": self.bundle.sha256, "root": str(self.root)}
            found = run_apart("trunkline.gate.modules:score", {**place, "rows": str(rows)}, root=self.root, sealed=True)
        return np.frombuffer(base64.b64decode(found["scores"]), np.float64).reshape(found["shape"])


def score(request: Mapping[str, Any], tell: object) -> dict[str, Any]:
    """The scores of the rows in a file. In the process apart."""
    import pyarrow.feather as feather

    from trunkline.models.runtime import Scorer

    bundle = Bundle.open(Path(request["bundle"]), expect_sha256=request["sha256"])
    scores = Scorer(bundle, root=Path(request["root"])).score(feather.read_table(request["rows"]))
    return {"scores": base64.b64encode(np.ascontiguousarray(scores).tobytes()).decode(), "shape": scores.shape}
